"""Microphone and speaker as the two ends of a live conversation.

microphone ────► ┌─────────┐
                 │ capture │ ─► echo canceller ─► queue ─► frames   callbacks only copy; one thread listens,
             ┌─► └─────────┘                                        one looks after the devices
replies ─► speaker
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moshi_mlx.audio.capture import Capture
from moshi_mlx.audio.devices import Kind
from moshi_mlx.audio.echo.control import EchoCanceller
from moshi_mlx.audio.speaker import Speaker
from moshi_mlx.audio.watchdog import DeviceEvent, Endpoint, Watchdog
from moshi_mlx.frames import FRAME_SECONDS, is_silent, level, silence
from moshi_mlx.runtime.flow import LAG_LIMIT, FrameQueue, HeardFrame, LagGovernor, QueueClosed

if TYPE_CHECKING:  # at run time this module needs no model
    from typing_extensions import Self

    from moshi_mlx.runtime.reply import Reply

PERMISSION_SECONDS = 2.0  # of digital silence from the start: a microphone that may not be heard
DEAD_SECONDS = 5.0  # of digital silence later: a device may have lost its source; opening it again helps or tells
DEVICE_BUDGET = 0.1  # seconds of the devices' own delay that count for the limit; a wireless headset has more
VOLUME_STEP, QUIETEST, LOUDEST = 3.0, -10, 4  # dB, and steps from the model's own volume
SLOW_FRAMES = 10  # in a row that took longer than they last, before the model is called slow


@dataclass(frozen=True)
class DuplexStatus:
    """How the audio of a conversation is doing, for a display."""

    input_level: float  # dBFS of the last frame, after the echo canceller
    output_level: float  # dBFS of what the speaker played meanwhile
    # Seconds from mouth to ear of the last reply, without the model's own delay of one frame: the frame itself,
    lag: float
    waited: float  # from the end of its frame to the reply,
    buffered: float  # replies before it that are not played yet,
    devices: tuple[float, float]  # and what microphone and speaker take, as the system says.
    cushion: float  # seconds by which a reply may be late
    pace: float  # seconds that the model takes for a frame, at the moment
    dropped: int  # frames of the microphone that the model never heard
    underruns: int  # times the speaker had nothing to play
    overrun: float  # seconds of replies that were never played
    xruns: int  # times the system lost samples of microphone or speaker, as it says itself
    cleaned: int  # samples of the microphone that were no numbers, and are silent now
    lost: list[str]  # "microphone", "speaker": those whose device is gone
    muted: bool
    volume: float  # factor of what the speaker is given


class LiveSource:
    """What a microphone hears, as frames in a bounded queue, which a thread of its own fills.

    capture: where the callbacks put samples. endpoints: the devices, the microphone first; they are open from the
    construction on. on_event: called with what a person should know, on other threads, so it should be quick.
    """

    def __init__(
        self, capture: Capture, endpoints: list[Endpoint], on_event: Callable[[DeviceEvent], None] | None
    ) -> None:
        self.muted = False
        self._capture, self._endpoints = capture, endpoints
        self._on_event = on_event or (lambda event: None)
        self._governor = LagGovernor()
        self._queue = FrameQueue(self._governor)
        self._told: set[str] = set()  # kinds of events that are told only once
        self._reopened_after = 0  # sounds; a microphone that stays silent is opened again only once
        self._error: BaseException | None = None
        self._watchdog = Watchdog(endpoints, self._device_event, self._failed)
        self._watchdog.open()
        self._thread = threading.Thread(target=self._listen, name="moshi-microphone", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield frames as they come, (1920,) float32, until `close`. Raises what ended a thread of the devices."""
        self._queue.clear()
        for frame in self._queue:
            yield silence() if self.muted else frame.pcm
        if self._error:
            raise self._error

    @property
    def dropped(self) -> int:
        """Frames that the model never heard."""
        return self._queue.dropped

    def close(self) -> None:
        """Stop at once, within two seconds whatever has become of the devices. From any thread."""
        self._queue.abandon()
        self._capture.close()
        self._watchdog.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def describe(self) -> list[str]:
        """Return a line about each device: its name and how it was opened."""
        return [
            f"{endpoint.name}: {stream.device.name}, {stream.rate} Hz, {1000 * stream.latency:.0f} ms"
            for endpoint in self._endpoints
            if (stream := endpoint.stream)
        ]

    def _listen(self) -> None:
        """Run the thread between the callbacks and the queue."""
        try:
            for near, far, captured in self._capture:
                self._check_silence()
                pcm = self._heard(near, far)
                self._queue.put(HeardFrame(pcm, captured, is_silent(pcm)))
        except QueueClosed:
            pass  # closed while a frame was under way
        except BaseException as error:  # carried to the thread that iterates
            self._error = error
        finally:
            self._queue.close()

    def _heard(self, near: np.ndarray, far: np.ndarray) -> np.ndarray:
        """Return what of the frame (1920,) at the microphone goes to the model; `far` was played meanwhile."""
        return near

    def _check_silence(self) -> None:
        """Tell of a microphone that brings nothing but zeros, or have it opened again if it once brought more."""
        dead, sounds = self._capture.microphone.dead_seconds, self._capture.microphone.sounds
        if not sounds and dead >= PERMISSION_SECONDS:
            self._tell_once(DeviceEvent("permission", permission_message()))
        elif sounds and dead >= DEAD_SECONDS and sounds != self._reopened_after:
            self._reopened_after = sounds
            self._watchdog.reopen(self._endpoints[0])

    def _tell_once(self, event: DeviceEvent) -> None:
        if event.kind not in self._told:
            self._told.add(event.kind)
            self._on_event(event)

    def _device_event(self, event: DeviceEvent) -> None:
        self._on_event(event)

    def _failed(self, error: BaseException) -> None:
        """Hand an error of the watchdog, which has ended, to the thread that iterates."""
        self._error = self._error or error
        self._queue.close()


