"""Every command where the hub cannot be had: one line, the same hint, and nothing of the library's."""

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import QUESTION

LINE = re.compile(
    r"error: cannot reach (\S+) for \S+ of kyutai/\S+ \((.+)\); "
    r"check the network and try again, or take nano or nano-stt or nano-persona, which are here already"
)
COMMANDS = {
    "run": ["run", str(QUESTION), "--quiet"],
    "quantize": ["quantize", "moshiko-q4", "made"],
    "quality": ["quality", "moshiko-q4", "q8"],
    "bench": ["bench", "--model", "moshiko-q4", "--json"],
    "demo": ["demo", "--model", "moshiko-q4"],
    "transcribe": ["transcribe", str(QUESTION), "--quiet"],
    "models get": ["models", "get", "moshiko-q4"],
}


def moshi(endpoint: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command with an empty cache and a hub at that address."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return subprocess.run(
        [sys.executable, "-m", "moshi_mlx", *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**environment, "HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(folder / "cache")},
        timeout=120,
    )


class Silent:
    """A host that takes connections and never answers."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.connections: list[socket.socket] = []
        self.thread = threading.Thread(target=self._accept)
        self.thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.listening.getsockname()[1]}"

    def _accept(self) -> None:
        while True:
            connection, _ = self.listening.accept()
            self.connections.append(connection)
            if not connection.recv(1):  # our own, which ends it
                return

    def close(self) -> None:
        socket.create_connection(self.listening.getsockname()).close()
        self.thread.join()
        for one in [self.listening, *self.connections]:
            one.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    host = Silent()
    yield host
    host.close()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_refused_connection_is_one_line_in_every_command(tmp_path: Path, name: str) -> None:
    done = moshi("http://127.0.0.1:1", tmp_path, *COMMANDS[name])
    assert (done.returncode, done.stdout) == (1, "")
    assert (match := LINE.fullmatch(done.stderr.rstrip("\n"))), done.stderr
    assert "Connection refused" in match[2]


def test_a_name_that_nobody_knows_is_one_line(tmp_path: Path) -> None:
    done = moshi("http://no-such-host.invalid", tmp_path, *COMMANDS["models get"])
    assert done.returncode == 1
    assert LINE.fullmatch(done.stderr.rstrip("\n")), done.stderr


def test_a_host_that_never_answers_is_waited_for_once(tmp_path: Path, silent: Silent) -> None:
    done = moshi(silent.endpoint, tmp_path, *COMMANDS["models get"])
    assert done.returncode == 1
    assert (match := LINE.fullmatch(done.stderr.rstrip("\n"))), done.stderr
    assert match[2] == "no answer within 2 s"
    assert len(silent.connections) == 1
