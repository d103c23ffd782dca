/** The messages of /api/chat?audio=pcm: a byte that tells the kind, and what belongs to it. */

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

/** A message with float32 samples. */
export function audioMessage(pcm) {
  const message = new Uint8Array(1 + pcm.byteLength);
  message[0] = Kind.audio;
  message.set(new Uint8Array(pcm.buffer, pcm.byteOffset, pcm.byteLength), 1);
  return message;
}

/** "Forget the conversation and begin a new one." */
export function restartMessage() {
  return Uint8Array.of(Kind.control, RESTART);
}

export function pingMessage() {
  return Uint8Array.of(Kind.ping);
}

/** ArrayBuffer -> {kind, content}: samples, text or metadata; null for kinds that carry nothing we know. */
export function parse(message) {
  const kind = new Uint8Array(message, 0, Math.min(1, message.byteLength))[0];
  switch (kind) {
    case Kind.audio: {
      const whole = 1 + 4 * Math.floor((message.byteLength - 1) / 4);
      return { kind, content: new Float32Array(message.slice(1, whole)) };
    }
    case Kind.text:
    case Kind.error:
      return { kind, content: text(message) };
    case Kind.metadata:
      return { kind, content: json(text(message)) };
    default:
      return { kind, content: null };
  }
}

function text(message) {
  return new TextDecoder().decode(new Uint8Array(message, 1));
}

function json(source) {
  try {
    return JSON.parse(source) ?? {};
  } catch {
    return {}; // a server of another kind; what it says about itself is not needed
  }
}
