"""Conversations: one (`Session`), and those that are stepped together (`Batch`).

A session is one row of a batch; the usual conversation is a batch of one. The language model steps all rows of a
batch at once, the audio codec belongs to each session. Not here: threads, queues, devices (see `engine`).
Raw step t reads the user's frame t; the audio it completes is frame t - max(delays), see `delays`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import mlx.core as mx
import numpy as np

from moshi_mlx.codec.base import Codec
from moshi_mlx.errors import SessionError
from moshi_mlx.frames import FRAME_SAMPLES, FRAME_SECONDS, silence
from moshi_mlx.models.lm import Lm
from moshi_mlx.runtime.delays import DelayLine
from moshi_mlx.runtime.step import Draw, FrameStep
from moshi_mlx.sampling_config import MAX_SEED, SamplingConfig, new_seed
from moshi_mlx.weights.lm_weights import parameter_bytes

PREFILL_POSITIONS = 128  # at once: enough to be bound by arithmetic and not by reading the weights


@dataclass(frozen=True)
class Reply:
    """What one step gives back.

    audio: (1920,) float32 at 24 kHz, full scale 1 (peaks may pass it); None while the acoustic delay fills.
    text: the piece of the inner monologue sampled at this step, "" for padding.
    time: seconds from the conversation's first frame to the audio that belongs to `text`; that audio comes with
        the reply one acoustic delay (one frame for Moshi) later.
    """

    audio: np.ndarray | None
    text: str
    time: float


@dataclass(frozen=True)
class Generated:
    """What the language model made of one frame: codes (dep_q,) int32, None while delays fill; text; its time."""

    codes: np.ndarray | None
    text: str
    text_id: int
    time: float


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


class Model(Protocol):
    """What conversations need of a loaded model; see `moshi.Moshi`."""

    lm: Lm
    codec: Codec
    sampling: SamplingConfig
    kv_bits: int | None
    step: FrameStep

    @property
    def tokenizer(self) -> Tokenizer: ...


class Batch:
    """Conversations that share every step of the language model; they join and leave between frames."""

    def __init__(self, moshi: Model, size: int) -> None:
        if size < 1:
            raise SessionError(f"a batch of {size} conversations: at least 1 expected")
        self.moshi = moshi
        self._state = moshi.lm.new_state(size, moshi.kv_bits)
        mx.eval(self._state.arrays())  # so that another thread may take the first step
        self._rows: list[Session | None] = [None] * size
        self._condition: mx.array | None = None

    @property
    def held_bytes(self) -> int:
        """Bytes of the model's weights and of this batch's state."""
        return parameter_bytes(self.moshi.lm) + sum(array.nbytes for array in self._state.arrays())

    def join(
        self,
        seed: int | None = None,
        sampling: SamplingConfig | None = None,
        conditions: Mapping[str, str | None] | None = None,
    ) -> Session:
        """Start a conversation in a free row.

        seed: 0..2**32-1, random unless given; same seed, same input, same conversation, in whatever company.
        conditions: conditioner name -> value, for models that have conditioners.
        Raises SessionError when all rows are taken, ConfigError for an unknown condition.
        """
        row = next((row for row, session in enumerate(self._rows) if session is None), None)
        if row is None:
            raise SessionError(f"all {len(self._rows)} places of this batch are taken; close a session first")
        condition = self.moshi.lm.condition(conditions)
        if condition is not None:
            if self._condition is None:
                self._condition = mx.repeat(condition, len(self._rows), axis=0)  # (B, 1, dim)
            self._condition[row] = condition[0]
            mx.eval(self._condition)
        session = Session(self, row, new_seed() if seed is None else seed, sampling or self.moshi.sampling)
        self._rows[row] = session
        self._forget(row)
        return session

    def step(self, frames: Mapping[Session, np.ndarray]) -> dict[Session, Reply]:
        """One frame in, one reply out for every session that talks; as `Session.step`, for all of them at once.

        frames: session -> (1920,) float32. A session that has begun and has no frame is given silence.
        """
        for frame in frames.values():
            check_frame(frame)  # before anything has moved on
        begun = [session for session in self._rows if session and (session in frames or session.delays.step)]
        codes = {session: session.encode(frames.get(session, silence())) for session in begun}
        return {session: session.decode(made) for session, made in self.generate(codes).items()}

    def generate(self, codes: Mapping[Session, np.ndarray]) -> dict[Session, Generated]:
        """One step of the language model for every session that talks.

        codes: session -> the user's codes of its frame, (n_q - dep_q,) int. A session that has not begun may be
        left out; one that has begun may not: rows share the count of positions, so a pause would be a gap in what
        it remembers (see `step`, which fills in silence).
        Reads back from the device once. Raises SessionError for a session of another batch, or one left out.
        """
        config, size = self.moshi.lm.config, len(self._rows)
        tokens = np.full((size, 1 + config.n_q, 1), -1, dtype=np.int32)
        draws: list[Draw | None] = [None] * size
        self._check_members(codes)
        left_out = sum(1 for other in self._rows if other and other not in codes and other.delays.step)
        if left_out:
            raise SessionError(f"{left_out} session(s) of this batch have begun and got no frame; see Batch.step")
        for session, user_codes in codes.items():
            draws[session.row] = session.draw()
            tokens[session.row, :, 0] = session.inputs(user_codes)
        result = self.moshi.step(tokens, draws, self._state, self._condition)
        return {session: session.take(result[session.row]) for session in codes}

    def prefill(self, session: Session, texts: np.ndarray, codes: np.ndarray, user_codes: np.ndarray) -> None:
        """Let a session live through frames that are already known, many at once: its state is as after stepping.

        texts: (T,) int, the text tokens of T frames. codes: (T, dep_q), what the model said. user_codes:
        (T, n_q - dep_q), what it heard; all as steps would have given and taken them.
        Raises SessionError in company: the others would have a gap as long.
        """
        self.check_alone(session)
        columns = []
        for text, made, heard in zip(texts, codes, user_codes, strict=True):
            columns.append(session.inputs(heard))
            session.take(np.array([text, *made], dtype=np.int32))
        lm, running = self.moshi.lm, np.array([other is session for other in self._rows])
        for start in range(0, len(columns), PREFILL_POSITIONS):
            chunk = np.stack(columns[start : start + PREFILL_POSITIONS], axis=1)
            tokens = np.repeat(chunk[None], len(self._rows), axis=0)
            lm.temporal(mx.array(tokens), self._state, self._condition, None if running.all() else running)
            mx.eval(self._state.arrays())

    def leave(self, session: Session) -> None:
        """Free the row of a session that ended."""
        if self._rows[session.row] is session:
            self._rows[session.row] = None

    def forget(self, session: Session) -> None:
        """Make the session's row of the model new again."""
        if self._rows[session.row] is session:
            self._forget(session.row)

    def check_alone(self, session: Session) -> None:
        """Raise SessionError unless a session is the only one of this batch."""
        self._check_members([session])
        if sum(other is not None for other in self._rows) > 1:
            raise SessionError("only a session that is alone in its batch can be prefilled")

    def _check_members(self, sessions: Iterable[Session]) -> None:
        if any(self._rows[session.row] is not session for session in sessions):
            raise SessionError("this session is closed, or of another batch")

    def _forget(self, row: int) -> None:
        alone = all(session is None for other, session in enumerate(self._rows) if other != row)
        if alone:  # nobody to disturb: starting over needs no mask
            self._state.rewind()
        else:
            self._state.reset_row(row)


