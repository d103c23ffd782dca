/** The microphone and the speaker as the browser gives them, around the audio thread's worklet. */

import { Emitter } from "./emitter.js";
import { Failure, failureOf } from "./failures.js";

/** @import { FailureCode } from "./failures.js" */
/** @import { Preferences } from "./preferences.js" */
/** @import { Samples } from "./protocol.js" */

const SILENT_BLOCKS = 200; // of 20 ms, all samples exactly zero since the microphone was opened: no signal at all

/**
 * What the worklet reports every 20 ms: 480 samples at 24 kHz of either side, recorded and played at the same time.
 *
 * @typedef {Object} Block
 * @property {Samples} microphone
 * @property {Samples} speaker
 * @property {number} position samples of the server's stream that were played or dropped
 * @property {number} waiting seconds that audio waits before the speaker
 * @property {number} underruns how often it came too late
 * @property {number} dropped seconds that were dropped before the speaker
 * @property {number} cushion seconds that audio may be late
 */

/** @typedef {{ kind: string, id: string, label: string }} Device */

/** @typedef {AudioContext & { sinkId: string, setSinkId(id: string): Promise<void> }} SinkContext Not in all browsers. */

/**
 * Events: "cleared": the blocks from here on are of the new stream. "failure": one that ends nothing. "recovery": a
 * failure of this code is over. "devices": there are others now.
 *
 * @extends {Emitter<{
 *   block: Block, cleared: undefined, failure: Failure, recovery: FailureCode, devices: undefined
 * }>}
 */
export class AudioIO extends Emitter {
  /** @type {AudioContext | null} */
  #context = null;
  /** @type {AudioWorkletNode | null} */
  #node = null;
  /** @type {MediaStreamAudioSourceNode | null} */
  #source = null;
  /** @type {MediaStream | null} */
  #stream = null;
  /** @type {GainNode | null} */
  #gain = null;
  #muted = false;
  /** @type {number | null} Silent blocks from this microphone; null once it gave a signal. */
  #silent = 0;

