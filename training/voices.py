"""Synthesizers: flite, espeak-ng, festival, pico, RHVoice and MBROLA as one function, `speak`, with phones' times."""

import ctypes
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

from training import accents, phones, respelling

SAMPLE_RATE = 24_000
LABEL_RATE = 100  # phone labels per second


@dataclass(frozen=True)
class Voice:
    """A speaker. engine: "flite", "espeak", "festival", "accent" (`accents`), "pico", "rhvoice", "foreign" (of these
    two, `respelling`) or "mbrola"; name: as that program calls it."""

    engine: str
    name: str

    def __str__(self) -> str:
        return f"{self.engine}:{self.name}"


MIXED = "mixed"
"""What speakers made by `conversion` are called; each of them says one sentence."""


def kind_of(voice: str) -> int:
    """What a voice, as `str` gives it, is made of: 0 recordings, which sound more human, 1 rules, 2 other voices."""
    return 2 if voice == MIXED else int(voice.startswith("espeak:"))


def is_human(voice: str) -> bool:
    """Whether a voice is made of recordings."""
    return kind_of(voice) == 0


MODEL_VOICE = Voice("flite", "slt")
"""Nano's own."""

CHOOSING_VOICES = (Voice("accent", "el_diphone"), Voice("accent", "czech_ph"))
"""Never trained on, but whatever is to be chosen may be chosen by them. (el_diphone is not for commerce.)"""

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
)  # fmt: skip

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


class _Event(ctypes.Structure):
    class _Id(ctypes.Union):
        _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]

    _fields_ = [
        ("type", ctypes.c_int), ("unique_identifier", ctypes.c_uint), ("text_position", ctypes.c_int),
        ("length", ctypes.c_int), ("audio_position", ctypes.c_int), ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p), ("id", _Id),
    ]  # fmt: skip


_SYNCHRONOUS, _PHONEME_EVENTS = 2, 1  # espeak_AUDIO_OUTPUT and the options of espeak_Initialize, speak_lib.h
_END_OF_LIST, _WORD, _PHONEME = 0, 1, 7
_RATE_PARAMETER, _PITCH_PARAMETER = 1, 3
_ONE_AT_A_TIME = threading.Lock()  # the library has one callback and one voice
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@cache
def _library():
    try:
        library = ctypes.CDLL("libespeak-ng.so.1")
    except OSError as error:
        raise RuntimeError("espeak-ng is not installed") from error
    return library, library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS)


def _espeak(name: str, text: str, speed: float, pitch: float):
    with _ONE_AT_A_TIME:
        library, rate = _library()
    blocks: list[np.ndarray] = []
    onsets: list[tuple[str, float]] = []
    words: list[tuple[int, float]] = []

    def callback(samples, count, events) -> int:
        if samples and count:
            blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != _END_OF_LIST:
            if events[index].type == _PHONEME:
                onsets.append((bytes(events[index].id.string).decode(), events[index].sample / rate))
            elif events[index].type == _WORD:
                words.append((events[index].text_position - 1, events[index].sample / rate))
            index += 1
        return 0

    with _ONE_AT_A_TIME:
        kept = _CALLBACK(callback)
        library.espeak_SetSynthCallback(kept)
        if library.espeak_SetVoiceByName(name.encode()):
            raise RuntimeError(f"espeak-ng has no voice {name}")
        library.espeak_SetParameter(_RATE_PARAMETER, round(165 * speed), 0)
        library.espeak_SetParameter(_PITCH_PARAMETER, round(50 * pitch), 0)
        spoken = text.encode()
        library.espeak_Synth(spoken, len(spoken) + 1, 0, 1, 0, 1, None, None)
        library.espeak_Synchronize()
    pcm = np.concatenate(blocks).astype(np.float32) / 32768
    ends = [time for _, time in onsets[1:]] + [len(pcm) / rate]
    segments = [(phones.from_espeak(phone), start, end) for (phone, start), end in zip(onsets, ends, strict=True)]
    return pcm, rate, segments, words


_ENGINES = {
    "flite": _flite, "espeak": _espeak, "festival": _festival, "pico": _pico, "rhvoice": _rhvoice, "mbrola": _mbrola,
    "accent": _accent, "foreign": _foreign,
}  # fmt: skip
