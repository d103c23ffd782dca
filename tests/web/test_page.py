"""The page in a real browser, against a server that does what it is told. The real one: test_page_talk.py."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests import browser
from tests.page_server import PageServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())

RATE = 24_000  # Hz
SILENCE = (
    "navigator.mediaDevices.getUserMedia = async () => new AudioContext().createMediaStreamDestination().stream"
)


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of hum that swells four times, a second of silence, again and again."""
    import soundfile

    time = np.arange(48_000) / 48_000
    hum = 0.4 * np.sin(2 * np.pi * 300 * time) * np.sin(4 * np.pi * time) ** 2
    path = tmp_path_factory.mktemp("voice") / "voice.wav"
    soundfile.write(path, np.concatenate([hum, 0 * hum]), 48_000)
    return path


@pytest.fixture(scope="module")
def chromium(voice: Path) -> Iterator[Browser]:
    with browser.browser(voice, loop=True) as started:
        yield started


@pytest.fixture
def server() -> Iterator[PageServer]:
    with PageServer() as running:
        yield running


@pytest.fixture
def page(chromium: Browser, server: PageServer) -> Iterator[Page]:
    with browser.page(chromium, server.url) as opened:
        yield opened


def state(page: Page, name: str) -> None:
    """Wait until the page is in this state."""
    page.wait_for_selector(f"body[data-state={name}]")


def status(page: Page, text: str) -> None:
    page.locator("#status", has_text=text).wait_for()


def talk(page: Page) -> None:
    page.click("#talk")
    state(page, "talking")


