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

  process([input], [output]) {
    this.duplex.process(input[0] ?? null, output[0]);
    for (const channel of output.slice(1)) channel.set(output[0]);
    return true;
  }
}

registerProcessor("duplex", Processor);
