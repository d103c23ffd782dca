/** Shows which models the server has, what each does and whether it is loaded, and says where none of them talks. */

import { field } from "./elements.js";

/** @typedef {{ id: string, state: string, tasks: string[] }} ServedModel As of /api/info. */

/** @type {Record<string, string>} */
const STATES = { unloaded: "loaded when asked for" };

/**
 * @param {ServedModel[]} [models]
 * @param {boolean} [talks] Whether one can be talked with here.
 */
export function showModels(models = [], talks = true) {
  field("served").hidden = models.length < 2 && talks;
  const rows = models.map(({ id, state, tasks }) => {
    const row = document.createElement("li");
    row.textContent = `${id}: ${[tasks.join(", "), STATES[state] ?? state].filter(Boolean).join("; ")}`;
    return row;
  });
  field("served-models").replaceChildren(...rows);
  if (talks) return;
  field("talk", HTMLButtonElement).disabled = true;
  field("welcome-title").textContent = "Nobody to talk with.";
  const does = models.flatMap(({ tasks }) => tasks).join(", ");
  field("welcome-text").textContent = `This server works for programs (${does}), at ${location.origin}/v1/.`;
  field("privacy").textContent = "";
}
