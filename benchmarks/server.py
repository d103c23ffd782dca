"""A server as a process of its own, for the benchmarks that talk with it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

SERVE = ("-m", "moshi_mlx", "serve", "--port", "0", "--no-browser")


class Server:
    """A running one. words: for this Python, such as SERVE and more options. lines: what it has said since."""

    def __init__(self, words: Sequence[str]) -> None:
        self.process = subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        assert self.process.stderr
        found = re.search(r"localhost:(\d+)", self.process.stderr.readline())
        assert found
        self.port = int(found[1])
        self._reader = threading.Thread(
            target=lambda pipe: self.lines.extend(pipe), args=(self.process.stderr,), daemon=True
        )
        self._reader.start()

    def wait_until_ready(self) -> None:
        """Wait for its model, a minute at most."""
        deadline = time.monotonic() + 60
        while not any(" ready " in line for line in self.lines):
            assert self.process.poll() is None, self.lines
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.05)

    def end(self) -> float:
        """Tell it to end; how long it took, in seconds."""
        asked = time.monotonic()
        self.process.send_signal(signal.SIGINT)  # at once; SIGTERM would wait for those who talk
        self.process.wait(60)
        seconds = time.monotonic() - asked
        self._reader.join()
        return seconds

    def complain(self) -> None:
        """Print the last of what it has said."""
        print(*self.lines[-20:], sep="", end="", file=sys.stderr)
