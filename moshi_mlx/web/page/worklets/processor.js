/** The end of `audio_io.js` on the audio thread. */

import { Duplex } from "./duplex.js";

/** @import { Samples } from "./duplex.js" */

class Processor extends AudioWorkletProcessor {
  #duplex = new Duplex(sampleRate, (block) =>
    this.port.postMessage(block, [block.microphone.buffer, block.speaker.buffer]),
  );

  constructor() {
    super();
    this.port.onmessage = ({ data }) => this.#obey(data);
  }

  /** @param {{ play?: Samples, muted?: boolean, clear?: boolean }} message */
  #obey({ play, muted, clear }) {
    if (clear) {
      this.#duplex.clear();
      this.port.postMessage({ cleared: true }); // the blocks after this are of the new stream
    }
    if (muted !== undefined) this.#duplex.muted = muted;
    if (play) this.#duplex.play(play);
  }

  /**
   * @param {Samples[][]} inputs
   * @param {Samples[][]} outputs
   */
  process(inputs, outputs) {
    const [first, ...others] = outputs[0] ?? []; // none while the context is being closed
    if (!first) return true;
    this.#duplex.process(inputs[0]?.[0] ?? null, first);
    for (const channel of others) channel.set(first);
    return true;
  }
}

registerProcessor("duplex", Processor);
