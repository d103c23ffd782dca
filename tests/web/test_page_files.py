"""The files of the page, without a browser: complete, of its own, and free of inline code."""

import re
from pathlib import Path

import pytest

from moshi_mlx.web.limits import Limits
from tests.page_server import PAGE

FILES = sorted(path for path in PAGE.rglob("*") if path.is_file())
SOURCES = [path for path in FILES if path.suffix in {".html", ".css", ".js"}]
NAMED = re.compile(r'(?:src|href)="([^"]+)"|from "([^"]+)"|new URL\("(\./[^"]+)", import\.meta\.url\)')

INLINE = re.compile(r'<script(?![^>]*\bsrc=)|<style|\son\w+="|\bstyle="|javascript:|\beval\(|new Function')


def name(path: Path) -> str:
    return path.relative_to(PAGE).as_posix()


def test_everything_that_is_named_is_there_and_everything_there_is_named() -> None:
    found = {PAGE / "index.html"}
    for path in SOURCES:
        for names in NAMED.findall(path.read_text()):
            target = (path.parent / next(filter(None, names))).resolve()
            assert target in FILES, f"{name(path)} names {target}"
            found.add(target)
    assert found == set(FILES)


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_it_asks_nobody_else_and_has_no_inline_code(path: Path) -> None:
    text = path.read_text().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://(?!localhost)|[\"'(]//", text)
    assert not INLINE.search(text)
    assert len(text.splitlines()) < 350


def test_the_policy_in_the_page_allows_only_its_own() -> None:
    policy = re.search(r'content="(default-src[^"]*)"', (PAGE / "index.html").read_text())
    assert policy
    allowed = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert allowed["default-src"] == "'none'"
    assert set(allowed.values()) == {"'none'", "'self'"}


def test_every_element_that_the_code_asks_for_exists() -> None:
    ids = re.findall(r'id="([^"]+)"', (PAGE / "index.html").read_text())
    assert len(ids) == len(set(ids))
    asked = {found for path in SOURCES for found in re.findall(r'field\("([^"]+)"', path.read_text())}
    assert len(asked) > 30
    assert asked <= set(ids)


def test_ten_pages_may_be_opened_in_a_moment() -> None:
    """A page that is refused one of its files does nothing at all."""
    files = [path for path in PAGE.rglob("*") if path.is_file()]
    assert Limits().requests.burst >= 10 * (len(files) + 2)  # /api/info and the conversation come with them
