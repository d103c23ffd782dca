/** What was said and when, in the order of time. */

const LINE_PAUSE = 1.5; // seconds of silence after which Moshi's words begin a new line ...
const SENTENCE_PAUSE = 0.7; // ... or, after the end of a sentence, these
const BREATH = 0.1; // seconds of silence after which the person is taken not to speak

/**
 * Rows are {who: "moshi", begin, end, text}, {who: "you", begin, end, peaks} and {who: "", begin, end, text}, a note.
 * Events: "row" ({row, index, before}: a new row, and where it stands), "change" (a row), "complete" (a row), "clear".
 */
export class Transcript extends EventTarget {
  rows = [];
  #line = null; // that Moshi is speaking
  #utterance = null; // the row of the person's current utterance

  clear() {
    this.rows = [];
    this.#line = this.#utterance = null;
    this.#emit("clear");
  }

  /** A piece of Moshi's text, heard at `time` seconds. */
  say(piece, time) {
    const pause = this.#line ? time - this.#line.end : Infinity;
    const sentence = /[.!?]["”']?\s*$/.test(this.#line?.text ?? "");
    if (this.#answers(time) || pause > (sentence ? SENTENCE_PAUSE : LINE_PAUSE)) {
      this.finish();
      if (!piece.trim()) return;
      this.#line = this.#add({ who: "moshi", begin: time, end: time, text: piece.trimStart() });
    } else {
      this.#line.text += piece;
      this.#line.end = time;
      this.#emit("change", this.#line);
    }
  }

  /** Whether the person has spoken since Moshi's last word and is silent again: this word answers that. */
  #answers(time) {
    const [line, utterance] = [this.#line, this.#utterance];
    return line && utterance?.begin > line.begin && utterance.end > line.end && utterance.end < time - BREATH;
  }

  /** The person speaks: an utterance that is new or has grown. */
  hear(utterance) {
    if (this.#utterance?.of === utterance) {
      Object.assign(this.#utterance, utterance);
      this.#emit("change", this.#utterance);
    } else {
      this.#utterance = this.#add({ who: "you", of: utterance, ...utterance });
    }
  }

  /** A note between the lines. */
  note(text, time) {
    this.finish();
    this.#add({ who: "", begin: time, end: time, text });
  }

  /** Moshi's line is over. */
  finish() {
    if (this.#line) this.#emit("complete", this.#line);
    this.#line = null;
  }

  /** Let the line be over when nothing was added for a while. */
  tick(time) {
    if (this.#line && time - this.#line.end > LINE_PAUSE) this.finish();
  }

  /** As plain text, a line each. forgotten: seconds of the recording's beginning that are not kept. */
  toText(title, forgotten = 0) {
    const lines = this.rows.map(({ who, begin, end, text }) => {
      const said = who === "you" ? `(speaks for ${(end - begin).toFixed(1)} s)` : text.trim();
      return `${clock(begin)}  ${{ you: "You: ", moshi: "Moshi: ", "": "" }[who]}${who ? said : `[${said}]`}`;
    });
    const note = forgotten ? [`The sound begins at ${clock(forgotten)}; what was before is not kept.`, ""] : [];
    return [title, "", ...note, ...lines, ""].join("\n");
  }

  #add(row) {
    let index = this.rows.length;
    while (index > 0 && this.rows[index - 1].begin > row.begin) index--;
    const before = this.rows[index];
    this.rows.splice(index, 0, row);
    this.#emit("row", { row, before });
    return row;
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** Seconds as 0:07 or 1:02:07. */
export function clock(seconds) {
  const whole = Math.floor(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const rest = String(whole % 60).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}
