"""What a query asks for."""

import pytest

from moshi_mlx.errors import ProtocolError
from moshi_mlx.sampling_config import MAX_SEED, SamplingConfig
from moshi_mlx.wire.query import describe, read_query, shown

DEFAULT = SamplingConfig(text_temperature=0.3, audio_top_k=100)


def test_an_empty_query_is_the_models_own_way() -> None:
    for query in ({}, {"text_temperature": "", "nobody": "knows", "image_url": "x"}):
        asked = read_query(query)
        assert (asked.sampling(DEFAULT), asked.seed, asked.steps, asked.audio) == (DEFAULT, None, None, "opus")
        assert not asked.notes


def test_every_setting_arrives() -> None:
    query = {
        "text_temperature": "0.5", "text_topk": "12", "audio_temperature": " 1e-1 ", "audio_topk": "34.0",
        "repetition_penalty": "1.5", "repetition_penalty_context": "20", "max_steps": "99", "seed": "7",
        "audio": "pcm",
    }  # fmt: skip
    asked = read_query(query)
    assert asked.sampling(DEFAULT) == SamplingConfig(
        text_temperature=0.5, text_top_k=12, audio_temperature=0.1, audio_top_k=34,
        repetition_penalty=1.5, repetition_context=20,
    )  # fmt: skip
    assert isinstance(asked.settings["audio_top_k"], int)
    assert (asked.seed, asked.steps, asked.audio, asked.notes) == (7, 99, "pcm", ())


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("text_temperature", "-1", 0.0),
        ("audio_temperature", "1e9", 2.0),
        ("text_topk", "-5", 0),
        ("audio_topk", "1" + "0" * 30, 10_000),
        ("repetition_penalty", "0", 1.0),
        ("repetition_penalty_context", "201", 200),
    ],
)
def test_what_is_out_of_range_is_moved_to_its_end_and_noted(name: str, value: str, kept: float) -> None:
    asked = read_query({name: value})
    assert kept in asked.settings.values()
    assert any(note.startswith(f"{name}={value} is out of range") for note in asked.notes)


@pytest.mark.parametrize(
    "query",
    [
        {"text_temperature": "nan"},
        {"audio_temperature": "-inf"},
        {"text_topk": "2.5"},
        {"seed": "0x10"},
        {"audio_topk": "many"},
        {"audio": "PCM"},
    ],
)
def test_what_is_no_number_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(ProtocolError, match="is not"):
        read_query(query)


def test_what_a_model_cannot_do_is_noted_and_what_is_unknown_is_not_shown() -> None:
    query = {"voice_prompt": "NATF2.pt", "text_prompt": "You are kind.", "email": "a@b.example", "seed": "4"}
    assert read_query(query).prompts == {"voice_prompt": "NATF2.pt", "text_prompt": "You are kind."}
    assert not read_query(query).notes
    assert not read_query({"voice_prompt": "", "seed": "4"}).prompts
    assert shown(query) == "voice_prompt&text_prompt&email&seed=4"


def test_kyutais_two_seeds_make_one() -> None:
    def seed(**query: str) -> int | None:
        return read_query(query).seed

    assert seed(text_seed="1", audio_seed="2") == seed(text_seed="1", audio_seed="2")
    assert seed(text_seed="1", audio_seed="2") != seed(text_seed="2", audio_seed="1")
    assert seed(seed="5", text_seed="1") == 5
    assert seed(seed="-1") is seed(text_seed="-1", audio_seed="-1") is None
    for text in ("-2", str(2**32), str(2**62)):
        made = seed(text_seed=text)
        assert made is not None
        assert 0 <= made <= MAX_SEED


def test_the_ranges_that_are_told_are_those_that_hold() -> None:
    for name, told in describe(DEFAULT).items():
        assert told["min"] <= told["default"] <= told["max"]
        assert not read_query({name: str(told["max"])}).notes
        assert read_query({name: str(told["max"] + 1)}).notes


def test_conditions_are_pairs_of_name_and_value() -> None:
    assert read_query({}).conditions == {}
    assert read_query({"condition": "description=good, mood=a=b"}).conditions == {
        "description": "good",
        "mood": "a=b",
    }
    for wrong in ("description", "=good", "description="):
        with pytest.raises(ProtocolError, match="name=value expected, such as description=good"):
            read_query({"condition": wrong})


def test_captions_are_for_who_asks_for_them() -> None:
    assert read_query({"captions": "1"}).captions
    assert not any(read_query(query).captions for query in ({}, {"captions": "0"}, {"captions": ""}))
    with pytest.raises(ProtocolError, match="captions='yes' is not a whole number"):
        read_query({"captions": "yes"})