class Duplex(LiveSource):
    """Source and sink of `engine.converse`: frames from a microphone, replies to a speaker.

    >>> with Duplex() as duplex:
    ...     converse(session, duplex, duplex)

    Both devices are open from the construction on, so construct it when the model is ready; what was heard before
    the first frame is asked for is thrown away. One thread takes the frames, one writes a reply for each of them;
    everything else may be called from any thread. A device that fails is opened again when it is back; meanwhile
    there are no frames, or what is written is not heard. While `muted` is set, frames are silent.

    input, output: index or part of a name, None for the system's default. echo: takes the echo out of every frame,
    also of those that are dropped, on a thread of its own. on_event: called with what a person should know, on
    other threads, so it should be quick. Raises AudioDeviceError; later only the iteration does, for a device that
    turns out to be none: its callbacks have no clock.
    """

    def __init__(
        self,
        input: str | int | None = None,
        output: str | int | None = None,
        echo: EchoCanceller | None = None,
        on_event: Callable[[DeviceEvent], None] | None = None,
    ) -> None:
        self._echo = echo
        self._reset_echo = False  # a device came back: its echo may be another one
        capture = Capture()
        self._microphone, self._speaker = capture.microphone, Speaker(capture.played)
        self._lag = self._waited = self._buffered = 0.0
        self._input_level = self._output_level = level(silence())
        self._slow_frames = 0
        self._has_spoken = False
        # The microphone first: opening it can change the rate of a headset's speaker.
        endpoints = [Endpoint("input", input, self._microphone), Endpoint("output", output, self._speaker)]
        super().__init__(capture, endpoints, on_event)

    def write(self, reply: Reply) -> None:
        """Play a reply; one without audio is silence, before all others nothing. Never waits."""
        self._waited, self._buffered = self._queue.answered(), self._speaker.delay
        latency = sum(self._device_latencies())
        self._lag = self._waited + FRAME_SECONDS + latency + self._buffered
        fixed = FRAME_SECONDS + min(latency, DEVICE_BUDGET)
        self._speaker.limit(LAG_LIMIT - self._waited - fixed)
        # The first reply has no audio, and comes sooner than all others, for its frame is not encoded: played as
        # silence it would make the next one seem late.
        if reply.audio is not None:
            self._speaker.write(reply.audio)
            self._has_spoken = True
        elif self._has_spoken:
            self._speaker.write(silence())
        self._governor.overhead = fixed + self._speaker.cushion
        self._check_pace()

    def status(self) -> DuplexStatus:
        """Return the state of things now."""
        return DuplexStatus(
            input_level=self._input_level,
            output_level=self._output_level,
            lag=self._lag,
            waited=self._waited,
            buffered=self._buffered,
            devices=self._device_latencies(),
            cushion=self._speaker.cushion,
            pace=self._governor.pace,
            dropped=self._queue.dropped,
            underruns=self._speaker.underruns,
            overrun=self._speaker.overrun,
            xruns=sum(endpoint.xruns for endpoint in self._endpoints),
            cleaned=self._microphone.cleaned,
            lost=self._watchdog.lost,
            muted=self.muted,
            volume=self._speaker.volume,
        )

    def change_volume(self, steps: int) -> float:
        """Make the voice louder, or quieter with negative steps, by 3 dB each. Returns the factor now."""
        level = round(20 * np.log10(self._speaker.volume) / VOLUME_STEP) + steps
        level = min(max(level, QUIETEST), LOUDEST)
        self._speaker.volume = float(10 ** (level * VOLUME_STEP / 20))
        return self._speaker.volume

    def next_device(self, kind: Kind) -> None:
        """Go on with the system's next microphone ("input") or speaker ("output"); `on_event` is told which."""
        self._watchdog.next_device(self._endpoints[0 if kind == "input" else 1])

    def _heard(self, near: np.ndarray, far: np.ndarray) -> np.ndarray:
        """Take the echo out, and note how loud both are."""
        if self._echo:
            if self._reset_echo:
                self._reset_echo = False
                self._echo.reset()
            near = self._echo.process(near, far)
        self._input_level, self._output_level = level(near), level(far)
        return near

    def _check_pace(self) -> None:
        """Tell of a model that cannot keep up."""
        pace = self._governor.pace
        self._slow_frames = self._slow_frames + 1 if pace > FRAME_SECONDS else 0
        if self._slow_frames >= SLOW_FRAMES and self._queue.dropped:
            message = (
                f"the model takes {1000 * pace:.0f} ms for a frame of 80 ms and cannot keep up: parts of what you"
                " say are left out; close other programs; `moshi-mlx doctor` says which models fit here"
            )
            self._tell_once(DeviceEvent("slow", message))

    def _device_event(self, event: DeviceEvent) -> None:
        if event.kind in ("back", "changed"):
            self._reset_echo = True
        super()._device_event(event)

    def _device_latencies(self) -> tuple[float, float]:
        """Return seconds for microphone and speaker, as the system says."""
        heard, played = (stream.latency if (stream := each.stream) else 0.0 for each in self._endpoints)
        return heard, played


class Microphone(LiveSource):
    """A microphone alone, in a conversation in which nobody answers aloud; `write` is to be given every reply.

    input, on_event: as of `Duplex`, whose devices and flow control it shares: where the model cannot keep up,
    frames are left out, silent ones first, and counted. Raises AudioDeviceError, here only.
    """

    def __init__(
        self, input: str | int | None = None, on_event: Callable[[DeviceEvent], None] | None = None
    ) -> None:
        capture = Capture()  # of which nothing is played: that counts as silence
        super().__init__(capture, [Endpoint("input", input, capture.microphone)], on_event)

    def write(self, reply: Reply) -> None:
        """Note that the oldest frame has its answer, so that the pace of the model is known."""
        self._queue.answered()


def permission_message() -> str:
    """Say what to do about a microphone that brings nothing but zeros."""
    if sys.platform != "darwin":
        return "the microphone gives nothing but digital silence: is it muted, or is another one meant (--input)?"
    program = (
        os.environ.get("TERM_PROGRAM", "your terminal").removesuffix(".app").replace("Apple_Terminal", "Terminal")
    )
    return (
        f"the microphone gives nothing but digital silence: allow {program} to use it in System Settings > "
        "Privacy & Security > Microphone, then start again; or is it muted?"
    )
