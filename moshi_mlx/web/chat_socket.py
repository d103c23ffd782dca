"""The web socket of a client of /api/chat."""

from __future__ import annotations

from moshi_mlx.web.client_socket import ClientSocket
from moshi_mlx.web.connections import Link
from moshi_mlx.web.limits import Limits
from moshi_mlx.wire import messages


class ChatSocket(ClientSocket):
    """Speaks Kyutai's protocol: binary messages."""

    def __init__(self, limits: Limits, link: Link) -> None:
        super().__init__(limits, link, messages.MAX_MESSAGE)

    def begin(self) -> None:
        """Let the handshake follow."""
        self.begun = True
        self.post(messages.HANDSHAKE)

    def farewell(self, why: str) -> bytes:
        """Return an error."""
        return messages.error(why)

    def keepalive(self) -> bytes:
        """Return a ping."""
        return messages.PING
