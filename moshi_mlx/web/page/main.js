/** The page: makes its parts and connects them. */

import { AudioIO } from "./audio_io.js";
import { Conversation, infoAddress } from "./conversation.js";
import { DeviceForm } from "./device_form.js";
import { field } from "./elements.js";
import { Failure, failureOf } from "./failures.js";
import { Health } from "./health.js";
import { KeptTranscript } from "./kept_transcript.js";
import { holdToTalk, listenToKeys } from "./keys.js";
import { ModelChoice } from "./model_choice.js";
import { PersonaForm } from "./persona_form.js";
import { Preferences } from "./preferences.js";
import { Questions } from "./questions.js";
import { Readout } from "./readout.js";
import { Recording } from "./recording.js";
import { SamplingForm } from "./sampling_form.js";
import { showModels } from "./served_models.js";
import { SoundTest } from "./sound_test.js";
import { Speaking } from "./speaking.js";
import { StateView } from "./state_view.js";
import { takeToken } from "./token.js";
import { Transcript } from "./transcript.js";
import { TranscriptView } from "./transcript_view.js";
import { VoiceActivity } from "./voice_activity.js";
import { Waveform } from "./waveform.js";

/** @import { Word } from "./conversation.js" */

const token = takeToken();
const preferences = new Preferences();
const audio = new AudioIO(preferences);
const conversation = new Conversation(audio, query);
const recording = new Recording();
const transcript = new Transcript();
const kept = new KeptTranscript(transcript);
const voiceActivity = new VoiceActivity();
const speaking = new Speaking();
const health = new Health();
const questions = new Questions();
const view = new StateView(pressed);
const waveform = new Waveform(field("waveform", HTMLCanvasElement));
const readout = new Readout(audio);
const sampling = new SamplingForm(preferences);
const persona = new PersonaForm(preferences);
const models = new ModelChoice(query);
const settings = field("settings", HTMLDialogElement);
new TranscriptView(transcript);
new DeviceForm(audio, preferences, (error) => view.warn(failureOf(error)));
new SoundTest(audio, () => conversation.isOn);

/** @type {Word[]} Received and not heard yet. */
let words = [];
let isRecording = false; // from the first handshake on
let began = 0; // seconds of the recording at which the conversation at hand did
/** @type {WakeLockSentinel | null} Keeps a phone's screen on. */
let wakeLock = null;

function query() {
  const wanted = new URLSearchParams({ audio: "pcm", captions: "1" });
  for (const [name, value] of Object.entries(preferences.values.sampling)) wanted.set(name, String(value));
  persona.ask(wanted);
  if (token) wanted.set("token", token);
  return wanted;
}

// The conversation

function talk() {
  if (conversation.isOn) return conversation.end();
  if (conversation.state.name === "ending") return conversation.undoEnd();
  isRecording = false;
  recording.clear();
  transcript.clear();
  waveform.clear();
  delete document.body.dataset.recorded;
  field("save", HTMLButtonElement).disabled = true;
  mute(false);
  field("main").focus(); // the space bar is for talking now, not for the button that was pressed
  conversation.start();
}

/** @param {boolean} muted */
function mute(muted) {
  audio.muted = muted;
  view.mute(muted);
}

conversation.on("state", (state) => {
  view.show(state);
  if (!conversation.isOn) flush();
  keepAwake(state.name === "talking");
});

conversation.on("begin", () => {
  flush();
  health.start();
  if (isRecording) transcript.note("A new conversation", recording.seconds);
  isRecording = true;
  began = recording.seconds;
  document.body.dataset.recorded = "";
  field("save", HTMLButtonElement).disabled = false;
});

conversation.on("ready", ({ model, greeting, questions: known = [], voices, persona: role }) => {
  persona.show(voices, role);
  if (model) field("model").textContent = model;
  field("greeting").textContent = known.length ? "Ask, for instance," : greeting || "Say hello.";
  questions.offer(known);
});

conversation.on("stats", (stats) => {
  readout.stats(stats);
  health.stats(stats);
});
conversation.on("word", (word) => words.push(word));
conversation.on("caption", ({ word, start, end }) => transcript.caption(word, began + start, began + end));

conversation.on("block", (block) => {
  if (!isRecording || !conversation.isOn) return;
  const { microphone, speaker, position } = block;
  recording.add(microphone, speaker);
  waveform.add(microphone, speaker);
  readout.block(block);
  const now = recording.seconds;
  const heard = words.filter((word) => word.position <= position);
  for (const { text } of heard) transcript.say(text, now);
  words = words.slice(heard.length);
  const utterance = voiceActivity.add(microphone, now);
  if (utterance) transcript.hear(utterance);
  speaking.add(speaker, utterance, now);
  health.block(block, now);
  transcript.tick(now);
});

