/** The transcript in the tab's storage, so that it is still there after the page was loaded again. */

/** @import { Row, Transcript } from "./transcript.js" */

const KEY = "moshi.transcript";
const MOST_ROWS = 500;
const EVERY = 2000; // milliseconds between two writes, at least

export class KeptTranscript {
  #timer = 0;

  /** @param {Transcript} transcript */
  constructor(transcript) {
    this.transcript = transcript;
    transcript.on("row", () => this.#soon());
    transcript.on("complete", () => this.#soon());
    transcript.on("caption", () => this.#soon());
    transcript.on("clear", () => this.#write());
    window.addEventListener("pagehide", () => this.#write());
  }

  /** Put back what the tab has kept. */
  restore() {
    const rows = stored();
    if (rows.length) this.transcript.restore(rows);
  }

  #soon() {
    this.#timer ||= setTimeout(() => this.#write(), EVERY);
  }

  #write() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    try {
      sessionStorage.setItem(KEY, JSON.stringify(this.transcript.rows.slice(-MOST_ROWS), rounded));
    } catch {
      // Private windows may refuse, and storage may be full; then it lasts as long as the page.
    }
  }
}

/**
 * @param {string} _
 * @param {unknown} value
 */
function rounded(_, value) {
  return typeof value === "number" ? Math.round(value * 1000) / 1000 : value;
}

/** @returns {Row[]} */
function stored() {
  try {
    const rows = JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
    return Array.isArray(rows) ? rows.filter(isRow) : [];
  } catch {
    return [];
  }
}

/** @param {any} row */
function isRow(row) {
  const timed = typeof row?.begin === "number" && typeof row.end === "number";
  return timed && (row.who === "you" ? Array.isArray(row.peaks) : typeof row.text === "string");
}
