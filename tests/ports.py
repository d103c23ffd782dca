"""Ports that are chosen now and listened on later."""

import random
import socket
from contextlib import suppress

BELOW_EPHEMERAL = range(11_000, 30_000)  # Linux gives ports from 32768 on to whoever connects, macOS from 49152


def free_port() -> int:
    """Return a free port of this machine that no connection gets by chance until it is listened on."""
    for port in random.SystemRandom().sample(BELOW_EPHEMERAL, 100):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("100 ports are taken")
