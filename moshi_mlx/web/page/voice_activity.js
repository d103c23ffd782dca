/** Voice activity detection: a level well above the noise of the room, for longer than a knock. */

/** @import { Samples } from "./protocol.js" */

const FLOOR = -48; // dB full scale, below which nothing is speech
const ABOVE_NOISE = 12; // dB
const NOISE_RISE = 0.02; // dB a block, so that a lasting noise is learned: 1 dB a second
const BEGIN = 6; // loud blocks ...
const WITHIN = 10; // ... of so many begin an utterance
const END = 35; // quiet blocks, 0.7 s, end it
const BLOCK_SECONDS = 0.02;

/** @typedef {{ begin: number, end: number, peaks: number[] }} Utterance Seconds, and the peak of every 20 ms. */

export class VoiceActivity {
  #noise = -70; // dB
  /** @type {{ peak: number, loud: boolean }[]} */
  #recent = [];
  /** @type {Utterance | null} */
  #current = null;
  #quiet = 0; // blocks

  /**
   * The utterance that began or grew with this block, null if there is none. It is the same object while it grows.
   *
   * @param {Samples} block 20 ms
   * @param {number} time seconds at its end
   */
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
    return this.#current ? this.#continue(this.#current, peak, loud, time) : this.#begin(time);
  }

  /** Nobody speaks now: what follows is another utterance. */
  stop() {
    this.#current = null;
    this.#recent = [];
  }

  /** @param {number} time */
  #begin(time) {
    if (this.#recent.filter(({ loud }) => loud).length < BEGIN) return null;
    const first = this.#recent.findIndex(({ loud }) => loud);
    const peaks = this.#recent.slice(first).map(({ peak }) => peak);
    this.#current = { begin: Math.max(0, time - peaks.length * BLOCK_SECONDS), end: time, peaks };
    this.#quiet = 0;
    return this.#current;
  }

  /**
   * @param {Utterance} utterance
   * @param {number} peak
   * @param {boolean} loud
   * @param {number} time
   */
  #continue(utterance, peak, loud, time) {
    this.#quiet = loud ? 0 : this.#quiet + 1;
    utterance.peaks.push(peak);
    if (loud) utterance.end = time;
    if (this.#quiet === END) {
      utterance.peaks.length -= END;
      this.stop();
    }
    return utterance;
  }
}
