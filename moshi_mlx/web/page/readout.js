/** How late everything is, in numbers. */

const MODEL_MS = 80; // the sound of a frame comes with the next one
const SMOOTHING = 0.05; // of the wait before the speaker, for every block
const EVERY = 25; // blocks of 20 ms between two updates

export class Readout {
  #stats = {};
  #waiting = 0; // seconds
  #blocks = 0;
  #heard = 0;

  /** field: id -> element. audio: AudioPort. */
  constructor(field, audio) {
    this.field = field;
    this.audio = audio;
  }

  /** What the server says once a second. */
  stats(stats) {
    this.#stats = stats;
  }

  /** What the worklet reports every 20 ms. */
  block({ waiting, underruns, dropped, unsent }) {
    this.#waiting += SMOOTHING * (waiting - this.#waiting);
    if (this.#blocks++ % EVERY === 0) this.#show(underruns, dropped, unsent);
  }

  #show(underruns, dropped, unsent) {
    const { step_ms: step, lag_ms: lag, dropped: there = 0, sessions = 1, waiting = 0 } = this.#stats;
    const devices = 1000 * this.audio.deviceLatency;
    const speaker = 1000 * this.#waiting;
    const parts = { "the model's own": MODEL_MS, "from a frame's first sample to its answer": lag ?? 0 };
    Object.assign(parts, { "waiting to be played": speaker, "sound card": devices });
    const delay = this.field("delay");
    delay.textContent = lag === undefined ? "–" : ms(Object.values(parts).reduce((sum, part) => sum + part));
    delay.parentElement.title = Object.entries(parts)
      .map(([name, part]) => `${name}: ${ms(part)}`)
      .join("\n");
    this.field("lag").parentElement.title = "from a frame's first sample (80 ms before its last) to its answer";
    this.field("step").textContent = step === undefined ? "–" : ms(step);
    this.field("lag").textContent = lag === undefined ? "–" : ms(lag);
    const here = 1000 * dropped + unsent / 24;
    this.field("dropped").textContent = ms(here + 80 * there);
    this.field("dropped").parentElement.title =
      `to catch up, here: ${ms(here)}\nto catch up, by the server: ${there} frames`;
    this.field("late").textContent = String(underruns);
    this.field("late").parentElement.title = "how often the speaker had to wait for an answer";
    this.field("company").hidden = sessions < 2 && waiting < 1;
    this.field("sessions").textContent = `${sessions}${waiting ? `, ${waiting} waiting` : ""}`;
  }
}

function ms(value) {
  return value < 10_000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(0)} s`;
}
