/** Both directions at once: what the microphone hears and what the speaker plays, on one clock. */

import { JitterBuffer } from "./jitter.js";
import { Resampler } from "./resampler.js";

export const RATE = 24_000; // Hz, of all audio that leaves or enters
export const BLOCK = 480; // samples, 20 ms

/**
 * Microphone and speaker of a conversation, at the rate of the sound card. For every 20 ms it calls `report` with the
 * 480 samples that were heard and the 480 that were played at the very same time.
 */
export class Duplex {
  /** rate: Hz. report: ({microphone, speaker, position, waiting, underruns, dropped, cushion}) => void. */
  constructor(rate, report) {
    this.rate = rate;
    this.report = report;
    this.muted = false;
    this.jitter = new JitterBuffer(rate);
    this.incoming = new Resampler(RATE, rate);
    this.heard = new Blocks(rate);
    this.played = new Blocks(rate);
  }

  /** Play 24 kHz audio after what is already waiting. */
  play(pcm) {
    this.jitter.write(this.incoming.process(pcm));
  }

  /** Forget what waits: another stream begins. */
  clear() {
    this.jitter.clear();
    this.incoming.reset();
  }

  /** One quantum: `input` from the microphone, null while there is none; `output` for the speaker. */
  process(input, output) {
    this.jitter.fill(output);
    const heard = this.muted || !input ? new Float32Array(output.length) : input;
    const microphone = this.heard.add(heard);
    const speaker = this.played.add(output);
    for (let i = 0; i < speaker.length; i++) {
      const { read, ahead, underruns, dropped, cushion } = this.jitter;
      this.report({
        microphone: microphone[i],
        speaker: speaker[i],
        position: (read * RATE) / this.rate, // of the stream, in samples at 24 kHz
        waiting: ahead / this.rate, // seconds that an answer waits; the two below as well
        dropped: dropped / this.rate,
        cushion: cushion / this.rate,
        underruns,
      });
    }
  }
}

/** Cuts a stream into blocks of 480 samples at 24 kHz. */
class Blocks {
  constructor(rate) {
    this.resampler = new Resampler(rate, RATE);
    this.block = new Float32Array(BLOCK);
    this.filled = 0;
  }

  /** The blocks that became full. */
  add(samples) {
    const full = [];
    for (const sample of this.resampler.process(samples)) {
      this.block[this.filled++] = sample;
      if (this.filled < BLOCK) continue;
      full.push(this.block);
      this.block = new Float32Array(BLOCK);
      this.filled = 0;
    }
    return full;
  }
}
