/** The audio thread's end of `audio.js`. */

import { Duplex } from "./duplex.js";

class Processor extends AudioWorkletProcessor {
  constructor() {
    super();
    this.duplex = new Duplex(sampleRate, (report) =>
      this.port.postMessage(report, [report.microphone.buffer, report.speaker.buffer]),
    );
    this.port.onmessage = ({ data }) => this.#obey(data);
  }

  #obey({ play, muted, clear }) {
    if (clear) {
      this.duplex.clear();
      this.port.postMessage({ cleared: true }); // what is reported after this belongs to the new stream
    }
    if (muted !== undefined) this.duplex.muted = muted;
    if (play) this.duplex.play(play);
  }

  process(inputs, outputs) {
    const [first, ...others] = outputs[0] ?? []; // none while the context is being closed
    if (!first) return true;
    this.duplex.process(inputs[0]?.[0] ?? null, first);
    for (const channel of others) channel.set(first);
    return true;
  }
}

registerProcessor("duplex", Processor);
