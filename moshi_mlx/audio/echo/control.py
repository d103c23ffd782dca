"""The echo treatment that `--echo` chooses: a canceller, and a judgement of how well it does.

The model hears the user through a microphone that also hears the model. Untreated, it answers itself. With
headphones there is nothing to treat.
"""

import time
from collections.abc import Callable
from typing import Literal, Protocol

import numpy as np

from moshi_mlx.audio.echo.detector import SPAN_FRAMES, EchoDetector
from moshi_mlx.audio.echo.kalman import SILENT_PEAK, TAIL, LinearEchoCanceller, finite
from moshi_mlx.audio.echo.webrtc import DELAY, WebrtcEchoCanceller
from moshi_mlx.errors import ConfigError
from moshi_mlx.frames import SAMPLE_RATE
from moshi_mlx.runtime.trace import Trace

EchoState = Literal["off", "no echo", "learning", "cancelling", "lost"]

REVERBERATION = SAMPLE_RATE // 2  # samples for which something played may be heard
MAX_DELAY = int(0.9 * SAMPLE_RATE)  # samples; what the detector can see
ROOM_TAIL = int(0.12 * SAMPLE_RATE)  # samples of the linear canceller's tail that are kept for the room
DELAY_MARGIN = int(0.06 * SAMPLE_RATE)  # samples by which a measured delay may be too long
MAX_ERLE = 40.0  # dB; below that is only noise
# The echo is under control from this ERLE on, in dB; below the second it is not.
CONTROLLED, UNCONTROLLED = 6.0, 3.0
PATIENCE = 10 * SAMPLE_RATE  # samples of echo that may pass without control before it is called lost,
LOUD_ECHO = 3.5  # if the detector's agreement is above this; else the user is much louder, and it does no harm


class EchoCanceller(Protocol):
    """Takes the speaker's sound out of the microphone's, on one thread."""

    def process(self, near: np.ndarray, far: np.ndarray) -> np.ndarray:
        """Take the echo out of one frame.

        near, far: (1920,) float32 at 24 kHz, heard and played at the same time. Returns (1920,) float32.
        """
        ...

    def reset(self) -> None:
        """Forget what was learnt, for the devices have changed."""
        ...


class AdaptiveCanceller(EchoCanceller, Protocol):
    """A canceller that learns the way of the echo, and sometimes gives up what it has learnt."""

    resets: int  # times it gave up by itself


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
        self.detector = EchoDetector()
        self.reset()

    def reset(self) -> None:
        """Start over, as when the devices have changed."""
        self.state: EchoState = "off" if self.canceller is None else "learning"
        self.erle = 0.0  # echo return loss enhancement, dB: how much of the echo is taken away, over some seconds
        self.delayed = 0  # samples by which the canceller gets what was played later, for loudspeakers far away
        self._span: list[tuple[np.ndarray, ...]] = []  # frames that the detector has not seen: near, far, out
        self._history = np.zeros(MAX_DELAY, np.float32)  # what was played
        self._silent = REVERBERATION  # samples since something was played
        self._uncontrolled = 0  # samples of echo
        self._reduction = 0.0  # dB between in and out, in the moments that show it
        self.detector.reset()
        self._restart()

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

        near: (1920,) float32 at 24 kHz, the microphone; far: (1920,) float32, what the output callback played in
        the same time, silence included. Returns (1920,) float32, later by `holds_back`.
        """
        near, far = finite(near, far)
        if self.canceller is None:
            return near
        self._silent = self._silent + len(far) if np.abs(far).max() < SILENT_PEAK else 0
        played = self._delay(far)
        resting = self.mode == "auto" and self.detector.heard is False
        out = near if resting else self.canceller.process(near, played)
        self._detect(near, far, out)
        if resting:
            self.state, self.erle, self._uncontrolled = "no echo", 0.0, 0
        elif self._silent < REVERBERATION and near.any():
            self._judge(near, out, self.canceller.resets)
        return out

    def _delay(self, far: np.ndarray) -> np.ndarray:
        """Return what was played so much earlier that its echo falls into the canceller's tail."""
        delay = int(self.detector.delay * SAMPLE_RATE)
        if self.mode != "webrtc" and self.detector.heard and not 0 <= delay - self.delayed < TAIL - ROOM_TAIL:
            self.delayed = max(0, delay - DELAY_MARGIN) if delay >= TAIL - ROOM_TAIL else 0
            self._restart()
        played = np.concatenate([self._history, far])
        self._history = played[-MAX_DELAY:]
        return played[MAX_DELAY - self.delayed : len(played) - self.delayed]

    def _detect(self, near: np.ndarray, far: np.ndarray, out: np.ndarray) -> None:
        """Have the detector look, once enough frames are there."""
        self._span.append((near, far, out))
        if len(self._span) < SPAN_FRAMES:
            return
        heard = self.detector.heard
        self.detector.look(*map(np.concatenate, zip(*self._span, strict=True)))
        self._span.clear()
        if self.detector.heard and not heard and self.detector.erle < UNCONTROLLED:
            self._restart()  # it may have learnt that there is no echo, and would be slow to believe in one

    def _judge(self, near: np.ndarray, out: np.ndarray, resets: int) -> None:
        """Find out what became of the echo; the model speaks, or spoke just now."""
        if resets != self._resets:
            self._forget_erle(resets)
        # While the user talks too, as much comes out as goes in: the moments without the user count.
        near_power, out_power = float(near @ near), float(out @ out)
        if out_power < 0.5 * near_power:
            reduction = min(10 * np.log10(near_power / (out_power + 1e-12)), MAX_ERLE)
            self._reduction += (0.2 if reduction > self._reduction else 0.03) * (reduction - self._reduction)
        erle = self.detector.erle
        self.erle = max(0.0, min(self._reduction, erle))
        self._uncontrolled = 0 if erle >= UNCONTROLLED else self._uncontrolled + len(near)
        if self.detector.heard is False:
            self.state = "no echo"
        elif erle >= CONTROLLED:
            self.state = "cancelling"
        elif self._uncontrolled > PATIENCE and self.detector.agreement > LOUD_ECHO:
            self.state, self._uncontrolled = "lost", 0
            self._restart()
        elif erle < UNCONTROLLED and self.state != "lost":
            self.state = "learning"

    def _restart(self) -> None:
        """Have the canceller learn anew."""
        if self.canceller is not None:
            self.canceller.reset()
            self._forget_erle(self.canceller.resets)

    def _forget_erle(self, resets: int) -> None:
        """Measure anew how well the canceller does, for it knows nothing any more."""
        self._resets, self._reduction = resets, 0.0
        self.detector.restart_erle()


class TracedEcho:
    """Echo treatment that marks in a trace how long each frame of it took."""

    def __init__(self, canceller: EchoCanceller, trace: Trace) -> None:
        self._canceller, self._trace = canceller, trace
        self.reset = canceller.reset

    def process(self, near: np.ndarray, far: np.ndarray) -> np.ndarray:
        """As the canceller's own."""
        start = time.perf_counter()
        out = self._canceller.process(near, far)
        self._trace.stage("echo", start, time.perf_counter() - start)
        return out


ECHO_MODES: dict[str, Callable[[], AdaptiveCanceller | None]] = {
    "auto": LinearEchoCanceller,
    "linear": LinearEchoCanceller,
    "webrtc": WebrtcEchoCanceller,
    "off": lambda: None,
}