def eventually(page: Page, happened: Callable[[], bool]) -> None:
    """Wait for something that happens at the server."""
    for _ in range(browser.MILLISECONDS // 20):
        if happened():
            return
        page.wait_for_timeout(20)
    pytest.fail("it did not happen")


def heard(page: Page, server: PageServer, seconds: float) -> None:
    """Wait until the server has heard so much more."""
    wanted = server.samples + seconds * RATE
    eventually(page, lambda: server.samples >= wanted)


def test_every_state_on_the_way_is_shown(page: Page, server: PageServer) -> None:
    page.add_init_script(SILENCE)  # the questions stay until somebody has spoken
    page.reload()
    server.welcome = False
    page.get_by_role("button", name="Talk").click()
    state(page, "connecting")
    eventually(page, server.connected)
    server.tell(type="state", state="loading", progress=0.42)
    status(page, "Loading the model, 42 %")
    assert page.locator("progress").get_attribute("value") == "0.42"
    server.tell(type="state", state="loading", progress=None)
    status(page, re.compile("model$"))  # type: ignore[arg-type]
    server.tell(type="state", state="queued", position=3)
    status(page, "2 people are before you")
    server.tell(type="state", state="queued", position=1)
    status(page, "you are next")
    assert server.samples == 0  # nothing is sent before the handshake
    server.say(b"\0")
    server.tell(type="state", state="ready", model="a model", greeting="Hello.", questions=["Who are you?"])
    status(page, "Listening")
    page.get_by_text("Who are you?").wait_for()
    page.click("#talk")
    state(page, "idle")


def test_words_appear_with_the_voice_that_asked(page: Page, server: PageServer) -> None:
    talk(page)
    page.wait_for_selector("#transcript .you svg")
    for piece in [" I", " am", " a", " page", "."]:
        server.say(b"\x02" + piece.encode())
    page.get_by_text("I am a page.").wait_for()
    row = page.locator("#transcript li.moshi")
    assert re.fullmatch(r"0:\d\d", row.locator("time").inner_text())
    assert page.locator("#questions").is_hidden()
    page.locator("#announcer", has_text="Moshi: I am a page.").wait_for(state="attached")


def test_words_wait_for_their_sound(page: Page, server: PageServer) -> None:
    server.echo = False
    talk(page)
    server.say(b"\x02 early")
    server.say(b"\x01" + np.zeros(1920, "<f4").tobytes())  # belongs to what was before
    page.wait_for_timeout(400)
    assert "early" not in page.inner_text("#transcript")
    server.say(b"\x01" + np.zeros(480, "<f4").tobytes())
    page.get_by_text("early").wait_for()


def test_keys_mute_restart_and_end(page: Page, server: PageServer) -> None:
    talk(page)
    page.keyboard.press("m")
    status(page, "Muted")
    heard(page, server, 0.5)  # what was on its way
    server.loudest = 0.0
    heard(page, server, 1.2)
    assert server.loudest == 0  # the hum comes every two seconds, for one
    page.keyboard.down(" ")
    status(page, "Listening")
    page.keyboard.up(" ")
    status(page, "Muted")
    page.keyboard.press("r")
    page.get_by_text("A new conversation").wait_for()
    assert server.controls == [3]
    page.keyboard.press("Escape")
    state(page, "idle")


def test_an_end_can_be_taken_back_while_the_place_is_kept(page: Page, server: PageServer) -> None:
    talk(page)
    server.say(b"\x02 Hello")
    page.get_by_text("Hello").wait_for()
    page.click("#talk")
    state(page, "ending")
    status(page, "Ended")
    page.wait_for_timeout(300)
    server.loudest = 0.0
    page.get_by_role("button", name="Undo").click()
    state(page, "talking")
    eventually(page, lambda: server.loudest > 0)  # the microphone is heard again
    server.say(b"\x02 again")
    page.get_by_text("again", exact=True).wait_for()
    assert len(server.queries) == 1, "it is the same conversation"
    page.click("#talk")
    state(page, "idle")


def test_who_speaks_is_said(page: Page, server: PageServer) -> None:
    server.echo = False
    talk(page)
    status(page, "Hears you")
    status(page, "Listening")
    page.evaluate("""() => {
        window.shown = [];
        const look = () => window.shown.push([
            document.body.dataset.speaking ?? "", document.getElementById("status").textContent,
        ]);
        const all = { attributes: true, childList: true, characterData: true, subtree: true };
        new MutationObserver(look).observe(document.body, all);
    }""")
    tone = np.sin(np.arange(1920) * 0.1).astype("<f4") * 0.3
    for _ in range(12):
        server.say(b"\x01" + tone.tobytes())
    browser.until(page, "window.shown.some(([who, told]) => /moshi/.test(who) && /Moshi speaks|both/.test(told))")
    browser.until(page, "!/moshi/.test(document.body.dataset.speaking ?? '')")


def test_an_interrupted_line_is_marked_and_a_whole_one_is_not(page: Page) -> None:
    marks = page.evaluate("""async () => {
        const { Transcript } = await import("./transcript.js");
        const mark = (text, begin) => {
            const transcript = new Transcript();
            transcript.say(text, 1);
            transcript.hear({ begin, end: begin + 0.5, peaks: [] });
            transcript.say(" more", 1.4);
            transcript.finish();
            return Boolean(transcript.rows.find(({ who }) => who === "moshi").interrupted);
        };
        return [mark("I was", 1.2), mark("I was", 0.2), mark("I was", 3)];
    }""")
    assert marks == [True, False, False]


def test_the_transcript_is_there_after_a_reload_and_goes_with_a_new_talk(page: Page, server: PageServer) -> None:
    talk(page)
    page.wait_for_selector("#transcript .you svg")
    server.say(b"\x02 I stay.")
    page.get_by_text("I stay.").wait_for()
    page.reload()
    page.get_by_text("I stay.").wait_for()
    assert page.locator("#transcript .you svg path").first.get_attribute("d")
    page.get_by_text("Before the page was loaded again").wait_for()
    talk(page)
    assert page.get_by_text("I stay.").count() == 0


def test_what_the_person_said_stands_in_their_own_rows_is_saved_and_stays(
    page: Page, server: PageServer, tmp_path: Path
) -> None:
    talk(page)
    page.wait_for_selector("#transcript .you svg")
    page.wait_for_timeout(500)
    assert page.inner_text("#transcript .you p") == "", "without captions it is a drawing alone"
    times = page.evaluate("[...document.querySelectorAll('#transcript .you time')].map((time) => time.dateTime)")
    begin = float(times[0].strip("PTS"))
    for index, word in enumerate(["how", "are", "you"]):
        server.tell(type="caption", word=word, start=begin + 0.2 * index, end=begin + 0.2 * index + 0.2)
    server.tell(type="pause", pause=begin + 0.8, p=0.9)
    row = page.locator("#transcript li.you", has_text="how are you")
    row.wait_for()
    assert row.locator("svg path").get_attribute("d"), "beside the drawing"
    assert page.locator("#transcript li.you p", has_text="how").count() == 1
    with page.expect_event("download", lambda download: download.suggested_filename.endswith(".txt")) as saved:
        page.click("#save")
    saved.value.save_as(tmp_path / "talk.txt")
    assert re.search(r"^0:\d\d  You: how are you$", (tmp_path / "talk.txt").read_text(), re.MULTILINE)
    server.tell(type="caption", word="whispered", start=begin + 60, end=begin + 60.2)
    page.locator("#transcript li.you", has_text="whispered").wait_for()
    assert page.locator("#transcript li.you", has_text="whispered").locator("svg").count() == 0
    page.reload()
    row.wait_for()


def test_words_go_to_the_utterance_of_their_time_or_stand_alone(page: Page) -> None:
    rows = page.evaluate("""async () => {
        const { Transcript } = await import("./transcript.js");
        const transcript = new Transcript();
        const [one, two] = [{ begin: 1, end: 2, peaks: [0.5] }, { begin: 4, end: 5, peaks: [0.5] }];
        transcript.hear(one);
        transcript.say("Moshi", 3);
        transcript.hear(two);
        transcript.caption("early", 0.9, 1.2);
        transcript.caption("late", 4.5, 5.2);
        transcript.caption("still", 1.8, 2.1);
        transcript.hear(two);
        transcript.caption("whispered", 7, 7.5);
        transcript.caption("too", 8, 8.2);
        return transcript.rows.map(({ begin, end, text }) => [begin, end, text]);
    }""")
    assert rows == [
        [1, 2, "early still"],
        [3, 3, "Moshi"],
        [4, 5, "late"],
        [7, 8.2, "whispered too"],
    ]


def test_words_of_a_new_conversation_count_from_its_beginning(page: Page, server: PageServer) -> None:
    page.add_init_script(SILENCE)  # a voice that goes on from the one into the other would have the words
    page.reload()
    talk(page)
    page.wait_for_timeout(1500)
    page.keyboard.press("r")
    page.get_by_text("A new conversation").wait_for()
    seconds = "(row) => Number(row.querySelector('time').dateTime.slice(2, -1))"
    new = page.locator("#transcript .divider").evaluate(seconds)
    assert new > 1
    server.tell(type="caption", word="anew", start=0.1, end=0.3)
    row = page.locator("#transcript li.you", has_text="anew")
    row.wait_for()
    assert row.evaluate(seconds) > new - 1


def test_all_questions_are_offered(page: Page, server: PageServer) -> None:
    server.welcome = False
    page.click("#talk")
    eventually(page, server.connected)
    questions = [f"Question {number}?" for number in range(44)]
    server.tell(type="state", state="ready", model="a model", greeting="Hello.", questions=questions)
    server.say(b"\x00")
    state(page, "talking")
    page.wait_for_selector("#transcript .you")  # somebody has spoken: they make room for what is said
    assert page.locator("#questions").is_hidden()
    page.get_by_role("button", name="What can I ask?").click()
    assert page.locator("#questions li").count() == 6
    page.get_by_role("button", name="All 44 questions").click()
    assert page.locator("#questions li").all_inner_texts() == questions
    assert page.locator("#more-questions").is_hidden()


def test_the_light_says_how_it_goes_and_why_when_asked(page: Page, server: PageServer) -> None:
    server.echo = False  # no sound that might come late
    talk(page)
    assert page.inner_text("#light") == "Good"
    assert page.locator("#readout").is_hidden()
    page.wait_for_timeout(2100)  # in the beginning everybody finds their pace
    server.tell(type="stats", step_ms=20, lag_ms=90, dropped=9, sessions=1, waiting=0)
    page.locator("#light", has_text="Uneven").wait_for()
    for _ in range(5):
        server.tell(type="stats", step_ms=120, lag_ms=90, dropped=9, sessions=1, waiting=0)
    page.locator("#light", has_text="Too slow").wait_for()
    page.click("#health summary")
    assert "cannot keep up" in page.inner_text("#meaning")
    page.locator("#step", has_text="120 ms").wait_for()
    server.tell(type="stats", step_ms=20, lag_ms=90, dropped=9, sessions=1, waiting=0)
    page.locator("#light", has_text="Good").wait_for()


def test_a_finger_can_hold_to_talk(chromium: Browser, server: PageServer) -> None:
    phone: Any = {"width": 360, "height": 640}
    with browser.page(chromium, server.url, viewport=phone, has_touch=True, is_mobile=True) as page:
        talk(page)
        button = page.locator("#hold")
        assert button.is_visible()
        button.dispatch_event("pointercancel")  # before a finger was there: muted, as after every hold
        status(page, "Muted")
        button.hover()
        page.mouse.down()
        page.locator("body:not([data-muted])").wait_for()
        page.mouse.move(1, 1)  # it slips off
        page.wait_for_timeout(100)
        assert page.evaluate("!document.body.hasAttribute('data-muted')")
        page.mouse.up()
        page.locator("body[data-muted]").wait_for()


def test_the_volume_is_kept(page: Page, server: PageServer) -> None:
    page.click("#open-settings")
    page.locator("#volume").fill("0.5")
    page.reload()
    page.click("#open-settings")
    assert page.locator("#volume").input_value() == "0.5"


def test_it_can_be_installed(page: Page, server: PageServer) -> None:
    manifest = page.evaluate("async () => (await fetch(document.querySelector('link[rel=manifest]').href)).json()")
    assert manifest["display"] == "standalone"
    assert page.evaluate(f"fetch('{manifest['icons'][0]['src']}').then((answer) => answer.ok)")


def test_what_is_saved_has_both_sides_on_one_clock(page: Page, server: PageServer, tmp_path: Path) -> None:
    import soundfile

    talk(page)
    server.say(b"\x02 Hello")
    page.get_by_text("Hello").wait_for()
    page.wait_for_timeout(2200)
    downloads: list[Any] = []
    page.on("download", lambda download: downloads.append(download))
    with page.expect_event("download", lambda download: download.suggested_filename.endswith(".txt")):
        page.keyboard.press("s")
    for download in downloads:
        download.save_as(tmp_path / download.suggested_filename)
    (wav,) = tmp_path.glob("*.wav")
    (text,) = tmp_path.glob("*.txt")
    assert wav.stem == text.stem
    assert re.search(r"^0:\d\d  Moshi: Hello$", text.read_text(), re.MULTILINE)
    assert re.search(r"^0:\d\d  You: \(speaks for \d\.\d s\)$", text.read_text(), re.MULTILINE)
    pcm, rate = soundfile.read(wav)
    assert rate == RATE
    left, right = pcm.T
    correlation = np.fft.irfft(np.fft.rfft(right, 2 * len(right)) * np.conj(np.fft.rfft(left, 2 * len(left))))
    echo, reverse = correlation[: RATE // 2], correlation[-RATE // 2 :]
    assert echo.max() > reverse.max()  # the echo comes after the voice
    assert echo.argmax() >= 480
    assert max(likeness(left, right, start) for start in range(0, len(left) - RATE, RATE // 4)) > 0.8


def likeness(left: np.ndarray, right: np.ndarray, start: int) -> float:
    """How much a quarter of a second of one side is like what the other has up to half a second later, at best.

    A piece, because what was left out to catch up has moved the rest.
    """
    piece = left[start : start + RATE // 4].astype(np.float64)
    later = right[start : start + RATE // 4 + RATE // 2].astype(np.float64)
    energy = np.convolve(later**2, np.ones(len(piece)), "valid") * (piece**2).sum()
    return float(np.max(np.correlate(later, piece, "valid") / np.sqrt(energy + 1e-6)))


def test_a_server_that_comes_back_is_found_again(page: Page, server: PageServer) -> None:
    talk(page)
    server.say(b"\x02 Before")
    page.get_by_text("Before").wait_for()
    page.evaluate("""() => {
        const real = window.setTimeout;
        window.setTimeout = (done, ms) => (ms < 500 ? real(done, ms) : 0); // no attempt of its own
    }""")
    server.stop()
    state(page, "waiting")
    page.get_by_text("Moshi cannot be reached").wait_for()
    server.start()
    page.get_by_role("button", name="Try now").click()
    state(page, "talking")
    page.get_by_text("A new conversation").wait_for()
    assert page.locator("#notice").is_hidden()
    assert "Before" in page.inner_text("#transcript")


REFUSED = "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', '%s') }"


@pytest.mark.parametrize(
    ("script", "title", "remedy"),
    [
        (REFUSED % "NotAllowedError", "The microphone is blocked", "Allow it for this page"),
        (REFUSED % "NotFoundError", "There is no microphone", "Plug one in"),
        (REFUSED % "NotReadableError", "could not be started", "Another program"),
        (
            "Object.defineProperty(window, 'isSecureContext', { value: false })",
            "gives this page no microphone",
            "http://localhost:",
        ),
        ("delete window.AudioWorkletNode", "This browser cannot", "Chrome, Edge, Firefox or Safari"),
    ],
)
def test_a_microphone_that_cannot_be_had_is_explained(
    page: Page, script: str, title: str, remedy: str, server: PageServer
) -> None:
    page.add_init_script(script)
    page.reload()
    page.click("#talk")
    state(page, "failed")
    assert title in page.inner_text("#notice-title")
    assert remedy in page.inner_text("#notice-remedy")
    assert server.queries == []


def test_ending_while_the_browser_asks_leaves_nothing_behind(page: Page, server: PageServer) -> None:
    page.add_init_script(
        """const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        window.streams = [];
        window.allow = [];
        navigator.mediaDevices.getUserMedia = async (wanted) => {
          await new Promise((done) => window.allow.push(done));
          window.streams.push(await ask(wanted));
          return window.streams.at(-1);
        };"""
    )
    page.reload()
    page.click("#talk")
    browser.until(page, "window.allow.length === 1")
    page.click("#talk")
    state(page, "idle")
    page.click("#talk")
    browser.until(page, "window.allow.length === 2")
    for number in range(2):
        page.evaluate(f"window.allow[{number}]()")
        browser.until(page, f"window.streams.length === {number + 1}")
    state(page, "talking")
    live = "window.streams.map((stream) => stream.getTracks()[0].readyState)"
    assert page.evaluate(live) == ["ended", "live"]
    page.click("#talk")
    browser.until(page, f"{live}.every((state) => state === 'ended')")
    assert len(server.queries) == 1


def test_a_missing_token_is_explained(page: Page, server: PageServer) -> None:
    server.status = 401
    page.click("#talk")
    page.get_by_text("This address lacks the right token").wait_for()
    state(page, "failed")


def test_what_the_server_says_at_the_end_is_shown(page: Page, server: PageServer) -> None:
    talk(page)
    server.say(b"\x05too much at once")
    server.hang_up(1008)
    page.get_by_text("too much at once.").wait_for()
    state(page, "failed")
    page.get_by_role("button", name="Talk again").click()
    state(page, "talking")


def test_who_waits_at_a_server_that_ends_is_told_and_gets_the_next(page: Page, server: PageServer) -> None:
    server.welcome = False
    page.click("#talk")
    eventually(page, server.connected)
    server.tell(type="state", state="queued", position=1)
    state(page, "queued")
    server.info |= {"health": "draining", "elsewhere": "https://other.example.com"}
    server.say(b"\x05it ends; go to https://other.example.com")
    server.hang_up(1013)
    page.get_by_text("This Moshi is about to end").wait_for()
    assert "There is another one at https://other.example.com." in page.inner_text("#notice-remedy")
    server.welcome = True
    state(page, "talking")


def test_a_microphone_that_is_unplugged_is_replaced(page: Page, server: PageServer) -> None:
    page.add_init_script(
        """const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (wanted) => (window.stream = await ask(wanted));"""
    )
    page.reload()
    talk(page)
    page.evaluate("window.stream.getTracks()[0].dispatchEvent(new Event('ended'))")
    page.get_by_text("another one took its place").wait_for()
    sent = server.samples
    eventually(page, lambda: server.samples > sent)


def test_a_microphone_of_zeros_is_told(page: Page) -> None:
    page.add_init_script(SILENCE)
    page.reload()
    talk(page)
    page.get_by_text("nothing but silence").wait_for()


def test_settings_reach_the_server_and_stay(page: Page, server: PageServer) -> None:
    page.click("#open-settings")
    page.click("#experts summary")
    page.locator("#text_temperature").fill("0.25")
    page.locator("#seed").fill("7")
    page.click("#apply")
    page.reload()
    talk(page)
    assert server.queries == [{"audio": "pcm", "captions": "1", "text_temperature": "0.25", "seed": "7"}]
    page.click("#open-settings")
    page.click("#experts summary")
    page.click("#defaults")
    page.click("#apply")
    page.wait_for_selector("#transcript .divider")  # connected again
    assert server.queries[1:] == [{"audio": "pcm", "captions": "1"}]


def test_a_voice_and_a_role_are_asked_for_where_the_model_takes_them(page: Page, server: PageServer) -> None:
    page.click("#open-settings")
    page.wait_for_selector("#text_temperature", state="attached")  # what the server says of itself has come
    assert page.locator("#persona").is_hidden()
    server.info |= {"voices": ["NATF0", "NATF2"], "persona": "You are kind."}
    page.reload()
    page.click("#open-settings")
    page.select_option("#voice", "NATF2")
    page.locator("#role").fill("You are a pirate.")
    page.click("#become")
    page.reload()
    talk(page)
    assert server.queries == [
        {"audio": "pcm", "captions": "1", "voice_prompt": "NATF2", "text_prompt": "You are a pirate."}
    ]
    page.click("#open-settings")
    assert page.locator("#persona").is_hidden()  # the server that answered has another model now


@pytest.mark.parametrize("mark", ["?", "#"])
def test_the_token_leaves_the_address_and_is_kept(page: Page, server: PageServer, mark: str) -> None:
    page.goto(f"{server.url}{mark}token=secret")
    page.reload()
    assert "secret" not in page.url
    talk(page)
    assert server.queries == [{"audio": "pcm", "captions": "1", "token": "secret"}]


def test_the_microphone_and_the_speaker_can_be_tested(page: Page, server: PageServer) -> None:
    page.click("#open-settings")
    page.uncheck("#autoGainControl")  # it would make the hum too loud
    page.click("#test-microphone")
    page.get_by_text(re.compile(r"Loudest: -\d+ dB. That is fine.$")).wait_for()
    page.click("#test-speaker")
    page.get_by_text("If you heard nothing").wait_for()
    assert page.locator("#speaker option").count() > 1  # devices have names once the microphone was allowed
    assert server.queries == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_can_be_read(chromium: Browser, server: PageServer, scheme: str) -> None:
    size: Any = {"width": 360, "height": 640}
    with browser.page(chromium, server.url, viewport=size, color_scheme=scheme) as page:
        assert contrast(page, "#status", "--soft") >= 4.5
        assert contrast(page, "#status", "--ink") >= 7
        assert contrast(page, "#status", "--you") >= 4.5
        talk(page)
        server.say(b"\x02 " + b"Donaudampfschifffahrt" * 4)
        page.wait_for_selector("#transcript .moshi")
        for part in ("documentElement", "body.querySelector('main')"):
            assert page.evaluate(f"document.{part}.scrollWidth") <= 360
        for button in page.locator("button:visible").all():
            box = button.bounding_box()
            assert box
            assert box["height"] >= 36


def contrast(page: Page, place: str, name: str) -> float:
    """WCAG's contrast of one of the page's colours to its paper."""

    def luminance(variable: str) -> float:
        style = "getComputedStyle(document.documentElement)"
        colour = page.evaluate(f"{style}.getPropertyValue('{variable}')").strip()
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    light, dark = sorted([luminance(name), luminance("--paper")], reverse=True)
    return (light + 0.05) / (dark + 0.05)
