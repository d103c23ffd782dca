"""Kyutai's own Python client, unmodified, holds a talk: through a sound card of software, both ways.

It is not among our dependencies: `make test` fetches it into a folder that MOSHI_CLIENT names
(scripts/kyutai_client.sh); an environment that has it will do as well.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from moshi_mlx.runtime.flow import HeardFrame
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.web import client
from moshi_mlx.web.intake import Intake
from tests.sound_card import SoundCard
from tests.web.running import PATIENCE, Running

SECONDS = 4
# The package's own front page imports PyTorch, which its client does without.
START = """
import sys, types
package = types.ModuleType("moshi")
package.__path__ = [sys.argv.pop(1)]
sys.modules["moshi"] = package
from moshi.client import main
main()
"""


def folder() -> Path | None:
    """Where Kyutai's package is."""
    named = os.environ.get("MOSHI_CLIENT")
    if named and (Path(named) / "moshi" / "client.py").is_file():
        return Path(named) / "moshi"
    found = importlib.util.find_spec("moshi")
    return Path(found.origin).parent if found and found.origin else None


def test_kyutais_client_holds_a_talk(
    tiny_moshi: Moshi, sound_card: SoundCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = folder()
    if package is None:
        pytest.skip("Kyutai's client is not here (scripts/kyutai_client.sh fetches it)")
    heard: list[HeardFrame] = []

    class Listening(Intake):
        def add(self, pcm: np.ndarray, now: float):
            frames = list(super().add(pcm, now))
            heard.extend(frames)
            return iter(frames)

    monkeypatch.setattr(client, "Intake", Listening)
    time = np.arange(24_000 * SECONDS) / 24_000
    voice = 0.3 * np.sin(2 * np.pi * (150 + 60 * time) * time) * (np.sin(2 * np.pi * 1.7 * time) > 0)
    running = Running(tiny_moshi)
    running.call(running.server.model.ready(lambda: None))
    program = [sys.executable, "-u", "-c", START, str(package), "--host", "localhost", "--port", str(running.port)]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    printed: list[str] = []
    assert process.stdout
    reader = threading.Thread(target=lambda pipe: printed.append(pipe.read()), args=(process.stdout,))
    reader.start()
    try:
        deadline = threading.Event()
        for _ in range(int(PATIENCE / 0.1)):
            if heard or process.poll() is not None:
                break
            deadline.wait(0.1)
        assert heard, printed
        with sound_card.listen() as played:
            sound_card.speak(voice.astype(np.float32)).wait()
    finally:
        running.stop()
        code = process.wait(PATIENCE)
        reader.join()
        process.stdout.close()
    assert code == 0, printed
    said = printed[0].partition("Cannot write to closing transport")[0]  # its way of seeing that we went
    assert "error" not in said.lower()
    assert set(re.findall(r"unknown message kind (\d+)", said)) <= {"0", "6"}
    assert sum(character.isalpha() for character in said) > 40, "words of the model"
    # Its voice arrived here,
    arrived = np.concatenate([frame.pcm for frame in heard])
    second = voice[48_000:72_000]
    match = np.correlate(arrived, second, mode="valid").max() / np.sum(second**2)
    assert match > 0.8
    # and the model's came out of its speaker.
    loud = np.abs(played[0][: len(played[0]) // 1920 * 1920].reshape(-1, 1920)).max(axis=1) > 0.005
    assert loud.sum() > 0.5 * SECONDS * 12.5
