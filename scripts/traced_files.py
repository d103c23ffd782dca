"""Write which files of this package run while something is done, as a JSON list.

    scripts/traced_files.py chat|load|quantize CHECKOUT FILE

A file runs if one of its functions does, on any thread of this process; code at the level of a module or a class
does not count, nor do processes that are started. What is done:

* chat: `moshi-mlx chat --model nano`, between devices made of software. The conversation is left to come to rest;
  then the speaker and the microphone are called in turn, a block of 20 ms each time, until the temporal
  transformer is entered. What runs from the first call of the microphone's callback to that moment counts, if it
  does in more than half of 20 frames; the speaker's callback does not. So nothing counts that follows the
  transformer (sampling, depth transformer, decoding, playing), nor a timer that fires now and then.
* load: `moshi_mlx.load("nano")`, from finding the files to the last array in memory.
* quantize: `moshi-mlx quantize nano FOLDER --recipe q4`, command line included.

Only public names and the `sounddevice` module are used, so that any version of the package can be traced.
"""

from __future__ import annotations

import inspect
import json
import os
import signal
import sys
import tempfile
import threading
import time
import types
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

PACKAGE = "moshi_mlx"
WARM_UP_FRAMES, FRAMES = 10, 20
BLOCK, BLOCKS, RATE = 480, 4, 24_000  # samples of a callback, callbacks of a frame, Hz
REST_SECONDS = 0.06  # without a sign of life, until a conversation counts as at rest
LONGEST_REST = 0.4  # a device that is not called for longer counts as lost
PATIENCE = 120.0  # seconds for what takes a few


def main() -> None:
    work, root, result = sys.argv[1:]
    Path(result).write_text(json.dumps(trace(work, Path(root).resolve())))


class Tracer:
    """Which files of the package run, on all Python threads started after `start` and the one that calls it."""

    def __init__(self, root: Path) -> None:
        self._root = f"{root / PACKAGE}{os.sep}"
        self._known: dict[types.CodeType, str] = {}
        self.recording = False
        self.ignored = 0  # identifier of a thread whose files are not recorded at the moment
        self.files: set[str] = set()
        self.last = 0.0  # perf_counter when anything of the package last ran
        self.on_call: Callable[[types.FrameType], None] = lambda frame: None

    def start(self) -> None:
        threading.setprofile(self._event)
        sys.setprofile(self._event)

    def _event(self, frame: types.FrameType, event: str, argument: object) -> None:
        """Called by Python at each call and return, of functions in C too: then `frame` is the caller."""
        name = self._file(frame.f_code)
        if name:
            self.last = time.perf_counter()
            if event == "call":
                self.on_call(frame)
        if self.recording and self.ignored != threading.get_ident():
            callers = (frame, frame.f_back) if event == "call" else (frame,)
            self.files.update(file for each in callers if each and (file := self._file(each.f_code)))

    def _file(self, code: types.CodeType) -> str:
        """The file of a function of the package, "" for all other code."""
        if code not in self._known:
            inside = code.co_filename.startswith(self._root) and code.co_flags & inspect.CO_OPTIMIZED
            self._known[code] = code.co_filename.removeprefix(self._root) if inside else ""
        return self._known[code]


def trace(work: str, root: Path) -> list[str]:
    """The files of the package in `root` that run during some work, sorted."""
    sys.path.insert(0, str(root))
    package = __import__(PACKAGE)
    assert Path(package.__file__).is_relative_to(root), f"{package.__file__} is not in {root}"
    tracer = Tracer(root)
    if work == "chat":
        return trace_chat(tracer)
    tracer.start()
    tracer.recording = True
    if work == "load":
        package.load("nano")
    else:
        with tempfile.TemporaryDirectory() as folder:
            code = command_line("quantize", "nano", f"{folder}/q4", "--recipe", "q4")
            assert code == 0, f"quantize ended with exit code {code}"
    tracer.recording = False
    return sorted(tracer.files)


def command_line(*words: str) -> int:
    """Run the command line in this process; its exit code."""
    from moshi_mlx.__main__ import main

    sys.argv = ["moshi-mlx", *words]
    try:
        main()
    except SystemExit as left:
        return int(left.code or 0)
    return 0


class Device:
    """A stream of the `sounddevice` module whose callback is called by `Conversation`."""

    started: ClassVar[dict[str, Device]] = {}  # by kind
    latency, samplerate = 0.01, float(RATE)

    def __init__(self, kind: str, callback: Callable[..., None], channels: int = 1, **_: object) -> None:
        self.kind, self.channels, self._callback = kind, channels, callback

    def start(self) -> None:
        Device.started[self.kind] = self

    def stop(self, *_: object) -> None:
        Device.started.pop(self.kind, None)

    abort = close = stop

    def call(self, pcm: Any) -> None:
        """pcm: (BLOCK, channels) float32, to be read or to be filled."""
        self._callback(pcm, len(pcm), None, 0)


