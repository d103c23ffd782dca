"""One frame through the language model for all rows of a batch: tokens in, sampled tokens out.

Everything around the attentions is compiled; the keys and values are written and read between the compiled parts,
so that no step is traced again as the window fills, rows come and go, or a mask appears. The read-back of the
sampled tokens is the only time the host waits for the device.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import mlx.core as mx
import numpy as np

from moshi_mlx.models.layers import compiled
from moshi_mlx.models.lm import Lm, LmState
from moshi_mlx.runtime.sampling import (
    Features,
    RowSettings,
    away_from_contrary,
    frame_keys,
    gumbel,
    penalise,
    sample,
)
from moshi_mlx.sampling_config import GREEDY, SamplingConfig

AS_WRITTEN = -2  # in place of a text token that is not replaced


class Script(Protocol):
    """What a row reads in place of what the model writes: a text that is to be said.

    padding_bonus: added to the logit of padding in the text, so that words come later (above 0) or sooner.
    """

    padding_bonus: float

    def choices(self) -> tuple[int, int]:
        """Return the text read at this step: if the model writes the end of padding, and if anything else."""
        ...

    def speaks(self, step: int) -> bool:
        """Whether the codes that the model makes at this step are used, any of them."""
        ...

    def take(self, step: int, sampled: np.ndarray) -> np.ndarray:
        """Return the tokens that stand for what was sampled at a step, (1 + dep_q,) int32 both; and move on."""
        ...

    def contrary(self, step: int, tokens: np.ndarray) -> np.ndarray:
        """Return what the row's contrary half reads at a step, with guidance. tokens: (1 + n_q,) int32."""
        ...


@dataclass(frozen=True)
class Draw:
    """What one row needs for the draws of one frame."""

    config: SamplingConfig
    seed: int
    frame: int
    recent_text: Sequence[int] = field(default=())  # for the repetition penalty
    script: Script | None = None


IDLE = Draw(GREEDY, 0, 0)  # for rows that do not run


class Stepped(NamedTuple):
    """What one step made of all rows; rows that do not run hold anything."""

    sampled: np.ndarray  # (B, 1 + dep_q) int32, [text, codes]
    vad: np.ndarray | None  # (B, heads, classes) float32, see `Lm.vad`; None for models without extra heads


class Head(NamedTuple):
    """What code is compiled for: everything that is computed or not."""

    text: Features
    audio: Features
    guidance: float
    scripted: bool  # text may be replaced; guidance is of the codes alone
    speaks: bool  # codes are made
    patient: bool  # padding of the text has a bonus


