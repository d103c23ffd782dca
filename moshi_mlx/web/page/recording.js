/** Both sides of the conversation as they were, sample beside sample. */

import { RATE } from "./protocol.js";

/** @import { Samples } from "./protocol.js" */

const CHUNK_SECONDS = 60;
const MAX_CHUNKS = 30; // half an hour, 173 MB; then the oldest minute is forgotten
const HEADER = 44; // bytes

export class Recording {
  /** @type {Int16Array<ArrayBuffer>[]} Left and right, interleaved. */
  #chunks = [];
  #filled = 0; // samples a side in the last chunk
  forgotten = 0; // seconds

  clear() {
    this.#chunks = [];
    this.#filled = 0;
    this.forgotten = 0;
  }

  /** Seconds since the beginning, the forgotten ones included. */
  get seconds() {
    return this.forgotten + this.#samples / RATE;
  }

  /**
   * Add as many samples of either side.
   *
   * @param {Samples} microphone
   * @param {Samples} speaker
   */
  add(microphone, speaker) {
    for (let i = 0; i < microphone.length; i++) {
      if (this.#chunks.length === 0 || this.#filled === CHUNK_SECONDS * RATE) this.#extend();
      const chunk = this.#chunks[this.#chunks.length - 1];
      chunk[2 * this.#filled] = int16(microphone[i]);
      chunk[2 * this.#filled + 1] = int16(speaker[i]);
      this.#filled += 1;
    }
  }

  /** A WAV file, 24 kHz, 16 bit: the person on the left, Moshi on the right. */
  toWav() {
    const parts = this.#chunks.map((chunk, index) =>
      index < this.#chunks.length - 1 ? chunk : chunk.subarray(0, 2 * this.#filled),
    );
    return new Blob([header(this.#samples), ...parts], { type: "audio/wav" });
  }

  get #samples() {
    return this.#chunks.length ? (this.#chunks.length - 1) * CHUNK_SECONDS * RATE + this.#filled : 0;
  }

  #extend() {
    if (this.#chunks.length === MAX_CHUNKS) {
      this.#chunks.shift();
      this.forgotten += CHUNK_SECONDS;
    }
    this.#chunks.push(new Int16Array(2 * CHUNK_SECONDS * RATE));
    this.#filled = 0;
  }
}

/** @param {number} sample */
function int16(sample) {
  return Math.max(-32768, Math.min(32767, Math.round(sample * 32767)));
}

/**
 * The header of a stereo WAV file.
 *
 * @param {number} samples a side
 */
function header(samples) {
  const view = new DataView(new ArrayBuffer(HEADER));
  const name = (/** @type {number} */ offset, /** @type {string} */ letters) => {
    for (let i = 0; i < letters.length; i++) view.setUint8(offset + i, letters.charCodeAt(i));
  };
  name(0, "RIFF");
  view.setUint32(4, HEADER - 8 + 4 * samples, true);
  name(8, "WAVEfmt ");
  view.setUint32(16, 16, true); // bytes of the format
  view.setUint16(20, 1, true); // integers
  view.setUint16(22, 2, true); // channels
  view.setUint32(24, RATE, true);
  view.setUint32(28, 4 * RATE, true); // bytes a second
  view.setUint16(32, 4, true); // bytes a sample of both sides
  view.setUint16(34, 16, true); // bits
  name(36, "data");
  view.setUint32(40, 4 * samples, true);
  return view.buffer;
}
