/** The microphone and the speaker, as the browser gives them, around the worklet that knows their clock. */

import { Failure, failureOf } from "./failures.js";

const SILENT_BLOCKS = 200; // of 20 ms, all exactly zero since the microphone was opened: it is not heard at all

/**
 * Events: "block" (what the worklet reports every 20 ms), "cleared", "trouble" (a Failure that does not end anything),
 * "fine" (a failure's code that is over), "devices" (there are others now).
 */
export class AudioPort extends EventTarget {
  #context = null;
  #node = null;
  #source = null;
  #stream = null;
  #muted = false;
  #silent = 0; // blocks of zeros from this microphone; null once it was heard

  constructor(preferences) {
    super();
    this.preferences = preferences;
    navigator.mediaDevices?.addEventListener("devicechange", () => this.#devicesChanged());
  }

  /** Ask for the microphone and start. Call it from a click: browsers let sound begin only there. Raises Failure. */
  async open() {
    if (this.#context) return;
    if (!window.isSecureContext || !navigator.mediaDevices) throw new Failure("insecure");
    if (!window.AudioWorkletNode) throw new Failure("unsupported");
    // At the rate of the sound card: Firefox refuses microphones of another rate than the context's.
    const context = new AudioContext({ latencyHint: "interactive" });
    this.#context = context;
    try {
      // Not awaited: some browsers resolve it only once there is a microphone. Closing the context rejects it.
      context.resume().catch(() => {});
      await context.audioWorklet.addModule(new URL("./worklets/processor.js", import.meta.url));
      if (this.#context !== context) return; // closed meanwhile
      this.#node = new AudioWorkletNode(context, "duplex", {
        numberOfInputs: 1,
        numberOfOutputs: 1,
        outputChannelCount: [Math.max(1, Math.min(2, context.destination.channelCount))],
        channelCount: 1, // what has more channels is mixed down
        channelCountMode: "explicit",
      });
      this.#node.port.onmessage = ({ data }) => this.#reported(data);
      this.#node.onprocessorerror = () => this.#emit("trouble", new Failure("unknown", "The sound has stopped."));
      this.#node.connect(context.destination);
      await this.chooseMicrophone();
      await this.chooseSpeaker();
      if (this.#context !== context) return;
      context.onstatechange = () => this.#stateChanged();
      this.#stateChanged();
    } catch (error) {
      if (this.#context === context) this.close();
      throw failureOf(error);
    }
  }

  get isOpen() {
    return this.#node !== null;
  }

  /** Give microphone and speaker back. */
  close() {
    this.#drop(this.#stream);
    this.#stream = this.#source = this.#node = null;
    const context = this.#context;
    this.#context = null;
    if (context) {
      context.onstatechange = null;
      context.close();
    }
  }

  /** Open the microphone of the preferences in place of the one that is open. */
  async chooseMicrophone() {
    const { microphone, echoCancellation, noiseSuppression, autoGainControl } = this.preferences;
    const processing = { channelCount: 1, echoCancellation, noiseSuppression, autoGainControl };
    const wanted = microphone ? { ...processing, deviceId: { exact: microphone } } : processing;
    const context = this.#context;
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: wanted });
    } catch (error) {
      if (!microphone || failureOf(error).code !== "missing") throw error;
      stream = await navigator.mediaDevices.getUserMedia({ audio: processing }); // the chosen one is not there now
    }
    if (this.#context !== context || !context) return this.#drop(stream); // closed meanwhile
    this.#source?.disconnect();
    this.#drop(this.#stream);
    this.#stream = stream;
    this.#source = context.createMediaStreamSource(stream);
    this.#source.connect(this.#node);
    this.#silent = 0;
    stream.getAudioTracks()[0].onended = () => this.#lost();
    this.#emit("fine", "silent");
    this.#emit("fine", "unplugged");
    this.#emit("devices");
  }

  /** Play through the speaker of the preferences, where the browser lets a page choose. */
  async chooseSpeaker() {
    if (!this.#context || !AudioPort.speakerCanBeChosen) return;
    const { speaker } = this.preferences;
    if ((this.#context.sinkId || "") === speaker) return;
    try {
      await this.#context.setSinkId(speaker);
      this.#emit("fine", "speaker");
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      if (this.#context?.sinkId) await this.#context.setSinkId("");
      this.#emit("trouble", new Failure("speaker"));
    }
  }

  static get speakerCanBeChosen() {
    return "AudioContext" in window && "setSinkId" in AudioContext.prototype;
  }

  /** Play (n,) float32 at 24 kHz after what is waiting. */
  play(pcm) {
    this.#node?.port.postMessage({ play: pcm }, [pcm.buffer]);
  }

  /** Forget what waits to be played and count positions from 0 again; "cleared" tells when. */
  clear() {
    this.#node?.port.postMessage({ clear: true });
  }

  get muted() {
    return this.#muted;
  }

  set muted(muted) {
    this.#muted = muted;
    this.#node?.port.postMessage({ muted });
  }

  /** Start again what the browser or another app has stopped; from a click. */
  resume() {
    return this.#context?.resume();
  }

  /** Seconds between the air and the worklet, both ways together, as far as the browser tells. */
  get deviceLatency() {
    const { baseLatency = 0, outputLatency = 0 } = this.#context ?? {};
    const input = this.#stream?.getAudioTracks()[0]?.getSettings().latency ?? 0;
    return (outputLatency || baseLatency) + input;
  }

  /** The sound card's rate in Hz. */
  get rate() {
    return this.#context?.sampleRate ?? 0;
  }

  /** What can be chosen: [{kind, id, label}]; labels are empty until the microphone was allowed once. */
  static async devices() {
    const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    return all
      .filter(({ kind, deviceId }) => kind.startsWith("audio") && deviceId)
      .map(({ kind, deviceId, label }) => ({ kind, id: deviceId, label }));
  }

  #reported(data) {
    if (data.cleared) return this.#emit("cleared");
    if (this.#silent !== null && !this.#muted) this.#listen(data.microphone);
    this.#emit("block", data);
  }

  #listen(block) {
    if (block.some((sample) => sample !== 0)) {
      if (this.#silent >= SILENT_BLOCKS) this.#emit("fine", "silent");
      this.#silent = null;
    } else if (++this.#silent === SILENT_BLOCKS) {
      this.#emit("trouble", new Failure("silent"));
    }
  }

  /** The microphone ended by itself: take the system's, if there is one. */
  async #lost() {
    this.#source?.disconnect();
    this.#drop(this.#stream);
    this.#stream = this.#source = null;
    await this.#replace("changed");
  }

  async #devicesChanged() {
    this.#emit("devices");
    if (this.#node && !this.#stream) await this.#replace();
  }

  async #replace(told = "") {
    try {
      await this.chooseMicrophone();
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      this.#emit("trouble", new Failure("unplugged"));
      return;
    }
    const label = this.#stream?.getAudioTracks()[0].label;
    if (told) this.#emit("trouble", new Failure(told, label));
  }

  #stateChanged() {
    const state = this.#context?.state;
    if (state === "running") this.#emit("fine", "paused");
    else if (this.#context) this.#emit("trouble", new Failure("paused"));
  }

  #drop(stream) {
    for (const track of stream?.getTracks() ?? []) {
      track.onended = null;
      track.stop();
    }
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
