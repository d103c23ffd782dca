"""Groups of options: a command takes them as one parameter, a person sees the options."""

from dataclasses import dataclass, fields
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from moshi_mlx.checkpoint import nano
from moshi_mlx.cli.main import program
from moshi_mlx.cli.options import ModelOptions, SamplingOptions
from moshi_mlx.sampling_config import SamplingConfig


@dataclass(frozen=True)
class Colours:
    """Two options, and what is none."""

    pen: Annotated[str, typer.Option("--pen", "-p", help="Of the letters.")] = "black"
    paper: Annotated[int, typer.Option(min=0, max=255, help="Of the page.")] = 255
    made_by: str = "nobody"


def letter(
    text: Annotated[str, typer.Argument()],
    *,
    colours: Colours,
    loud: Annotated[bool, typer.Option("--loud")] = False,
) -> None:
    """Write a letter."""
    print(text, colours, loud)


@pytest.mark.parametrize(
    ("words", "colours"),
    [
        ([], Colours()),
        (["--pen", "red", "--paper", "0"], Colours("red", 0)),
        (["--loud", "-p", "red"], Colours("red")),
    ],
)
def test_a_group_gets_what_was_given(words: list[str], colours: Colours) -> None:
    done = CliRunner().invoke(program(letter), ["hello", *words])
    assert (done.exit_code, done.stdout) == (0, f"hello {colours} {'--loud' in words}\n")


def test_help_shows_the_options_of_a_group_where_it_stands() -> None:
    done = CliRunner().invoke(program(letter), ["--help"])
    assert "Write a letter." in done.stdout
    places = [done.stdout.index(word) for word in ("--pen", "Of the letters", "--paper", "Of the page", "--loud")]
    assert places == sorted(places)
    assert "made" not in done.stdout


@pytest.mark.parametrize("words", [["--paper", "256"], ["--made-by", "me"], ["--pen"]])
def test_wrong_usage_of_a_group_is_wrong_usage(words: list[str]) -> None:
    assert CliRunner().invoke(program(letter), ["hello", *words]).exit_code == 2


def test_every_setting_of_the_sampler_is_an_option() -> None:
    names = {field.name for field in fields(SamplingOptions)}
    assert names == {"seed", *(field.name for field in fields(SamplingConfig))}


def test_what_was_given_goes_into_the_checkpoint_and_its_note_is_said() -> None:
    said: list[str] = []
    sampling = SamplingOptions(seed=3, text_top_k=7, audio_temperature=0.0)
    found = ModelOptions("nano", offline=True).resolve(sampling, said.append)
    assert (found.sampling.text_top_k, found.sampling.audio_temperature) == (7, 0.0)
    default = ModelOptions("nano", offline=True).resolve(SamplingOptions(), said.append)
    assert found.sampling.text_temperature == default.sampling.text_temperature
    assert said == [nano.greeting()] * 2
