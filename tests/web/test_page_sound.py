"""The page's signal path, without sound cards and clocks: what it does to samples, and how many it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from moshi_mlx.audio.jitter import JitterBuffer
from tests import browser
from tests.page_server import PageServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())

RATE = 24_000  # Hz


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser.browser() as started:
        yield started


@pytest.fixture(scope="module")
def page(chromium: Browser) -> Iterator[Page]:
    """A page that can import the modules of the page's audio thread."""
    with PageServer() as server, browser.page(chromium, server.url) as opened:
        yield opened


def resample(page: Page, pcm: np.ndarray, source: int, target: int, block: int) -> np.ndarray:
    script = """async ({pcm, source, target, block}) => {
      const { Resampler } = await import("/worklets/resampler.js");
      const resampler = new Resampler(source, target);
      const out = [];
      for (let i = 0; i < pcm.length; i += block)
        out.push(...resampler.process(Float32Array.from(pcm.slice(i, i + block))));
      return out;
    }"""
    argument = {"pcm": pcm.tolist(), "source": source, "target": target, "block": block}
    return np.array(page.evaluate(script, argument))


def tone(frequency: float, rate: int, seconds: float = 0.25) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def decibels(signal: np.ndarray) -> float:
    return float(10 * np.log10((signal**2).mean() + 1e-20))


