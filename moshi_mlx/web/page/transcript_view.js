/** The transcript on the page: Moshi's words, and the person's voice drawn as its waveform. */

import { clock } from "./transcript.js";

const BAR = 3; // units of the drawing from one bar to the next
const BLOCKS = 3; // of 20 ms in a bar
const HEIGHT = 24;
const NEAR_END = 80; // pixels: whoever has scrolled up further is reading and not carried along

export class TranscriptView {
  #items = new Map(); // row -> its element

  /** list: the <ol>. announcer: an aria-live region that is told every line once it is complete. */
  constructor(transcript, list, announcer) {
    this.list = list;
    this.scroller = list.closest("main");
    transcript.addEventListener("row", ({ detail }) => this.#add(detail));
    transcript.addEventListener("change", ({ detail }) => this.#draw(detail));
    transcript.addEventListener("complete", ({ detail }) => (announcer.textContent = `Moshi: ${detail.text}`));
    transcript.addEventListener("clear", () => this.#clear());
  }

  #clear() {
    this.#items.clear();
    this.list.replaceChildren();
  }

  #add({ row, before }) {
    const item = document.createElement("li");
    item.className = row.who || "divider";
    const time = document.createElement("time");
    time.textContent = clock(row.begin);
    time.dateTime = `PT${row.begin.toFixed(1)}S`;
    item.append(time, row.who === "you" ? voice() : document.createElement("p"));
    this.#items.set(row, item);
    this.#keepUp(() => {
      this.list.insertBefore(item, before ? this.#items.get(before) : null);
      this.#draw(row);
    });
  }

  #draw(row) {
    const item = this.#items.get(row);
    if (row.who === "you") return drawVoice(item.lastChild, row);
    const paragraph = item.lastChild;
    const shown = paragraph.textContent.length;
    if (shown === row.text.length) return;
    const piece = document.createElement("span"); // a word of its own can appear softly
    piece.textContent = row.text.slice(shown);
    this.#keepUp(() => paragraph.append(piece));
  }

  #keepUp(change) {
    const { scroller } = this;
    const atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_END;
    change();
    if (atEnd) scroller.scrollTop = scroller.scrollHeight;
  }
}

function voice() {
  const place = document.createElement("div");
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  drawing.setAttribute("role", "img");
  drawing.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
  place.append(drawing);
  return place;
}

function drawVoice(place, { begin, end, peaks }) {
  const drawing = place.firstChild;
  const bars = Math.ceil((end - begin) / (BLOCKS * 0.02)); // the silence after it is not drawn
  const width = bars * BAR;
  if (drawing.getAttribute("width") === String(width)) return; // it grows by a bar every 60 ms
  let path = "";
  for (let bar = 0; bar < bars; bar++) {
    const peak = Math.max(0, ...peaks.slice(bar * BLOCKS, (bar + 1) * BLOCKS));
    const half = Math.max(0.01, Math.min(1, Math.sqrt(peak)) * (HEIGHT / 2));
    path += `M${bar * BAR + 1} ${(HEIGHT / 2 - half).toFixed(1)}v${(2 * half).toFixed(1)}`;
  }
  drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  drawing.setAttribute("width", width);
  drawing.setAttribute("preserveAspectRatio", "none");
  drawing.setAttribute("aria-label", `You spoke for ${(end - begin).toFixed(1)} seconds`);
  drawing.firstChild.setAttribute("d", path);
}
