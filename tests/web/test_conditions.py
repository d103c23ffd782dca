"""Conditions of one conversation, as clients ask for them."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from moshi_mlx.models.conditioner_config import QUALITIES
from moshi_mlx.runtime.moshi import load
from tests.web.running import Running, run, talking

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def translator(hibiki_folder: Path) -> Iterator[Running]:
    """One place, a model with conditions."""
    running = Running(load(hibiki_folder, codec="mlx"))
    running.call(running.server.model.ready(lambda: None))
    yield running
    running.stop()


def first_audio(server: Running, query: str) -> np.ndarray:
    """The first frames that a conversation with this query answers silence with."""

    async def go() -> np.ndarray:
        async with talking(server.url, f"audio=pcm&seed=4&audio_temperature=0&text_temperature=0&{query}") as talk:
            await talk.begun()
            await talk.speak_until(lambda: len(talk.audio) >= 6, np.zeros(1920, np.float32))
            return np.stack(talk.audio[:6])

    return run(go())


def test_a_client_chooses_the_condition_of_its_conversation(translator: Running) -> None:
    own = first_audio(translator, "")
    assert np.array_equal(own, first_audio(translator, "condition=description=very_good"))
    assert not np.array_equal(own, first_audio(translator, "condition=description%3Dvery_bad"))


@pytest.mark.parametrize(("fixture", "expected"), [("translator", True), ("server", False)])
def test_info_has_the_conditions_of_the_model(
    request: pytest.FixtureRequest, fixture: str, expected: bool
) -> None:
    url = request.getfixturevalue(fixture).url
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{url}/api/info") as answer:
        conditions = json.load(answer)["conditions"]
    known = {"description": {"values": [*QUALITIES], "default": "very_good"}}
    assert conditions == (known if expected else {})


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("mood=good", "this model has no conditioner 'mood' (only description)"),
        ("description=fine", "it must be one of very_bad, bad, neutral, good, very_good"),
    ],
)
def test_a_condition_that_is_not_there_ends_the_conversation_in_words(
    translator: Running, condition: str, reason: str
) -> None:
    async def go() -> None:
        async with talking(translator.url, f"condition={condition}") as talk:
            await talk.until(lambda: talk.closed)
        assert any(reason in text.decode() for text in talk.of_kind(5))

    run(go())
    assert len(first_audio(translator, "")) == 6, "the place is free again"


def test_a_model_without_conditions_says_so(server: Running) -> None:
    async def go() -> None:
        async with talking(server.url, "condition=description=good") as talk:
            await talk.until(lambda: talk.closed)
        assert any("it takes no conditions" in text.decode() for text in talk.of_kind(5))

    run(go())
