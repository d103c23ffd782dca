/** The fields for who the model is to be, shown where the server's model takes a voice and a role. */

import { field } from "./elements.js";

/** @import { Preferences } from "./preferences.js" */

export class PersonaForm {
  #section = field("persona");
  #voice = field("voice", HTMLSelectElement);
  #role = field("role", HTMLTextAreaElement);

  /** @param {Preferences} preferences */
  constructor(preferences) {
    this.preferences = preferences;
  }

  /**
   * @param {string[] | undefined} voices Those of the server; undefined where its model takes none.
   * @param {string} [role] The server's own, for those who write none.
   */
  show(voices, role = "") {
    this.#section.hidden = !voices;
    if (!voices) return;
    const { voice, role: written } = this.preferences.values;
    this.#voice.replaceChildren(new Option("The server's own", ""), ...voices.map((name) => new Option(name)));
    this.#voice.value = voices.includes(voice) ? voice : "";
    this.#role.value = written;
    this.#role.placeholder = role || "You are a wise and friendly teacher.";
  }

  /** Keep what the form says. */
  keep() {
    this.preferences.set({ voice: this.#voice.value, role: this.#role.value.trim() });
  }

  /**
   * Add what was chosen to a query, if the server can do it.
   *
   * @param {URLSearchParams} query
   */
  ask(query) {
    if (this.#section.hidden) return;
    const { voice, role } = this.preferences.values;
    if (voice) query.set("voice_prompt", voice);
    if (role) query.set("text_prompt", role);
  }
}