speaking.on("change", (speakers) => view.speak(speakers));

transcript.on("row", () => view.setTranscript(true));
transcript.on("clear", () => view.setTranscript(false));

/** Show the words whose audio will not be heard any more. */
function flush() {
  for (const { text } of words) transcript.say(text, recording.seconds);
  words = [];
  voiceActivity.stop();
  speaking.stop();
  transcript.finish();
}

/** @param {boolean} on */
async function keepAwake(on) {
  try {
    if (on && !wakeLock && !document.hidden) {
      wakeLock = (await navigator.wakeLock?.request("screen")) ?? null;
      // The browser releases it whenever the page is hidden.
      wakeLock?.addEventListener("release", () => {
        wakeLock = null;
      });
    } else if (!on) await wakeLock?.release();
  } catch (error) {
    if (!(error instanceof DOMException)) throw error; // the battery is low: the screen may go dark
  }
}

document.addEventListener("visibilitychange", () => keepAwake(conversation.state.name === "talking"));

// Failures

/**
 * A button of a failure was pressed.
 *
 * @param {Failure} failure
 * @param {boolean} isOther
 */
function pressed({ code }, isOther) {
  if (code === "paused") audio.resume();
  else if (code === "model") models.choose(isOther ? "nano" : "");
  else if (conversation.state.name === "waiting") conversation.reconnect();
  else talk();
}

models.on("served", ({ models, talks }) => showModels(models, talks));
models.on("missing", (problem) => !conversation.isOn && view.warn(new Failure("model", problem)));
models.on("there", (name) => {
  view.recover("model");
  field("model").textContent = name;
});
audio.on("failure", (failure) => view.warn(failure));
audio.on("recovery", (code) => view.recover(code));
window.addEventListener("unhandledrejection", ({ reason }) => view.warn(failureOf(reason)));
window.addEventListener("error", ({ error }) => error && view.warn(failureOf(error)));
window.addEventListener("pagehide", () => conversation.hangUp());

// Buttons and keys

function save() {
  if (recording.seconds === 0) return;
  const time = new Date().toLocaleString("sv").replaceAll(":", "."); // 2026-01-31 12.00.00
  const text = transcript.toText(`${field("model").textContent || "Moshi"}, ${time}`, recording.forgotten);
  download(recording.toWav(), `moshi ${time}.wav`);
  // Safari drops the second of two at once.
  setTimeout(() => download(new Blob([text], { type: "text/plain" }), `moshi ${time}.txt`), 400);
}

/**
 * @param {Blob} blob
 * @param {string} name
 */
function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // Safari reads it late
}

field("talk").addEventListener("click", talk);
field("mute").addEventListener("click", () => mute(!audio.muted));
field("restart").addEventListener("click", () => conversation.restart());
holdToTalk(field("hold"), (isPressed) => conversation.isOn && mute(!isPressed));
field("save").addEventListener("click", save);
field("open-settings").addEventListener("click", () => {
  settings.showModal();
  models.watch(); // since the page came up some may have been loaded
});
settings.addEventListener("click", ({ target }) => {
  if (target === settings) settings.close(); // a click beside the panel
});
field("apply").addEventListener("click", () => {
  sampling.keep();
  settings.close();
  conversation.reconnect();
});
field("become").addEventListener("click", () => {
  persona.keep();
  settings.close();
  conversation.reconnect();
});
field("defaults").addEventListener("click", () => sampling.reset());

listenToKeys({
  mute: () => conversation.isOn && mute(!audio.muted),
  hold: (isPressed) => conversation.isOn && mute(!isPressed),
  restart: () => conversation.restart(),
  save,
  end: () => conversation.isOn && conversation.end(),
});

// What the server says of itself

async function introduce() {
  try {
    const answer = await fetch(infoAddress(query()), { cache: "no-store" });
    if (answer.status === 401) return view.warn(new Failure("token"));
    if (!answer.ok) return;
    const info = await answer.json();
    field("model").textContent = info.model ?? "";
    field("version").textContent = info.version ? `moshi-mlx ${info.version}` : "";
    sampling.show(info.sampling);
    persona.show(info.voices, info.persona);
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof SyntaxError)) throw error;
    // Nobody answers: pressing Talk will tell.
  }
}

field("privacy").textContent = `Your voice goes to ${location.host} and nowhere else.`;
if (!window.isSecureContext) view.warn(new Failure("insecure"));
view.show(conversation.state);
kept.restore();
introduce();
models.watch();
