"""The page tells which models the server has, and where none of them talks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests import browser
from tests.page_server import PageServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())

STT = {"id": "stt-1b", "state": "unloaded", "tasks": ["transcribe"]}
MOSHI = {"id": "moshiko-q4", "state": "ready", "tasks": ["talk"]}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser.browser() as started:
        yield started


def test_the_models_stand_in_the_settings_as_they_are_now(chromium: Browser) -> None:
    with PageServer() as server:
        server.info |= {"state": "ready", "models": [MOSHI, STT], "talks": True}
        with browser.page(chromium, server.url) as page:
            page.click("#open-settings")
            rows = page.locator("#served-models li")
            rows.nth(1).wait_for()
            assert rows.all_inner_texts() == [
                "moshiko-q4: talk; ready",
                "stt-1b: transcribe; loaded when asked for",
            ]
            page.keyboard.press("Escape")
            server.info["models"] = [MOSHI, STT | {"state": "ready"}]
            page.click("#open-settings")
            page.locator("#served-models li", has_text="stt-1b: transcribe; ready").wait_for()
            assert page.is_enabled("#talk")


def test_a_server_that_does_not_talk_says_what_it_does(chromium: Browser) -> None:
    with PageServer() as server:
        server.info |= {"state": "ready", "model": "stt-1b", "models": [STT], "talks": False}
        with browser.page(chromium, server.url) as page:
            page.get_by_text("Nobody to talk with.").wait_for()
            page.get_by_text(f"This server works for programs (transcribe), at {server.url}v1/.").wait_for()
            assert page.is_disabled("#talk")
