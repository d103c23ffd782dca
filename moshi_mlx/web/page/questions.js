/** Questions that a small model can answer, offered until they are no longer wanted. */

import { field } from "./elements.js";

const FEW = 6; // at first, spread over all of them

export class Questions {
  /** @type {string[]} */
  #all = [];

  constructor() {
    field("more-questions").addEventListener("click", () => this.#show(this.#all));
    field("ask").addEventListener("click", () => {
      const ready = field("ready");
      ready.hidden = !ready.hidden;
      field("ask").setAttribute("aria-expanded", String(!ready.hidden));
      if (!ready.hidden) ready.scrollIntoView();
    });
  }

  /** @param {string[]} questions */
  offer(questions) {
    this.#all = questions;
    field("ask").hidden = questions.length === 0;
    const step = Math.max(1, Math.floor(questions.length / FEW));
    this.#show(questions.filter((_, index) => index % step === 0).slice(0, FEW));
  }

  /** @param {string[]} shown */
  #show(shown) {
    const chips = shown.map((question) => {
      const chip = document.createElement("li");
      chip.textContent = question;
      return chip;
    });
    field("questions").replaceChildren(...chips);
    const more = field("more-questions");
    more.hidden = shown.length === this.#all.length;
    more.textContent = `All ${this.#all.length} questions`;
  }
}
