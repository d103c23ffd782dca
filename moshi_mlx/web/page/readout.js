/** Latency and losses, in numbers. */

import { field } from "./elements.js";

/** @import { AudioIO, Block } from "./audio_io.js" */
/** @import { Metadata } from "./protocol.js" */

const MODEL_MS = 80; // the audio of a frame comes with the next one
const SMOOTHING = 0.05; // of the wait before the speaker, for every block
const INTERVAL = 25; // blocks of 20 ms between two updates

export class Readout {
  /** @type {Metadata} */
  #stats = {};
  #waiting = 0; // seconds
  #blocks = 0;

  /** @param {AudioIO} audio */
  constructor(audio) {
    this.audio = audio;
  }

  /**
   * What the server says once a second.
   *
   * @param {Metadata} stats
   */
  stats(stats) {
    this.#stats = stats;
  }

  /**
   * What the worklet says every 20 ms.
   *
   * @param {Block & { unsent: number }} block
   */
  block({ waiting, underruns, dropped, unsent }) {
    this.#waiting += SMOOTHING * (waiting - this.#waiting);
    if (this.#blocks++ % INTERVAL === 0) this.#show(underruns, 1000 * dropped + unsent / 24);
  }

  /**
   * @param {number} underruns
   * @param {number} lost milliseconds, dropped by this page
   */
  #show(underruns, lost) {
    const { step_ms: step, lag_ms: lag, dropped: frames = 0, sessions = 1, waiting = 0 } = this.#stats;
    const parts = {
      "the model's own": MODEL_MS,
      "from a frame's first sample to its answer": lag ?? 0,
      "waiting to be played": 1000 * this.#waiting,
      "sound card": 1000 * this.audio.deviceLatency,
    };
    const delay = Object.values(parts).reduce((sum, part) => sum + part);
    const explanation = Object.entries(parts).map(([name, part]) => `${name}: ${ms(part)}`);
    show("delay", lag === undefined ? "–" : ms(delay), explanation);
    show("step", step === undefined ? "–" : ms(step));
    show("lag", lag === undefined ? "–" : ms(lag), [
      "from a frame's first sample (80 ms before its last) to its answer",
    ]);
    show("dropped", ms(lost + 80 * frames), [
      `to catch up, by this page: ${ms(lost)}`,
      `to catch up, by the server: ${frames} frames`,
    ]);
    show("late", String(underruns), ["how often the speaker had to wait for an answer"]);
    show("sessions", `${sessions}${waiting ? `, ${waiting} waiting` : ""}`);
    field("others").hidden = sessions < 2 && waiting < 1;
  }
}

/**
 * @param {string} id
 * @param {string} value
 * @param {string[]} explanation lines that are shown where the pointer rests on it
 */
function show(id, value, explanation = []) {
  const element = field(id);
  element.textContent = value;
  if (element.parentElement) element.parentElement.title = explanation.join("\n");
}

/** @param {number} value */
function ms(value) {
  return value < 10_000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(0)} s`;
}
