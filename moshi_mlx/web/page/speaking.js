/** Who speaks at this moment, from the sound of both sides. */

import { Emitter } from "./emitter.js";

/** @import { Samples } from "./protocol.js" */
/** @import { Utterance } from "./voice_activity.js" */

const AUDIBLE = -50; // dB full scale, above which Moshi is heard
const GAP = 0.35; // seconds between two words
const INTERRUPTED = 1.2; // seconds of yours within which a Moshi that gives way falls silent

/** @typedef {{ you: boolean, moshi: boolean, interrupted: boolean }} Speakers interrupted: Moshi has just given way. */

/** @extends {Emitter<{ change: Speakers }>} */
export class Speaking extends Emitter {
  /** @type {Speakers} */
  now = { you: false, moshi: false, interrupted: false };
  #heard = Number.NEGATIVE_INFINITY; // seconds of the latest block with Moshi in it
  #into = Number.NEGATIVE_INFINITY; // seconds at which you began to speak while Moshi spoke

  /**
   * @param {Samples} speaker 20 ms
   * @param {Utterance | null} utterance what you say at this moment
   * @param {number} time seconds
   */
  add(speaker, utterance, time) {
    if (level(speaker) > AUDIBLE) this.#heard = time;
    const you = utterance !== null && time - utterance.end < GAP;
    const moshi = time - this.#heard < GAP;
    const { now } = this;
    if (you && !now.you && moshi) this.#into = time;
    const gaveWay = now.moshi && !moshi && time - this.#into < INTERRUPTED + GAP;
    const interrupted = gaveWay || (now.interrupted && you && !moshi);
    if (you === now.you && moshi === now.moshi && interrupted === now.interrupted) return;
    this.now = { you, moshi, interrupted };
    this.emit("change", this.now);
  }

  /** Nobody speaks: the conversation is over. */
  stop() {
    this.#heard = this.#into = Number.NEGATIVE_INFINITY;
    this.now = { you: false, moshi: false, interrupted: false };
    this.emit("change", this.now);
  }
}

/** @param {Samples} block */
function level(block) {
  let power = 0;
  for (const sample of block) power += sample * sample;
  return 10 * Math.log10(power / block.length + 1e-12);
}
