/** What can go wrong, in words, and what to do about it. */

/**
 * What to show; action, other: the labels of buttons.
 *
 * @typedef {{ title: string, remedy: string, action?: string, other?: string }} Words
 */

const MAC = /Mac/.test(navigator.userAgent);
const SYSTEM = MAC
  ? "On a Mac, also look in System Settings, Privacy & Security, Microphone: this browser has to be switched on."
  : "If it is allowed there, look in the system's privacy settings too.";

/** Code -> words; `detail` is what is particular about one case, "" for nothing. */
const WORDS = {
  insecure: () => ({
    title: "The browser gives this page no microphone",
    remedy:
      `Browsers allow the microphone on secure addresses only, and ${location.origin} is not one. On the computer ` +
      `that runs Moshi, open http://localhost:${location.port || 80} instead. For another device, start Moshi with ` +
      "“moshi-mlx serve --lan” and open the https address that it prints.",
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
    remedy:
      "Another program may be using it. End calls and recordings, or unplug it and plug it in again; then press Talk.",
  }),
  silent: () => ({
    title: "The microphone gives nothing but silence",
    remedy: `Is it muted, by a switch on its cable or in the system? ${SYSTEM}`,
  }),
  unplugged: () => ({
    title: "The microphone was disconnected",
    remedy: "Plug it in again, or choose another one in the settings. The conversation goes on meanwhile.",
  }),
  replaced: (/** @type {string} */ name) => ({
    title: "The microphone was disconnected; another one took its place",
    remedy: `Moshi now hears you through ${name || "the system's microphone"}. Choose another one in the settings.`,
  }),
  paused: () => ({
    title: "The sound is paused",
    remedy: "Another app or the browser has stopped it, or there is no speaker to play on.",
    action: "Continue",
  }),
  speaker: () => ({
    title: "This speaker cannot be used",
    remedy: "It did not open. The system's own speaker plays instead.",
  }),
  unreachable: () => ({
    title: "Moshi cannot be reached",
    remedy: "Is it still running? “moshi-mlx serve” starts it. This page connects again by itself.",
    action: "Try now",
  }),
  model: (/** @type {string} */ problem) => ({
    title: "The model cannot be had",
    remedy: sentence(problem),
    action: "Try again",
    other: "Use Nano",
  }),
  full: (/** @type {string} */ elsewhere) => ({
    title: "Moshi accepts no conversation now",
    remedy:
      "It is running, but did not accept this one: too many people may be waiting, or a proxy on the way lets no web " +
      `sockets through. This page tries again by itself.${other(elsewhere)}`,
    action: "Try now",
  }),
  draining: (/** @type {string} */ elsewhere) => ({
    title: "This Moshi is about to end",
    remedy:
      "It finishes the conversations that it has, and takes no new ones. This page tries again by itself, until " +
      `another one answers here.${other(elsewhere)}`,
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
  server: (/** @type {string} */ reason) => ({
    title: "Moshi ended the conversation",
    remedy: reason ? sentence(reason) : "The output of “moshi-mlx serve” says why.",
    action: "Talk again",
  }),
  unknown: (/** @type {string} */ message) => ({
    title: "Something went wrong in this page",
    remedy: `${sentence(message)} Reload the page to start afresh.`,
  }),
};

/** @typedef {keyof typeof WORDS} FailureCode */

/** @type {Map<string, FailureCode>} Name of a DOMException -> code. */
const EXCEPTIONS = new Map([
  ["NotAllowedError", "denied"],
  ["SecurityError", "denied"],
  ["NotFoundError", "missing"],
  ["DevicesNotFoundError", "missing"],
  ["OverconstrainedError", "missing"],
  ["NotReadableError", "busy"],
  ["AbortError", "busy"],
  ["NotSupportedError", "busy"],
]);

/** An error that a person has to know of. */
export class Failure extends Error {
  /**
   * @param {FailureCode} code
   * @param {string} detail
   */
  constructor(code, detail = "") {
    super(detail || code);
    this.code = code;
    this.detail = detail;
  }
}

/**
 * Any error as a Failure.
 *
 * @param {unknown} error
 */
export function failureOf(error) {
  if (error instanceof Failure) return error;
  const code = error instanceof DOMException ? EXCEPTIONS.get(error.name) : undefined;
  return new Failure(code ?? "unknown", error instanceof Error ? error.message : String(error));
}

/**
 * What to tell a person.
 *
 * @param {Failure} failure
 * @returns {Words}
 */
export function describe({ code, detail }) {
  return WORDS[code](detail);
}

/** @param {string} elsewhere Address of another server, "" for none. */
function other(elsewhere) {
  return elsewhere && ` There is another one at ${elsewhere}.`;
}

/** @param {string} text */
function sentence(text) {
  const trimmed = text.trim();
  return /[.!?]$/.test(trimmed) ? trimmed : `${trimmed}.`;
}
