"""The models of a server: by name, loaded when they are first asked for, unloaded when nobody asks any more.

Loading and unloading happen on the thread that owns MLX; what is said of a model may be read on any.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from moshi_mlx.errors import MoshiError
from moshi_mlx.models.layers import parameter_bytes
from moshi_mlx.planning.planner import MARGIN_BYTES, Budget, held_bytes, size_of
from moshi_mlx.runtime.limits import give_back
from moshi_mlx.web.jobs import in_slices
from moshi_mlx.web.log import event
from moshi_mlx.web.voices import ServedVoices

if TYPE_CHECKING:
    from moshi_mlx.checkpoint.checkpoint import Checkpoint
    from moshi_mlx.models.config import LmConfig
    from moshi_mlx.runtime.moshi import Moshi
    from moshi_mlx.tasks.transcribe import Transcriber

T = TypeVar("T")
Load = Callable[[Callable[[int], None]], "Moshi"]
"""Loads a model, and tells of bytes as they are read."""

IDLE = 600.0  # seconds after which a model that nobody asks for is unloaded


class NoRoom(MoshiError):
    """A model does not fit beside those that are in use."""


class Task(Enum):
    """What a model can be asked to do."""

    TALK = "talk"
    TRANSCRIBE = "transcribe"
    TRANSLATE = "translate"
    SAY = "say"


def tasks_of(config: LmConfig, translates: bool) -> frozenset[Task]:
    """Return what a model can be asked to do."""
    if not config.depth:
        return frozenset({Task.TRANSCRIBE})
    if config.tts:
        return frozenset({Task.SAY})
    return frozenset({Task.TALK, Task.TRANSLATE} if translates else {Task.TALK})


class ServedModel:
    """One model. name: as it is listed. aliases: other names that requests may give.

    load: what loads it when it is asked for; None for one that is loaded by others, see `adopt`. need: bytes that
    it will hold. settings: of its config. tasks: what it can be asked to do, known once it is found.
    voices: that it says texts with.
    """

    def __init__(
        self,
        name: str,
        load: Load | None = None,
        *,
        tasks: Iterable[Task] = (),
        aliases: Iterable[str] = (),
        need: float = 0.0,
        settings: Mapping[str, Any] | None = None,
        voices: ServedVoices | None = None,
    ) -> None:
        self.name, self.aliases, self.load, self.need = name, frozenset(aliases), load, need
        self.tasks, self.settings, self.voices = frozenset(tasks), settings or {}, voices
        self.created = int(time.time())
        self.users = 0  # jobs at it
        self.used = 0.0  # when the last of them ended
        self.moshi: Moshi | None = None
        self.loading: Generator[None, None, Moshi] | None = None
        self.visit: Callable[[], AbstractContextManager[None]] = nullcontext
        self._state: Callable[[], str] = lambda: "loading"
        self._transcriber: Transcriber | None = None

    def adopt(self, moshi: Moshi, need: float) -> None:
        """Take a model that others have loaded, and keep. need: bytes that it holds."""
        self.moshi, self.need = moshi, need
        self.tasks = tasks_of(moshi.lm.config, moshi.translates)

    def adopt_transcriber(self, transcriber: Transcriber) -> None:
        """As `adopt`, of a speech-to-text model."""
        moshi = transcriber.moshi
        self.adopt(moshi, held_bytes(parameter_bytes(moshi.lm), size_of(moshi.lm.config), moshi.kv_bits or 16))
        self._transcriber = transcriber

    def follow(
        self,
        state: Callable[[], str],
        visit: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Say of a model that is loaded by others how far they are. visit: keeps it, and has it loaded again."""
        self._state, self.visit = state, visit

    @property
    def state(self) -> str:
        """Whether it is "ready", "loading", or "unloaded": it will be loaded when it is asked for."""
        if self.load is None:
            return self._state()
        return "ready" if self.moshi else "loading" if self.loading else "unloaded"

    @property
    def transcriber(self) -> Transcriber:
        """What transcribes with it, while it is loaded."""
        from moshi_mlx.tasks.transcribe import SttTiming, Transcriber

        assert self.moshi, "in use"
        if self._transcriber is None:
            self._transcriber = Transcriber(self.moshi, SttTiming.from_settings(self.settings))
        return self._transcriber

    def unload(self) -> None:
        """Forget the weights."""
        self.moshi = self._transcriber = None

    def about(self) -> dict[str, Any]:
        """The object of /v1/models, with its state and tasks beside what clients know."""
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": self.name.partition("/")[0] if "/" in self.name.strip("/.~") else "local",
            "state": self.state,
            "tasks": sorted(task.value for task in self.tasks),
        }


