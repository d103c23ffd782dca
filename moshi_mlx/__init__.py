"""Talk to Moshi, Kyutai's full-duplex speech-text model, on Apple's MLX.

>>> import moshi_mlx
>>> moshi = moshi_mlx.load("moshika-q4")
>>> with moshi.session(seed=1) as session:
...     reply = session.step(frame)  # 80 ms in; reply.audio and reply.text out

Names are imported when they are first used, so that `import moshi_mlx` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from moshi_mlx.version import __version__

if TYPE_CHECKING:
    from moshi_mlx.audio.duplex import Duplex
    from moshi_mlx.audio.file_stream import FileSource, WavSink
    from moshi_mlx.audio.files import read_audio
    from moshi_mlx.audio.speakers import Speakers
    from moshi_mlx.checkpoint.checkpoint import Checkpoint
    from moshi_mlx.checkpoint.voices import Voices
    from moshi_mlx.errors import MoshiError
    from moshi_mlx.frames import FRAME_SAMPLES, SAMPLE_RATE, split_frames
    from moshi_mlx.runtime.batch import Batch
    from moshi_mlx.runtime.engine import Sink, Source, converse
    from moshi_mlx.runtime.moshi import Moshi, load
    from moshi_mlx.runtime.reply import Reply
    from moshi_mlx.runtime.session import Session
    from moshi_mlx.runtime.stages import RESET
    from moshi_mlx.sampling_config import SamplingConfig
    from moshi_mlx.tasks.persona import persona
    from moshi_mlx.tasks.say import say, say_together
    from moshi_mlx.tasks.transcribe import Transcriber, load_transcriber
    from moshi_mlx.tasks.translate import translate
    from moshi_mlx.tasks.utterance import Pace, Spoken
    from moshi_mlx.tasks.words import Transcription

_HOMES = {
    "audio.duplex": ("Duplex",),
    "audio.file_stream": ("FileSource", "WavSink"),
    "audio.files": ("read_audio",),
    "audio.speakers": ("Speakers",),
    "frames": ("FRAME_SAMPLES", "SAMPLE_RATE", "split_frames"),
    "checkpoint.checkpoint": ("Checkpoint",),
    "checkpoint.voices": ("Voices",),
    "tasks.persona": ("persona",),
    "tasks.say": ("say", "say_together"),
    "tasks.utterance": ("Pace", "Spoken"),
    "runtime.batch": ("Batch",),
    "runtime.engine": ("Sink", "Source", "converse"),
    "errors": ("MoshiError",),
    "runtime.moshi": ("Moshi", "load"),
    "sampling_config": ("SamplingConfig",),
    "runtime.reply": ("Reply",),
    "runtime.session": ("Session",),
    "runtime.stages": ("RESET",),
    "tasks.translate": ("translate",),
    "tasks.transcribe": ("Transcriber", "load_transcriber"),
    "tasks.words": ("Transcription",),
}

__all__ = [
    "FRAME_SAMPLES",
    "RESET",
    "SAMPLE_RATE",
    "Batch",
    "Checkpoint",
    "Duplex",
    "FileSource",
    "Moshi",
    "MoshiError",
    "Pace",
    "Reply",
    "SamplingConfig",
    "Session",
    "Sink",
    "Source",
    "Speakers",
    "Spoken",
    "Transcriber",
    "Transcription",
    "Voices",
    "WavSink",
    "__version__",
    "converse",
    "load",
    "load_transcriber",
    "persona",
    "read_audio",
    "say",
    "say_together",
    "split_frames",
    "translate",
]


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"moshi_mlx.{module}"), name)
    raise AttributeError(f"module 'moshi_mlx' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
