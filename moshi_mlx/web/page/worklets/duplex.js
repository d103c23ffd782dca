/** Both directions at once: what the microphone records and what the speaker plays, on one clock. */

import { JitterBuffer } from "./jitter.js";
import { Resampler } from "./resampler.js";

/** @typedef {Float32Array<ArrayBuffer>} Samples */

/**
 * What is reported every 20 ms; `audio_io.js` says what each number is.
 *
 * @typedef {{
 *   microphone: Samples, speaker: Samples, position: number, waiting: number, dropped: number, cushion: number,
 *   underruns: number
 * }} Block
 */

export const RATE = 24_000; // Hz, of the server's audio and of all blocks
export const BLOCK = 480; // samples, 20 ms

/** Microphone and speaker of a conversation, at the sound card's rate. */
export class Duplex {
  muted = false;

  /**
   * @param {number} rate Hz
   * @param {(block: Block) => void} report Called with 480 samples recorded and 480 played at the very same time.
   */
  constructor(rate, report) {
    this.rate = rate;
    this.report = report;
    this.jitter = new JitterBuffer(rate);
    this.incoming = new Resampler(RATE, rate);
    this.recorded = new Blocks(rate);
    this.played = new Blocks(rate);
  }

  /**
   * Play audio after what is already waiting.
   *
   * @param {Samples} pcm 24 kHz
   */
  play(pcm) {
    this.jitter.write(this.incoming.process(pcm));
  }

  /** Drop what is waiting: another stream begins. */
  clear() {
    this.jitter.clear();
    this.incoming.reset();
  }

  /**
   * One render quantum.
   *
   * @param {Samples | null} input from the microphone, null while there is none
   * @param {Samples} output for the speaker
   */
  process(input, output) {
    this.jitter.fill(output);
    const microphone = this.recorded.add(this.muted || !input ? new Float32Array(output.length) : input);
    const speaker = this.played.add(output);
    for (let i = 0; i < speaker.length; i++) {
      const { read, ahead, underruns, dropped, cushion } = this.jitter;
      this.report({
        microphone: microphone[i],
        speaker: speaker[i],
        position: (read * RATE) / this.rate,
        waiting: ahead / this.rate,
        dropped: dropped / this.rate,
        cushion: cushion / this.rate,
        underruns,
      });
    }
  }
}

/** Cuts a stream into blocks of 480 samples at 24 kHz. */
class Blocks {
  #resampler;
  #block = new Float32Array(BLOCK);
  #filled = 0;

  /** @param {number} rate Hz, of the stream */
  constructor(rate) {
    this.#resampler = new Resampler(rate, RATE);
  }

  /**
   * The blocks that are full with these samples.
   *
   * @param {Samples} samples
   */
  add(samples) {
    const full = [];
    for (const sample of this.#resampler.process(samples)) {
      this.#block[this.#filled++] = sample;
      if (this.#filled < BLOCK) continue;
      full.push(this.#block);
      this.#block = new Float32Array(BLOCK);
      this.#filled = 0;
    }
    return full;
  }
}
