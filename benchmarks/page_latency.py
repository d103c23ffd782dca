"""How late the web page's sound path is: from a click in the microphone to the same click in the speaker.

    python -m benchmarks.page_latency [--seconds 20] [--frame 480]

A headless Chromium hears clicks from a file, the page sends them to a server that returns them at once, and plays
them. Microphone and speaker are compared in the page's own recording, where both are on the clock of the sound
card, so what is counted is all that page, browser and socket add: blocks, buffers, resampling, the way.
Not counted: the sound card itself and the model. --frame is the size of the server's messages in samples at
24 kHz; 480 (20 ms) returns every block as it comes, 1920 waits for a frame as the model does.
Needs a machine that does nothing else.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from tests import browser
from tests.page_server import PageServer

RATE = 24_000  # Hz, of the recording
EVERY = 0.5  # seconds between clicks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--frame", type=int, default=480)
    options = parser.parse_args()
    if reason := browser.missing():
        parser.error(reason)
    with tempfile.TemporaryDirectory() as folder:
        recording, figures = talk(Path(folder), options.seconds, options.frame)
    late = 1000 * delays(*recording.T)
    print(f"{len(late)} clicks, messages of {options.frame} samples, sound card at {figures.pop('rate')} Hz")
    low, middle, high = np.quantile(late, [0.05, 0.5, 0.95])
    print(f"median {middle:.1f} ms, 5 % {low:.1f}, 95 % {high:.1f}")
    print(", ".join(f"{name} {value}" for name, value in figures.items()))


def talk(folder: Path, seconds: int, frame: int) -> tuple[np.ndarray, dict[str, str]]:
    """The page's recording, (samples, 2), and what it counted."""
    clicks = folder / "clicks.wav"
    soundfile.write(clicks, click_track(48_000, 2.0), 48_000)
    with (
        PageServer(frame) as server,
        browser.browser(clicks, loop=True) as chromium,
        browser.page(chromium, server.url) as page,
    ):
        browser.leave_the_microphone_alone(page)
        page.click("#talk")
        page.wait_for_selector("body[data-state=talking]")
        page.wait_for_timeout(1000 * seconds)
        figures = {"rate": page.evaluate("new AudioContext().sampleRate")}
        figures |= {"left out": page.text_content("#dropped"), "late": page.text_content("#late")}
        with page.expect_event("download", lambda download: download.suggested_filename.endswith(".wav")) as saved:
            page.click("#save")
        saved.value.save_as(folder / "talk.wav")
        return soundfile.read(folder / "talk.wav")[0], figures


def click_track(rate: int, seconds: float) -> np.ndarray:
    """Short bursts, of an even shape, so that their middle can be found."""
    time = np.arange(round(seconds * rate)) / rate
    from_click = (time + EVERY / 2) % EVERY - EVERY / 2
    return 0.5 * np.exp(-((from_click / 0.002) ** 2)) * np.cos(2 * np.pi * 1000 * from_click)


def delays(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Seconds from each click on the left to the one on the right."""
    window = round(0.4 * EVERY * RATE)
    found = []
    position = RATE  # the first second is for the buffers to find their size
    while position + 3 * window < len(left):
        heard = left[position : position + round(EVERY * RATE)]
        peak = position + int(np.argmax(np.abs(heard)))
        shape = left[peak - 100 : peak + 100]
        there = right[peak - 100 : peak + 2 * window]
        if len(there) < 2 * window or np.abs(shape).max() < 0.1:
            break
        match = np.correlate(there, shape, "valid")
        found.append(int(np.argmax(match)) / RATE)
        position = peak + round(0.5 * EVERY * RATE)
        position += round(0.25 * EVERY * RATE)
    return np.array(found)


if __name__ == "__main__":
    main()
