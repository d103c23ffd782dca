/** The buffer before the speaker: answers come when they come, the device takes samples all the time. */

const STEP = 0.02; // seconds, by which the cushion grows and shrinks
const LARGEST = 16; // steps: 320 ms
const SURPLUS = 0.12; // seconds above the cushion, after a message has come, beyond which the oldest are dropped
const CALM = 10; // seconds without need of the last step, after which it goes
const LOOK = 1; // seconds over which the least that waited is taken
const QUIET = 0.01; // peak below which samples can be left out unheard
const PAUSE = 0.5; // seconds without audio that are no lateness: nobody sent any
const FADE = 0.003; // seconds, so that no edge is heard as a click
const CAPACITY = 2; // seconds

/**
 * `cushion` samples are still there when a message comes in time, so one may be later by that much. It grows by 20 ms
 * whenever one is too late (`underruns`) and shrinks when for 10 s it was not needed. What would only make the answer
 * late is left out, in pauses where possible, at once where it is too much, and counted (`dropped` samples).
 */
export class JitterBuffer {
  /** rate: Hz. All sizes are samples at that rate. */
  constructor(rate) {
    this.rate = rate;
    this.step = Math.round(rate * STEP);
    this.ring = new Float32Array(Math.round(rate * CAPACITY));
    this.fade = Math.round(rate * FADE);
    this.cushion = this.step;
    this.clear();
  }

  /** Begin anew: another stream. What was learned about lateness stays. */
  clear() {
    this.read = 0; // samples taken or left out since the stream began: its position
    this.written = 0;
    this.underruns = 0;
    this.dropped = 0;
    this.playing = false;
    this.wait = 0; // silence still to come before the samples that are there
    this.ahead = 0; // samples that the last message had before it: so much later it was heard
    this.gap = Infinity; // samples since the audio ended
    this.calm = 0;
    this.spare = 0; // samples to leave out when it is quiet
    this.largest = 0; // the longest message
    this.silent = true;
    this.last ??= 0; // the sample played last
    this.#edge();
    this.#look();
  }

  get available() {
    return this.written - this.read;
  }

  write(samples) {
    if (samples.length > this.ring.length) samples = samples.subarray(samples.length - this.ring.length);
    this.#drop(this.available + samples.length - this.ring.length);
    this.ahead = this.available + (this.playing ? this.wait : this.cushion);
    this.largest = Math.max(this.largest, samples.length);
    for (let i = 0; i < samples.length; i++) this.ring[(this.written + i) % this.ring.length] = samples[i];
    this.written += samples.length;
  }

  /** Fill `out` with audio, or with silence where there is none. */
  fill(out) {
    if (!this.playing && this.available > 0) this.#resume();
    if (!this.playing) {
      this.gap += out.length;
      return this.#copy(out, 0, 0);
    }
    const start = Math.min(this.wait, out.length);
    this.wait -= start;
    if (start < out.length) this.#bound();
    const count = Math.min(out.length - start, this.available);
    const from = this.read;
    this.read += count;
    this.#copy(out, start, count, from);
    if (start + count < out.length) {
      this.playing = false;
      this.gap = out.length - start - count;
    } else if (count > 0) {
      this.#learn(out);
    }
  }

  #resume() {
    const late = this.gap < PAUSE * this.rate;
    if (late) {
      this.underruns += 1;
      this.cushion = Math.min(this.cushion + this.step, LARGEST * this.step);
    }
    // What came late has moved all that follows by as much: for now there is cushion enough.
    this.wait = late ? this.step : this.cushion;
    this.playing = true;
    this.calm = this.spare = 0;
    this.#look();
  }

  /** After a message there may be as much as it and the cushion, and a little more, but never too much. */
  #bound() {
    const wanted = this.cushion + this.largest;
    if (this.available > wanted + SURPLUS * this.rate) {
      this.#drop(this.available - wanted);
      this.spare = 0;
      this.#look();
    }
  }

  #drop(count) {
    if (count <= 0) return;
    this.read += count;
    this.dropped += count;
    this.#edge();
  }

  /** See from what is left how much of the cushion is needed. */
  #learn(out) {
    if (this.spare > 0 && out.every((sample) => Math.abs(sample) < QUIET)) {
      const count = Math.min(this.spare, out.length, this.available);
      this.#drop(count);
      this.spare -= count;
      this.#look();
      return;
    }
    this.least = Math.min(this.least, this.available);
    this.looked += out.length;
    if (this.looked < LOOK * this.rate) return;
    this.calm = this.least > this.step ? this.calm + this.looked : 0;
    if (this.calm >= CALM * this.rate && this.cushion > this.step) {
      this.cushion -= this.step;
      this.calm = 0;
    }
    const spare = this.least - this.cushion;
    this.spare = spare >= this.step / 2 ? spare : 0;
    this.#look();
  }

  #look() {
    this.least = Infinity;
    this.looked = 0;
  }

  /** Put `count` samples of the ring, from position `from` on, into `out` at `start`; silence around them. */
  #copy(out, start, count, from) {
    const end = start + count;
    for (let i = 0; i < out.length; i++) {
      if ((i === start && count > 0 && this.silent) || (i === end && !this.silent)) {
        this.#edge();
        this.silent = !this.silent;
      }
      const sample = i >= start && i < end ? this.ring[(from + i - start) % this.ring.length] : 0;
      const share = this.faded < this.fade ? this.faded++ / this.fade : 1;
      this.last = this.held + (sample - this.held) * share;
      out[i] = this.last;
    }
  }

  /** From here on the samples belong to something else: fade from the last one to them. */
  #edge() {
    this.held = this.last;
    this.faded = 0;
  }
}
