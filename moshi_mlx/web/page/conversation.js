/** A conversation from the first click to the end: microphone, server, talk, and what happens when one of them fails. */

import { Connection } from "./connection.js";
import { Failure, failureOf } from "./failures.js";
import { FRAME } from "./protocol.js";

const FIRST_WAIT = 0.5; // seconds before the first attempt to connect again; each next waits twice as long ...
const LONGEST_WAIT = 10; // ... up to this
// Closed by a server that goes or a network that breaks (RFC 6455, 7.4.1): worth another try. All else is told.
const GOING = new Set([1001, 1005, 1006, 1012, 1013, 1014]);
const RESTARTS = new Set([1001, 1012]); // whatever it said before

/**
 * Events: "state" ({name, ...}: see `state`), "ready" (what the server says of itself), "begin" (a new conversation:
 * first, after a reset, after a lost connection), "word" ({text, position}), "stats", "block" (each 20 ms of audio).
 * States: idle, microphone, connecting, loading {progress}, queued {position}, talking, waiting {seconds, failure},
 * failed {failure}.
 */
export class Conversation extends EventTarget {
  state = { name: "idle" };
  #audio;
  #query;
  #connection = null;
  #attempt = 0;
  #timer = 0;
  #received = 0; // samples of this stream
  #settled = false; // the worklet counts this stream's samples, no longer the last one's

  /** audio: AudioPort. query: () => URLSearchParams for the server. */
  constructor(audio, query) {
    super();
    this.#audio = audio;
    this.#query = query;
    audio.addEventListener("block", ({ detail }) => this.#block(detail));
    audio.addEventListener("cleared", () => (this.#settled = true));
  }

  get isOn() {
    return !["idle", "failed"].includes(this.state.name);
  }

  /** Open the microphone, connect, and talk as soon as it is our turn. */
  async start() {
    if (this.isOn) return;
    this.#become("microphone");
    try {
      await this.#audio.open();
    } catch (error) {
      if (this.state.name === "microphone") this.#fail(failureOf(error));
      return;
    }
    if (this.state.name === "microphone" && this.#audio.isOpen) this.#connect(); // not ended while the browser asked
  }

  /** Hang up and give the microphone back. */
  end() {
    this.#leave();
    this.#become("idle");
  }

  /** Forget what was said and begin anew, in the same place. */
  restart() {
    if (this.state.name === "talking") this.#connection.restart();
  }

  /** Connect again: with other settings, or at once where it waits to. */
  reconnect() {
    if (!["idle", "failed", "microphone"].includes(this.state.name)) this.#connect();
  }

  #connect() {
    clearTimeout(this.#timer);
    this.#connection?.close();
    const connection = new Connection(this.#query());
    this.#connection = connection;
    connection.addEventListener("open", () => this.#open());
    connection.addEventListener("audio", ({ detail }) => this.#answered(detail));
    connection.addEventListener("text", ({ detail }) => this.#emit("word", { text: detail, position: this.#next() }));
    connection.addEventListener("metadata", ({ detail }) => this.#told(detail));
    connection.addEventListener("close", ({ detail }) => this.#closed(detail));
    this.#become("connecting");
  }

  #open() {
    this.#attempt = 0;
    this.#become("talking");
    this.#begin();
  }

  #begin() {
    this.#received = 0;
    this.#settled = false;
    this.#audio.clear();
    this.#emit("begin");
  }

  #answered(pcm) {
    this.#received += pcm.length;
    this.#audio.play(pcm);
  }

  /** Where in the stream the audio of a word begins that is told now. */
  #next() {
    return this.#received + FRAME;
  }

  #told(metadata) {
    if (metadata.type === "reset") this.#begin();
    else if (metadata.type === "stats") this.#emit("stats", metadata);
    else if (metadata.type !== "state") return;
    else if (metadata.state === "ready") this.#emit("ready", metadata);
    else if (["loading", "queued"].includes(metadata.state)) this.#become(metadata.state, metadata);
  }

  #block(report) {
    if (this.state.name === "talking") this.#connection.send(report.microphone);
    const position = this.#settled ? report.position : 0;
    this.#emit("block", { ...report, position, unsent: this.#connection?.unsent ?? 0 });
  }

  async #closed({ began, code, said }) {
    const ended = this.#connection;
    if (!GOING.has(code) || (said && !RESTARTS.has(code))) return this.#fail(new Failure("server", said));
    if (!began) {
      const reason = await refusal(this.#query());
      if (this.#connection !== ended || !this.isOn) return;
      if (["token", "refused"].includes(reason)) return this.#fail(new Failure(reason));
      this.#wait(reason);
    } else this.#wait("unreachable");
  }

  #wait(reason) {
    const seconds = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.#attempt++);
    this.#become("waiting", { seconds, failure: new Failure(reason) });
    this.#timer = setTimeout(() => this.#connect(), 1000 * seconds);
  }

  #fail(failure) {
    this.#leave();
    this.#become("failed", { failure });
  }

  #leave() {
    clearTimeout(this.#timer);
    this.#attempt = 0;
    this.#connection?.close();
    this.#connection = null;
    this.#audio.close();
  }

  #become(name, details = {}) {
    this.state = { ...details, name };
    this.#emit("state", this.state);
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** Why the server would not talk to this page, the code of a Failure: the end of a socket does not tell. */
async function refusal(query) {
  try {
    const { status } = await fetch(infoAddress(query), { cache: "no-store" });
    return { 200: "full", 401: "token", 403: "refused" }[status] ?? "unreachable";
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // what fetch raises where nobody answers
    return "unreachable";
  }
}

/** The address of /api/info; of the query only the token matters there. */
export function infoAddress(query) {
  const address = new URL("api/info", location.href);
  address.hash = "";
  address.search = query.has("token") ? new URLSearchParams({ token: query.get("token") }) : "";
  return address;
}
