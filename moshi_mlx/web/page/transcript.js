/** What was said and when, in the order of time. */

import { Emitter } from "./emitter.js";

/** @import { Utterance } from "./voice_activity.js" */

const LINE_PAUSE = 1.5; // seconds of silence after which Moshi's words begin a new line ...
const SENTENCE_PAUSE = 0.7; // ... or, after the end of a sentence, these
const GIVES_WAY = 1.2; // seconds within which Moshi stops when somebody speaks
const BREATH = 0.1; // seconds of silence after which the person has stopped speaking
const NEAR = 1; // seconds by which a word may lie beside the utterance that it belongs to

/**
 * @typedef {{ who: "moshi" | "", begin: number, end: number, text: string, interrupted?: boolean }} Line Moshi's, or a
 *   note of the page.
 */
/**
 * @typedef {{ who: "you", of: Utterance | null, begin: number, end: number, peaks: number[], text: string }} Voice Its
 *   words where the server writes them down; `of` is null where nothing but words was noticed.
 */
/** @typedef {Line | Voice} Row All times are seconds. */

/**
 * Events: "row": a new row, and the one that it stands before. "change": a row has grown. "caption": the person's words
 * have. "complete": so it stays.
 *
 * @extends {Emitter<{
 *   row: { row: Row, before: Row | undefined }, change: Row, caption: Voice, complete: Line, clear: undefined
 * }>}
 */
export class Transcript extends Emitter {
  /** @type {Row[]} */
  rows = [];
  /** @type {Line | null} What Moshi is saying. */
  #line = null;
  /** @type {Voice | null} The person's last utterance. */
  #voice = null;

  clear() {
    this.rows = [];
    this.#line = this.#voice = null;
    this.emit("clear");
  }

  /**
   * Add a piece of Moshi's text.
   *
   * @param {string} piece
   * @param {number} time when it is heard
   */
  say(piece, time) {
    const line = this.#line;
    const longest = /[.!?]["”']?\s*$/.test(line?.text ?? "") ? SENTENCE_PAUSE : LINE_PAUSE;
    if (line && !this.#isAnswer(line, time) && time - line.end <= longest) {
      line.text += piece;
      line.end = time;
      return this.emit("change", line);
    }
    this.finish();
    if (piece.trim()) this.#line = this.#add({ who: "moshi", begin: time, end: time, text: piece.trimStart() });
  }

  /**
   * Whether the person has spoken since Moshi's last word and is silent again, so that the next word answers that.
   *
   * @param {Line} line
   * @param {number} time
   */
  #isAnswer(line, time) {
    const voice = this.#voice;
    return voice !== null && voice.begin > line.begin && voice.end > line.end && voice.end < time - BREATH;
  }

  /**
   * The person speaks.
   *
   * @param {Utterance} utterance a new one, or one that has grown
   */
  hear(utterance) {
    if (this.#voice?.of === utterance) {
      Object.assign(this.#voice, utterance);
      this.emit("change", this.#voice);
    } else {
      this.#voice = this.#add({ who: "you", of: utterance, text: "", ...utterance });
    }
  }

  /**
   * Add a word that the person has said; it comes later than it was.
   *
   * @param {string} word
   * @param {number} begin
   * @param {number} end
   */
  caption(word, begin, end) {
    const voice =
      this.#spokenAt(begin, end) ?? this.#add({ who: "you", of: null, begin, end, peaks: [], text: "" });
    voice.text += voice.text ? ` ${word}` : word;
    if (!voice.of) voice.end = Math.max(voice.end, end);
    this.emit("caption", voice);
  }

  /**
   * The utterance of this time, the latest of several.
   *
   * @param {number} begin
   * @param {number} end
   * @returns {Voice | undefined}
   */
  #spokenAt(begin, end) {
    let nearest = NEAR;
    let found;
    for (const row of this.rows) {
      if (row.who !== "you") continue;
      const away = Math.max(0, row.begin - end, begin - row.end);
      if (away > nearest) continue;
      nearest = away;
      found = row;
    }
    return found;
  }

  /**
   * Add a note between the lines.
   *
   * @param {string} text
   * @param {number} time
   */
  note(text, time) {
    this.finish();
    this.#add({ who: "", begin: time, end: time, text });
  }

  /** Complete Moshi's line. */
  finish() {
    const line = this.#line;
    this.#line = null;
    if (!line) return;
    line.interrupted = this.#isInterrupted(line);
    this.emit("complete", line);
  }

  /**
   * Whether the person spoke into Moshi's line, and it stopped before its sentence did.
   *
   * @param {Line} line
   */
  #isInterrupted({ begin, end, text }) {
    const voice = this.#voice;
    if (!voice || voice.begin <= begin || voice.begin > end + BREATH || /[.!?…]["”']?\s*$/.test(text))
      return false;
    return end - voice.begin <= GIVES_WAY;
  }

  /**
   * Begin with rows from before, and a note behind them.
   *
   * @param {Row[]} rows
   */
  restore(rows) {
    for (const row of rows) {
      const before = row.who === "you" ? { ...row, of: row, text: row.text ?? "" } : row;
      this.rows.push(before);
      this.emit("row", { row: before, before: undefined });
    }
    this.note("Before the page was loaded again", rows[rows.length - 1].end);
  }

  /**
   * Complete Moshi's line where nothing was added for a while.
   *
   * @param {number} time now
   */
  tick(time) {
    if (this.#line && time - this.#line.end > LINE_PAUSE) this.finish();
  }

  /**
   * The transcript as plain text.
   *
   * @param {string} title
   * @param {number} forgotten seconds of the recording's beginning that are not kept
   */
  toText(title, forgotten = 0) {
    const note = forgotten ? [`The sound begins at ${clock(forgotten)}; what was before is not kept.`, ""] : [];
    return [title, "", ...note, ...this.rows.map((row) => `${clock(row.begin)}  ${plain(row)}`), ""].join("\n");
  }

  /**
   * @template {Row} Kind
   * @param {Kind} row
   * @returns {Kind}
   */
  #add(row) {
    let index = this.rows.length;
    while (index > 0 && this.rows[index - 1].begin > row.begin) index--;
    const before = this.rows[index];
    this.rows.splice(index, 0, row);
    this.emit("row", { row, before });
    return row;
  }
}

/** @param {Row} row */
function plain(row) {
  if (row.who === "you") return `You: ${row.text || `(speaks for ${(row.end - row.begin).toFixed(1)} s)`}`;
  if (!row.who) return `[${row.text.trim()}]`;
  return `Moshi: ${row.text.trim()}${row.interrupted ? " — interrupted" : ""}`;
}

/**
 * Seconds as 0:07 or 1:02:07.
 *
 * @param {number} seconds
 */
export function clock(seconds) {
  const whole = Math.floor(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const rest = String(whole % 60).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}
