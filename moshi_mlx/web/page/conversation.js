/** A conversation from the first click to its end: microphone, server, talking, and recovery when one of them fails. */

import { Connection } from "./connection.js";
import { Emitter } from "./emitter.js";
import { Failure, failureOf } from "./failures.js";
import { FRAME } from "./protocol.js";

/** @import { AudioIO, Block } from "./audio_io.js" */
/** @import { Ending } from "./connection.js" */
/** @import { Metadata, Samples } from "./protocol.js" */

const FIRST_RETRY = 0.5; // seconds before the first attempt to connect again; each next one waits twice as long ...
const UNDO_SECONDS = 5; // in which an end can be taken back: the microphone is off, the place is kept
const LONGEST_RETRY = 10; // ... up to this
// Codes of a server that stops or a network that breaks (RFC 6455, 7.4.1): worth another attempt.
const TRANSIENT = new Set([1001, 1005, 1006, 1012, 1013, 1014]);
const RESTARTS = new Set([1001, 1012, 1013]); // of these, the ones that are so even where an error message came before

/**
 * @typedef {{ name: "idle" | "microphone" | "connecting" | "talking" }
 *   | { name: "loading", progress: number | null, again: boolean }
 *   | { name: "queued", position: number }
 *   | { name: "ending", seconds: number }
 *   | { name: "missing", failure: Failure }
 *   | { name: "waiting", seconds: number, failure: Failure }
 *   | { name: "failed", failure: Failure }} State
 */

/** @typedef {{ text: string, position: number }} Word A piece of text, and where in the stream its audio begins. */
/** @typedef {{ word: string, start: number, end: number }} Caption What the person said, in seconds since "begin". */

/**
 * Events: "begin": a new conversation, at first, after a restart, after a lost connection. "ready": what the server
 * says of its model. "block": 20 ms of audio, with the samples that the network did not take.
 *
 * @extends {Emitter<{
 *   state: State, begin: undefined, ready: Metadata, stats: Metadata, word: Word, caption: Caption,
 *   block: Block & { unsent: number }
 * }>}
 */
export class Conversation extends Emitter {
  /** @type {State} */
  state = { name: "idle" };
  #audio;
  #query;
  /** @type {Connection | null} */
  #connection = null;
  #attempt = 0;
  #timer = 0;
  #received = 0; // samples of this stream
  #cleared = false; // the worklet counts this stream's samples, no longer the last one's

