"""What a launcher, such as `mlx.launch`, leaves in the environment of the processes that it starts. No MLX."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path

_RANKS = ("MLX_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK")  # what launchers set, of which one must be there


def is_launched(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether a launcher started this process as one of several."""
    if not any(name in environment for name in _RANKS):
        return False
    hosts = environment.get("MLX_HOSTFILE")  # which `mlx.launch -n 1` leaves empty
    return not (hosts and _is_empty(Path(hosts)))


def own_hosts(environment: Mapping[str, str]) -> list[str]:
    """Return names and addresses under which the others may reach this process, the first one."""
    hosts = []
    if file := environment.get("MLX_HOSTFILE"):
        hosts += [address.rpartition(":")[0] for address in json.loads(Path(file).read_text())[0]]
    if coordinator := environment.get("MLX_JACCL_COORDINATOR"):
        hosts.append(coordinator.rpartition(":")[0])
    if host := environment.get("NCCL_HOST_IP"):
        hosts.append(host)
    if not all(host.startswith("127.") for host in hosts) or not hosts:
        hosts.append(socket.gethostname())
    return list(dict.fromkeys(hosts))


def _is_empty(path: Path) -> bool:
    try:
        return not path.read_text().strip()
    except OSError:
        return False  # which MLX will complain of
