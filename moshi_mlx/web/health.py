"""Whether a server takes new conversations: what a balancer asks, and what those are told who are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from moshi_mlx.errors import MoshiError
from moshi_mlx.web.headers import RETRY
from moshi_mlx.web.model_thread import Phase

if TYPE_CHECKING:
    from moshi_mlx.web.admission import Admission
    from moshi_mlx.web.model_thread import ModelThread

STATES = ("ready", "full", "loading", "unloaded", "missing", "draining", "ended")
_TAKES = ("ready", "unloaded")  # states in which a balancer may send somebody


class Refused(MoshiError):
    """This server takes no new conversations now; says where to go."""


class Health:
    """The state of a server, on its event loop.

    most: clients that may wait for a place. elsewhere: the address of another server, for those who are refused.
    """

    def __init__(self, model: ModelThread, admission: Admission, most: int, elsewhere: str = "") -> None:
        self.elsewhere = elsewhere
        self.draining = False  # running conversations finish, and no new ones begin
        self.refused = 0  # requests and clients
        self._model, self._admission, self._most = model, admission, most

    @property
    def state(self) -> str:
        """One of STATES. "full": nobody gets a place now; "unloaded": the next who comes waits for the model."""
        if self.draining:
            return "draining"
        if self._model.phase is Phase.READY and not self._admission.free:
            return "full"
        return self._model.phase.value

    def about(self) -> dict[str, Any]:
        """What it is asked for, as JSON."""
        return {
            "status": self.state,
            "sessions": self._admission.taken,
            "max_sessions": self._admission.size,
            "waiting": self._admission.waiting,
            "max_waiting": self._most,
            **({"elsewhere": self.elsewhere} if self.elsewhere else {}),
        }

    def answer(self, alive: bool = False) -> web.Response:
        """Return the answer to a balancer: 200 where a new client may be sent here, else 503.

        alive: 200 in any state; for those who end what does not answer.
        """
        takes = alive or self.state in _TAKES
        return web.json_response(self.about(), status=200 if takes else 503, headers=None if takes else RETRY)

    def why_not(self, admission: Admission) -> str:
        """Return why nobody more may wait for a place of an admission, with where to go; "" if somebody may."""
        if self.draining:
            return self._words("it finishes the conversations that it has, and ends")
        if admission.free or admission.waiting < self._most:
            return ""
        if admission.waiting:
            return self._words(f"{admission.waiting} clients wait for a place")
        return self._words("all its places are taken" if self.state == "full" else "its model is not loaded yet")

    def refuse(self, why: str) -> web.HTTPServiceUnavailable:
        """Return the refusal of a request."""
        self.refused += 1
        return web.HTTPServiceUnavailable(text=f"{why}\n", headers=RETRY)

    def _words(self, reason: str) -> str:
        where = f"go to {self.elsewhere}" if self.elsewhere else "try again later"
        return f"this server takes no new conversations: {reason}; {where}"
