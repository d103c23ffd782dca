/** Whether the server has its model, and what to do where it has not. */

import { infoAddress } from "./conversation.js";
import { Emitter } from "./emitter.js";

const PAUSE_MS = 1000; // between two questions to a server that loads

/** @import { ServedModel } from "./served_models.js" */

/**
 * Events: "missing": the model cannot be had, and why. "there": it is being loaded or ready, and its name.
 * "served": all models of the server, and whether one of them talks.
 *
 * @extends {Emitter<{ missing: string, there: string, served: { models: ServedModel[], talks: boolean } }>}
 */
export class ModelChoice extends Emitter {
  #query;
  #timer = 0;

  /** @param {() => URLSearchParams} query What to ask the server with. */
  constructor(query) {
    super();
    this.#query = query;
  }

  /** Ask the server how it stands with its model, until that is settled. */
  async watch() {
    clearTimeout(this.#timer);
    try {
      const answer = await fetch(infoAddress(this.#query()), { cache: "no-store" });
      if (!answer.ok) return;
      const { state, problem, model, models, talks } = await answer.json();
      this.emit("served", { models, talks });
      if (state === "missing") this.emit("missing", problem);
      else this.emit("there", model);
      if (state === "loading") this.#timer = setTimeout(() => this.watch(), PAUSE_MS);
    } catch (error) {
      if (!(error instanceof TypeError || error instanceof SyntaxError)) throw error; // nobody answers
    }
  }

  /**
   * Let the server try again, or take another model.
   *
   * @param {string} name "" for the one that it was started with.
   */
  async choose(name) {
    const address = infoAddress(this.#query(), "model");
    if (name) address.searchParams.set("take", name);
    try {
      await fetch(address, { method: "POST" });
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
    }
    await this.watch();
  }
}
