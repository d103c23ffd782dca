/** What a person has chosen, kept by the browser. */

const KEY = "moshi.preferences";

const DEFAULTS = {
  microphone: "", // id of a device; "" for the system's choice
  speaker: "",
  echoCancellation: true,
  noiseSuppression: true,
  autoGainControl: true,
  volume: 1, // factor of Moshi's voice
  voice: "", // of a model that takes one; "" for the server's own
  role: "", // likewise
  /** @type {Record<string, number>} Query parameter -> value, only those that differ from the server's defaults. */
  sampling: {},
};

/** @typedef {typeof DEFAULTS} Values */

export class Preferences {
  /** @type {Values} */
  values = { ...structuredClone(DEFAULTS), ...stored() };

  /**
   * Change some and keep them.
   *
   * @param {Partial<Values>} changes
   */
  set(changes) {
    Object.assign(this.values, changes);
    try {
      localStorage.setItem(KEY, JSON.stringify(this.values));
    } catch {
      // Private windows may refuse; then the choice lasts as long as the page.
    }
  }
}

/** @returns {Partial<Values>} */
function stored() {
  try {
    const kept = Object.entries(JSON.parse(localStorage.getItem(KEY) ?? "{}"));
    const types = new Map(Object.entries(DEFAULTS).map(([name, value]) => [name, typeof value]));
    return Object.fromEntries(kept.filter(([name, value]) => typeof value === types.get(name)));
  } catch {
    return {};
  }
}
