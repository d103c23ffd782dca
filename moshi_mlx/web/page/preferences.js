/** What a person has chosen, kept by the browser. */

const KEY = "moshi.preferences";

const DEFAULTS = {
  microphone: "",
  speaker: "",
  echoCancellation: true,
  noiseSuppression: true,
  autoGainControl: true,
  sampling: {}, // query parameter -> value, only what differs from the server's defaults
};

export class Preferences {
  constructor() {
    Object.assign(this, structuredClone(DEFAULTS), stored());
  }

  /** Change some and keep them. */
  set(changes) {
    Object.assign(this, changes);
    try {
      localStorage.setItem(KEY, JSON.stringify(this));
    } catch {
      // Private windows may refuse; then the choice lasts as long as the page.
    }
  }
}

function stored() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    return Object.fromEntries(Object.entries(kept).filter(([name, value]) => typeof value === typeof DEFAULTS[name]));
  } catch {
    return {};
  }
}
