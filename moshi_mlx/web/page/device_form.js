/** The form for microphone and speaker, and for what the browser does to the microphone's signal. */

import { AudioIO } from "./audio_io.js";
import { field } from "./elements.js";

/** @import { Preferences } from "./preferences.js" */

const PROCESSING = /** @type {const} */ (["echoCancellation", "noiseSuppression", "autoGainControl"]);

export class DeviceForm {
  #microphone = field("microphone", HTMLSelectElement);
  #speaker = field("speaker", HTMLSelectElement);

  /**
   * @param {AudioIO} audio
   * @param {Preferences} preferences
   * @param {(error: unknown) => void} failed Called with the error of a microphone that does not open.
   */
  constructor(audio, preferences, failed) {
    this.audio = audio;
    this.preferences = preferences;
    this.failed = failed;
    this.#microphone.addEventListener("change", () => this.#change({ microphone: this.#microphone.value }));
    this.#speaker.addEventListener("change", () => {
      preferences.set({ speaker: this.#speaker.value });
      audio.chooseSpeaker();
    });
    const volume = field("volume", HTMLInputElement);
    volume.valueAsNumber = preferences.values.volume;
    volume.addEventListener("input", () => {
      audio.volume = volume.valueAsNumber;
    });
    for (const name of PROCESSING) {
      const box = field(name, HTMLInputElement);
      box.checked = preferences.values[name];
      box.addEventListener("change", () => this.#change({ [name]: box.checked }));
    }
    this.#speaker.disabled = !AudioIO.speakerCanBeChosen;
    field("speaker-note").hidden = AudioIO.speakerCanBeChosen;
    audio.on("devices", () => this.show());
    this.show();
  }

  /** List what is plugged in. */
  async show() {
    const devices = await AudioIO.devices();
    const { microphone, speaker } = this.preferences.values;
    const list = (
      /** @type {HTMLSelectElement} */ select,
      /** @type {string} */ kind,
      /** @type {string} */ chosen,
    ) => {
      const found = devices.filter((device) => device.kind === kind && device.id !== "default");
      const options = found.map(({ id, label }, index) => new Option(label || `Number ${index + 1}`, id));
      select.replaceChildren(new Option("The system's choice", ""), ...options);
      select.value = chosen;
      if (select.value !== chosen) select.value = ""; // the chosen one is not plugged in
    };
    list(this.#microphone, "audioinput", microphone);
    list(this.#speaker, "audiooutput", speaker);
  }

  /** @param {Partial<Preferences["values"]>} changes */
  async #change(changes) {
    this.preferences.set(changes);
    if (!this.audio.isOpen) return;
    try {
      await this.audio.chooseMicrophone();
    } catch (error) {
      this.failed(error);
    }
  }
}
