"""The processes that a launcher started together: joining them, and how they reach the first one."""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Iterable

import mlx.core as mx
import numpy as np

from moshi_mlx.distributed.channel import Channel
from moshi_mlx.distributed.launcher import own_hosts
from moshi_mlx.errors import ConfigError, ProcessError

_MEETING = 1024  # bytes in which the first process says where it listens
MEET_SECONDS = 30.0  # that the others have to come there
_CONNECT_SECONDS = 3.0  # for one address of several


def join_group() -> mx.distributed.Group:
    """Join the processes that were started together. Raises ConfigError where they cannot be reached."""
    try:
        return mx.distributed.init(strict=True)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"the other processes cannot be reached ({error})") from error


def meet(group: mx.distributed.Group) -> list[Channel]:
    """Connect every process with the first one.

    Returns the channels of the first one to the others, by rank from 1; in another, the one to the first.
    Raises ProcessError where they do not find each other in time.
    """
    if group.rank() == 0:
        return _wait_for_others(group)
    place = json.loads(_announced(group, b""))
    channel = Channel(_connect(place["hosts"], place["port"]))
    channel.send({"token": place["token"], "rank": group.rank()})
    return [channel]


def _wait_for_others(group: mx.distributed.Group) -> list[Channel]:
    hosts = own_hosts(os.environ)
    token = secrets.token_hex(16)
    here = all(host.startswith("127.") for host in hosts)
    with socket.create_server(("127.0.0.1" if here else "", 0), backlog=64) as server:
        place = {"hosts": hosts, "port": server.getsockname()[1], "token": token}
        _announced(group, json.dumps(place).encode())
        found: dict[int, Channel] = {}
        end = time.monotonic() + MEET_SECONDS
        while len(found) < group.size() - 1:
            try:
                server.settimeout(max(0.001, end - time.monotonic()))
                connection, _ = server.accept()
                connection.settimeout(_CONNECT_SECONDS)
            except OSError as error:
                missing = sorted(set(range(1, group.size())) - found.keys())
                raise ProcessError(
                    f"processes {missing} did not connect to {', '.join(hosts)} port {place['port']} "
                    f"within {MEET_SECONDS:.0f} s; is a firewall between them?"
                ) from error
            channel = Channel(connection)
            said = next(iter(channel), {})
            if secrets.compare_digest(str(said.get("token")), token) and said.get("rank") in range(
                1, group.size()
            ):
                found[said["rank"]] = channel
            else:  # somebody else
                channel.close()
    return [found[rank] for rank in sorted(found)]


def _connect(hosts: Iterable[str], port: int) -> socket.socket:
    tried = []
    for host in hosts:
        try:
            return socket.create_connection((host, port), _CONNECT_SECONDS)
        except OSError as error:
            tried.append(f"{host}: {error.strerror or error}")
    raise ProcessError(f"the first process cannot be reached on port {port} ({'; '.join(tried)})")


def _announced(group: mx.distributed.Group, said: bytes) -> bytes:
    """Return what the first process says, in all."""
    padded = np.frombuffer(said.ljust(_MEETING, b" "), np.uint8) if group.rank() == 0 else np.zeros(_MEETING)
    try:
        heard = np.array(mx.distributed.all_sum(mx.array(padded.astype(np.int32)), group=group))
    except RuntimeError as error:
        raise ProcessError(f"another process ended before the model was loaded ({error})") from error
    return heard.astype(np.uint8).tobytes()