  /** @param {Preferences} preferences */
  constructor(preferences) {
    super();
    this.preferences = preferences;
    navigator.mediaDevices?.addEventListener("devicechange", () => this.#devicesChanged());
  }

  /**
   * Ask for the microphone and start. To be called from a click: browsers let sound begin only there.
   *
   * @throws {Failure}
   */
  async open() {
    if (this.#context) return;
    if (!window.isSecureContext || !navigator.mediaDevices) throw new Failure("insecure");
    if (!window.AudioWorkletNode) throw new Failure("unsupported");
    // At the sound card's own rate: Firefox refuses a microphone of another rate than the context's.
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
        channelCount: 1, // more channels are mixed down
        channelCountMode: "explicit",
      });
      this.#node.port.onmessage = ({ data }) => this.#report(data);
      this.#node.onprocessorerror = () => this.emit("failure", new Failure("unknown", "The sound has stopped."));
      this.#gain = context.createGain();
      this.#gain.gain.value = this.preferences.values.volume;
      this.#node.connect(this.#gain).connect(context.destination);
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

  /** Release the microphone and the speaker. */
  close() {
    stop(this.#stream);
    this.#stream = this.#source = this.#node = this.#gain = null;
    const context = this.#context;
    this.#context = null;
    if (context) {
      context.onstatechange = null;
      context.close();
    }
  }

  /** Open the preferred microphone in place of the one that is open. */
  async chooseMicrophone() {
    const { microphone, echoCancellation, noiseSuppression, autoGainControl } = this.preferences.values;
    const processing = { channelCount: 1, echoCancellation, noiseSuppression, autoGainControl };
    const wanted = microphone ? { ...processing, deviceId: { exact: microphone } } : processing;
    const context = this.#context;
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: wanted });
    } catch (error) {
      if (!microphone || failureOf(error).code !== "missing") throw error;
      stream = await navigator.mediaDevices.getUserMedia({ audio: processing }); // the chosen one is unplugged
    }
    if (this.#context !== context || !context || !this.#node) return stop(stream); // closed meanwhile
    this.#source?.disconnect();
    stop(this.#stream);
    this.#stream = stream;
    this.#source = context.createMediaStreamSource(stream);
    this.#source.connect(this.#node);
    this.#silent = 0;
    stream.getAudioTracks()[0].onended = () => this.#microphoneEnded();
    this.emit("recovery", "silent");
    this.emit("recovery", "unplugged");
    this.emit("devices");
  }

  /** Play through the preferred speaker, where the browser lets a page choose. */
  async chooseSpeaker() {
    const context = /** @type {SinkContext | null} */ (this.#context);
    if (!context || !AudioIO.speakerCanBeChosen) return;
    const { speaker } = this.preferences.values;
    if ((context.sinkId || "") === speaker) return;
    try {
      await context.setSinkId(speaker);
      this.emit("recovery", "speaker");
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      if (context === this.#context && context.sinkId) await context.setSinkId("");
      this.emit("failure", new Failure("speaker"));
    }
  }

  static get speakerCanBeChosen() {
    return "AudioContext" in window && "setSinkId" in AudioContext.prototype;
  }

  /**
   * Play audio after what is waiting. The array is no longer usable here.
   *
   * @param {Samples} pcm 24 kHz
   */
  play(pcm) {
    this.#node?.port.postMessage({ play: pcm }, [pcm.buffer]);
  }

  /** Drop what is waiting to be played and count positions from 0 again; "cleared" follows. */
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

  /** @param {number} volume factor of Moshi's voice, 0 to 2; kept */
  set volume(volume) {
    this.preferences.set({ volume });
    if (this.#gain && this.#context) this.#gain.gain.setTargetAtTime(volume, this.#context.currentTime, 0.02);
  }

  /** Start again what the browser or another app has paused; from a click. */
  resume() {
    return this.#context?.resume();
  }

  /** Seconds between the air and the worklet, both ways together, as far as the browser knows. */
  get deviceLatency() {
    const { baseLatency = 0, outputLatency = 0 } = this.#context ?? {};
    const settings = this.#stream?.getAudioTracks()[0]?.getSettings();
    const { latency: input = 0 } = /** @type {{ latency?: number }} */ (settings ?? {});
    return (outputLatency || baseLatency) + input;
  }

  /**
   * The devices that can be chosen. Labels are empty until the microphone was allowed once.
   *
   * @returns {Promise<Device[]>}
   */
  static async devices() {
    const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    return all
      .filter(({ kind, deviceId }) => kind.startsWith("audio") && deviceId)
      .map(({ kind, deviceId, label }) => ({ kind, id: deviceId, label }));
  }

  /** @param {Block & { cleared: undefined } | { cleared: true }} data */
  #report(data) {
    if (data.cleared) return this.emit("cleared");
    if (this.#silent !== null && !this.#muted) this.#checkSignal(this.#silent, data.microphone);
    this.emit("block", data);
  }

  /**
   * @param {number} silent blocks before this one
   * @param {Samples} block
   */
  #checkSignal(silent, block) {
    if (block.some((sample) => sample !== 0)) {
      if (silent >= SILENT_BLOCKS) this.emit("recovery", "silent");
      this.#silent = null;
      return;
    }
    this.#silent = silent + 1;
    if (this.#silent === SILENT_BLOCKS) this.emit("failure", new Failure("silent"));
  }

  /** The microphone is gone: take the system's, if there is one. */
  async #microphoneEnded() {
    this.#source?.disconnect();
    stop(this.#stream);
    this.#stream = this.#source = null;
    if (await this.#replaceMicrophone()) this.emit("failure", new Failure("replaced", this.#label));
  }

  async #devicesChanged() {
    this.emit("devices");
    if (this.#node && !this.#stream) await this.#replaceMicrophone();
  }

  /** Open another microphone. Returns whether there was one. */
  async #replaceMicrophone() {
    try {
      await this.chooseMicrophone();
      return true;
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      this.emit("failure", new Failure("unplugged"));
      return false;
    }
  }

  get #label() {
    return this.#stream?.getAudioTracks()[0].label;
  }

  #stateChanged() {
    const state = this.#context?.state;
    if (state === "running") this.emit("recovery", "paused");
    else if (this.#context) this.emit("failure", new Failure("paused"));
  }
}

/** @param {MediaStream | null} stream */
function stop(stream) {
  for (const track of stream?.getTracks() ?? []) {
    track.onended = null;
    track.stop();
  }
}
