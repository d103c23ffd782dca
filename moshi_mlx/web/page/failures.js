/** What can go wrong, in words, with what to do about it. */

/** Something a person has to know. `code` is a key of WORDS, `detail` what is particular about this case. */
export class Failure extends Error {
  constructor(code, detail = "") {
    super(detail || code);
    this.code = code;
    this.detail = detail;
  }
}

const MAC = /Mac/.test(navigator.userAgent);
const SYSTEM = MAC
  ? "On a Mac, also look in System Settings, Privacy & Security, Microphone: this browser has to be switched on."
  : "If it is allowed there, look in the system's privacy settings too.";

const WORDS = {
  insecure: () => ({
    title: "The browser keeps the microphone from this page",
    remedy:
      `Microphones are for secure addresses only, and ${location.origin} is not one. On the computer that runs Moshi, ` +
      `open http://localhost:${location.port || 80} instead. For another device, start Moshi with ` +
      "“moshi-mlx serve --lan” and open the https address it prints.",
  }),
  unsupported: () => ({
    title: "This browser cannot talk to Moshi",
    remedy: "It lacks audio worklets. Any current Chrome, Edge, Firefox or Safari has them.",
  }),
  denied: () => ({
    title: "The microphone is blocked",
    remedy: `Allow it for this page, with the symbol next to the address, then press Talk again. ${SYSTEM}`,
  }),
  missing: () => ({
    title: "There is no microphone",
    remedy: "Plug one in or switch your headset on, then press Talk again.",
  }),
  busy: () => ({
    title: "The microphone could not be started",
    remedy: "Another program may hold it. End calls and recordings, or unplug it and plug it in again; then press Talk.",
  }),
  silent: () => ({
    title: "The microphone gives nothing but silence",
    remedy: `Is it muted, by a switch on its cable or in the system? ${SYSTEM}`,
  }),
  unplugged: () => ({
    title: "The microphone has gone",
    remedy: "Plug it in again, or choose another one in the settings. The conversation goes on meanwhile.",
  }),
  changed: (name) => ({
    title: "The microphone has gone; another one took its place",
    remedy: `You are heard through ${name || "the system's microphone"} now. The settings have the others.`,
  }),
  paused: () => ({
    title: "The sound is paused",
    remedy: "Another app or the browser has stopped it, or there is no speaker to play on.",
    action: "Go on",
  }),
  speaker: (name) => ({
    title: "This speaker cannot be used",
    remedy: `${name || "It"} did not open. The system's own speaker plays instead.`,
  }),
  unreachable: () => ({
    title: "Moshi cannot be reached",
    remedy: "Is it still running? “moshi-mlx serve” starts it. This page connects again by itself.",
    action: "Try now",
  }),
  full: () => ({
    title: "Moshi takes no conversation now",
    remedy:
      "It is running, but did not accept this one: too many people may be waiting, or a proxy between here and there " +
      "lets no web sockets through. This page tries again by itself.",
    action: "Try now",
  }),
  token: () => ({
    title: "This address lacks the right token",
    remedy: "Open the whole address that “moshi-mlx serve” printed, up to the end of its token, or scan its code.",
  }),
  refused: () => ({
    title: "Moshi refuses this page",
    remedy: "It answers only under the address that “moshi-mlx serve” printed: open that one.",
  }),
  server: (said) => ({
    title: "Moshi ended the conversation",
    remedy: said ? sentence(said) : "The output of “moshi-mlx serve” tells why.",
    action: "Talk again",
  }),
  unknown: (said) => ({
    title: "Something went wrong in this page",
    remedy: `${sentence(said)} Reload the page to start afresh.`,
  }),
};

const OF_BROWSER = {
  NotAllowedError: "denied",
  SecurityError: "denied",
  NotFoundError: "missing",
  DevicesNotFoundError: "missing",
  OverconstrainedError: "missing",
  NotReadableError: "busy",
  AbortError: "busy",
  NotSupportedError: "busy",
};

/** Any error as a Failure. */
export function failureOf(error) {
  if (error instanceof Failure) return error;
  const code = error instanceof DOMException ? OF_BROWSER[error.name] : undefined;
  return new Failure(code ?? "unknown", error.message);
}

/** Failure -> {title, remedy, action}; action, the label of a button, only where there is something to press. */
export function words(failure) {
  return WORDS[failure.code](failure.detail);
}

function sentence(text) {
  const trimmed = text.trim();
  return /[.!?]$/.test(trimmed) ? trimmed : `${trimmed}.`;
}
