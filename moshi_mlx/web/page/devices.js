/** Which microphone and which speaker, and what the browser does to the microphone. */

import { AudioPort } from "./audio_port.js";

const SWITCHES = ["echoCancellation", "noiseSuppression", "autoGainControl"];

export class Devices {
  /** field: id -> element. failed: what is called with an error of a microphone that would not open. */
  constructor(field, audio, preferences, failed) {
    this.audio = audio;
    this.preferences = preferences;
    this.failed = failed;
    this.selects = { audioinput: field("microphone"), audiooutput: field("speaker") };
    field("microphone").addEventListener("change", ({ target }) => this.#microphone({ microphone: target.value }));
    field("speaker").addEventListener("change", ({ target }) => {
      preferences.set({ speaker: target.value });
      audio.chooseSpeaker();
    });
    for (const name of SWITCHES) {
      field(name).checked = preferences[name];
      field(name).addEventListener("change", ({ target }) => this.#microphone({ [name]: target.checked }));
    }
    field("speaker").disabled = !AudioPort.speakerCanBeChosen;
    field("speaker-note").hidden = AudioPort.speakerCanBeChosen;
    audio.addEventListener("devices", () => this.show());
    this.show();
  }

  /** List what is plugged in. */
  async show() {
    const devices = await AudioPort.devices();
    const chosen = { audioinput: this.preferences.microphone, audiooutput: this.preferences.speaker };
    for (const [kind, select] of Object.entries(this.selects)) {
      const found = devices.filter((device) => device.kind === kind && device.id !== "default");
      const options = found.map(({ id, label }, index) => new Option(label || `Number ${index + 1}`, id));
      select.replaceChildren(new Option("The system's choice", ""), ...options);
      select.value = chosen[kind];
      if (select.value !== chosen[kind]) select.value = ""; // the chosen one is not plugged in
    }
  }

  async #microphone(changes) {
    this.preferences.set(changes);
    if (!this.audio.isOpen) return;
    try {
      await this.audio.chooseMicrophone();
    } catch (error) {
      this.failed(error);
    }
  }
}
