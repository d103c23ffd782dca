/** Does the microphone hear, does the speaker sound? To be known before anybody is asked to talk. */

import { failureOf, words } from "./failures.js";
import { peak } from "./waveform.js";

const RATE = 24_000; // Hz
const SECONDS = 3; // that are listened to
const TONES = [392, 523.25]; // Hz: g and the c above it
const TONE_SECONDS = 0.45;

export class SoundTest {
  /** field: id -> element. busy: () => true while there is a conversation that must not be disturbed. */
  constructor(field, audio, busy) {
    this.field = field;
    this.audio = audio;
    this.busy = busy;
    field("test-microphone").addEventListener("click", () => this.#run(() => this.#microphone()));
    field("test-speaker").addEventListener("click", () => this.#run(() => this.#speaker()));
  }

  async #run(test) {
    if (this.busy()) return this.#tell("A conversation is going on: end it first.");
    const buttons = [this.field("test-microphone"), this.field("test-speaker")];
    buttons.forEach((button) => (button.disabled = true));
    try {
      await this.audio.open();
      this.audio.clear();
      await test();
    } catch (error) {
      const { title, remedy } = words(failureOf(error));
      this.#tell(`${title}. ${remedy}`);
    }
    if (!this.busy()) this.audio.close();
    buttons.forEach((button) => (button.disabled = false));
    this.field("test-level").hidden = true;
  }

  async #microphone() {
    this.field("test-level").hidden = false;
    const blocks = [];
    await this.#blocks(SECONDS, ({ microphone }, left) => {
      blocks.push(microphone);
      this.field("test-level").value = decibels(peak(microphone));
      this.#tell(`Say something. ${Math.ceil(left)} …`);
    });
    const verdict = judge(blocks);
    this.#tell(`${verdict} Now you hear it.`);
    const heard = new Float32Array(blocks.length * blocks[0].length);
    blocks.forEach((block, index) => heard.set(block, index * block.length));
    await this.#play(heard);
    this.#tell(verdict);
  }

  async #speaker() {
    this.#tell("Two notes: do you hear them?");
    await this.#play(notes());
    this.#tell("If you heard nothing: is the sound on, is the right speaker chosen above?");
  }

  async #play(pcm) {
    for (let start = 0; start < pcm.length && !this.busy(); start += RATE / 10) {
      this.audio.play(pcm.slice(start, start + RATE / 10));
      await this.#blocks(0.1, ({ speaker }) => (this.field("test-level").value = decibels(peak(speaker))));
    }
    await this.#blocks(0.3, () => {});
  }

  /** Call `each` with every 20 ms of so many seconds, and the seconds that are left. */
  #blocks(seconds, each) {
    return new Promise((done) => {
      let left = seconds;
      const listen = ({ detail }) => {
        left -= 0.02;
        each(detail, left);
        if (left > 0.001) return;
        this.audio.removeEventListener("block", listen);
        done();
      };
      this.audio.addEventListener("block", listen);
    });
  }

  #tell(text) {
    const place = this.field("test-result");
    if (place.textContent !== text) place.textContent = text;
  }
}

function judge(blocks) {
  const level = decibels(Math.max(...blocks.map(peak)));
  if (level < -100) return "Nothing at all: the microphone is muted, or the system keeps it from the browser.";
  const told = `Loudest: ${level.toFixed(0)} dB.`;
  if (level < -40) return `${told} That is very quiet: come closer, or choose another microphone.`;
  if (level > -0.2) return `${told} That is too loud: turn the microphone down or sit back.`;
  return `${told} That is fine.`;
}

function decibels(level) {
  return 20 * Math.log10(level + 1e-6);
}

function notes() {
  const length = Math.round(TONE_SECONDS * RATE);
  const pcm = new Float32Array(TONES.length * length);
  TONES.forEach((frequency, index) => {
    for (let i = 0; i < length; i++) {
      const envelope = Math.min(1, i / 240) * Math.exp((-4 * i) / length);
      pcm[index * length + i] = 0.25 * envelope * Math.sin((2 * Math.PI * frequency * i) / RATE);
    }
  });
  return pcm;
}
