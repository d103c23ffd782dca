/** One web socket to the server: messages in both directions, and how it ended. */

import { Kind, audioMessage, parse, pingMessage, restartMessage } from "./protocol.js";

const SILENCE_MS = 15_000; // the server says something every 5 s
const MOST_WAITING = 96_000; // bytes, 1 s of audio: what the network does not take is left out

/**
 * Events: "open" (the handshake: a conversation begins), "audio", "text", "metadata", and once "close" with
 * {began, code, said}: whether there was a handshake, the code of the socket, the last error that was told.
 */
export class Connection extends EventTarget {
  #socket;
  #began = false;
  #said = "";
  #watchdog = 0;
  unsent = 0; // samples

  /** query: URLSearchParams of /api/chat. */
  constructor(query) {
    super();
    this.#socket = new WebSocket(chatAddress(query));
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onmessage = ({ data }) => this.#received(data);
    this.#socket.onclose = ({ code, reason }) => this.#ended(code, reason);
    this.#watch();
  }

  /** Send float32 samples at 24 kHz. */
  send(pcm) {
    if (!this.#began || this.#socket.readyState !== WebSocket.OPEN) return;
    if (this.#socket.bufferedAmount > MOST_WAITING) this.unsent += pcm.length;
    else this.#socket.send(audioMessage(pcm));
  }

  /** Ask for a new conversation. */
  restart() {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(restartMessage());
  }

  /** Leave. No event follows. */
  close() {
    clearTimeout(this.#watchdog);
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close(1000);
  }

  #received(data) {
    this.#watch();
    if (typeof data === "string") return; // the protocol has none
    const { kind, content } = parse(data);
    if (kind === Kind.handshake && !this.#began) {
      this.#began = true;
      this.#emit("open");
    } else if (kind === Kind.audio && content.length > 0) this.#emit("audio", content);
    else if (kind === Kind.text && content) this.#emit("text", content);
    else if (kind === Kind.metadata) this.#emit("metadata", content);
    else if (kind === Kind.error) this.#said = content;
    else if (kind === Kind.ping) this.#socket.send(pingMessage());
  }

  #watch() {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      this.close(); // the socket would notice a lost network only minutes later
      this.#ended(1006, "");
    }, SILENCE_MS);
  }

  #ended(code, reason) {
    clearTimeout(this.#watchdog);
    this.#emit("close", { began: this.#began, code, said: this.#said || reason });
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

function chatAddress(query) {
  const address = new URL("api/chat", location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  address.hash = "";
  address.search = query;
  return address;
}
