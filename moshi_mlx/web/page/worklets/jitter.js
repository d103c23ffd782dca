/**
 * The buffer before the speaker: replies come when they come, the device takes samples all the time.
 *
 * The rules are those of moshi_mlx/audio/jitter.py, and a test holds both together. Different here: it begins with a
 * smaller cushion, because an audio thread takes 128 samples at a time and not 20 ms; and edges are faded.
 */

/** @typedef {Float32Array<ArrayBuffer>} Samples */

const FRAME = 0.08; // seconds of audio in a reply
const STEP = 0.02; // seconds, by which the cushion grows and shrinks
const LARGEST = 16; // steps: 320 ms
const CALM = 10; // seconds without need of the last step, after which it goes
const LOOK = 1; // seconds over which the least that waited is taken
const INAUDIBLE = 0.01; // peak below which samples can be left out unheard
const INTERRUPTION = 0.5; // seconds without audio that are no lateness: nobody sent any
const FADE = 0.003; // seconds, so that no edge is heard as a click
const CAPACITY = 2; // seconds

/**
 * `cushion` is the audio that is still there when a reply comes in time, so a reply may be later by that much. It
 * grows by 20 ms whenever one comes too late (`underruns`), and shrinks by 20 ms when for 10 s they were not needed.
 * More than 320 ms and a frame are never kept; what the cushion has too much is left out in pauses of the speech. Both
 * are counted (`dropped`). All sizes are samples at `rate`.
 */
export class JitterBuffer {
  read = 0; // samples played or dropped since the stream began: the position in it
  written = 0; // samples since the stream began
  ahead = 0; // samples, silence included, that the last reply had before it: its delay
  underruns = 0;
  dropped = 0;
  /** @type {number | null} Silence since the audio ended; null while it plays. */
  #gap = Infinity;
  #before = 0; // silence still to come before the audio that is there
  #calm = 0; // samples since the last step was needed
  #looked = 0; // samples, for how long #least and #most were watched
  #least = Infinity; // samples that waited, at least
  #most = 0; // samples that waited when a reply came, at most
  #spare = 0; // samples to leave out when it is quiet
  #last = 0; // the sample played last
  #faded = 0; // samples since an edge ...
  #held = 0; // ... before which this was the last one
  #silent = true;

  /**
   * @param {number} rate Hz
   * @param {number} cushion seconds to begin with
   */
  constructor(rate, cushion = STEP) {
    this.rate = rate;
    this.step = Math.round(rate * STEP);
    this.frame = Math.round(rate * FRAME);
    this.ceiling = LARGEST * this.step;
    this.cushion = Math.round(cushion / STEP) * this.step;
    this.ring = new Float32Array(Math.round(rate * CAPACITY));
    this.fade = Math.round(rate * FADE);
  }

  /** Begin another stream. What was learned about lateness stays. */
  clear() {
    this.read = this.written = this.ahead = this.underruns = this.dropped = 0;
    this.#gap = Infinity;
    this.#before = 0;
    this.#silent = true;
    this.#edge();
  }

  get available() {
    return this.written - this.read;
  }

  /** @param {Samples} samples */
  write(samples) {
    const { ring } = this;
    const kept = samples.subarray(Math.max(0, samples.length - ring.length));
    this.#drop(this.available + kept.length - ring.length);
    this.ahead = this.available + (this.#gap === null ? this.#before : this.cushion);
    this.#most = Math.max(this.#most, this.available);
    for (let i = 0; i < kept.length; i++) ring[(this.written + i) % ring.length] = kept[i];
    this.written += kept.length;
  }

  /**
   * Fill `out` with audio, or with silence where there is none.
   *
   * @param {Samples} out any number of samples
   */
  fill(out) {
    if (this.#gap !== null) {
      if (this.available === 0) {
        this.#gap += out.length;
        return this.#copy(out, 0, 0);
      }
      this.#resume(this.#gap);
    }
    const start = Math.min(this.#before, out.length);
    this.#before -= start;
    if (start < out.length) this.#bound();
    const end = Math.min(out.length, start + this.available);
    this.#copy(out, start, end);
    if (end < out.length) this.#gap = out.length - end;
    else if (start < end) this.#look(out);
  }

  /**
   * Audio is there again after a gap of so many samples.
   *
   * @param {number} gap
   */
  #resume(gap) {
    const late = gap < INTERRUPTION * this.rate;
    if (late) {
      this.underruns += 1;
      this.cushion = Math.min(this.cushion + this.step, this.ceiling);
    }
    // What came late has shifted the time of all that follows by as much: for now there is cushion enough.
    this.#before = late ? this.step : this.cushion;
    this.#gap = null;
    this.#calm = this.#spare = this.#looked = this.#most = 0;
  }

  /** After a reply there may be a frame more than the cushion, and never more than that. */
  #bound() {
    if (this.available <= this.ceiling + this.frame) return;
    this.#drop(this.available - this.cushion - this.frame);
    this.#spare = this.#looked = this.#most = 0;
  }

  /**
   * Learn from what is left how much of the cushion is needed.
   *
   * @param {Samples} out
   */
  #look(out) {
    if (this.#spare > 0 && out.every((sample) => Math.abs(sample) < INAUDIBLE)) {
      const count = Math.min(this.#spare, this.step, out.length, this.available);
      this.#drop(count);
      this.#spare -= count;
      this.#looked = this.#most = 0;
      return;
    }
    this.#least = this.#looked ? Math.min(this.#least, this.available) : this.available;
    this.#looked += out.length;
    if (this.#looked < LOOK * this.rate) return;
    // With no more than a step left, the next reply comes just in time.
    this.#calm = this.#least > this.step ? this.#calm + Math.round(LOOK * this.rate) : 0;
    if (this.#calm >= CALM * this.rate && this.cushion > this.step) {
      this.cushion -= this.step;
      this.#calm = 0;
    }
    const spare = this.#most - this.cushion;
    this.#spare = spare >= this.step ? spare : 0;
    this.#looked = this.#most = 0;
  }

  /** @param {number} count samples, the oldest; none where it is negative */
  #drop(count) {
    if (count <= 0) return;
    this.read += count;
    this.dropped += count;
    this.#edge();
  }

  /**
   * Play from the ring into `out` between `start` and `end`; silence around that.
   *
   * @param {Samples} out
   * @param {number} start
   * @param {number} end
   */
  #copy(out, start, end) {
    for (let i = 0; i < out.length; i++) {
      const silent = i < start || i >= end;
      if (silent !== this.#silent) {
        this.#edge();
        this.#silent = silent;
      }
      const sample = silent ? 0 : this.ring[this.read++ % this.ring.length];
      const share = this.#faded < this.fade ? this.#faded++ / this.fade : 1;
      this.#last = this.#held + (sample - this.#held) * share;
      out[i] = this.#last;
    }
  }

  /** The samples from here on belong to something else: fade from the last one to them. */
  #edge() {
    this.#held = this.#last;
    this.#faded = 0;
  }
}
