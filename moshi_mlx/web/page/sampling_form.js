/** The form for how tokens are sampled, made from what /api/info says can be set. */

import { field } from "./elements.js";

/** @import { Preferences } from "./preferences.js" */

/** @typedef {{ default: number, min: number, max: number }} Setting The server's default and range. */

/** Query parameter -> its label, and the part of the server's range that makes sense to people. */
const KNOWN = new Map([
  ["text_temperature", { label: "Words: temperature", min: 0, max: 1.5, step: "0.05" }],
  ["text_topk", { label: "Words: how many of the likeliest to choose from", min: 1, max: 250, step: "1" }],
  ["audio_temperature", { label: "Voice: temperature", min: 0, max: 1.5, step: "0.05" }],
  ["audio_topk", { label: "Voice: how many of the likeliest to choose from", min: 1, max: 500, step: "1" }],
  ["repetition_penalty", { label: "Penalty for repeated words", min: 1, max: 2, step: "0.05" }],
  ["repetition_penalty_context", { label: "Words that the penalty covers", min: 0, max: 200, step: "1" }],
]);

export class SamplingForm {
  #form = field("sampling", HTMLFormElement);
  /** @type {Map<string, { input: HTMLInputElement, initial: number }>} By query parameter. */
  #ranges = new Map();
  /** @type {HTMLInputElement | null} */
  #seed = null;

  /** @param {Preferences} preferences */
  constructor(preferences) {
    this.preferences = preferences;
    this.#form.addEventListener("submit", (event) => event.preventDefault());
  }

  /** @param {Record<string, Setting>} settings By query parameter. */
  show(settings) {
    this.#ranges.clear();
    this.#form.replaceChildren();
    for (const [name, setting] of Object.entries(settings ?? {})) this.#addRange(name, setting);
    const { label, input } = labelled("Seed (empty: another one each time)");
    Object.assign(input, { type: "number", min: 0, max: 2 ** 32 - 1, step: 1, id: "seed" });
    input.value = String(this.preferences.values.sampling.seed ?? "");
    this.#form.append(label);
    this.#seed = input;
  }

  /** Keep what the form says; only what differs from the server's defaults. */
  keep() {
    /** @type {Record<string, number>} */
    const sampling = {};
    for (const [name, { input, initial }] of this.#ranges) {
      if (input.valueAsNumber !== initial) sampling[name] = input.valueAsNumber;
    }
    if (this.#seed?.value.trim() && this.#seed.checkValidity()) sampling.seed = this.#seed.valueAsNumber;
    this.preferences.set({ sampling });
  }

  /** Put every field back to the server's default. */
  reset() {
    for (const { input, initial } of this.#ranges.values()) {
      input.value = String(initial);
      input.dispatchEvent(new Event("input"));
    }
    if (this.#seed) this.#seed.value = "";
  }

  /**
   * @param {string} name
   * @param {Setting} setting
   */
  #addRange(name, { default: initial, min, max }) {
    const known = KNOWN.get(name) ?? { label: name.replaceAll("_", " "), min, max, step: "any" };
    const { label, input, output } = labelled(known.label);
    input.type = "range";
    input.id = name;
    input.min = String(Math.max(min, Math.min(known.min, initial)));
    input.max = String(Math.min(max, Math.max(known.max, initial)));
    input.step = known.step;
    input.value = String(this.preferences.values.sampling[name] ?? initial);
    const show = () => {
      output.textContent = String(input.valueAsNumber);
    };
    input.addEventListener("input", show);
    show();
    this.#ranges.set(name, { input, initial });
    this.#form.append(label);
  }
}

/** @param {string} text */
function labelled(text) {
  const label = document.createElement("label");
  const title = document.createElement("span");
  const output = document.createElement("output");
  const input = document.createElement("input");
  label.className = "field";
  title.append(text, output);
  label.append(title, input);
  return { label, input, output };
}