class FrameStep:
    """The step of a model, for any batch. Compiled code is kept per set of sampling features in use."""

    def __init__(self, lm: Lm) -> None:
        self._lm = lm
        self._embed = compiled(lm.embed)
        self._heads: dict[Head, Callable[..., list[mx.array]]] = {}
        self._settings: tuple[list[SamplingConfig], RowSettings, RowSettings] | None = None
        self.watch: Callable[[mx.array], None] | None = None  # is given the temporal transformer's output
        self.waited = 0.0  # seconds of the latest step in which the host waited for the device

    def __call__(
        self,
        tokens: np.ndarray,
        draws: Sequence[Draw | None],
        state: LmState,
        condition: mx.array | None = None,
        guidance: float = 1.0,
    ) -> Stepped:
        """Step once; every row's state moves on but for rows that do not run.

        tokens: (B, 1 + n_q, 1) int32. draws: one per row, None for rows that do not run.
        condition: (B, 1, dim) or None.
        guidance: with any but 1 (classifier-free guidance) state and condition have 2 B rows: the same rows with
        their condition and, after them, with the contrary one; the logits of both make those that are drawn from.
        Where rows have a script, tokens have 2 B rows as well, since the contrary half reads others.
        """
        lm = self._lm
        running = np.array([draw is not None for draw in draws])
        rows = [draw or IDLE for draw in draws]
        scripted = any(draw.script for draw in rows)
        if guidance != 1:
            tokens = tokens if scripted else np.concatenate([tokens, tokens])
            running = np.concatenate([running, running])
        x = self._embed(mx.array(tokens))
        if condition is not None:
            x = x + condition.astype(x.dtype)
        x = lm.transformer(x, state.temporal, None if running.all() else running, state.crossed)
        if self.watch:
            self.watch(x)
        text, audio = self._row_settings([draw.config for draw in rows])
        keys = mx.array(frame_keys([(draw.seed, draw.frame) for draw in rows]))
        recent, penalty = _recent(rows)
        speaks = not scripted or any(draw.script is None or draw.script.speaks(draw.frame) for draw in rows)
        bonus = _bonus(rows)
        kind = Head(text.features, audio.features, guidance, scripted, speaks, bool(bonus.any()))
        head = self._heads.get(kind)
        if head is None:
            head = self._heads[kind] = compiled(self._make_head(kind))
        choices = [mx.array(_choices(rows))] if scripted else []
        choices += [mx.array(bonus)] if kind.patient else []
        buffers, state.depth = state.depth, []  # handed over, so that they are written in place
        made = head(x, keys, mx.array(text.values), mx.array(audio.values), recent, penalty, *choices, *buffers)
        read = 2 if lm.config.extra_heads else 1  # arrays that are read back
        state.depth = made[read:]
        del buffers
        start = time.perf_counter()
        mx.eval(made[:read], state.arrays())
        self.waited = time.perf_counter() - start
        sampled, *vad = [np.array(array) for array in made[:read]]
        return Stepped(sampled.astype(np.int32), vad[0] if vad else None)

    def _row_settings(self, configs: list[SamplingConfig]) -> tuple[RowSettings, RowSettings]:
        settings, config = self._settings, self._lm.config  # one read: other threads step other batches
        if settings is None or settings[0] != configs:
            text, audio = (
                RowSettings(configs, "text", config.text_classes),
                RowSettings(configs, "audio", config.card),
            )
            settings = self._settings = configs, text, audio
        return settings[1:]

    def _make_head(self, kind: Head) -> Callable[..., list[mx.array]]:
        """From the temporal transformer's output to the tokens of the frame, with all draws."""
        lm, config = self._lm, self._lm.config
        text, audio, guidance, scripted, speaks, patient = kind

        def guided(logits: mx.array) -> mx.array:
            return logits if guidance == 1 else away_from_contrary(logits, guidance)

        def twice(tokens: mx.array) -> mx.array:  # both halves read what was drawn
            return tokens if guidance == 1 else mx.concatenate([tokens, tokens])

        def once(array: mx.array) -> mx.array:
            return array if guidance == 1 else mx.split(array, 2)[0]

        def head(
            x: mx.array,
            keys: mx.array,
            text_values: mx.array,
            audio_values: mx.array,
            recent: mx.array,
            penalty: mx.array,
            *buffers: mx.array,  # after what scripts choose from, and their bonus, where there are any
        ) -> list[mx.array]:
            written = list(buffers)
            choices = written.pop(0) if scripted else None
            noise: Sequence[mx.array | None] = [None] * (1 + config.dep_q)
            if text.sampled or audio.sampled:
                ends = [config.text_classes + step * config.card for step in range(config.dep_q)]
                of_all = gumbel(keys, config.text_classes + config.dep_q * config.card)
                noise = [*mx.split(of_all, ends, axis=-1)]
            of_audio = tuple(audio_values) if audio.sampled else ()

            def audio_sample(logits: mx.array, step: int) -> mx.array:
                return twice(sample(guided(logits), noise[1 + step], audio, of_audio))

            hidden = lm.out_norm(x[:, 0])  # (B, dim)
            logits = lm.text_linear(once(hidden) if scripted else hidden)  # (B, text_classes)
            logits = logits if scripted else guided(logits)
            if patient:
                padding = mx.arange(config.text_classes) == config.text_padding_id
                logits = mx.where(padding, logits + written.pop(0), logits)
            if recent.shape[-1]:
                logits = penalise(logits, recent, penalty)
            tokens = sample(logits, noise[0], text, text_values)
            sampled = tokens[:, None]  # what scripts go by
            if choices is not None:
                sampled, tokens = sampled.astype(mx.int32), tokens.astype(mx.int32)
                chosen = mx.where(tokens == config.text_end_padding_id, choices[:, 0], choices[:, 1])
                tokens = mx.where(chosen == AS_WRITTEN, tokens, chosen)
            if config.depth and not speaks:
                nothing = mx.full((tokens.shape[0], config.dep_q), -1, mx.int32)
                sampled = mx.concatenate([sampled, nothing], axis=1)
            elif config.depth:
                codes = lm.depformer.generate(hidden, twice(tokens), written, audio_sample)
                sampled = mx.concatenate([sampled, once(codes).astype(sampled.dtype)], axis=1)
            vad = (
                [lm.vad(hidden[:, None])[:, 0]] if config.extra_heads else []
            )  # with guidance, the conditioned rows come first
            return [sampled, *vad, *written]

        return head


def _choices(rows: Sequence[Draw]) -> np.ndarray:
    """Return what each row's script reads, (B, 2) int32; see `Script.choices`."""
    none = (AS_WRITTEN, AS_WRITTEN)
    return np.array([draw.script.choices() if draw.script else none for draw in rows], np.int32)


def _bonus(rows: Sequence[Draw]) -> np.ndarray:
    """Return what is added to the logit of each row's padding, (B, 1) float32."""
    return np.array([[draw.script.padding_bonus if draw.script else 0.0] for draw in rows], np.float32)


def _recent(rows: Sequence[Draw]) -> tuple[mx.array, mx.array]:
    """Recent text of all rows, (B, n) int32, n = 0 while nobody penalises; and their penalties, (B, 1)."""
    width = max((d.config.repetition_context for d in rows if d.config.repetition_penalty != 1), default=0)
    recent = np.zeros((len(rows), width), dtype=np.int32)
    penalty = np.ones((len(rows), 1), dtype=np.float32)
    for row, draw in enumerate(rows):
        if width and draw.config.repetition_penalty != 1 and draw.recent_text:
            recent[row] = np.resize(np.asarray(draw.recent_text, np.int32), width)  # repeats do not count
            penalty[row] = draw.config.repetition_penalty
    return mx.array(recent), mx.array(penalty)
