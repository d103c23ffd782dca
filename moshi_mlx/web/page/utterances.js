/** When the person speaks: a level well above the noise of the room, for longer than a knock. */

const FLOOR = -48; // dB full scale, below which nothing is speech
const ABOVE_NOISE = 12; // dB
const NOISE_RISE = 0.02; // dB a block, so that a noise that stays is learned: 1 dB a second
const BEGIN = 6; // loud blocks ...
const WITHIN = 10; // ... of so many begin an utterance
const END = 35; // quiet blocks, 0.7 s, end it
const BLOCK_SECONDS = 0.02;

/** An utterance is {begin, end, peaks}: seconds, and the peak of every 20 ms; it grows while the person speaks. */
export class Utterances {
  #noise = -70; // dB
  #recent = []; // {peak, loud} of the last blocks
  #current = null;
  #quiet = 0;

  /** One 20 ms block that ends at `time` seconds -> the utterance that began or went on with it, null if none. */
  add(block, time) {
    let peak = 0;
    let power = 0;
    for (const sample of block) {
      peak = Math.max(peak, Math.abs(sample));
      power += sample * sample;
    }
    const level = 10 * Math.log10(power / block.length + 1e-12);
    this.#noise = Math.min(Math.max(level, -90), this.#noise + NOISE_RISE);
    const loud = level > Math.max(FLOOR, this.#noise + ABOVE_NOISE);
    this.#recent.push({ peak, loud });
    if (this.#recent.length > WITHIN) this.#recent.shift();
    return this.#current ? this.#goOn(peak, loud, time) : this.#begin(time);
  }

  /** Nobody speaks now: what follows is another utterance. */
  stop() {
    this.#current = null;
    this.#recent = [];
  }

  #begin(time) {
    if (this.#recent.filter(({ loud }) => loud).length < BEGIN) return null;
    const first = this.#recent.findIndex(({ loud }) => loud);
    const peaks = this.#recent.slice(first).map(({ peak }) => peak);
    this.#current = { begin: Math.max(0, time - peaks.length * BLOCK_SECONDS), end: time, peaks };
    this.#quiet = 0;
    return this.#current;
  }

  #goOn(peak, loud, time) {
    const utterance = this.#current;
    this.#quiet = loud ? 0 : this.#quiet + 1;
    utterance.peaks.push(peak);
    if (loud) utterance.end = time;
    if (this.#quiet < END) return utterance;
    utterance.peaks.length -= END;
    this.stop();
    return utterance;
  }
}
