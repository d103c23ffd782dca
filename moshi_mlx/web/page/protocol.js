/** The messages of /api/chat?audio=pcm: one byte for the kind, then the content. */

export const RATE = 24_000; // Hz
export const FRAME = 1920; // samples: 80 ms, the model's step

export const Kind = Object.freeze({
  handshake: 0,
  audio: 1,
  text: 2,
  control: 3,
  metadata: 4,
  error: 5,
  ping: 6,
});

const RESTART = 3; // a control

/**
 * Metadata, JSON: what the server says of itself. The fields depend on `type` and `state`; docs/serve.md lists them.
 *
 * @typedef {Object} Metadata
 * @property {string} [type] "state", "stats", "reset" or "caption"
 * @property {string} [state] "loading", "missing", "queued" or "ready"
 * @property {string} [problem] missing: why the model cannot be had
 * @property {number | null} [progress] loading: 0 to 1, null where it is not known
 * @property {boolean} [again] loading: it was unloaded, because nobody was there
 * @property {number} [position] queued: 1 for the next
 * @property {string} [model] ready: its name
 * @property {string} [greeting] ready
 * @property {string[]} [questions] ready: what this model can be asked
 * @property {string[]} [voices] ready: the voices that a client may name, of a model that takes one
 * @property {string} [persona] ready: its role for those who name none
 * @property {number} [step_ms] stats: median time of a step of the model
 * @property {number} [lag_ms] stats: from the first sample of a frame to its reply
 * @property {number} [dropped] stats: frames that the model did not hear
 * @property {number} [sessions] stats: conversations going on
 * @property {number} [waiting] stats: clients waiting for a place
 * @property {string} [word] caption: one that this person has said
 * @property {number} [start] caption: when, in seconds of the audio that was sent since the handshake or the reset
 * @property {number} [end] caption: likewise
 */

/** @typedef {Float32Array<ArrayBuffer>} Samples */

/**
 * @typedef {{ kind: 1, content: Samples } | { kind: 2 | 5, content: string } | { kind: 4, content: Metadata }
 *   | { kind: 0 | 3 | 6, content: null }} Message
 */

/**
 * A message with audio.
 *
 * @param {Samples} pcm 24 kHz
 */
export function audioMessage(pcm) {
  const message = new Uint8Array(1 + pcm.byteLength);
  message[0] = Kind.audio;
  message.set(new Uint8Array(pcm.buffer, pcm.byteOffset, pcm.byteLength), 1);
  return message;
}

/** A message that asks for a new conversation on this connection. */
export function restartMessage() {
  return Uint8Array.of(Kind.control, RESTART);
}

/** A message that only says that this side is still there. */
export function pingMessage() {
  return Uint8Array.of(Kind.ping);
}

/**
 * Read a message. Content of a kind that this page does not use is left out.
 *
 * @param {ArrayBuffer} message
 * @returns {Message}
 */
export function parse(message) {
  const kind = new Uint8Array(message, 0, Math.min(1, message.byteLength))[0];
  switch (kind) {
    case Kind.audio: {
      const end = 1 + 4 * Math.floor((message.byteLength - 1) / 4);
      return { kind, content: new Float32Array(message.slice(1, end)) };
    }
    case Kind.text:
    case Kind.error:
      return { kind, content: decode(message) };
    case Kind.metadata:
      return { kind, content: parseMetadata(decode(message)) };
    default:
      return { kind: /** @type {0 | 3 | 6} */ (kind), content: null };
  }
}

/** @param {ArrayBuffer} message */
function decode(message) {
  return new TextDecoder().decode(new Uint8Array(message, 1));
}

/**
 * @param {string} json
 * @returns {Metadata}
 */
function parseMetadata(json) {
  try {
    return JSON.parse(json) ?? {};
  } catch {
    return {}; // from another kind of server; the conversation works without it
  }
}
