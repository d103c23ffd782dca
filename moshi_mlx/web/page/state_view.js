/** Shows the state of the conversation: its name, the steps on the way to it, and what went wrong. */

import { field } from "./elements.js";
import { describe } from "./failures.js";

/** @import { State } from "./conversation.js" */
/** @import { Failure, FailureCode } from "./failures.js" */
/** @import { Speakers } from "./speaking.js" */

const STEPS = ["microphone", "connecting", "loading", "queued"];

export class StateView {
  /** @type {Failure[]} The newest last. */
  #failures = [];
  #timer = 0;
  #muted = false;
  /** @type {State} */
  #state = { name: "idle" };
  #hasTranscript = false;
  /** @type {Speakers} */
  #speakers = { you: false, moshi: false, interrupted: false };

  /** @param {(failure: Failure, isOther: boolean) => void} pressed Called when a button of a failure is pressed. */
  constructor(pressed) {
    for (const name of ["action", "other"]) {
      field(`notice-${name}`).addEventListener("click", () => {
        pressed(this.#failures[this.#failures.length - 1], name === "other");
      });
    }
  }

  /** @param {State} state */
  show(state) {
    const before = this.#state.name;
    const { name } = state;
    const isOn = !["idle", "failed", "ending"].includes(name);
    this.#state = state;
    document.body.dataset.state = name;
    field("talk").textContent = isOn ? "End" : name === "ending" ? "Undo" : "Talk";
    field("talk").classList.toggle("primary", !isOn);
    field("mute", HTMLButtonElement).disabled = !isOn;
    field("hold", HTMLButtonElement).disabled = !isOn;
    field("restart", HTMLButtonElement).disabled = name !== "talking";
    field("health").hidden = !isOn;
    this.#showSection();
    if (STEPS.includes(name)) this.#showSteps();
    this.#showStatus();
    clearInterval(this.#timer);
    field("countdown").textContent = "";
    if (state.name === "waiting") this.#countDown("again in", state.seconds);
    if (state.name === "ending") this.#countDown("for good in", state.seconds);
    if (before === "missing") this.recover("model");
    if (["talking", "microphone"].includes(name) || (name === "idle" && before !== "idle")) this.#failures = [];
    if ("failure" in state) this.#failures = [state.failure];
    this.#showFailure();
  }

  /** @param {boolean} hasTranscript Whether something was said, which stays visible. */
  setTranscript(hasTranscript) {
    this.#hasTranscript = hasTranscript;
    this.#showSection();
  }

  /** @param {boolean} muted */
  mute(muted) {
    this.#muted = muted;
    field("mute").setAttribute("aria-pressed", String(muted));
    field("mute-label").textContent = muted ? "Muted" : "Mute";
    document.body.toggleAttribute("data-muted", muted);
    this.#showStatus();
  }

  /** @param {Speakers} speakers Who speaks now. */
  speak(speakers) {
    this.#speakers = speakers;
    const names = [speakers.you ? "you" : "", speakers.moshi ? "moshi" : ""];
    document.body.dataset.speaking = names.filter(Boolean).join(" ");
    this.#showStatus();
  }

  /**
   * Show a failure that ends nothing.
   *
   * @param {Failure} failure
   */
  warn(failure) {
    this.recover(failure.code);
    this.#failures.push(failure);
    this.#showFailure();
  }

  /**
   * A failure of this code is over.
   *
   * @param {FailureCode} code
   */
  recover(code) {
    this.#failures = this.#failures.filter((failure) => failure.code !== code);
    this.#showFailure();
  }

  #showSection() {
    const { name } = this.#state;
    field("welcome").hidden = this.#hasTranscript || name !== "idle";
    field("start").hidden = this.#hasTranscript || !STEPS.includes(name);
    field("ready").hidden = this.#hasTranscript || name !== "talking";
  }

  #showStatus() {
    field("status").textContent = status(this.#state, this.#muted, this.#speakers);
  }

  #showSteps() {
    const state = this.#state;
    const now = STEPS.indexOf(state.name);
    for (const [index, name] of STEPS.entries()) {
      const item = field(`step-${name}`);
      item.classList.toggle("done", index < now);
      item.classList.toggle("now", index === now);
      if (index === now) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
      field(`step-${name}-detail`).textContent = index === now ? stepDetail(state) : "";
    }
    const bar = field("loading-bar", HTMLProgressElement);
    bar.hidden = state.name !== "loading";
    if (state.name === "loading" && state.progress !== null) bar.value = state.progress;
    else bar.removeAttribute("value");
  }

  /**
   * @param {string} what
   * @param {number} seconds
   */
  #countDown(what, seconds) {
    const end = performance.now() + 1000 * seconds;
    const show = () => {
      const left = Math.max(1, Math.ceil((end - performance.now()) / 1000));
      field("countdown").textContent = `${what} ${left} s`;
    };
    show();
    this.#timer = setInterval(show, 1000);
  }

  #showFailure() {
    const failure = this.#failures[this.#failures.length - 1];
    field("notice").hidden = !failure;
    if (!failure) return;
    const { title, remedy, action = "", other = "" } = describe(failure);
    field("notice-title").textContent = title;
    field("notice-remedy").textContent = remedy;
    field("notice-action").hidden = !action;
    field("notice-action").textContent = action;
    field("notice-other").hidden = !other;
    field("notice-other").textContent = other;
  }
}

/**
 * @param {State} state
 * @param {boolean} muted
 * @param {Speakers} speakers
 */
function status(state, muted, speakers) {
  switch (state.name) {
    case "idle":
      return "";
    case "microphone":
      return "Waiting for the microphone";
    case "connecting":
      return "Connecting";
    case "loading":
      return loading(state);
    case "queued":
      return queue(state.position);
    case "talking":
      return talking(muted, speakers);
    case "ending":
      return "Ended";
    case "missing":
      return "There is no model";
    case "waiting":
      return "Connection lost";
    case "failed":
      return "Stopped";
  }
}

/** @param {{ progress: number | null, again: boolean }} state */
function loading({ progress, again }) {
  const what = again ? "Nobody was here for a while: loading the model again" : "Loading the model";
  return progress === null ? what : `${what}, ${percent(progress)}`;
}

/**
 * @param {boolean} muted
 * @param {Speakers} speakers
 */
function talking(muted, { you, moshi, interrupted }) {
  if (interrupted) return "Interrupted: it listens";
  if (you && !muted) return moshi ? "You both speak" : "Hears you";
  if (moshi) return "Moshi speaks";
  return muted ? "Muted" : "Listening";
}

/** @param {State} state */
function stepDetail(state) {
  if (state.name === "microphone") return "allow it in the browser";
  if (state.name === "loading") return state.progress === null ? "loading" : percent(state.progress);
  return state.name === "queued" ? queue(state.position) : "";
}

/** @param {number} share */
function percent(share) {
  return `${Math.round(100 * share)} %`;
}

/** @param {number} position */
function queue(position) {
  if (position <= 1) return "you are next";
  return position === 2 ? "one person is before you" : `${position - 1} people are before you`;
}
