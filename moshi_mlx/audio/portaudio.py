"""The PortAudio library: loading it, starting it again, and turning what it says into one line for people."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, TextIO

from moshi_mlx.errors import AudioDeviceError

# Error numbers (portaudio.h).
INVALID_RATE, INVALID_CHANNELS, INVALID_DEVICE = -9997, -9998, -9996
UNAVAILABLE, HOST_ERROR, INTERNAL_ERROR = -9985, -9999, -9986


def portaudio() -> Any:
    """Return the sounddevice module. Raises AudioDeviceError if it or the PortAudio library is missing."""
    try:
        import sounddevice
    except ImportError:
        raise AudioDeviceError("sounddevice is not installed; pip install sounddevice") from None
    except OSError:
        raise AudioDeviceError(
            "the PortAudio library is missing; apt install libportaudio2, or brew install portaudio"
        ) from None
    _silence_alsa()
    return sounddevice


def look_again() -> None:
    """Let PortAudio notice devices that came or went; it lists them only when it starts.

    Every stream must be closed. Raises AudioDeviceError.
    """
    sound = portaudio()
    with suppressed_stderr, explained("sound devices cannot be listed"):
        sound._terminate()
        sound._initialize()


def leave_to_the_system() -> None:
    """Give up a call of PortAudio that hangs: do not wait for it when the program ends, and show stderr again."""
    atexit.unregister(portaudio()._exit_handler)
    suppressed_stderr.end()  # the call that hangs is inside


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn an error of PortAudio into an AudioDeviceError: "<what>: <reason and remedy>"."""
    try:
        yield
    except portaudio().PortAudioError as error:
        raise AudioDeviceError(f"{what}: {reason(error)}") from None


def reason(error: Exception) -> str:
    """Say what an error of PortAudio means and what to do, in one line."""
    text, code, host = (*error.args, None, None, None)[:3]
    said = f"{host[2]} ({host[1]})" if isinstance(host, tuple) and len(host) == 3 and host[2] else str(text)
    said = " ".join(said.partition("Error opening ")[2].partition(": ")[2].split() or said.split())
    if code == UNAVAILABLE:
        return "it is in use by another program or has gone; close that program or choose another device"
    if code in (INVALID_RATE, INVALID_CHANNELS):
        return "it takes none of the usual sample rates and channels; choose another device"
    if code == INVALID_DEVICE:
        return "it has gone; connect it again or choose another device"
    if code in (HOST_ERROR, INTERNAL_ERROR):
        return f"the system refused ({said}); is it connected, and not in use by another program?"
    return f"{said}; choose another device, `moshi-mlx devices` lists them"


class SuppressedStderr:
    """A block in which what PortAudio and ALSA print themselves, several lines for one error, is not shown.

    They write to file descriptor 2, so during the block it leads nowhere, for other threads too: what the program
    itself has to say goes to `unsuppressed_stderr`. Threads can be inside at the same time, and more than once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0  # blocks
        self._saved: int | None = None  # where the descriptor led before

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside > 1:
                return
            try:
                self._saved = os.dup(2)
            except OSError:  # there is no stderr, so nothing to keep clean
                return
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._restore()

    def end(self) -> None:
        """Show from now on what is printed, though a block will never end."""
        with self._lock:
            self._restore()

    def _restore(self) -> None:
        if self._saved is not None:
            os.dup2(self._saved, 2)
            os.close(self._saved)
            self._saved = None


suppressed_stderr = SuppressedStderr()


@contextmanager
def unsuppressed_stderr() -> Iterator[TextIO]:
    """Open standard error for what must be seen even while it is suppressed."""
    try:
        number = os.dup(sys.stderr.fileno())
    except (AttributeError, OSError):  # there is none, or no file of the system is behind it
        yield sys.stderr
        return
    with open(number, "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace") as stream:
        yield stream


@cache
def _silence_alsa() -> Any:
    """Keep ALSA from printing, at any time and from its own threads, what `DeviceStream` counts (Linux)."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    handler = ctypes.CFUNCTYPE(None)(lambda: None)  # it gets arguments, and may leave them alone
    with suppress(OSError, AttributeError):  # another sound system
        ctypes.CDLL("libasound.so.2").snd_lib_error_set_handler(handler)
    return handler  # kept by the cache: ALSA holds only its address