class Session:
    """One conversation. `step` is all a program needs; the engine calls its three parts from their own threads.

    >>> with moshi.session(seed=1) as session:
    ...     for frame in split_frames(pcm):
    ...         reply = session.step(frame)
    """

    def __init__(self, batch: Batch, row: int, seed: int, sampling: SamplingConfig) -> None:
        if not 0 <= seed <= MAX_SEED:
            raise SessionError(f"seed {seed}: between 0 and {MAX_SEED} expected")
        self.batch = batch
        self.row = row
        self.seed = seed
        self.sampling = sampling
        self._stream = batch.moshi.codec.stream()
        self._frames_in = 0
        self._history: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=0)  # heard and sampled at each step
        self._start_generation()

    def step(self, frame: np.ndarray) -> Reply:
        """One frame in, one reply out.

        frame: (1920,) float32 in [-1, 1] at 24 kHz mono.
        The user's audio of the very first step is not heard: to the model it lies before the conversation.
        Raises SessionError for anything that is not a frame, or when the session is closed.
        """
        return self.decode(self.generate(self.encode(frame)))

    def encode(self, frame: np.ndarray) -> np.ndarray:
        """First part of `step`: audio to the user's codes, (n_q - dep_q,) int32."""
        check_frame(frame)
        self._frames_in += 1
        wanted = self.batch.moshi.lm.config.input_codebooks
        if self._frames_in == 1:
            # The model reads initial tokens at step 0, and the codec must start on the frame that is heard first:
            # its left padding is part of how streams begin (moshi/server.py, `skip_frames`).
            return np.zeros(wanted, dtype=np.int32)
        return self._stream.encode(frame)[:wanted]

    def generate(self, codes: np.ndarray) -> Generated:
        """Second part of `step`: the language model; only on the thread that owns MLX."""
        return self.batch.generate({self: codes})[self]

    def decode(self, generated: Generated) -> Reply:
        """Last part of `step`: the model's codes to audio."""
        audio = None if generated.codes is None else self._stream.decode(generated.codes)
        return Reply(audio, generated.text, generated.time)

    def inputs(self, user_codes: np.ndarray) -> np.ndarray:
        """What the model reads at this step: (1 + n_q,) int32. user_codes: (n_q - dep_q,) int."""
        self._heard = np.array(user_codes, np.int32)
        return self.delays.inputs(user_codes)

    def draw(self) -> Draw:
        """What the sampler needs to know of this row at this step."""
        return Draw(self.sampling, self.seed, self.delays.step, self._recent_text)

    def take(self, sampled: np.ndarray) -> Generated:
        """Book what the model sampled for this row at this step. sampled: (1 + dep_q,) int32, [text, codes]."""
        time = (self._refreshed + self.delays.step) * FRAME_SECONDS
        text_id = int(sampled[0])
        self._history.append((self._heard, sampled))
        if text_id not in self._paddings:
            self._recent_text.append(text_id)
        codes = self.delays.accept(text_id, sampled[1:])
        return Generated(codes, self._text.push(text_id), text_id, time)

    def remember(self, frames: int) -> None:
        """From now on keep the tokens of the latest `frames` steps, for `refresh`."""
        self._history = deque(self._history, maxlen=frames)

    def refresh(self) -> None:
        """Forget all but the steps that are remembered: the model goes on as if the conversation had begun there.

        The codec's streams and the time of replies go on. On the thread that owns MLX; takes as long as a prefill.
        Raises SessionError for a session that is not alone in its batch.
        """
        self.batch.check_alone(self)
        steps, history = self._refreshed + self.delays.step, list(self._history)
        self.reset_generation()
        if history:
            heard, sampled = (np.stack(tokens) for tokens in zip(*history, strict=True))
            self.batch.prefill(self, sampled[:, 0], sampled[:, 1:], heard)
        self._refreshed = steps - len(history)

    def reset(self) -> None:
        """Forget the conversation, keep the weights and the seed: the next one starts as this one did."""
        self.reset_encoder()
        self.reset_generation()
        self.reset_decoder()

    def reset_encoder(self) -> None:
        """The encoder's part of `reset`, for the thread that encodes."""
        self._frames_in = 0
        self._stream.reset_encoder()

    def reset_generation(self) -> None:
        """The language model's part of `reset`, for the thread that owns MLX."""
        self._start_generation()
        self.batch.forget(self)

    def reset_decoder(self) -> None:
        """The decoder's part of `reset`, for the thread that decodes."""
        self._stream.reset_decoder()

    def close(self) -> None:
        """End the conversation and free its place; calling it twice is fine."""
        self.batch.leave(self)
        self._stream.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _start_generation(self) -> None:
        config = self.batch.moshi.lm.config
        self.delays = DelayLine(config)
        self._recent_text: deque[int] = deque(maxlen=self.sampling.repetition_context)
        self._paddings = (config.text_padding_id, config.text_end_padding_id)
        self._text = self.batch.moshi.tokenizer.stream()
        self._refreshed = 0  # steps that a refresh has made forgotten
        self._heard = np.zeros(config.input_codebooks, np.int32)
        self._history.clear()


def check_frame(frame: np.ndarray) -> None:
    """Raise SessionError for anything that is not (1920,) float32."""
    frame = np.asarray(frame)
    if frame.shape != (FRAME_SAMPLES,) or frame.dtype != np.float32:
        raise SessionError(f"a frame is ({FRAME_SAMPLES},) float32, got {frame.shape} {frame.dtype}")