@pytest.mark.parametrize(
    ("source", "target"),
    [(48_000, RATE), (44_100, RATE), (16_000, RATE), (96_000, RATE), (RATE, 48_000), (RATE, 44_100)],
)
def test_a_tone_stays_the_tone_it_is_at_another_rate(page: Page, source: int, target: int) -> None:
    for frequency in (100.0, 1000.0, 0.4 * min(source, target)):
        out = resample(page, tone(frequency, source), source, target, 128)
        wanted = tone(frequency, target)[: len(out)]
        late = len(tone(frequency, target)) - len(out)
        assert 0 <= late < 0.003 * target  # samples that wait for those to come
        middle = slice(target // 50, len(out))
        assert decibels(out[middle] - wanted[middle]) < -75  # neither shifted nor distorted


@pytest.mark.parametrize("source", [48_000, 44_100])
def test_what_24_khz_cannot_hold_does_not_come_back_as_something_else(page: Page, source: int) -> None:
    for frequency in (13_000.0, 16_000.0, 20_000.0):
        out = resample(page, tone(frequency, source), source, RATE, 128)
        assert decibels(out[RATE // 50 :]) < -75


def test_blocks_do_not_matter(page: Page) -> None:
    noise = np.random.RandomState(0).uniform(-1, 1, 6000)
    whole = resample(page, noise, 44_100, RATE, 6000)
    for block in (1, 128, 441):
        np.testing.assert_allclose(resample(page, noise, 44_100, RATE, block), whole, atol=1e-6)


# Runs a jitter buffer for quanta of 128 samples at 48 kHz: at each it writes what `schedule` says has come.
PLAY = """async ({schedule, quanta, hear}) => {
  const { JitterBuffer } = await import("/worklets/jitter.js");
  const jitter = new JitterBuffer(48000);
  const heard = [], ahead = [];
  let value = 0;
  for (let quantum = 0; quantum < quanta; quantum++) {
    for (const [samples, level] of schedule[quantum] ?? []) {
      jitter.write(Float32Array.from({ length: samples }, () => level || ++value / 1e6));
      ahead.push(jitter.ahead);
    }
    const out = new Float32Array(128);
    jitter.fill(out);
    if (hear) heard.push(...out);
  }
  const { underruns, dropped, cushion, read, written } = jitter;
  return { heard, ahead, underruns, dropped, cushion, read, written };
}"""

FRAME = 3840  # samples of 80 ms at 48 kHz, 30 quanta
STEP = 960  # 20 ms


Arrivals = dict[int, list[tuple[int, float]]]  # quantum -> (samples, level) of what comes then


def play(page: Page, arrivals: Arrivals, quanta: int, hear: bool = True) -> dict[str, Any]:
    result: dict[str, Any] = page.evaluate(PLAY, {"schedule": arrivals, "quanta": quanta, "hear": hear})
    result["heard"] = np.array(result["heard"])
    return result


def play_in_python(arrivals: Arrivals, quanta: int) -> JitterBuffer:
    """What `play` does, with the package's own buffer."""
    jitter = JitterBuffer(48_000, cushion=STEP / 48_000)
    out = np.empty(128, np.float32)
    for quantum in range(quanta):
        for samples, level in arrivals.get(quantum, []):
            jitter.write(np.full(samples, level, np.float32))
        jitter.read_into(out)
    return jitter


def paced(frames: int, late: dict[int, int] | None = None, level: float = 0.0) -> Arrivals:
    """A frame every 30 quanta; late: frame -> quanta."""
    arrivals: Arrivals = {}
    for frame in range(frames):
        arrivals.setdefault(30 * frame + (late or {}).get(frame, 0), []).append((FRAME, level))
    return arrivals


def test_what_comes_in_time_is_played_whole_after_one_step(page: Page) -> None:
    result = play(page, paced(20), 30 * 20)
    assert (result["underruns"], result["dropped"], result["cushion"]) == (0, 0, STEP)
    assert set(result["ahead"]) == {STEP}
    assert not result["heard"][:STEP].any()
    samples = np.arange(1, len(result["heard"]) - STEP + 1) / 1e6
    np.testing.assert_allclose(result["heard"][STEP + 200 :], samples[200:], atol=1e-7)  # after the fade


def test_a_late_frame_is_waited_for_and_the_cushion_grows(page: Page) -> None:
    result = play(page, paced(10, {5: 20}), 30 * 10)
    assert (result["underruns"], result["dropped"], result["cushion"]) == (1, 0, 2 * STEP)


def test_a_frame_within_the_cushion_is_not_late(page: Page) -> None:
    result = play(page, paced(10, {5: 6}), 30 * 10)
    assert (result["underruns"], result["dropped"]) == (0, 0)


def test_a_burst_is_cut_to_what_is_needed_and_counted(page: Page) -> None:
    stall = {frame: 30 * (15 - frame) for frame in range(5, 15)}  # ten frames come at once
    result = play(page, paced(30, stall), 30 * 30)
    assert result["dropped"] >= 6 * FRAME
    waiting = result["written"] - result["read"]
    assert result["dropped"] + np.count_nonzero(result["heard"]) + waiting == pytest.approx(30 * FRAME, abs=200)
    assert result["ahead"][-1] <= 2 * STEP + STEP  # soon as quick as before


def test_what_is_too_much_goes_in_the_next_pause(page: Page) -> None:
    """A frame more than is needed waits: too little to cut into speech, and gone once it is quiet."""
    arrivals = paced(50, level=0.5)
    arrivals[150].append((FRAME, 0.5))
    loud = play(page, arrivals, 30 * 50, hear=False)
    assert loud["dropped"] == 0
    for frame in range(35, 50):
        arrivals[30 * frame] = [(FRAME, 0.001)]
    quiet = play(page, arrivals, 30 * 50, hear=False)
    assert quiet["dropped"] == pytest.approx(FRAME, abs=STEP)
    assert quiet["ahead"][-1] < loud["ahead"][-1]


@pytest.mark.parametrize("seed", range(4))
def test_the_page_and_the_package_have_the_same_rules(page: Page, seed: int) -> None:
    """Frames that come late, in bursts, too often or not at all, now loud, now quiet."""
    random = np.random.RandomState(seed)
    arrivals: Arrivals = {}
    for frame in range(500):
        stall = random.choice([0, 0, 0, 0, 0, 5, 20, 70, 300]) if random.uniform() < 0.1 else 0
        level = 0.5 if frame // 25 % 2 else 0.001
        for _ in range(random.choice([0, 1, 1, 1, 1, 1, 2, 4]) if random.uniform() < 0.04 else 1):
            arrivals.setdefault(30 * frame + stall + int(random.randint(3)), []).append((FRAME, level))
    result = play(page, arrivals, 30 * 500, hear=False)
    wanted = play_in_python(arrivals, 30 * 500)
    assert wanted.underruns > 3
    assert wanted.overrun > 2 * FRAME
    found = (result["underruns"], result["dropped"], result["cushion"])
    assert found == (wanted.underruns, wanted.overrun, wanted.cushion)


def test_nothing_clicks(page: Page) -> None:
    """A constant level that begins, is cut, and ends: no step from one sample to the next but in a fade."""
    stall = {frame: 30 * (15 - frame) for frame in range(5, 15)}
    heard = play(page, paced(20, stall, level=0.5), 30 * 25)["heard"]
    assert heard.max() == pytest.approx(0.5)
    assert np.abs(np.diff(heard)).max() < 0.01


# Microphone to speaker in one machine: blocks of 20 ms go out, and come back so many quanta later.
ROUND_TRIP = """async ({rate, delay, seconds}) => {
  const { Duplex } = await import("/worklets/duplex.js");
  const travelling = [], left = [], right = [];
  let quantum = 0;
  const duplex = new Duplex(rate, ({ microphone, speaker }) => {
    travelling.push([quantum + delay, microphone]);
    left.push(...microphone);
    right.push(...speaker);
  });
  const click = Math.round(0.5 * rate);
  for (; quantum * 128 < seconds * rate; quantum++) {
    while (travelling[0]?.[0] <= quantum) duplex.play(travelling.shift()[1].slice());
    const shape = (_, i) => Math.exp(-(((quantum * 128 + i - click) / 24) ** 2));
    const input = Float32Array.from({ length: 128 }, shape);
    duplex.process(input, new Float32Array(128));
  }
  return { left, right, dropped: duplex.jitter.dropped, underruns: duplex.jitter.underruns };
}"""


@pytest.mark.parametrize("rate", [48_000, 44_100])
@pytest.mark.parametrize("delay", [0, 2])
def test_the_path_costs_a_block_and_a_cushion(page: Page, rate: int, delay: int) -> None:
    """20 ms until a block is full, 20 ms of cushion, the filters, and the way; counted in samples, so that a slow
    machine changes nothing. The same with a server and a clock: benchmarks/page_latency.py."""
    result = page.evaluate(ROUND_TRIP, {"rate": rate, "delay": delay, "seconds": 1.2})
    assert (result["dropped"], result["underruns"]) == (0, 0)
    cost = (np.argmax(result["right"]) - np.argmax(result["left"])) / RATE
    quantum = 128 / rate
    assert 0.040 <= cost - delay * quantum <= 0.040 + 0.004 + 2 * quantum
    assert cost < 0.060
    assert np.max(result["right"]) == pytest.approx(np.max(result["left"]), rel=0.02)
