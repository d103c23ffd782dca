"""Values that no model could make right are refused before anything is fetched: exit code 2, in every command."""

from collections.abc import Callable
from pathlib import Path

import pytest

from moshi_mlx.checkpoint import download
from tests.cli.conftest import QUESTION, Done
from tests.cli.test_no_network import moshi
from tests.hub_stub import HubStub

MODEL = ["--model", "moshiko-q4"]
RUN = ["run", str(QUESTION), *MODEL]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([*RUN, "--text-temperature", "11"], "text_temperature is 11.0; it must be between 0.0 and 10.0"),
        ([*RUN, "--min-p", "nan"], "min_p is nan; it must be between 0.0 and 1.0"),
        ([*RUN, "--seed", "-1"], "--seed"),
        ([*RUN, "-q", "7"], "quantization '7' is unknown; one of q4"),
        ([*RUN, "--codec", "gpu"], "--codec"),
        (["transcribe", str(QUESTION), "-q", "7"], "quantization '7' is unknown"),
        (["chat", *MODEL, "--top-p", "2"], "top_p is 2.0"),
        (["chat", *MODEL, "-q", "none"], "quantization 'none' is unknown"),
        (["serve", *MODEL, "-q", "q9"], "quantization 'q9' is unknown"),
        (["serve", *MODEL, "--codec", "opus"], "--codec"),
        (["serve", *MODEL, "--port", "65536"], "--port"),
        (["bench", *MODEL, "-q", "7"], "quantization '7' is unknown"),
        (["bench", *MODEL, "--codec", "gpu"], "--codec"),
        (["bench", "--shape", "moshi-8b"], "there is no shape 'moshi-8b'; choose one of moshi-7b"),
        (["bench", "-q", "7"], "weights cannot be '7' here"),
        (["quantize", "moshiko-q4", "made", "--recipe", "q7"], "recipe 'q7' is unknown"),
        (["quantize", "moshiko-q4", "made", "--budget", "much"], "'much' is not a size such as 4.2GB"),
        (["quantize", "moshiko-q4"], "DST is missing"),
        (["quality", "moshiko-q4", "q4+q8"], "'q8' is neither its only checkpoint or recipe"),
        (["quality", "moshiko-q4", "q7"], "there is no model 'q7'"),
    ],
    ids=lambda value: " ".join(value[:1] + value[-2:]) if isinstance(value, list) else "",
)
def test_a_wrong_value_is_refused_and_the_hub_not_asked(tmp_path: Path, words: list[str], says: str) -> None:
    hub = HubStub()
    with hub.serving() as endpoint:
        done = moshi(endpoint, tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert hub.requests == []


@pytest.mark.parametrize("value", ["0.5", "soon", ""])
@pytest.mark.parametrize("name", download.WHOLE_SECONDS)
def test_a_variable_that_the_hub_library_cannot_read_is_one_line(
    moshi_cli: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    done = moshi_cli("models", "list")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"error: {name}={value} in the environment is not a whole number of seconds")


def test_layers_are_listed_from_the_config_alone(tmp_path: Path, tiny_folder: Path) -> None:
    hub = HubStub({"me/tiny": {path.name: path.read_bytes() for path in tiny_folder.iterdir()}})
    with hub.serving() as endpoint:
        done = moshi(endpoint, tmp_path, "quantize", "me/tiny", "--list-layers", "--recipe", "mixed")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["layer", "shape", "mixed"]
    heads = {row[0]: row for row in rows}
    assert heads["transformer.layers.*.self_attn.in_proj"][1:5] == ["2", "192", "x", "64"]
    assert heads["transformer.layers.*.self_attn.in_proj"][5:] != heads["text_linear"][5:]
    assert not any(name.endswith("safetensors") for name in hub.requests if name.startswith("GET"))
