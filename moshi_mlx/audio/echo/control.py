"""What `--echo` makes: a canceller, and somebody who watches it.

The model hears the user through a microphone that also hears the model. Untreated, it answers itself. With
headphones there is nothing to treat.
"""

import time
from collections.abc import Callable
from typing import Literal, Protocol

import numpy as np

from moshi_mlx.audio.echo.detector import EchoFinder
from moshi_mlx.audio.echo.kalman import QUIET, TAIL, LinearEchoCanceller, finite
from moshi_mlx.audio.echo.webrtc import DELAY, WebrtcEchoCanceller
from moshi_mlx.errors import ConfigError
from moshi_mlx.frames import SAMPLE_RATE
from moshi_mlx.runtime.trace import Trace

EchoState = Literal["off", "no echo", "learning", "cancelling", "lost"]

REVERBERATION = SAMPLE_RATE // 2  # samples for which something played may be heard
MOST_DELAY = int(0.9 * SAMPLE_RATE)  # samples; what EchoFinder can see
ROOM = int(0.12 * SAMPLE_RATE)  # samples of the linear canceller's tail that are kept for the room
EARLY = int(0.06 * SAMPLE_RATE)  # samples by which a measured delay may be too long
ERLE_MOST = 40.0  # dB; below that is only noise
# The echo is under control from WORKS dB on; below FAILS it is not.
WORKS, FAILS = 6.0, 3.0
PATIENCE = 10 * SAMPLE_RATE  # samples of echo that may pass without control before it is called lost,
CLEAR = 3.5  # if the finder's agreement is at least this; else the user is much louder, and the echo does no harm


class EchoCanceller(Protocol):
    """Takes the speaker's sound out of the microphone's."""

    def process(self, near: np.ndarray, far: np.ndarray) -> np.ndarray:
        """near, far: (1920,) float32 at 24 kHz, heard and played at the same time. Returns (1920,) float32."""
        ...

    def reset(self) -> None:
        """The devices have changed: forget what was learnt. Called on the thread of `process`."""
        ...


class AdaptiveCanceller(EchoCanceller, Protocol):
    """A canceller that learns the echo's way, and sometimes gives up what it has learnt."""

    resets: int  # times it gave up


