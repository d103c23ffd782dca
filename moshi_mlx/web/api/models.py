"""The models of a server, by the names that requests give."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

from moshi_mlx.errors import some
from moshi_mlx.web.api.errors import ApiError


class Task(Enum):
    """What a model can be asked to do."""

    TALK = "talk"
    TRANSCRIBE = "transcribe"
    TRANSLATE = "translate"
    SAY = "say"


class ServedModel:
    """One model. name: as /v1/models lists it. tasks: what it does, known once it is found. state: as of `Phase`.

    aliases: other names that requests may give.
    """

    def __init__(
        self,
        name: Callable[[], str],
        tasks: Callable[[], Iterable[Task]],
        state: Callable[[], str],
        aliases: Iterable[str] = (),
    ) -> None:
        self._name, self._tasks, self._state = name, tasks, state
        self.aliases = frozenset(aliases)
        self.created = int(time.time())

    @property
    def name(self) -> str:
        """What it is called."""
        return self._name()

    @property
    def tasks(self) -> frozenset[Task]:
        """What it can be asked to do; nothing while that is not known."""
        return frozenset(self._tasks())

    @property
    def state(self) -> str:
        """Whether it is "ready", "loading", "missing", ..."""
        return self._state()

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


class Models:
    """All models of a server; on the event loop."""

    def __init__(self, models: Iterable[ServedModel] = ()) -> None:
        self._models = list(models)

    def __iter__(self):
        return iter(self._models)

    def find(self, name: str) -> ServedModel:
        """Return a model by one of its names. Raises ApiError, 404."""
        for model in self._models:
            if name == model.name or name in model.aliases:
                return model
        known = some([model.name for model in self._models], 10)
        raise ApiError(404, f"this server has no model {name[:100]!r}: it has {known}", "model", "model_not_found")

    def that_can(self, task: Task, name: str | None) -> ServedModel:
        """Return the model of a name, or the first that can do a task where none is named. Raises ApiError."""
        if name:
            found = self.find(name)
            if found.tasks and task not in found.tasks:
                does = " and ".join(sorted(one.value for one in found.tasks))
                raise ApiError(400, f"{found.name} cannot {task.value}, it can {does}", "model", "wrong_model")
            return found
        for model in self._models:
            if task in model.tasks:
                return model
        raise ApiError(404, f"this server has no model that can {task.value}", "model", "model_not_found")
