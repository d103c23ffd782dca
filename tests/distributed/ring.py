"""Processes of Python in a ring on this machine, as `mlx.launch` starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.ports import free_port


class Ring:
    """`count` processes that run Python with these words. folder: for the file that names their addresses."""

    def __init__(self, count: int, folder: Path, *words: object) -> None:
        addresses = [[f"127.0.0.1:{free_port()}"] for _ in range(count)]
        hosts = folder / "hosts.json"
        hosts.write_text(json.dumps(addresses))
        self.processes = [
            subprocess.Popen(
                [sys.executable, *map(str, words)],
                env={**os.environ, "MLX_RANK": str(rank), "MLX_HOSTFILE": str(hosts)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(count)
        ]

    def ends(self) -> list[tuple[int, str, list[str]]]:
        """Wait for all: (code, stdout, lines of stderr that are not MLX's own) each."""
        told = [process.communicate(timeout=120) for process in self.processes]
        codes = [process.returncode for process in self.processes]
        return [(code, out, _ours(err)) for code, (out, err) in zip(codes, told, strict=True)]

    def kill(self) -> None:
        """End what is left of them."""
        for process in self.processes:
            process.kill()
            process.communicate()


def _ours(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if not line.startswith("[ring]")]
