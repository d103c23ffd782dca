"""A conversation's stages in Chrome's trace format, for chrome://tracing or ui.perfetto.dev.

Source: "Trace Event Format" (the JSON array form, whose closing bracket may be missing).
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from moshi_mlx.errors import AudioFileError, system_errors
from moshi_mlx.runtime.stats import Stats

FLUSH_EVENTS = 100


class Trace:
    """A trace file that grows while the conversation lasts and can be opened at any moment.

    Raises AudioFileError where the system refuses.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._began = time.perf_counter()
        self._lock = threading.Lock()  # stages run on threads of their own
        self._count = 0
        with self._refusals():
            self._file = Path(path).open("w", encoding="utf-8")  # noqa: SIM115 (closed by `close`)
            self._file.write("[\n")

    def watch(self, stats: Stats) -> None:
        """Write every pass through every stage."""
        for name, stage in stats.stages.items():
            stage.observer = partial(self.stage, name)

    def stage(self, name: str, start: float, seconds: float) -> None:
        """One pass, in `time.perf_counter` seconds."""
        self._write({"name": name, "ph": "X", "ts": self._micro(start), "dur": round(seconds * 1e6)})

    def mark(self, name: str) -> None:
        """Something that happened now: a drop, an underrun, a reset."""
        self._write({"name": name, "ph": "i", "s": "p", "ts": self._micro(time.perf_counter())})

    def level(self, name: str, **values: float) -> None:
        """Something that is so many now: the depth of a queue, the lag."""
        self._write({"name": name, "ph": "C", "ts": self._micro(time.perf_counter()), "args": values})

    def close(self) -> None:
        """Complete the file. Does nothing the second time."""
        with self._lock:
            if self._file.closed:
                return
            with self._refusals(), self._file:
                self._file.write("{}]\n")

    def _micro(self, seconds: float) -> int:
        return round((seconds - self._began) * 1e6)

    def _write(self, event: dict[str, object]) -> None:
        line = json.dumps({**event, "pid": 1, "tid": threading.current_thread().name})
        with self._lock:
            if self._file.closed:
                return
            with self._refusals():
                self._file.write(line + ",\n")
                self._count += 1
                if self._count % FLUSH_EVENTS == 0:
                    self._file.flush()

    def _refusals(self) -> AbstractContextManager[None]:
        return system_errors(f"cannot write {self._path}", AudioFileError)
