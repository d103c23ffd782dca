"""Conversations that are stepped together: the rows of one batch.

The language model steps all rows at once. Rows share the count of positions, which is harmless because rotary
positions are relative: a row that joins late, or forgets, is masked at the positions before. Randomness belongs to
each session, so a conversation is the same alone and in company. There are about as many rows as people, in steps
(see `places`): what is held of each is moved when there are more people, or for two seconds fewer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import mlx.core as mx
import numpy as np

from moshi_mlx.codec.base import CodecStream, or_raise
from moshi_mlx.errors import ConfigError, MoshiError, SessionError
from moshi_mlx.frames import checked_frame, silence
from moshi_mlx.models.conditioner_config import Condition
from moshi_mlx.models.layers import parameter_bytes
from moshi_mlx.models.lm import LmState
from moshi_mlx.runtime.places import keep_rows, width_for
from moshi_mlx.runtime.prompt import PREFILL_POSITIONS, Prompt
from moshi_mlx.runtime.reply import Finish, Generated, Reply
from moshi_mlx.runtime.session import Model, Session
from moshi_mlx.runtime.step import Draw
from moshi_mlx.sampling_config import SamplingConfig, new_seed

PATIENCE = 25  # steps, two seconds, before rows are given up: whoever comes meanwhile costs no moving


class Batch:
    """Room for several conversations that share every step of the language model.

    They join and leave between frames. size: the most there may be at once.
    guidance: classifier-free; 1 is none. Any other takes two rows of the model's state for each conversation: one
    with its conditions, in the first half of the rows, and one with the contrary ones, in the other half.
    Raises SessionError for a size below 1, ConfigError for guidance that the model cannot have.
    """

    def __init__(self, moshi: Model, size: int, guidance: float = 1.0) -> None:
        if size < 1:
            raise SessionError(f"a batch of {size} conversations: at least 1 expected")
        moshi.lm.config.check_guidance(guidance)
        self.moshi = moshi
        self.streams = moshi.codec.streams()
        self._codebooks = moshi.lm.config.input_codebooks
        self._guidance = guidance
        self._halves = 1 if guidance == 1 else 2
        self._size = size
        everyone = moshi.lm.new_state(self._halves * size, moshi.kv_bits)  # refused if too large; not computed
        self._most_bytes = sum(array.nbytes for array in everyone.arrays())
        self._state = self._new_state(self._halves)
        self._rows: list[Session | None] = [None]
        self._few = 0  # steps in a row in which fewer rows would have done
        self._condition: mx.array | None = None
        # Prompts in company, one state for each half: they are put in with the session's first step.
        self._apart: dict[Session, list[LmState]] = {}

    def __repr__(self) -> str:
        return f"<Batch of {self._size} places, {self._people} taken>"

    @property
    def _people(self) -> int:
        return sum(session is not None for session in self._rows)

    @property
    def held_bytes(self) -> int:
        """Bytes of the model's weights, and of this batch's state when all places are taken."""
        return parameter_bytes(self.moshi.lm) + self._most_bytes

    def join(
        self,
        seed: int | None = None,
        sampling: SamplingConfig | None = None,
        conditions: Mapping[str, Condition] | None = None,
        prompt: Prompt | None = None,
        at_once: bool = True,
    ) -> Session:
        """Start a conversation in a free place.

        seed: 0..2**32-1, random unless given; same seed, same input, same conversation, in whatever company.
        conditions: conditioner name -> value, for models that have conditioners; those of the Moshi unless given.
        prompt: what comes before the conversation, for models that take one.
        at_once: whether that is lived through here; else `Session.resetting` is to be gone through before the
        first step.
        Raises SessionError when all places are taken, ConfigError for an unknown condition or a wrong prompt.
        """
        people = self._people
        if people == self._size:
            raise SessionError(f"all {self._size} places of this batch are taken; close a session first")
        if prompt is not None:
            prompt.check(self.moshi.lm.config)
        if not people or people == len(self._rows):
            self.make_room(people + 1)
        row = self._rows.index(None)
        self._set_condition(row, {**self.moshi.conditions, **(conditions or {})})
        seed = new_seed() if seed is None else seed
        session = Session(self, row, seed, self.moshi.sampling if sampling is None else sampling, prompt)
        self._rows[row] = session
        if at_once:
            session.reset_generation()
        return session

    def make_room(self, people: int) -> None:
        """Let the model's state have as many rows as so many people need; on the thread that owns MLX.

        Sessions move to the first rows, in their order; not fewer rows than there are sessions are kept.
        """
        held, self._few = len(self._rows), 0
        width = width_for(max(people, self._people), self._size)
        if width == held:
            return
        here = [session for session in self._rows if session]
        nobody: list[None] = [None] * (width - len(here))
        kept = [*(session.row for session in here), *nobody]
        self._condition = keep_rows(self._state, kept, self._halves, self._condition)
        self._rows = [*here, *nobody]
        for row, session in enumerate(here):
            session.row = row

    def step(self, frames: Mapping[Session, np.ndarray]) -> dict[Session, Reply]:
        """One frame in, one reply out for every session that talks; as `Session.step`, for all of them at once.

        frames: session -> (1920,) float32. A session that has begun and has no frame is given silence.
        """
        for frame in frames.values():
            checked_frame(frame)  # before anything has moved on
        begun = [session for session in self._rows if session and (session in frames or session.begun)]
        heard = self.encode({session: frames.get(session, silence()) for session in begun})()
        made = self.generate({session: or_raise(codes) for session, codes in heard.items()})
        return {session: or_raise(reply) for session, reply in self.decode(made)().items()}

    def encode(self, frames: Mapping[Session, np.ndarray]) -> Finish[Session, np.ndarray]:
        """Begin to turn frames into codes, of all these sessions at once: the first part of `step`.

        frames: session -> (1920,) float32. Returns what waits for the codes, (n_q - dep_q,) int32 each.
        """
        answers: dict[Session, np.ndarray | MoshiError] = {}
        heard: dict[CodecStream, np.ndarray] = {}
        for session, given in frames.items():
            try:
                frame, codes = session.hear(given)
            except MoshiError as error:
                answers[session] = error
                continue
            if codes is None:
                heard[session.stream] = frame
            else:
                answers[session] = codes
        finish = self.streams.encode(heard)

        def codes_of_all() -> dict[Session, np.ndarray | MoshiError]:
            found = finish()
            for session in frames:
                if session not in answers:
                    codes = found[session.stream]
                    answers[session] = codes[: self._codebooks] if isinstance(codes, np.ndarray) else codes
            return answers

        return codes_of_all

    def decode(self, generated: Mapping[Session, Generated]) -> Finish[Session, Reply]:
        """Begin to turn what was generated into replies, of all these sessions at once: the last part of `step`.

        Returns what waits for them.
        """
        given = {session.stream: made.codes for session, made in generated.items() if made.codes is not None}
        finish = self.streams.decode(given)

        def replies() -> dict[Session, Reply | MoshiError]:
            found, made = finish(), {}
            for session, each in generated.items():
                audio = found.get(session.stream)
                made[session] = audio if isinstance(audio, MoshiError) else each.reply(audio)
            return made

        return replies

    def generate(self, codes: Mapping[Session, np.ndarray]) -> dict[Session, Generated]:
        """One step of the language model for every session that talks.

        codes: session -> the user's codes of its frame, (n_q - dep_q,) int. A session that has not begun may be
        left out; one that has begun may not: rows share the count of positions, so a pause would be a gap in what
        it remembers (see `step`, which fills in silence).
        Reads back from the device once. Raises SessionError for a session of another batch, or one left out.
        """
        self._check_members(codes)
        left_out = sum(1 for other in self._rows if other and other not in codes and other.begun)
        if left_out:
            raise SessionError(f"{left_out} session(s) of this batch have begun and got no frame; see Batch.step")
        self._give_up_rows()
        config, width = self.moshi.lm.config, len(self._rows)
        tokens = np.full((width, 1 + config.n_q, 1), -1, dtype=np.int32)
        draws: list[Draw | None] = [None] * width
        for session in codes.keys() & self._apart.keys():
            self._put_in(session, self._apart.pop(session))
        for session, user_codes in codes.items():
            draws[session.row] = session.draw()
            tokens[session.row, :, 0] = session.inputs(user_codes)
        if self._guidance != 1 and any(session.script for session in codes):
            tokens = np.concatenate([tokens, self._contrary(tokens, codes)])
        sampled, vad = self.moshi.step(tokens, draws, self._state, self._condition, self._guidance)
        return {
            session: session.take(sampled[session.row], None if vad is None else vad[session.row])
            for session in codes
        }

    def prefill(self, session: Session, texts: np.ndarray, codes: np.ndarray, user_codes: np.ndarray) -> None:
        """Let a session that has not begun live through known frames, many at once, to the state of stepping them.

        Its prompt, if it has one, comes first. texts: (T,) int, the text tokens of T frames. codes: (T, dep_q),
        what the model said. user_codes: (T, n_q - dep_q), what it heard; all as steps would have given and taken
        them. In company the others do not notice: the frames take the positions that have just passed.
        Raises SessionError for a session that has lived through something; `Session.restart` forgets that first.
        """
        for _ in self.prefill_slices(session, texts, codes, user_codes, PREFILL_POSITIONS):
            pass

    def prefill_slices(
        self, session: Session, texts: np.ndarray, codes: np.ndarray, user_codes: np.ndarray, positions: int
    ) -> Iterator[None]:
        """As `prefill`, so many positions at once; yields between two such slices, when others may take steps."""
        self._check_members([session])
        if session.delays.step:
            raise SessionError(f"a session of {session.delays.step} steps is not prefilled; see Session.restart")
        columns = session.begin()
        others = list(columns)  # of the contrary half
        for text, made, heard in zip(texts, codes, user_codes, strict=True):
            columns.append(column := session.inputs(heard))
            script = session.script
            others.append(script.contrary(session.delays.step, column) if script else column)
            session.take(np.array([text, *made], dtype=np.int32))
        if not columns:
            return
        embeddings = session.prompt.embeddings if session.prompt else None
        halves = [columns, others][: self._halves]
        if self._size == 1:
            yield from self._run(halves, embeddings, self._state, self._condition, positions)
            return
        context = min(len(columns), self.moshi.lm.config.transformer.context)
        states, conditions = [self._new_state(1, context) for _ in halves], [self._condition] * len(halves)
        for half, row in enumerate(self._rows_of(session.row)):  # before the first slice: rows move between two
            states[half].temporal.rewind(self._state.temporal.position - len(columns))
            states[half].crossed = [each[row :: self._state.temporal.batch] for each in self._state.crossed]
            if self._condition is not None:
                conditions[half] = self._condition[row : row + 1]
        for own, condition, half in zip(states, conditions, halves, strict=True):
            yield from self._run([half], embeddings, own, condition, positions)
        if session.begun:
            self._put_in(session, states)
        else:  # others may take steps before its first: that would be a gap
            self._apart[session] = states

    def _put_in(self, session: Session, states: Sequence[LmState]) -> None:
        """Let states, one of each half, be the past of a session's rows."""
        if all(other is None or other is session for other in self._rows):
            position = states[0].temporal.position
            self._state.temporal.rewind(position)  # nobody to disturb: nothing needs a mask
        for row, own in zip(self._rows_of(session.row), states, strict=True):
            self._state.temporal.copy_row(row, own.temporal)
        mx.eval(self._state.arrays())

    def leave(self, session: Session) -> None:
        """Free the place of a session that ended."""
        if session in self._rows:
            self._rows[session.row] = None
            self._apart.pop(session, None)

    def forget(self, session: Session) -> None:
        """Make the session's row of the model new again."""
        if session not in self._rows:
            return
        self._apart.pop(session, None)
        if all(other is None or other is session for other in self._rows):
            self._state.rewind()  # nobody to disturb: starting over needs no mask
        else:
            for row in self._rows_of(session.row):
                self._state.reset_row(row)

    def _give_up_rows(self) -> None:
        """Give up the rows that nobody has needed for a while."""
        self._few = self._few + 1 if width_for(self._people, self._size) < len(self._rows) else 0
        if self._few > PATIENCE:
            self.make_room(self._people)

    def _contrary(self, tokens: np.ndarray, sessions: Iterable[Session]) -> np.ndarray:
        """Return what the contrary halves of rows read, where a script has them read something else."""
        tokens = tokens.copy()
        for session in sessions:
            if session.script:
                column = tokens[session.row, :, 0]
                tokens[session.row, :, 0] = session.script.contrary(session.delays.step, column)
        return tokens

    def _set_condition(self, row: int, conditions: Mapping[str, Condition]) -> None:
        lm, rows = self.moshi.lm, self._state.temporal.batch
        for place, values in zip(self._rows_of(row), (conditions, lm.config.contrary_conditions()), strict=False):
            if crossed := lm.crossed(values):
                self._set_crossed(place, crossed)
            vector = lm.condition(values)
            if vector is None:  # nothing is added
                continue
            if self._condition is None:
                self._condition = mx.repeat(vector, rows, axis=0)  # (halves * B, 1, dim)
            self._condition[place] = vector[0]
        mx.eval(self._condition, self._state.crossed)

    def _set_crossed(self, place: int, crossed: list[mx.array]) -> None:
        """Let a row of the state attend to what `Lm.crossed` made."""
        state, rows = self._state, self._state.temporal.batch
        alone = not any(self._rows)
        if not state.crossed or (alone and state.crossed[0].shape[2] != crossed[0].shape[2]):
            state.crossed = [mx.repeat(each, rows, axis=0) for each in crossed]
        held, given = state.crossed[0].shape[2], crossed[0].shape[2]
        if held != given:
            raise ConfigError(f"a voice of {given} vectors cannot share a batch with one of {held}")
        for layer, each in zip(state.crossed, crossed, strict=True):
            layer[place::rows] = each

    def _rows_of(self, row: int) -> list[int]:
        """Return the rows of the model's state that belong to a row of the batch."""
        return [row + half * len(self._rows) for half in range(self._halves)]

    def _new_state(self, size: int, context: int | None = None) -> LmState:
        state = self.moshi.lm.new_state(size, self.moshi.kv_bits, context)
        mx.eval(state.arrays())  # so that another thread may take the first step
        return state

    def _run(
        self,
        halves: list[list[np.ndarray]],
        embeddings: np.ndarray | None,
        state: LmState,
        condition: mx.array | None,
        positions: int,
    ) -> Iterator[None]:
        """Push columns of tokens, (1 + n_q,) each, into a state, a list for each of its rows; as `Lm.temporal`."""
        for start in range(0, len(halves[0]), positions):
            stop = start + positions
            tokens = mx.array(np.stack([np.stack(columns[start:stop], axis=1) for columns in halves]))
            known = [] if embeddings is None else embeddings[start:stop]
            given = mx.array(known) if len(known) else None
            self.moshi.lm.temporal(tokens, state, condition, embeddings=given)
            mx.eval(state.arrays())
            yield

    def _check_members(self, sessions: Iterable[Session]) -> None:
        if any(session not in self._rows for session in sessions):
            raise SessionError("this session is closed, or of another batch")