  /**
   * @param {AudioIO} audio
   * @param {() => URLSearchParams} query What to ask the server for, at every connection.
   */
  constructor(audio, query) {
    super();
    this.#audio = audio;
    this.#query = query;
    audio.on("block", (block) => this.#report(block));
    audio.on("cleared", () => {
      this.#cleared = true;
    });
  }

  get isOn() {
    return !["idle", "failed", "ending"].includes(this.state.name);
  }

  /** Open the microphone, connect, and talk as soon as there is a place. */
  async start() {
    if (this.isOn) return;
    this.#leave();
    this.#become({ name: "microphone" });
    try {
      await this.#audio.open();
    } catch (error) {
      if (this.state.name === "microphone") this.#fail(failureOf(error));
      return;
    }
    // Unless it was ended while the browser asked.
    if (this.state.name === "microphone" && this.#audio.isOpen) this.#connect();
  }

  /** Release the microphone at once, and hang up unless that is taken back in time. */
  end() {
    if (this.state.name !== "talking") return this.hangUp();
    this.#audio.close();
    this.#become({ name: "ending", seconds: UNDO_SECONDS });
    this.#timer = setTimeout(() => this.hangUp(), 1000 * UNDO_SECONDS);
  }

  /** Hang up at once. */
  hangUp() {
    this.#leave();
    this.#become({ name: "idle" });
  }

  /** Take the end back: Moshi remembers everything, and has heard silence meanwhile. */
  async undoEnd() {
    if (this.state.name !== "ending") return;
    clearTimeout(this.#timer);
    try {
      await this.#audio.open();
    } catch (error) {
      this.#fail(failureOf(error));
      return;
    }
    if (this.state.name !== "ending" || !this.#connection) return;
    this.#listenAnew();
    this.#become({ name: "talking" });
  }

  /** Forget the conversation and begin a new one in the same place. */
  restart() {
    if (this.state.name === "talking") this.#connection?.restart();
  }

  /** Connect again: with other settings, or without waiting for the next attempt. */
  reconnect() {
    if (this.isOn && this.state.name !== "microphone") this.#connect();
  }

  #connect() {
    clearTimeout(this.#timer);
    this.#connection?.close();
    const connection = new Connection(this.#query());
    this.#connection = connection;
    connection.on("open", () => this.#open());
    connection.on("audio", (pcm) => this.#play(pcm));
    // A word's audio comes with the frame after it.
    connection.on("text", (text) => this.emit("word", { text, position: this.#received + FRAME }));
    connection.on("metadata", (metadata) => this.#read(metadata));
    connection.on("close", (ending) => this.#closed(ending));
    this.#become({ name: "connecting" });
  }

  #open() {
    this.#attempt = 0;
    this.#become({ name: "talking" });
    this.#begin();
  }

  #begin() {
    this.#listenAnew();
    this.emit("begin");
  }

  /** Count the stream's samples from here on. */
  #listenAnew() {
    this.#received = 0;
    this.#cleared = false;
    this.#audio.clear();
  }

  /** @param {Samples} pcm */
  #play(pcm) {
    this.#received += pcm.length;
    this.#audio.play(pcm);
  }

  /** @param {Metadata} metadata */
  #read(metadata) {
    const { type, state, progress = null, again = false, position = 1, problem = "" } = metadata;
    if (type === "reset") this.#begin();
    else if (type === "stats") this.emit("stats", metadata);
    else if (type === "caption") this.#caption(metadata);
    else if (type !== "state") return;
    else if (state === "ready") this.emit("ready", metadata);
    else if (state === "loading") this.#become({ name: state, progress, again });
    else if (state === "queued") this.#become({ name: state, position });
    else if (state === "missing") this.#become({ name: state, failure: new Failure("model", problem) });
  }

  /** @param {Metadata} metadata */
  #caption({ word = "", start = 0, end = start }) {
    this.emit("caption", { word, start, end });
  }

  /** @param {Block} block */
  #report(block) {
    if (this.state.name === "talking") this.#connection?.send(block.microphone);
    const position = this.#cleared ? block.position : 0;
    this.emit("block", { ...block, position, unsent: this.#connection?.unsent ?? 0 });
  }

  /** @param {Ending} ending */
  async #closed({ begun, code, error }) {
    if (this.state.name === "ending") return this.hangUp();
    const ended = this.#connection;
    if (!TRANSIENT.has(code) || (error && !RESTARTS.has(code))) return this.#fail(new Failure("server", error));
    if (begun) return this.#retry(new Failure("unreachable"));
    const failure = await refusal(this.#query());
    if (this.#connection !== ended || !this.isOn) return;
    if (failure.code === "token" || failure.code === "refused") this.#fail(failure);
    else this.#retry(failure);
  }

  /** @param {Failure} failure */
  #retry(failure) {
    const seconds = Math.min(LONGEST_RETRY, FIRST_RETRY * 2 ** this.#attempt++);
    this.#become({ name: "waiting", seconds, failure });
    this.#timer = setTimeout(() => this.#connect(), 1000 * seconds);
  }

  /** @param {Failure} failure */
  #fail(failure) {
    this.#leave();
    this.#become({ name: "failed", failure });
  }

  #leave() {
    clearTimeout(this.#timer);
    this.#attempt = 0;
    this.#connection?.close();
    this.#connection = null;
    this.#audio.close();
  }

  /** @param {State} state */
  #become(state) {
    this.state = state;
    this.emit("state", state);
  }
}

/**
 * Why the server refused a connection, which the end of a socket does not say.
 *
 * @param {URLSearchParams} query
 * @returns {Promise<Failure>}
 */
async function refusal(query) {
  try {
    const answer = await fetch(infoAddress(query), { cache: "no-store" });
    if (answer.status === 401) return new Failure("token");
    if (answer.status !== 200) return new Failure(answer.status === 403 ? "refused" : "unreachable");
    const { health, elsewhere } = await answer.json();
    return new Failure(health === "draining" ? "draining" : "full", elsewhere ?? "");
  } catch (error) {
    // What fetch throws where nobody answers, and json where somebody else does.
    if (!(error instanceof TypeError || error instanceof SyntaxError)) throw error;
    return new Failure("unreachable");
  }
}

/**
 * The address of /api/info, or another under /api; of the query only the token matters there.
 *
 * @param {URLSearchParams} query
 */
export function infoAddress(query, name = "info") {
  const address = new URL(`api/${name}`, location.href);
  const token = query.get("token");
  address.hash = "";
  address.search = token === null ? "" : new URLSearchParams({ token }).toString();
  return address;
}
