"""A sound card made of software: a PulseAudio server of our own with a microphone one can speak into and a speaker
one can listen to. No hardware, no services, no root; it lives in a temporary folder and ends by its process id.

The devices are called "virtmic" and "virtspk"; PortAudio reaches them through ALSA. `speak` plays into the
microphone, `listen` records what the speaker plays. The faults of real devices can be caused: `suspend` (a stall),
`unload` and `load` (unplugged and plugged in again), `kill` and `start` (everything gone and back), `freeze` (the
server does not answer any more).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

PROGRAMS = ("pulseaudio", "pactl", "paplay", "parec")
SERVER = [
    "pulseaudio",
    "-n",
    "--daemonize=no",
    "--use-pid-file=no",
    "--exit-idle-time=60",  # seconds without a client: should a test be killed, it ends by itself
    "--disable-shm=yes",
    "--realtime=no",
    "--high-priority=no",
    "--log-level=error",
]
# Without norewinds the first block of a null sink's monitor comes almost two seconds late.
NULL_SINK = "module-null-sink sink_name={name} rate={rate} channels=2 format=s16le norewinds=1"
MODULES = {
    "spk": NULL_SINK,
    "micfeed": NULL_SINK,
    "mic": "module-remap-source source_name=mic master=micfeed.monitor channels=1 rate={rate}",
}
ALSA = """
</usr/share/alsa/alsa.conf>
pcm.virtmic { type pulse device "mic" hint { show on description "a software microphone" } }
pcm.virtspk { type pulse device "spk" hint { show on description "a software speaker" } }
pcm.loopmic { type pulse device "spk.monitor" }
pcm.!default { type pulse }
ctl.!default { type pulse }
"""
CLOCKLESS = 'pcm.clockless { type asym playback.pcm "null" capture.pcm "null" }'  # a null itself is not listed
READY_SECONDS = 60.0


def missing() -> str:
    """Why there can be no sound card here, "" if there can."""
    if not sys.platform.startswith("linux"):
        return "the software sound card needs Linux"
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    plugins = any(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so"))
    if absent or not plugins:
        return "pulseaudio, pulseaudio-utils and libasound2-plugins are needed (scripts/system_packages.sh)"
    try:
        import sounddevice  # noqa: F401
    except OSError:
        return "libportaudio2 is needed (scripts/system_packages.sh)"
    return ""


class SoundCard:
    """A running PulseAudio server. folder: where it keeps its socket. rate: Hz of its devices."""

    def __init__(self, folder: Path, rate: int = 48_000) -> None:
        self.folder = folder
        self.rate = rate
        self.socket = folder / "native"
        (folder / "asound.conf").write_text(ALSA)
        self.environment = {
            "PULSE_SERVER": f"unix:{self.socket}",
            "ALSA_CONFIG_PATH": str(folder / "asound.conf"),
            "PULSE_RUNTIME_PATH": str(folder),
            "PULSE_STATE_PATH": str(folder),
            "PULSE_COOKIE": str(folder / "cookie"),
        }
        self.harmed = False  # by a fault that a test caused: nobody else should get it
        self._server: subprocess.Popen | None = None
        self._helpers: list[subprocess.Popen] = []

    def start(self) -> None:
        """Bring the server up unless it is; returns when its devices are there."""
        if self._server is not None and self._server.poll() is None:
            return
        modules = [f"module-native-protocol-unix auth-anonymous=1 socket={self.socket}"]
        modules += [self._module(name) for name in MODULES]
        words = [word for module in modules for word in ("-L", module)]
        self._server = subprocess.Popen([*SERVER, *words], env=self._environment(), stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + READY_SECONDS
        while subprocess.run(
            ["pactl", "get-source-mute", "mic"], env=self._environment(), capture_output=True, check=False
        ).returncode:
            assert self._server.poll() is None, "pulseaudio ended at once"
            assert time.monotonic() < deadline, "pulseaudio did not get ready"
            time.sleep(0.05)

    def kill(self) -> None:
        """End the server, as a crash would."""
        self.harmed = True
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None
        self.socket.unlink(missing_ok=True)

    def freeze(self, on: bool = True) -> None:
        """Stop the server without ending it: whoever asks it anything waits."""
        self.harmed = True
        if self._server is not None:
            self._server.send_signal(signal.SIGSTOP if on else signal.SIGCONT)

    def close(self) -> None:
        """End everything that was started."""
        self.hush()
        self.kill()

    def hush(self) -> None:
        """End what plays and records."""
        for helper in self._helpers:
            if helper.poll() is None:
                helper.kill()
            helper.wait()

    def suspend(self, name: str, on: bool = True) -> None:
        """Stall a device ("mic" or "spk"): no error, its callbacks just stop."""
        self.harmed = True
        self._pactl("suspend-source" if name == "mic" else "suspend-sink", name, str(int(on)))

    def unload(self, name: str) -> None:
        """Unplug a device."""
        self.harmed = True
        kind = "module-remap-source" if name == "mic" else "module-null-sink"
        modules = self._pactl("list", "short", "modules").splitlines()
        number = next(line.split()[0] for line in modules if kind in line and f"_name={name} " in line)
        self._pactl("unload-module", number)

    def load(self, name: str) -> None:
        """Plug a device in again."""
        self._pactl("load-module", *self._module(name).split())

    def add_clockless(self) -> None:
        """Add ALSA's null device, microphone and speaker in one; it is there when PortAudio looks again."""
        path = self.folder / "asound.conf"
        path.write_text(ALSA + CLOCKLESS)
        os.utime(path, (0, 0))  # ALSA sees by the second of the change that there was one

    def streams(self) -> list[str]:
        """What is open at its devices."""
        kinds = ("source-outputs", "sink-inputs")
        lines = [line for kind in kinds for line in self._pactl("list", "short", kind).splitlines()]
        return [line for line in lines if "module-remap-source" not in line]

    def speak(self, pcm: np.ndarray, rate: int = 24_000) -> subprocess.Popen:
        """Play (samples,) float audio into the microphone; returns at once."""
        path = self.folder / f"speech{len(self._helpers)}.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes((np.clip(pcm, -1, 1) * 32767).astype("<i2").tobytes())
        return self._help(["paplay", "--device=micfeed", "--latency-msec=100", str(path)])

    @contextmanager
    def listen(self, to: str = "spk", rate: int = 24_000) -> Iterator[list[np.ndarray]]:
        """Record the speaker, or what goes into the microphone (to="micfeed"), while the block runs.

        After it the list holds one (samples,) float32 array.
        """
        path = self.folder / f"heard{len(self._helpers)}.raw"
        words = ["parec", f"--device={to}.monitor", f"--rate={rate}", "--channels=1", "--format=s16le", "--raw"]
        heard: list[np.ndarray] = []
        with path.open("wb") as file:
            helper = self._help([*words, "--latency-msec=100"], stdout=file)
            try:
                yield heard
            finally:
                helper.send_signal(signal.SIGINT)
                helper.wait()
        heard.append(np.fromfile(path, dtype="<i2").astype(np.float32) / 32768)

    def _module(self, name: str) -> str:
        return MODULES[name].format(name=name, rate=self.rate)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.environment}

    def _pactl(self, *words: str) -> str:
        done = subprocess.run(
            ["pactl", *words], env=self._environment(), capture_output=True, text=True, check=True
        )
        return done.stdout

    def _help(self, words: list[str], stdout=None) -> subprocess.Popen:
        helper = subprocess.Popen(words, env=self._environment(), stdout=stdout, stderr=subprocess.DEVNULL)
        self._helpers.append(helper)
        return helper


@pytest.fixture(scope="session")
def sound_cards() -> Iterator[dict[int, SoundCard]]:
    """The sound cards that were started and not harmed since, by their rate."""
    cards: dict[int, SoundCard] = {}
    yield cards
    for card in cards.values():
        card.close()


@pytest.fixture
def sound_card(
    sound_cards: dict[int, SoundCard],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[SoundCard]:
    """A software sound card that PortAudio in this process sees; parametrize indirectly with the rate, Hz.

    One that a test has harmed is no longer used by others.
    """
    if reason := missing():
        pytest.skip(reason)
    from moshi_mlx.audio.portaudio import look_again

    rate = getattr(request, "param", 48_000)
    card = sound_cards.pop(rate, None) or SoundCard(tmp_path_factory.mktemp("sound_card"), rate)
    for name, value in card.environment.items():
        monkeypatch.setenv(name, value)
    try:
        card.start()
        look_again()
        yield card
    finally:
        if card.harmed:
            card.close()
        else:
            card.hush()
            sound_cards[rate] = card
        monkeypatch.undo()
        look_again()
