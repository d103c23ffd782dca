/** The last seconds of both voices, one above the line and one below. */

/** @import { Samples } from "./protocol.js" */

const BLOCKS = 3; // of 20 ms in a column
const PITCH = 4; // pixels from one column to the next
const NAMES = 60; // pixels on the left for who is who

export class Waveform {
  /** @type {[number, number][]} Peaks: the person's, Moshi's. */
  #columns = [];
  #blocks = 0;
  #drawing = false;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    new ResizeObserver(() => this.#draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  clear() {
    this.#columns = [];
    this.#blocks = 0;
    this.#draw();
  }

  /**
   * Add 20 ms of either voice.
   *
   * @param {Samples} microphone
   * @param {Samples} speaker
   */
  add(microphone, speaker) {
    if (this.#blocks++ % BLOCKS === 0) {
      this.#columns.push([0, 0]);
      if (this.#columns.length > 1000) this.#columns.splice(0, 500);
    }
    const column = this.#columns[this.#columns.length - 1];
    column[0] = Math.max(column[0], peak(microphone));
    column[1] = Math.max(column[1], peak(speaker));
    this.#draw();
  }

  #draw() {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      this.#paint();
    });
  }

  #paint() {
    const { canvas } = this;
    const scale = devicePixelRatio;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const colours = getComputedStyle(canvas);
    const pen = canvas.getContext("2d");
    if (!pen) return;
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    const middle = height / 2;
    pen.fillStyle = colours.getPropertyValue("--line");
    pen.fillRect(0, middle - 0.5, width, 1);
    const shown = this.#columns.slice(-Math.floor((width - NAMES) / PITCH));
    for (const side of [0, 1]) {
      pen.fillStyle = colours.getPropertyValue(side === 0 ? "--you" : "--moshi");
      for (const [index, column] of shown.entries()) {
        const bar = Math.sqrt(column[side]) * (middle - 4); // the root: closer to loudness as it is heard
        if (bar < 0.75) continue;
        const x = width - (shown.length - index) * PITCH;
        pen.globalAlpha = Math.min(1, (x - NAMES) / (width * 0.2)); // the past fades
        pen.beginPath();
        pen.roundRect(x, side === 0 ? middle - 2 - bar : middle + 2, PITCH - 1.5, bar, 1.25);
        pen.fill();
      }
    }
    pen.globalAlpha = 1;
  }
}

/** @param {Samples} samples */
export function peak(samples) {
  let largest = 0;
  for (const sample of samples) largest = Math.max(largest, Math.abs(sample));
  return largest;
}