def software_devices() -> types.ModuleType:
    """A `sounddevice` module with one microphone and one speaker."""
    module: Any = types.ModuleType("sounddevice")
    info = {"name": "software", "hostapi": 0, "default_samplerate": RATE, "index": 0}
    info |= {"max_input_channels": 1, "max_output_channels": 1}
    module.PortAudioError = type("PortAudioError", (Exception,), {})
    module.query_devices = lambda device=None, kind=None: [info] if device is kind is None else info
    module.query_hostapis = lambda index=None: [{"name": "software"}]
    module.default = types.SimpleNamespace(device=(0, 0))
    module.InputStream = lambda **how: Device("input", **how)
    module.OutputStream = lambda **how: Device("output", **how)
    for name in ("check_input_settings", "check_output_settings", "_initialize", "_terminate", "_exit_handler"):
        setattr(module, name, lambda **how: None)
    return module


class Conversation:
    """Drives the devices of a chat on a thread of its own, and counts in how many frames each file ran."""

    def __init__(self, tracer: Tracer) -> None:
        self.frames: list[set[str]] = []
        self.problem = ""
        self._tracer = tracer
        self._entered = threading.Event()
        self._transformers: dict[int, Any] = {}  # by id
        self._entry: set[types.CodeType] = set()

    def run(self) -> None:
        try:
            deadline = time.monotonic() + PATIENCE
            while len(Device.started) < 2:
                assert time.monotonic() < deadline, "the devices were not opened"
                time.sleep(0.05)
            self._find_transformers()
            self._tracer.on_call = self._called
            for _ in range(WARM_UP_FRAMES + FRAMES):
                self._frame()
        except Exception as error:  # carried to the main thread
            self.problem = repr(error)
        self._tracer.on_call = lambda frame: None
        os.kill(os.getpid(), signal.SIGINT)

    def _find_transformers(self) -> None:
        """The temporal transformer of every language model in memory, by the names that checkpoints use."""
        import gc

        import mlx.nn as nn

        models = [each for each in gc.get_objects() if isinstance(each, nn.Module)]
        found = [model["transformer"] for model in models if "transformer" in model and "text_emb" in model]
        self._transformers = {id(transformer): transformer for transformer in found}
        self._entry = {type(transformer).__call__.__code__ for transformer in found}
        assert found, "no language model is in memory"

    def _called(self, frame: types.FrameType) -> None:
        if frame.f_code in self._entry and id(frame.f_locals[frame.f_code.co_varnames[0]]) in self._transformers:
            self._tracer.recording, ran = False, self._tracer.recording
            if ran:
                self._tracer.files.add(self._tracer._file(frame.f_code))
                self._entered.set()

    def _frame(self) -> None:
        """Call the devices until the transformer is entered."""
        import numpy as np

        self._rest()
        self._entered.clear()
        self._tracer.files = set()
        noise = np.random.default_rng(len(self.frames))
        for block in range(50):
            speaker, microphone = Device.started["output"], Device.started["input"]
            voice = 0.05 * noise.standard_normal((BLOCK, microphone.channels)).astype(np.float32)
            self._tracer.ignored = threading.get_ident()
            speaker.call(np.zeros((BLOCK, speaker.channels), np.float32))
            self._tracer.ignored = 0
            if not block:
                self._tracer.recording = True
            microphone.call(voice)
            if self._entered.wait(REST_SECONDS if block + 1 >= BLOCKS else 0):
                break
        assert self._entered.wait(PATIENCE), "the temporal transformer was not entered"
        self.frames.append(self._tracer.files)

    def _rest(self) -> None:
        """Wait until nothing of the package has run, and the process has used no processor, for a while."""
        deadline = time.perf_counter() + LONGEST_REST
        while time.perf_counter() < deadline:
            used = time.process_time()
            time.sleep(REST_SECONDS)
            calm = time.process_time() - used < REST_SECONDS / 10
            if calm and time.perf_counter() - self._tracer.last > REST_SECONDS:
                return


def trace_chat(tracer: Tracer) -> list[str]:
    """The files that run from the microphone's callback to the temporal transformer in most frames."""
    sys.modules["sounddevice"] = software_devices()
    conversation = Conversation(tracer)
    tracer.start()
    threading.Thread(target=conversation.run, daemon=True).start()
    code = command_line("chat", "--model", "nano")
    if len(conversation.frames) < WARM_UP_FRAMES + FRAMES:
        ended = f"the chat ended with exit code {code} after {len(conversation.frames)} frames"
        sys.exit(f"{ended}: {conversation.problem}")
    counts = Counter(file for files in conversation.frames[WARM_UP_FRAMES:] for file in files)
    return sorted(file for file, count in counts.items() if count > FRAMES / 2)


if __name__ == "__main__":
    main()
