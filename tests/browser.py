"""A headless Chromium for the page, with a microphone that hears a file."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
]
GRANT = "--use-fake-ui-for-media-stream"  # says yes when the page asks for the microphone
MILLISECONDS = 60_000  # that anything may take before a test gives up


def program() -> str | None:
    """Where the browser is."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


def missing() -> str:
    """Why there can be no browser here, "" if there can."""
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed (pip install moshi-mlx[tools])"
    return "" if program() else "Chromium is not installed (scripts/system_packages.sh)"


@contextmanager
def browser(microphone: Path | None = None, grant: bool = True, loop: bool = False) -> Iterator[Browser]:
    """Start a browser. microphone: a WAV file to be heard, once or again and again; without one it beeps."""
    from playwright.sync_api import sync_playwright

    options = [*OPTIONS, *([GRANT] if grant else [])]
    if microphone:
        options.append(f"--use-file-for-fake-audio-capture={microphone}{'' if loop else '%noloop'}")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program(), headless=True, args=options)
        try:
            yield chromium
        finally:
            chromium.close()


def leave_the_microphone_alone(opened: Page) -> None:
    """Switch echo cancelling, noise suppression and gain off: what is heard is what the file holds."""
    switches = ("echoCancellation", "noiseSuppression", "autoGainControl")
    opened.evaluate(f"localStorage.setItem('moshi.preferences', '{json.dumps(dict.fromkeys(switches, False))}')")
    opened.reload()


@contextmanager
def page(chromium: Browser, url: str, **options: Any) -> Iterator[Page]:
    """Open a page in a fresh profile; errors of the page are errors of the test.

    options: of `Browser.new_context`, as viewport and color_scheme.
    """
    context = chromium.new_context(accept_downloads=True, **options)
    context.set_default_timeout(MILLISECONDS)
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda message: _refused(message.text, errors))
    try:
        opened.goto(url)
        yield opened
    finally:
        context.close()
    assert not errors, errors


def until(opened: Page, condition: str) -> None:
    """Wait until an expression is true. `Page.wait_for_function` would need what the page's policy forbids."""
    looking = f"const look = () => ({condition}) || Date.now() > end ? done() : setTimeout(look, 20); look();"
    opened.evaluate(f"const end = Date.now() + {MILLISECONDS}; new Promise((done) => {{ {looking} }})")
    assert opened.evaluate(condition), f"{condition}: not within {MILLISECONDS / 1000:g} s"


def _refused(text: str, errors: list[str]) -> None:
    """What the page's policy forbids is told on the console alone."""
    if "Content Security Policy" in text:
        errors.append(text)
