"""What a model says while it learns: its answer to a recording, kept to be listened to.

A conversation takes its randomness from its own seed, and a view of the model is used that holds nothing of its
own: the training does not notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from pathlib import Path

import mlx.core as mx
import numpy as np

from moshi_mlx.audio.file_stream import FileSource, Tee
from moshi_mlx.audio.writer import AudioWriter
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.codec.base import Codec
from moshi_mlx.conversation.transcript import Transcript
from moshi_mlx.errors import CheckpointError, system_errors
from moshi_mlx.finetune.codes import Window, both_voices
from moshi_mlx.finetune.data import write_words
from moshi_mlx.finetune.report import Sample
from moshi_mlx.frames import SAMPLE_RATE, silence
from moshi_mlx.models.conditioner_config import Condition
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.lm import Lm
from moshi_mlx.runtime.batch import Batch
from moshi_mlx.runtime.engine import converse
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.runtime.session import Tokenizer
from moshi_mlx.runtime.step import FrameStep
from moshi_mlx.sampling_config import SamplingConfig

SAMPLES = "samples"


class Sampler:
    """Lets a model that learns answer a recording.

    window: the part of it that is heard; of its two voices the user's. seconds: of a window. seed: of what the
    model says, the same every time, so that answers differ by what was learned alone. tell: gets each answer.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        codec: Codec,
        window: Window,
        seconds: float,
        seed: int = 0,
        tell: Callable[[Sample], None] = lambda sample: None,
    ) -> None:
        self._tell = tell
        self._config, self.window, self._seed = checkpoint.lm_config, window, seed
        self._codec, self._sampling = codec, checkpoint.sampling
        self._tokenizer: Tokenizer = checkpoint.load_tokenizer()
        first, last = (round(time * SAMPLE_RATE) for time in (window.start, window.start + seconds))
        self._user = both_voices(window.recording)[1, first:last]

    def answer(self, lm: Lm, step: int, folder: Path) -> None:
        """Write an answer to `folder`: a stereo file as those that are learned from, and its words beside it.

        lm: as it is trained. step: how many steps were taken. Raises CheckpointError or AudioFileError where the
        system refuses.
        """
        path, words = folder / f"{step:06}.wav", Transcript()
        source = FileSource(self._user, lead=0, tail=0)
        with system_errors(f"cannot write {path}", CheckpointError):
            folder.mkdir(parents=True, exist_ok=True)
        model = _Model(
            _view(lm, self._config), self._codec, self._sampling, self._tokenizer, self.window.conditions
        )
        # Compiled code would have the weights of its first answer in it, and is never run often enough to pay.
        mx.disable_compile()
        try:
            with Batch(model, 1).join(self._seed) as session, _Stereo(path, source.heard()) as sound:
                converse(session, source, Tee(sound, words))
        finally:
            mx.enable_compile()
        said = words.words(sound.file.seconds).words
        write_words(path.with_suffix(".json"), [(word.text, word.start, word.end) for word in said])
        self._tell(Sample(step, path, words.text))


class _Model:
    """As `Moshi`, of weights that are not final: nothing is joined, nothing compiled is kept."""

    def __init__(
        self,
        lm: Lm,
        codec: Codec,
        sampling: SamplingConfig,
        tokenizer: Tokenizer,
        conditions: Mapping[str, Condition],
    ) -> None:
        self.lm, self.codec, self.sampling, self.tokenizer = lm, codec, sampling, tokenizer
        self.kv_bits: int | None = None
        self.conditions: Mapping[str, Condition] = lm.config.conditions(conditions)
        self.step = FrameStep(lm)


class _Stereo:
    """A sink that writes both voices: left the model's, right the user's. heard: frames of the user."""

    def __init__(self, path: Path, heard: Iterator[np.ndarray]) -> None:
        self._heard = heard
        self.file = AudioWriter(path, 2)

    def write(self, reply: Reply) -> None:
        """Add the audio of one reply; one without audio adds nothing."""
        if reply.audio is not None:
            self.file.write(np.stack([reply.audio, next(self._heard, silence())], axis=1))

    def __enter__(self) -> _Stereo:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.file.__exit__(kind, error, trace)


def _view(lm: Lm, config: LmConfig) -> Lm:
    """Return a model of the same layers for conversations, which may run fewer depth steps."""
    view = copy(lm)
    view._config = config
    assert config.depth, "a model that speaks"
    view.depformer = copy(lm.depformer)
    view.depformer._depth = config.depth
    view.depformer.slices = lm.depformer.slices[: config.dep_q]
    return view
