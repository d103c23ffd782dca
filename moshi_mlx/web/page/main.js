/** The page: its parts, and who tells whom. */

import { AudioPort } from "./audio_port.js";
import { Conversation, infoAddress } from "./conversation.js";
import { Devices } from "./devices.js";
import { Failure, failureOf } from "./failures.js";
import { listenToKeys } from "./keys.js";
import { Preferences } from "./preferences.js";
import { Readout } from "./readout.js";
import { Recording } from "./recording.js";
import { Sampling } from "./sampling.js";
import { SoundTest } from "./sound_test.js";
import { Stage } from "./stage.js";
import { takeToken } from "./token.js";
import { Transcript } from "./transcript.js";
import { TranscriptView } from "./transcript_view.js";
import { Utterances } from "./utterances.js";
import { Waveform } from "./waveform.js";

const field = (id) => document.getElementById(id);
const token = takeToken();
const preferences = new Preferences();
const audio = new AudioPort(preferences);
const conversation = new Conversation(audio, query);
const recording = new Recording();
const transcript = new Transcript();
const utterances = new Utterances();
const stage = new Stage(field);
const waveform = new Waveform(field("waveform"));
const readout = new Readout(field, audio);
const sampling = new Sampling(field("sampling"), preferences);
new TranscriptView(transcript, field("transcript"), field("announcer"));
new Devices(field, audio, preferences, (error) => stage.trouble(failureOf(error)));
new SoundTest(field, audio, () => conversation.isOn);

let words = []; // that were told and are not heard yet: {text, position}
let begun = false; // the recording runs: since the first handshake
let awake = null; // keeps a phone from going dark

function query() {
  const wanted = new URLSearchParams({ audio: "pcm" });
  for (const [name, value] of Object.entries(preferences.sampling)) wanted.set(name, value);
  if (token) wanted.set("token", token);
  return wanted;
}

// The conversation

function talk() {
  if (conversation.isOn) return conversation.end();
  begun = false;
  recording.clear();
  transcript.clear();
  waveform.clear();
  delete document.body.dataset.recorded;
  field("save").disabled = true;
  mute(false);
  field("main").focus(); // the space bar is for talking now, not for the button that was pressed
  conversation.start();
}

function mute(muted) {
  audio.muted = muted;
  stage.mute(muted);
}

conversation.addEventListener("state", ({ detail }) => {
  stage.show(detail);
  if (!conversation.isOn) flush();
  keepAwake(detail.name === "talking");
});

conversation.addEventListener("begin", () => {
  flush();
  if (begun) transcript.note("A new conversation", recording.seconds);
  begun = true;
  document.body.dataset.recorded = "";
  field("save").disabled = false;
});

conversation.addEventListener("ready", ({ detail: { model, greeting, questions } }) => {
  if (model) field("model").textContent = model;
  field("greeting").textContent = questions?.length ? "Ask, for instance," : (greeting ?? "Say hello.");
  field("questions").replaceChildren(
    ...some(questions ?? []).map((question) => {
      const item = document.createElement("li");
      item.textContent = question;
      return item;
    }),
  );
});

conversation.addEventListener("stats", ({ detail }) => readout.stats(detail));
conversation.addEventListener("word", ({ detail }) => words.push(detail));

conversation.addEventListener("block", ({ detail }) => {
  if (!begun || !conversation.isOn) return;
  const { microphone, speaker, position } = detail;
  recording.add(microphone, speaker);
  waveform.add(microphone, speaker);
  readout.block(detail);
  const now = recording.seconds;
  while (words.length > 0 && words[0].position <= position) transcript.say(words.shift().text, now);
  const utterance = utterances.add(microphone, now);
  if (utterance) transcript.hear(utterance);
  transcript.tick(now);
});

transcript.addEventListener("row", () => stage.setTranscript(true));
transcript.addEventListener("clear", () => stage.setTranscript(false));

/** What is told and not heard any more is still to be read. */
function flush() {
  for (const { text } of words) transcript.say(text, recording.seconds);
  words = [];
  utterances.stop();
  transcript.finish();
}

/** Up to five of the questions, spread over all of them. */
function some(questions) {
  const step = Math.max(1, Math.floor(questions.length / 5));
  return questions.filter((_, index) => index % step === 0).slice(0, 5);
}

async function keepAwake(on) {
  try {
    if (on && !awake && !document.hidden) {
      awake = (await navigator.wakeLock?.request("screen")) ?? null;
      awake?.addEventListener("release", () => (awake = null)); // as happens whenever the page is hidden
    }
    if (!on && awake) {
      await awake.release();
    }
  } catch (error) {
    if (!(error instanceof DOMException)) throw error; // a battery that is low: then it goes dark
  }
}

document.addEventListener("visibilitychange", () => keepAwake(conversation.state.name === "talking"));

// Trouble

audio.addEventListener("trouble", ({ detail }) => stage.trouble(detail));
audio.addEventListener("fine", ({ detail }) => stage.fine(detail));
stage.pressed = ({ code }) => {
  if (code === "paused") audio.resume();
  else if (conversation.state.name === "waiting") conversation.reconnect();
  else talk();
};
window.addEventListener("unhandledrejection", ({ reason }) => stage.trouble(failureOf(reason)));
window.addEventListener("error", ({ error }) => error && stage.trouble(failureOf(error)));
window.addEventListener("pagehide", () => conversation.end());

// Buttons and keys

function restart() {
  conversation.restart();
}

function save() {
  if (recording.seconds === 0) return;
  const name = `moshi ${new Date().toLocaleString("sv").replaceAll(":", ".")}`; // 2026-01-31 12.00.00
  const text = transcript.toText(`${field("model").textContent || "Moshi"}, ${name.slice(6)}`, recording.forgotten);
  download(recording.toWav(), `${name}.wav`);
  const later = () => download(new Blob([text], { type: "text/plain" }), `${name}.txt`);
  setTimeout(later, 400); // Safari drops the second of two at once
}

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // Safari reads it late
}

field("talk").addEventListener("click", talk);
field("mute").addEventListener("click", () => mute(!audio.muted));
field("restart").addEventListener("click", restart);
field("save").addEventListener("click", save);
field("open-settings").addEventListener("click", () => field("settings").showModal());
field("settings").addEventListener("click", ({ target }) => {
  if (target === field("settings")) field("settings").close(); // a click beside the panel
});
field("apply").addEventListener("click", () => {
  sampling.keep();
  field("settings").close();
  conversation.reconnect();
});
field("defaults").addEventListener("click", () => sampling.defaults());

listenToKeys({
  mute: () => conversation.isOn && mute(!audio.muted),
  hold: (pressed) => conversation.isOn && mute(!pressed),
  restart,
  save,
  end: () => conversation.isOn && conversation.end(),
});

// What the server says of itself

async function introduce() {
  try {
    const answer = await fetch(infoAddress(query()), { cache: "no-store" });
    if (answer.status === 401) return stage.trouble(new Failure("token"));
    if (!answer.ok) return undefined;
    const info = await answer.json();
    field("model").textContent = info.model ?? "";
    field("version").textContent = info.version ? `moshi-mlx ${info.version}` : "";
    return sampling.show(info.sampling);
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof SyntaxError)) throw error;
    return undefined; // nobody there: pressing Talk will tell
  }
}

field("privacy").textContent = `Your voice goes to ${location.host} and nowhere else.`;
if (!window.isSecureContext) stage.trouble(new Failure("insecure"));
stage.show(conversation.state);
introduce();
