/** The form for how tokens are drawn, made of what /api/info says can be set. */

// Query parameter -> what it is called, and the part of the server's range that makes sense to people.
const KNOWN = {
  text_temperature: { label: "Words: temperature", min: 0, max: 1.5, step: 0.05 },
  text_topk: { label: "Words: choose among the likeliest", min: 1, max: 250, step: 1 },
  audio_temperature: { label: "Voice: temperature", min: 0, max: 1.5, step: 0.05 },
  audio_topk: { label: "Voice: choose among the likeliest", min: 1, max: 500, step: 1 },
  repetition_penalty: { label: "Penalty for repeated words", min: 1, max: 2, step: 0.05 },
  repetition_penalty_context: { label: "Words looked back on", min: 0, max: 200, step: 1 },
};

export class Sampling {
  #fields = new Map(); // name -> {input, initial}
  #seed = null;

  constructor(form, preferences) {
    this.form = form;
    this.preferences = preferences;
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  /** settings: {name: {default, min, max}}. */
  show(settings) {
    this.#fields.clear();
    this.form.replaceChildren();
    for (const [name, setting] of Object.entries(settings ?? {})) this.#addRange(name, setting);
    this.#seed = field("Seed (empty: another one each time)", "input");
    Object.assign(this.#seed.control, { type: "number", min: 0, max: 2 ** 32 - 1, step: 1, id: "seed" });
    this.#seed.control.value = this.preferences.sampling.seed ?? "";
    this.form.append(this.#seed.label);
  }

  /** Keep what the form says; only what differs from the server's defaults. */
  keep() {
    const sampling = {};
    for (const [name, { input, initial }] of this.#fields) {
      if (Number(input.value) !== initial) sampling[name] = Number(input.value);
    }
    if (this.#seed?.control.value.trim() && this.#seed.control.checkValidity()) {
      sampling.seed = Number(this.#seed.control.value);
    }
    this.preferences.set({ sampling });
  }

  /** Put every field back to the server's default. */
  defaults() {
    for (const { input, initial } of this.#fields.values()) {
      input.value = initial;
      input.dispatchEvent(new Event("input"));
    }
    if (this.#seed) this.#seed.control.value = "";
  }

  #addRange(name, { default: initial, min, max }) {
    const known = KNOWN[name] ?? { label: name.replaceAll("_", " "), min, max, step: "any" };
    const { label, control, output } = field(known.label, "input");
    control.type = "range";
    control.id = name;
    control.min = Math.max(min, Math.min(known.min, initial));
    control.max = Math.min(max, Math.max(known.max, initial));
    control.step = known.step;
    control.value = this.preferences.sampling[name] ?? initial;
    const show = () => (output.textContent = Number(control.value).toString());
    control.addEventListener("input", show);
    show();
    this.#fields.set(name, { input: control, initial });
    this.form.append(label);
  }
}

function field(text, tag) {
  const label = document.createElement("label");
  label.className = "field";
  const title = document.createElement("span");
  const output = document.createElement("output");
  title.append(text, output);
  const control = document.createElement(tag);
  label.append(title, control);
  return { label, control, output };
}
