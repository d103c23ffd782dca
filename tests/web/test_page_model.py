"""A server whose model cannot be had: its page stays, says why, and helps. `moshi-mlx serve` and a browser."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import browser
from tests.hub_stub import HubStub, use_hub
from tests.web.test_program import Program, get, serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["serve"]
pytestmark = [pytest.mark.serial, pytest.mark.slow]
needs_browser = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())
REPO = "me/tiny"
WORDS = ("--model", REPO, "--codec", "mlx", "--port", 0, "--no-browser")
Serve = Callable[..., Program]


@pytest.fixture
def hub(tiny_folder: Path) -> HubStub:
    """A hub that has a small Moshi, and trouble."""
    hub = HubStub({REPO: {path.name: path.read_bytes() for path in tiny_folder.iterdir()}})
    hub.fail()
    return hub


@pytest.fixture
def environment(hub: HubStub, tmp_path: Path) -> Iterator[dict[str, str]]:
    with hub.serving() as endpoint:
        yield use_hub(endpoint, tmp_path / "cache")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser.browser() as started:
        yield started


def url_of(program: Program) -> str:
    return program.until(r"listening on (http://localhost:\d+)\n")[1]


def test_the_server_stays_says_why_and_ends_when_told(serve: Serve, tmp_path: Path) -> None:
    environment = {"HF_ENDPOINT": "http://127.0.0.1:1", "HF_HUB_CACHE": str(tmp_path)}
    program = serve(*WORDS, "--quiet", environment=environment)
    url = url_of(program)
    program.until(r"missing why=.*cannot reach http://127\.0\.0\.1:1 for config\.json of me/tiny")
    info = json.loads(get(f"{url}/api/info")[1])
    assert info["state"] == "missing"
    assert re.fullmatch(
        r"cannot reach .*, or take nano or nano-stt or nano-persona, which are here already",
        info["problem"],
    )
    assert get(f"{url}/")[0] == 200
    assert get(f"{url}/health")[0] == 503
    assert program.end() == 130
    assert "Traceback" not in program.printed


@needs_browser
def test_try_again_loads_the_model_when_it_can_be_had(
    serve: Serve, hub: HubStub, environment: dict[str, str], chromium: Browser
) -> None:
    program = serve(*WORDS, environment=environment)
    with browser.page(chromium, url_of(program)) as page:
        notice = page.locator("#notice")
        notice.get_by_text("The model cannot be had").wait_for()
        assert "the hub failed with HTTP 500 at config.json of me/tiny" in page.inner_text("#notice-remedy")
        asked = len(hub.requests)
        page.click("#notice-action")
        browser.until(page, "document.getElementById('notice-title').textContent !== ''")
        while len(hub.requests) == asked:
            page.wait_for_timeout(20)
        notice.get_by_text("The model cannot be had").wait_for()

        hub.errors.clear()
        page.click("#notice-action")
        notice.wait_for(state="hidden")
        assert page.inner_text("#model") == REPO
        program.until(r" ready seconds=\d")
        page.click("#talk")
        page.wait_for_selector("body[data-state=talking]")
    assert program.end(signal.SIGTERM) == 0


@needs_browser
def test_who_waits_can_take_nano(serve: Serve, environment: dict[str, str], chromium: Browser) -> None:
    program = serve(*WORDS, environment=environment)
    with browser.page(chromium, url_of(program)) as page:
        page.click("#talk")
        page.wait_for_selector("body[data-state=missing]")
        assert page.inner_text("#notice-title") == "The model cannot be had"
        assert page.inner_text("#status") == "There is no model"
        page.click("#notice-other")
        page.wait_for_selector("body[data-state=talking]")
        assert page.is_hidden("#notice")
        assert page.inner_text("#model") == "nano"
        assert page.inner_text("#questions") != ""
    assert program.end(signal.SIGTERM) == 0
