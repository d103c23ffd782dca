/** One web socket to the server: messages in both directions, and how it ended. */

import { Emitter } from "./emitter.js";
import { audioMessage, Kind, parse, pingMessage, restartMessage } from "./protocol.js";

/** @import { Metadata, Samples } from "./protocol.js" */

const SILENCE_MS = 15_000; // without any message; the server sends one at least every 4 s
const MAX_BUFFERED = 96_000; // bytes, 1 s of audio that the network has not taken; what comes then is dropped

/**
 * How a connection ended: whether there was a handshake, the code of the socket's close, the last error message.
 *
 * @typedef {{ begun: boolean, code: number, error: string }} Ending
 */

/**
 * "open" comes with the handshake, when a conversation begins; "close" once, when it was not this side that closed.
 *
 * @extends {Emitter<{ open: undefined, audio: Samples, text: string, metadata: Metadata, close: Ending }>}
 */
export class Connection extends Emitter {
  #socket;
  #begun = false;
  #error = "";
  #watchdog = 0;
  unsent = 0; // samples dropped here

  /** @param {URLSearchParams} query Of /api/chat. */
  constructor(query) {
    super();
    this.#socket = new WebSocket(chatAddress(query));
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onmessage = ({ data }) => this.#receive(data);
    this.#socket.onclose = ({ code, reason }) => this.#end(code, reason);
    this.#watch();
  }

  /**
   * Send audio, from the handshake on.
   *
   * @param {Samples} pcm 24 kHz
   */
  send(pcm) {
    if (!this.#begun || this.#socket.readyState !== WebSocket.OPEN) return;
    if (this.#socket.bufferedAmount > MAX_BUFFERED) this.unsent += pcm.length;
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

  /** @param {ArrayBuffer | string} data */
  #receive(data) {
    this.#watch();
    if (typeof data === "string") return; // the protocol has no text messages
    const { kind, content } = parse(data);
    if (kind === Kind.handshake && !this.#begun) {
      this.#begun = true;
      this.emit("open");
    } else if (kind === Kind.audio && content.length > 0) this.emit("audio", content);
    else if (kind === Kind.text && content) this.emit("text", content);
    else if (kind === Kind.metadata) this.emit("metadata", content);
    else if (kind === Kind.error) this.#error = content;
    else if (kind === Kind.ping) this.#socket.send(pingMessage());
  }

  /** Wait for the next message, but not for ever: the socket would notice a lost network only minutes later. */
  #watch() {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      this.close();
      this.#end(1006, "");
    }, SILENCE_MS);
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  #end(code, reason) {
    clearTimeout(this.#watchdog);
    this.emit("close", { begun: this.#begun, code, error: this.#error || reason });
  }
}

/** @param {URLSearchParams} query */
function chatAddress(query) {
  const address = new URL("api/chat", location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  address.hash = "";
  address.search = query.toString();
  return address;
}
