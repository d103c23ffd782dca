/** The transcript on the page: Moshi's words, and the person's voice drawn as its waveform, with words where known. */

import { field } from "./elements.js";
import { clock } from "./transcript.js";

/** @import { Line, Row, Transcript, Voice } from "./transcript.js" */

const SVG = "http://www.w3.org/2000/svg";
const BAR = 3; // units of the drawing from one bar to the next
const BLOCKS = 3; // of 20 ms in a bar
const HEIGHT = 24;
const NEAR_END = 80; // pixels: whoever has scrolled up further is reading, and is not scrolled down

/** @typedef {{ element: Element, update: () => void }} Drawing Of a row; `update` draws what it has grown by. */

export class TranscriptView {
  #list = field("transcript");
  #scroller = field("main");
  /** @type {Map<Row, { item: HTMLLIElement, drawing: Drawing }>} */
  #items = new Map();

  /** @param {Transcript} transcript */
  constructor(transcript) {
    transcript.on("row", ({ row, before }) => this.#add(row, before));
    transcript.on("change", (row) => this.#update(row));
    transcript.on("caption", (row) => this.#keepUp(() => this.#items.get(row)?.drawing.update()));
    transcript.on("complete", (line) => {
      field("announcer").textContent = `Moshi: ${line.text}`; // for screen readers
      if (line.interrupted) this.#items.get(line)?.item.classList.add("interrupted");
    });
    transcript.on("clear", () => {
      this.#items.clear();
      this.#list.replaceChildren();
    });
  }

  /**
   * @param {Row} row
   * @param {Row | undefined} before
   */
  #add(row, before) {
    const item = document.createElement("li");
    const time = document.createElement("time");
    const drawing = row.who === "you" ? voiceDrawing(row) : textDrawing(row);
    item.className = row.who || "divider";
    if ("interrupted" in row && row.interrupted) item.classList.add("interrupted");
    time.textContent = clock(row.begin);
    time.dateTime = `PT${row.begin.toFixed(1)}S`;
    item.append(time, drawing.element);
    this.#items.set(row, { item, drawing });
    this.#keepUp(() => {
      this.#list.insertBefore(item, (before && this.#items.get(before)?.item) ?? null);
      drawing.update();
    });
  }

  /** @param {Row} row */
  #update(row) {
    const drawing = this.#items.get(row)?.drawing;
    if (!drawing) return;
    if (row.who === "you") drawing.update();
    else this.#keepUp(drawing.update);
  }

  /** @param {() => void} change Makes the list longer. */
  #keepUp(change) {
    const scroller = this.#scroller;
    const isAtEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_END;
    change();
    if (isAtEnd) scroller.scrollTop = scroller.scrollHeight;
  }
}

/**
 * @param {Line} line
 * @returns {Drawing}
 */
function textDrawing(line) {
  const element = document.createElement("p");
  let shown = 0; // characters
  const update = () => {
    if (shown === line.text.length) return;
    const piece = document.createElement("span"); // so that it can fade in by itself
    piece.textContent = line.text.slice(shown);
    shown = line.text.length;
    element.append(piece);
  };
  return { element, update };
}

/**
 * @param {Voice} voice
 * @returns {Drawing}
 */
function voiceDrawing(voice) {
  const element = document.createElement("div");
  const drawing = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  drawing.setAttribute("role", "img");
  drawing.setAttribute("preserveAspectRatio", "none");
  const words = document.createElement("p");
  drawing.append(path);
  element.append(words);
  let drawn = -1; // bars
  const update = () => {
    const { begin, end, peaks, text } = voice;
    if (words.textContent !== text) words.textContent = text;
    const bars = peaks.length && Math.ceil((end - begin) / (BLOCKS * 0.02)); // without the silence after it
    if (bars === drawn || !bars) return;
    if (drawn < 0) element.prepend(drawing); // where nothing but words was noticed there is nothing to draw
    drawn = bars;
    let shape = "";
    for (let bar = 0; bar < bars; bar++) {
      const peak = Math.max(0, ...peaks.slice(bar * BLOCKS, (bar + 1) * BLOCKS));
      const half = Math.max(0.01, Math.min(1, Math.sqrt(peak)) * (HEIGHT / 2));
      shape += `M${bar * BAR + 1} ${(HEIGHT / 2 - half).toFixed(1)}v${(2 * half).toFixed(1)}`;
    }
    drawing.setAttribute("viewBox", `0 0 ${bars * BAR} ${HEIGHT}`);
    drawing.setAttribute("width", String(bars * BAR));
    drawing.setAttribute("aria-label", `You spoke for ${(end - begin).toFixed(1)} seconds`);
    path.setAttribute("d", shape);
  };
  return { element, update };
}
