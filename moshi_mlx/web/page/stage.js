/** What is shown in which state of the conversation. */

import { words } from "./failures.js";

const STEPS = ["microphone", "connecting", "loading", "queued"];

/** field: id -> element. */
export class Stage {
  #notices = []; // failures, the newest last
  #timer = 0;

  constructor(field) {
    this.field = field;
    this.muted = false;
    this.state = { name: "idle" };
    this.hasTranscript = false;
    this.pressed = () => {}; // is called with a failure whose button was pressed
    field("notice-action").addEventListener("click", () => this.pressed(this.#notices[this.#notices.length - 1]));
  }

  /** state: of the conversation. */
  show(state) {
    const before = this.state.name;
    this.state = state;
    const on = !["idle", "failed"].includes(state.name);
    document.body.dataset.state = state.name;
    this.field("talk").textContent = on ? "End" : "Talk";
    this.field("talk").classList.toggle("primary", !on);
    this.field("mute").disabled = !on;
    this.field("restart").disabled = state.name !== "talking";
    this.field("readout").hidden = !on;
    this.#middle();
    if (STEPS.includes(state.name)) this.#steps(state);
    this.#status();
    clearInterval(this.#timer);
    this.field("countdown").textContent = "";
    if (state.name === "waiting") this.#countDown(state.seconds);
    const calm = ["talking", "microphone"].includes(state.name) || (state.name === "idle" && before !== "idle");
    if (calm) this.#notices = [];
    if (state.failure) this.#notices = [state.failure];
    this.#notice();
  }

  /** Whether something was said that has to stay visible. */
  setTranscript(there) {
    this.hasTranscript = there;
    this.#middle();
  }

  #middle() {
    const { name } = this.state;
    const empty = !this.hasTranscript;
    this.field("welcome").hidden = !(empty && name === "idle");
    this.field("start").hidden = !(empty && STEPS.includes(name));
    this.field("ready").hidden = !(empty && name === "talking");
  }

  mute(muted) {
    this.muted = muted;
    this.field("mute").setAttribute("aria-pressed", String(muted));
    this.field("mute").firstChild.textContent = muted ? "Muted " : "Mute ";
    document.body.toggleAttribute("data-muted", muted);
    this.#status();
  }

  /** Trouble that ends nothing. */
  trouble(failure) {
    this.fine(failure.code);
    this.#notices.push(failure);
    this.#notice();
  }

  /** Trouble of this kind is over. */
  fine(code) {
    this.#notices = this.#notices.filter((failure) => failure.code !== code);
    this.#notice();
  }

  #status() {
    const { name, progress, position } = this.state;
    const talking = this.muted ? "Muted" : "Listening";
    this.field("status").textContent = {
      idle: "",
      microphone: "Waiting for the microphone",
      connecting: "Connecting",
      loading: progress == null ? "Loading the model" : `Loading the model, ${percent(progress)}`,
      queued: queue(position),
      talking,
      waiting: "Connection lost",
      failed: "Stopped",
    }[name];
  }

  #steps({ name, progress = null, position }) {
    const now = STEPS.indexOf(name);
    const remarks = {
      microphone: "allow it in the browser",
      connecting: "",
      loading: progress === null ? "loading" : percent(progress),
      queued: queue(position),
    };
    for (const item of this.field("steps").children) {
      const index = STEPS.indexOf(item.dataset.step);
      item.classList.toggle("done", index < now);
      item.classList.toggle("now", index === now);
      if (index === now) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
      item.querySelector("small").textContent = index === now ? remarks[name] : "";
    }
    const bar = this.field("steps").querySelector("progress");
    bar.hidden = name !== "loading";
    if (progress === null) bar.removeAttribute("value");
    else bar.value = progress;
  }

  #countDown(seconds) {
    const until = performance.now() + 1000 * seconds;
    const tell = () => {
      const left = Math.max(1, Math.ceil((until - performance.now()) / 1000));
      this.field("countdown").textContent = `again in ${left} s`;
    };
    tell();
    this.#timer = setInterval(tell, 1000);
  }

  #notice() {
    const failure = this.#notices[this.#notices.length - 1];
    this.field("notice").hidden = !failure;
    if (!failure) return;
    const { title, remedy, action } = words(failure);
    this.field("notice-title").textContent = title;
    this.field("notice-remedy").textContent = remedy;
    this.field("notice-action").hidden = !action;
    this.field("notice-action").textContent = action ?? "";
  }
}

function percent(share) {
  return `${Math.round(100 * share)} %`;
}

function queue(position) {
  if (!(position > 1)) return "you are next";
  return position === 2 ? "one person is before you" : `${position - 1} people are before you`;
}
