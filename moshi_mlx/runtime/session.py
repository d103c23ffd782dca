"""One conversation: a row of a batch, with a codec stream of its own.

The usual conversation is a batch of one. Not here: other rows (see `batch`), threads and queues (see `engine`).
Raw step t reads the user's frame t; the audio it completes is frame t - max(delays), see `delays`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np

from moshi_mlx.codec.base import Codec, CodecStreams, or_raise
from moshi_mlx.errors import SessionError
from moshi_mlx.frames import FRAME_SECONDS, checked_frame
from moshi_mlx.models.conditioner_config import Condition
from moshi_mlx.models.lm import Lm
from moshi_mlx.runtime.delays import DelayLine
from moshi_mlx.runtime.prompt import PREFILL_POSITIONS, SAMPLED, Prompt
from moshi_mlx.runtime.reply import Finish, Generated, Reply
from moshi_mlx.runtime.step import Draw, FrameStep, Script
from moshi_mlx.sampling_config import MAX_SEED, SamplingConfig


class TextStream(Protocol):
    """The text of one conversation, token by token."""

    def push(self, id: int, /) -> str:
        """What can be shown now that this token came, "" for nothing."""
        ...


class Tokenizer(Protocol):
    """What a conversation needs of a tokenizer."""

    def stream(self) -> TextStream:
        """A decoder for one conversation."""
        ...

    def encode(self, text: str, /) -> list[int]:
        """The tokens of a text."""
        ...

    def lacks(self, word: str, /) -> bool:
        """Whether a word is unknown."""
        ...


class Model(Protocol):
    """What conversations need of a loaded model; see `moshi.Moshi`."""

    lm: Lm
    codec: Codec
    sampling: SamplingConfig
    kv_bits: int | None
    conditions: Mapping[str, Condition]  # of conversations that choose none

    @property
    def step(self) -> FrameStep:
        """What takes a batch one frame further."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """What makes text of its text tokens."""
        ...


class Rows(Protocol):
    """What a session needs of the batch whose row it is; see `batch.Batch`."""

    moshi: Model
    streams: CodecStreams  # of the codec, one for each session

    @property
    def held_bytes(self) -> int:
        """Bytes of weights and state."""
        ...

    def join(
        self,
        seed: int | None,
        sampling: SamplingConfig | None,
        conditions: Mapping[str, Condition] | None,
        prompt: Prompt | None,
        /,
        at_once: bool = True,
    ) -> Session:
        """Start a conversation in a free place; see `batch.Batch.join`."""
        ...

    def encode(self, frames: Mapping[Session, np.ndarray], /) -> Finish[Session, np.ndarray]:
        """Begin to turn these sessions' frames into codes."""
        ...

    def generate(self, codes: Mapping[Session, np.ndarray], /) -> dict[Session, Generated]:
        """Step the language model once for all these sessions."""
        ...

    def prefill(self, session: Session, texts: np.ndarray, codes: np.ndarray, user_codes: np.ndarray, /) -> None:
        """Let a session live through frames that are already known."""
        ...

    def decode(self, generated: Mapping[Session, Generated], /) -> Finish[Session, Reply]:
        """Begin to turn what was generated for these sessions into replies."""
        ...

    def prefill_slices(
        self, session: Session, texts: np.ndarray, codes: np.ndarray, user_codes: np.ndarray, positions: int, /
    ) -> Iterator[None]:
        """As `prefill`, so many positions at once, with a pause between two slices."""
        ...

    def leave(self, session: Session, /) -> None:
        """Free the row of a session that ended."""
        ...

    def forget(self, session: Session, /) -> None:
        """Make a session's row of the model new again."""
        ...


