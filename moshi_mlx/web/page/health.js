/** One plain light for how the conversation is doing; the numbers behind it are the readout's. */

import { field } from "./elements.js";

/** @import { Block } from "./audio_io.js" */
/** @import { Metadata } from "./protocol.js" */

const MEMORY = 5; // seconds for which a loss is remembered
const FRAME_MS = 80;
const BEGINNING = 2; // seconds in which everybody finds their pace: what is lost there does not count
const SLOW = 5; // stats in a row, a second each, with a model that takes longer than its frames
const LATE_MS = 500; // of lag

/** @typedef {"good" | "uneven" | "slow"} Verdict */

/** @type {Record<Verdict, { word: string, meaning: string }>} */
const WORDS = {
  good: { word: "Good", meaning: "Sound comes and goes in time." },
  uneven: {
    word: "Uneven",
    meaning: "Sound came late or was left out in the last seconds: the network or this computer is busy.",
  },
  slow: {
    word: "Too slow",
    meaning:
      "The computer that runs the model cannot keep up: close other programs there, or take a smaller model.",
  },
};

export class Health {
  #slow = 0; // stats in a row
  #losses = 0; // of everything that counts them
  #lastLoss = Number.NEGATIVE_INFINITY; // seconds
  /** @type {number | null} */
  #begun = null; // seconds
  #late = false;
  #dropped = 0; // frames, by the server

  /** A conversation begins: what was before does not count. */
  start() {
    this.#slow = this.#losses = this.#dropped = 0;
    this.#lastLoss = Number.NEGATIVE_INFINITY;
    this.#begun = null;
    this.#late = false;
    this.#show("good");
  }

  /**
   * What the server says once a second.
   *
   * @param {Metadata} stats
   */
  stats({ step_ms: step = 0, lag_ms: lag = 0, dropped = 0 }) {
    this.#slow = step > FRAME_MS ? this.#slow + 1 : 0;
    this.#late = lag > LATE_MS;
    this.#dropped = dropped;
  }

  /**
   * What the worklet says every 20 ms.
   *
   * @param {Block & { unsent: number }} block
   * @param {number} time seconds
   */
  block({ underruns, dropped }, time) {
    const losses = underruns + Math.round(dropped * 12.5) + this.#dropped;
    this.#begun ??= time;
    if (losses > this.#losses && time - this.#begun > BEGINNING) this.#lastLoss = time;
    this.#losses = losses;
    if (this.#slow >= SLOW) this.#show("slow");
    else this.#show(this.#late || time - this.#lastLoss < MEMORY ? "uneven" : "good");
  }

  /** @param {Verdict} verdict */
  #show(verdict) {
    const light = field("light");
    if (light.dataset.verdict === verdict) return;
    const { word, meaning } = WORDS[verdict];
    light.dataset.verdict = verdict;
    light.textContent = word;
    field("meaning").textContent = meaning;
  }
}