class EchoControl:
    """The echo treatment of one conversation.

    mode: "linear", "webrtc" (needs pywebrtc-audio), "off", or "auto": linear, and nothing at all as long as the
    microphone does not hear the loudspeaker. `process` and `reset` belong to one thread; everything else may be
    read from any. Raises ConfigError for a mode that does not exist or is not installed.
    """

    def __init__(self, mode: str = "auto") -> None:
        if mode not in ECHO_MODES:
            raise ConfigError(f"there is no echo treatment {mode!r}; choose one of {', '.join(ECHO_MODES)}")
        self.mode = mode
        self.canceller = ECHO_MODES[mode]()
        self.finder = EchoFinder()
        self.reset()

    def reset(self) -> None:
        """Start over, as when the devices have changed."""
        self.state: EchoState = "off" if self.canceller is None else "learning"
        self.erle = 0.0  # echo return loss enhancement, dB: how much of the echo is taken away, over some seconds
        self.delayed = 0  # samples by which the canceller gets what was played later, for loudspeakers far away
        self._history = np.zeros(MOST_DELAY, np.float32)  # what was played
        self._silent = REVERBERATION  # samples since something was played
        self._without_control = 0  # samples of echo
        self._level = 0.0  # dB between in and out, in the moments that show it
        self.finder.reset()
        if self.canceller is not None:
            self.canceller.reset()
            self._start_over()

    @property
    def holds_back(self) -> float:
        """Seconds by which what comes out is later than what goes in."""
        return DELAY if self.mode == "webrtc" else 0.0

    @property
    def advice(self) -> str | None:
        """What the user could do about the state, one line, or None when all is well."""
        if self.state != "lost":
            return None
        other = "" if self.mode == "webrtc" else ", or try --echo webrtc"
        return f"the model hears itself: use headphones, turn the loudspeaker down{other}"

    def process(self, near: np.ndarray, far: np.ndarray) -> np.ndarray:
        """Take the echo out of what the microphone heard.

        near: (n,) float32 at 24 kHz, the microphone; far: (n,) float32, what the output callback played in the
        same time, silence included; n a multiple of 960. Returns (n,) float32, later by `holds_back`.
        """
        near, far = finite(near, far)
        if self.canceller is None:
            return near
        self._silent = self._silent + len(far) if np.abs(far).max() < QUIET else 0
        played = self._delay(far)
        heard = self.finder.heard
        resting = self.mode == "auto" and heard is False
        out = near if resting else self.canceller.process(near, played)
        self.finder.look(near, far, out)
        if self.finder.heard and not heard and self.finder.erle < FAILS:
            self.canceller.reset()  # it may have learnt that there is no echo, and would be slow to believe in one
            self._start_over()
        if resting:
            self.state, self.erle, self._without_control = "no echo", 0.0, 0
        elif self._silent < REVERBERATION and near.any():
            self._watch(near, out)
        return out

    def _delay(self, far: np.ndarray) -> np.ndarray:
        """What was played, so much later that its echo falls into the canceller's tail."""
        assert self.canceller is not None
        delay = int(self.finder.delay * SAMPLE_RATE)
        if self.mode != "webrtc" and self.finder.heard and not 0 <= delay - self.delayed < TAIL - ROOM:
            self.delayed = max(0, delay - EARLY) if delay >= TAIL - ROOM else 0
            self.canceller.reset()
            self._start_over()
        played = np.concatenate([self._history, far])
        self._history = played[-MOST_DELAY:]
        return played[MOST_DELAY - self.delayed : len(played) - self.delayed]

    def _watch(self, near: np.ndarray, out: np.ndarray) -> None:
        """Judge what became of the echo; the model speaks, or spoke just now."""
        assert self.canceller is not None
        if self.canceller.resets != self._resets:
            self._start_over()
        # While the user talks too, as much comes out as goes in: the moments without the user count.
        near_power, out_power = float(near @ near), float(out @ out)
        if out_power < 0.5 * near_power:
            level = min(10 * np.log10(near_power / (out_power + 1e-12)), ERLE_MOST)
            self._level += (0.2 if level > self._level else 0.03) * (level - self._level)
        self.erle = max(0.0, min(self._level, self.finder.erle))
        self._without_control = 0 if self.finder.erle >= FAILS else self._without_control + len(near)
        if self.finder.heard is False:
            self.state = "no echo"
        elif self.finder.erle >= WORKS:
            self.state = "cancelling"
        elif self._without_control > PATIENCE and self.finder.agreement > CLEAR:
            self.state, self._without_control = "lost", 0
            self.canceller.reset()
            self._start_over()
        elif self.finder.erle < FAILS and self.state != "lost":
            self.state = "learning"

    def _start_over(self) -> None:
        """The canceller knows nothing any more, and so does nobody how well it does."""
        assert self.canceller is not None
        self._resets, self._level = self.canceller.resets, 0.0
        self.finder.restart_erle()


class TracedEcho:
    """Echo treatment that marks in a trace how long each frame of it took."""

    def __init__(self, canceller: EchoCanceller, trace: Trace) -> None:
        self._canceller, self._trace = canceller, trace

    def process(self, near: np.ndarray, far: np.ndarray) -> np.ndarray:
        start = time.perf_counter()
        out = self._canceller.process(near, far)
        self._trace.stage("echo", start, time.perf_counter() - start)
        return out

    def reset(self) -> None:
        self._canceller.reset()


ECHO_MODES: dict[str, Callable[[], AdaptiveCanceller | None]] = {
    "auto": LinearEchoCanceller,
    "linear": LinearEchoCanceller,
    "webrtc": WebrtcEchoCanceller,
    "off": lambda: None,
}