class Session:
    """One conversation. `step` is all a program needs; the engine calls its three parts from their own threads.

    >>> with moshi.session(seed=1) as session:
    ...     for frame in split_frames(pcm):
    ...         reply = session.step(frame)
    """

    def __init__(
        self, batch: Rows, row: int, seed: int, sampling: SamplingConfig, prompt: Prompt | None = None
    ) -> None:
        if not 0 <= seed <= MAX_SEED:
            raise SessionError(f"seed {seed}: between 0 and {MAX_SEED} expected")
        if not isinstance(sampling, SamplingConfig):
            settings = "SamplingConfig(text_temperature=0.5), for example"
            raise SessionError(f"sampling is a {type(sampling).__name__}; moshi_mlx.{settings}, expected")
        self.batch = batch
        self.row = row  # of the model's state; moves when others leave, see `Batch.generate`
        self.seed = seed
        self.sampling = sampling
        self.prompt = prompt
        self.script: Script | None = (
            None  # a text to be said, for models that do; to be given before the first step
        )
        self.stream = batch.streams.stream()  # of the codec
        self._codebooks = batch.moshi.lm.config.input_codebooks  # of the user, for each frame
        self._frames_in = 0
        self._end_is_next = False
        self._history: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=0)  # heard and sampled at each step
        self._start_generation()

    def step(self, frame: np.ndarray) -> Reply:
        """One frame in, one reply out.

        frame: (1920,) float32 in [-1, 1] at 24 kHz mono; other floats are converted.
        The user's audio of the very first step is not heard: to the model it lies before the conversation.
        Raises SessionError for anything that is not a frame, or when the session is closed.
        """
        return self.decode(self.generate(self.encode(frame)))

    def encode(self, frame: np.ndarray) -> np.ndarray:
        """First part of `step`: audio to the user's codes, (n_q - dep_q,) int32."""
        return or_raise(self.batch.encode({self: frame})()[self])

    def hear(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Book a frame. Returns it, checked, and the user's codes where they do not depend on it."""
        frame = checked_frame(frame)
        self._frames_in += 1
        if self._frames_in == 1:
            # The model reads initial tokens at step 0, and the codec must start on the frame that is heard first:
            # its left padding is part of how streams begin (moshi/server.py, `skip_frames`).
            known = self.prompt.user_codes[-1] if self.prompt else np.zeros(self._codebooks, dtype=np.int32)
            return frame, known
        if self._end_is_next:
            self._end_is_next = False
            return frame, np.full(self._codebooks, self.batch.moshi.lm.config.card, dtype=np.int32)
        return frame, None

    def generate(self, codes: np.ndarray) -> Generated:
        """Second part of `step`: the language model; only on the thread that owns MLX."""
        return self.batch.generate({self: codes})[self]

    def decode(self, generated: Generated) -> Reply:
        """Last part of `step`: the model's codes to audio."""
        return or_raise(self.batch.decode({self: generated})()[self])

    def inputs(self, user_codes: np.ndarray) -> np.ndarray:
        """What the model reads at this step: (1 + n_q,) int32. user_codes: (n_q - dep_q,) int."""
        self._heard = np.array(user_codes, np.int32)
        return self.delays.inputs(user_codes)

    def draw(self) -> Draw:
        """What the sampler needs to know of this row at this step."""
        return Draw(self.sampling, self.seed, self.delays.step, self._recent_text, self.script)

    def take(self, sampled: np.ndarray, vad: np.ndarray | None = None) -> Generated:
        """Book what the model sampled for this row at this step.

        sampled: (1 + dep_q,) int32, [text, codes]. vad: as in `Reply`.
        """
        time = (self._trimmed + self.delays.step) * FRAME_SECONDS
        if self.script:
            sampled = self.script.take(self.delays.step, sampled)
        if self._forced:
            known = self._forced.popleft()
            sampled = np.where(known == SAMPLED, sampled, known)
        text_id = int(sampled[0])
        self._history.append((self._heard, sampled))
        if text_id not in self._paddings:
            self._recent_text.append(text_id)
        codes = self.delays.accept(text_id, sampled[1:])
        return Generated(codes, self._text.push(text_id), text_id, time, vad)

    @property
    def begun(self) -> bool:
        """Whether the conversation has taken a step, or was given known frames after its prompt."""
        return self.delays.step > self._prompted

    def begin(self) -> list[np.ndarray]:
        """Live through the prompt, before the first step. Returns what the model reads in it, (1 + n_q,) each."""
        columns: list[np.ndarray] = []
        if self.prompt:
            config = self.batch.moshi.lm.config
            for heard, made in self.prompt.steps(config):
                columns.append(self.delays.inputs(heard))
                self.delays.accept(int(made[0]), made[1:])
            self._forced.extend(self.prompt.ahead(config))
        self._prompted = len(columns)
        self._trimmed = -len(columns)
        return columns

    def remember(self, frames: int) -> None:
        """From now on keep the tokens of the latest `frames` steps, for `trim`."""
        self._history = deque(self._history, maxlen=frames)

    def remembered(self) -> tuple[np.ndarray, np.ndarray]:
        """Give what was heard, (T, n_q - dep_q) int32, and sampled, (T, 1 + dep_q) int32, at remembered steps."""
        config, steps = self.batch.moshi.lm.config, list(self._history)
        heard = np.array([heard for heard, _ in steps], np.int32).reshape(-1, config.input_codebooks)
        sampled = np.array([sampled for _, sampled in steps], np.int32).reshape(-1, 1 + config.dep_q)
        return heard, sampled

    def trim(self) -> None:
        """Forget all but the steps that are remembered: the model goes on as if the conversation had begun there.

        A prompt is lived through again.
        The codec's streams and the time of replies go on. On the thread that owns MLX; takes as long as a prefill.
        """
        steps = self._trimmed + self.delays.step
        heard, sampled = self.remembered()
        self.restart(heard, sampled)
        self._trimmed = steps - self.delays.step

    def reset(self) -> None:
        """Forget the conversation, keep the weights and the seed: the next one starts as this one did."""
        self.reset_encoder()
        self.reset_generation()
        self.reset_decoder()

    def mark_end(self) -> None:
        """Let the next frame tell the model that what it hears has ended, which translation models wait for.

        That frame is not encoded: all its codes are the one that no audio has (2048), and silence is to follow.
        For the thread that encodes. Source: moshi/run_inference.py `InferenceState.run`.
        """
        self._end_is_next = True

    def reset_encoder(self) -> None:
        """The encoder's part of `reset`, for the thread that encodes."""
        self._frames_in = 0
        self._end_is_next = False
        self.stream.reset_encoder()

    def reset_generation(self) -> None:
        """The language model's part of `reset`, for the thread that owns MLX."""
        for _ in self.resetting(PREFILL_POSITIONS):
            pass

    def resetting(self, positions: int) -> Iterator[None]:
        """`reset_generation` in slices of so many positions of the prompt; others may take steps between them."""
        config = self.batch.moshi.lm.config
        heard, sampled = np.zeros((0, config.input_codebooks), np.int32), np.zeros((0, 1 + config.dep_q), np.int32)
        yield from self._restarting(heard, sampled, positions)

    def restart(self, heard: np.ndarray, sampled: np.ndarray) -> None:
        """Begin anew with the prompt and known steps, on the thread that owns MLX.

        heard: (T, n_q - dep_q) int32. sampled: (T, 1 + dep_q) int32; as `remembered` gives them.
        """
        for _ in self._restarting(heard, sampled, PREFILL_POSITIONS):
            pass

    def reset_decoder(self) -> None:
        """The decoder's part of `reset`, for the thread that decodes."""
        self.stream.reset_decoder()

    def close(self) -> None:
        """End the conversation and free its place; calling it twice is fine."""
        self.batch.leave(self)
        self.stream.close()

    def __repr__(self) -> str:
        return f"<Session in row {self.row}: {self._frames_in} frames heard, seed {self.seed}>"

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _restarting(self, heard: np.ndarray, sampled: np.ndarray, positions: int) -> Iterator[None]:
        self._start_generation()
        self.batch.forget(self)
        yield from self.batch.prefill_slices(self, sampled[:, 0], sampled[:, 1:], heard, positions)

    def _start_generation(self) -> None:
        config = self.batch.moshi.lm.config
        self.delays = DelayLine(config)
        self._recent_text: deque[int] = deque(maxlen=self.sampling.repetition_context)
        self._paddings = (config.text_padding_id, config.text_end_padding_id)
        self._text = self.batch.moshi.tokenizer.stream()
        self._trimmed = 0  # steps that trimming has made forgotten, less those of the prompt
        self._prompted = 0  # steps of the prompt
        self._forced: deque[np.ndarray] = deque()  # what is known of the next steps' tokens, see `Prompt.ahead`
        self._heard = np.zeros(config.input_codebooks, np.int32)
        self._history.clear()
