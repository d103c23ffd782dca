/** Tests of the microphone and the speaker, before anybody is asked to talk. */

import { field } from "./elements.js";
import { describe, failureOf } from "./failures.js";
import { RATE } from "./protocol.js";
import { peak } from "./waveform.js";

/** @import { AudioIO, Block } from "./audio_io.js" */
/** @import { Samples } from "./protocol.js" */

const SECONDS = 3; // of the microphone's test
const BLOCK_SECONDS = 0.02;
const TONES = [392, 523.25]; // Hz: g and the c above it
const TONE_SECONDS = 0.45;

export class SoundTest {
  #buttons = [field("test-microphone", HTMLButtonElement), field("test-speaker", HTMLButtonElement)];
  #level = field("test-level", HTMLMeterElement);

  /**
   * @param {AudioIO} audio
   * @param {() => boolean} isBusy Whether there is a conversation, which must not be disturbed.
   */
  constructor(audio, isBusy) {
    this.audio = audio;
    this.isBusy = isBusy;
    const [microphone, speaker] = this.#buttons;
    microphone.addEventListener("click", () => this.#run(() => this.#testMicrophone()));
    speaker.addEventListener("click", () => this.#run(() => this.#testSpeaker()));
  }

  /** @param {() => Promise<void>} test */
  async #run(test) {
    if (this.isBusy()) return this.#tell("A conversation is going on: end it first.");
    this.#disable(true);
    try {
      await this.audio.open();
      this.audio.clear();
      await test();
    } catch (error) {
      const { title, remedy } = describe(failureOf(error));
      this.#tell(`${title}. ${remedy}`);
    }
    if (!this.isBusy()) this.audio.close();
    this.#disable(false);
    this.#level.hidden = true;
  }

  /** @param {boolean} disabled */
  #disable(disabled) {
    for (const button of this.#buttons) button.disabled = disabled;
  }

  async #testMicrophone() {
    this.#level.hidden = false;
    /** @type {Samples[]} */
    const blocks = [];
    await this.#listen(SECONDS, ({ microphone }, left) => {
      blocks.push(microphone);
      this.#level.value = decibels(peak(microphone));
      this.#tell(`Say something. ${Math.ceil(left)} …`);
    });
    const verdict = judge(blocks);
    this.#tell(`${verdict} Now you hear it.`);
    await this.#play(new Float32Array(await new Blob(blocks).arrayBuffer()));
    this.#tell(verdict);
  }

  async #testSpeaker() {
    this.#tell("Two notes: do you hear them?");
    await this.#play(notes());
    this.#tell("If you heard nothing: is the sound on, and is the right speaker chosen above?");
  }

  /** @param {Samples} pcm */
  async #play(pcm) {
    for (let start = 0; start < pcm.length && !this.isBusy(); start += RATE / 10) {
      this.audio.play(pcm.slice(start, start + RATE / 10));
      await this.#listen(0.1, ({ speaker }) => {
        this.#level.value = decibels(peak(speaker));
      });
    }
    await this.#listen(0.3, () => {});
  }

  /**
   * Call `each` with every block of so many seconds, and with the seconds that are left after it.
   *
   * @param {number} seconds
   * @param {(block: Block, left: number) => void} each
   * @returns {Promise<void>}
   */
  #listen(seconds, each) {
    return new Promise((done) => {
      let left = seconds;
      const stop = this.audio.on("block", (block) => {
        left -= BLOCK_SECONDS;
        each(block, left);
        if (left > 0.001) return;
        stop();
        done();
      });
    });
  }

  /** @param {string} text */
  #tell(text) {
    const place = field("test-result");
    if (place.textContent !== text) place.textContent = text; // a screen reader speaks every change
  }
}

/** @param {Samples[]} blocks */
function judge(blocks) {
  const level = decibels(Math.max(...blocks.map(peak)));
  if (level < -100) return "Nothing at all: the microphone is muted, or the system keeps it from the browser.";
  const loudest = `Loudest: ${level.toFixed(0)} dB.`;
  if (level < -40) return `${loudest} That is very quiet: come closer, or choose another microphone.`;
  if (level > -0.2) return `${loudest} That is too loud: turn the microphone down or sit back.`;
  return `${loudest} That is fine.`;
}

/** @param {number} amplitude */
function decibels(amplitude) {
  return 20 * Math.log10(amplitude + 1e-6);
}

function notes() {
  const length = Math.round(TONE_SECONDS * RATE);
  const pcm = new Float32Array(TONES.length * length);
  for (const [index, frequency] of TONES.entries()) {
    for (let i = 0; i < length; i++) {
      const envelope = Math.min(1, i / 240) * Math.exp((-4 * i) / length);
      pcm[index * length + i] = 0.25 * envelope * Math.sin((2 * Math.PI * frequency * i) / RATE);
    }
  }
  return pcm;
}
