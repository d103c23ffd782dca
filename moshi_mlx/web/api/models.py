"""The models of a server, by the names that requests give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moshi_mlx.errors import some
from moshi_mlx.web.api.errors import ApiError
from moshi_mlx.web.model_pool import ServedModel, Task

__all__ = ["Models", "ServedModel", "Task"]


class Models:
    """All models of a server; on the event loop."""

    def __init__(self, models: Sequence[ServedModel] = ()) -> None:
        self._models = models

    def __iter__(self) -> Iterator[ServedModel]:
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