def served(
    found: Checkpoint,
    load: Load,
    aliases: Iterable[str] = (),
    kv_bits: int | None = None,
    voices: Sequence[str] = (),
    offline: bool = False,
) -> ServedModel:
    """Return a model whose files were found, to be loaded when it is asked for. voices: as of `ServedVoices`."""
    config = found.lm_config
    tasks = tasks_of(config, found.translates)
    return ServedModel(
        found.name,
        load,
        tasks=tasks,
        aliases=aliases,
        need=held_bytes(found.weights.nbytes, size_of(config), kv_bits or 16),
        settings=found.settings,
        voices=voices_of(found, voices, offline) if Task.SAY in tasks else None,
    )


def voices_of(found: Checkpoint, given: Sequence[str], offline: bool) -> ServedVoices:
    """Return the voices of a text-to-speech model. given: as of `ServedVoices`."""
    from moshi_mlx.audio.speakers import Speakers

    return ServedVoices(Speakers(found, offline), given)


class ModelPool:
    """Models that share a machine's memory. budget: of the machine, None for no limit. idle: seconds, as IDLE."""

    def __init__(
        self,
        models: Iterable[ServedModel],
        budget: Budget | None = None,
        idle: float = IDLE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.models, self.idle = list(models), idle
        self._budget, self._clock = budget, clock

    def using(self, model: ServedModel, work: Callable[[Moshi], Iterator[T]]) -> Iterator[T | None]:
        """Yield what the work with a model yields, once it is loaded: None a slice until then.

        Raises NoRoom where it does not fit beside those that are in use, and what loading raises.
        """
        model.users += 1
        try:
            while model.moshi is None:
                if model.load:
                    self._load_on(model)
                elif model.state != "loading":
                    raise NoRoom(f"{model.name} is not there: {model.state}")
                yield None
            yield from work(model.moshi)
        finally:
            model.users -= 1
            model.used = self._clock()
            if model.loading and not model.users:
                model.loading.close()
                model.loading = None

    @property
    def loaded(self) -> bool:
        """Whether there is one that could be unloaded, now or later; may be asked on any thread."""
        return any(model.load and model.moshi for model in list(self.models))

    def tidy(self) -> Iterator[None]:
        """Unload what nobody has used for `idle` seconds; in one step."""
        for model in self._unused():
            if self._clock() - model.used >= self.idle:
                self._unload(model, "idle")
        yield None

    def _load_on(self, model: ServedModel) -> None:
        """Load a slice."""
        if model.loading is None:
            assert model.load, "the others are there already"
            self.make_room(model)
            model.loading = in_slices(model.load)
        try:
            next(model.loading)
        except StopIteration as done:
            model.moshi, model.loading = done.value, None
            event("loaded", model=model.name)
        except BaseException:
            model.loading = None
            raise

    def make_room(self, model: ServedModel) -> None:
        """Unload what nobody uses until a model fits beside the others. Raises NoRoom."""
        while self._budget and not self._budget.fits(MARGIN_BYTES + self._held() + model.need):
            unused = self._unused()
            if not unused:
                raise NoRoom(
                    f"{model.name} needs {model.need / 1e9:.1f} GB beside {self._held() / 1e9:.1f} GB that are in "
                    f"use, more than 70 % of the memory ({self._budget.memory / 1e9:.1f} GB) together"
                )
            self._unload(unused[0], "room")

    def _held(self) -> float:
        return sum(model.need for model in self.models if model.moshi or model.loading)

    def _unused(self) -> list[ServedModel]:
        """Return the models that could be unloaded, those that were used longest ago first."""
        found = [model for model in self.models if model.load and model.moshi and not model.users]
        return sorted(found, key=lambda model: model.used)

    def _unload(self, model: ServedModel, why: str) -> None:
        model.unload()
        give_back()
        event("unloaded", model=model.name, why=why)
