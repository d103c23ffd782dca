"""The page and the server as people use them: `moshi-mlx serve` with Nano, a browser, and a spoken question."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moshi_mlx.checkpoint import nano
from tests import browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.serial, pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())]

SECONDS = 60.0
ANSWER = 30.0  # seconds


class Program:
    """`moshi-mlx serve`, as a process."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}/"

    def start(self) -> None:
        command = ["serve", "--model", "nano", "--no-browser", "--port", str(self.port), "--max-sessions", "2"]
        command += ["--drain-seconds", "0"]  # it is ended in the middle of a conversation
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moshi_mlx", *command],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert self._process.stderr
        told = []
        for line in self._process.stderr:
            told.append(line)
            if found := re.search(r"http://localhost:(\d+)", line):
                self.port = int(found[1])
                break
        else:
            pytest.fail("".join(told))
        self._drain = threading.Thread(target=self._process.stderr.read)
        self._drain.start()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(SECONDS) == 0
        self._drain.join()
        assert self._process.stderr
        self._process.stderr.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Program]:
    program = Program()
    yield program
    program.stop()


@pytest.fixture(scope="module")
def question() -> str:
    """The first one of the recording that comes with the package."""
    return nano.captions()[0]["text"]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser whose microphone hears that question, a pause for the answer, the question, ..."""
    import soundfile

    first = nano.captions()[0]
    pcm, rate = soundfile.read(nano.RECORDING, dtype="float32")
    speech = pcm[int(first["begin"] * rate) : int((first["end"] + 0.1) * rate)]
    path = tmp_path_factory.mktemp("question") / "question.wav"
    pauses = [np.zeros(round(seconds * rate), np.float32) for seconds in (1.0, 3.5)]
    soundfile.write(path, np.concatenate([pauses[0], speech, pauses[1]]), rate)
    with browser.browser(path, loop=True) as started:
        yield started


def talk(page: Page) -> None:
    page.set_default_timeout(1000 * SECONDS)
    page.click("#talk")
    page.wait_for_selector("body[data-state=talking]")


def answered(page: Page, question: str, times: int = 1) -> None:
    """Wait for the words of the answer."""
    from playwright.sync_api import TimeoutError as TooLate

    answer = page.locator("#transcript .moshi", has_text=nano.questions()[question])
    try:
        answer.nth(times - 1).wait_for(timeout=1000 * ANSWER)
    except TooLate as error:
        left_out = page.inner_text("#dropped")
        raise AssertionError(
            f"no answer within {ANSWER:g} s; {left_out} of sound were left out: the machine must be quick enough "
            "for a browser and Nano at once"
        ) from error


def test_two_tabs_talk_at_once_and_a_third_waits(server: Program, chromium: Browser) -> None:
    with (
        browser.page(chromium, server.url) as one,
        browser.page(chromium, server.url) as two,
        browser.page(chromium, server.url) as three,
    ):
        talk(one)
        talk(two)
        three.click("#talk")
        three.locator("#status", has_text="you are next").wait_for()
        for tab in (one, two):
            tab.wait_for_selector("#transcript .moshi")  # which words, depends on how fast the machine is
        one.locator("#sessions", has_text="2, 1 waiting").wait_for(state="attached")
        one.reload()  # its place is free at once; an end that can be taken back keeps it for five seconds more
        three.wait_for_selector("body[data-state=talking]")


def test_a_spoken_question_is_answered_in_words_and_aloud(
    server: Program, chromium: Browser, question: str, tmp_path: Path
) -> None:
    import soundfile

    with browser.page(chromium, server.url) as page:
        browser.leave_the_microphone_alone(page)
        talk(page)
        assert page.inner_text("#model") == "nano"
        answered(page, question)
        page.wait_for_selector("#delay:not(:text('–'))", state="attached")
        with page.expect_event("download", lambda download: download.suggested_filename.endswith(".wav")) as saved:
            page.click("#save")
        saved.value.save_as(tmp_path / "talk.wav")
        left, right = soundfile.read(tmp_path / "talk.wav")[0].T
        assert np.abs(left).max() > 0.05
        assert np.abs(right).max() > 0.05
        assert (right**2).sum() > 0.02 * (left**2).sum()
        page.keyboard.press("r")
        page.get_by_text("A new conversation").wait_for()
        answered(page, question, times=2)
        page.reload()
        talk(page)
        assert page.inner_text("#transcript") == ""


def test_the_page_finds_a_restarted_server_by_itself(server: Program, chromium: Browser) -> None:
    with browser.page(chromium, server.url) as page:
        browser.leave_the_microphone_alone(page)
        talk(page)
        server.stop()
        page.wait_for_selector("body[data-state=waiting]")
        server.start()
        page.wait_for_selector("body[data-state=talking]")
        page.get_by_text("A new conversation").wait_for()
