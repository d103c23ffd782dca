"""The models on this machine: those in the package and in a cache made by hand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from moshi_mlx.checkpoint import catalogue
from moshi_mlx.checkpoint.catalogue import Model, describe, models
from moshi_mlx.checkpoint.random_checkpoint import TINY_PERSONA, write_random_checkpoint
from tests.hub_stub import fill_cache


def test_complete_models_of_the_cache_are_found_and_the_hub_not_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_folder: Path
) -> None:
    program = (
        "from moshi_mlx.checkpoint.catalogue import cached_models, free_disk\n"
        "print(cached_models({'moshiko-q4': 'kyutai/moshiko-mlx-q4', 'moshiko-q8': 'kyutai/moshiko-mlx-q8'}))\n"
        "print(free_disk()[0], free_disk()[1] > 0)\n"
    )

    def run(cache: Path) -> list[str]:
        monkeypatch.setenv("HF_HUB_CACHE", str(cache))
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    files = {path.name: path.read_bytes() for path in tiny_folder.iterdir()}
    cut = {"model.safetensors": files["model.safetensors"][:-1000]}
    fill_cache(tmp_path / "hub", "kyutai/moshiko-mlx-q4", files)
    fill_cache(tmp_path / "hub", "kyutai/moshiko-mlx-q8", files | cut)
    fill_cache(tmp_path / "hub", "another/model", {"model.safetensors": bytes(10)})
    size = sum(map(len, files.values()))
    assert run(tmp_path / "hub") == [f"{{'moshiko-q4': {size}}}", f"{tmp_path / 'hub'} True"]
    assert run(tmp_path / "never" / "made") == ["{}", f"{tmp_path / 'never' / 'made'} True"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setattr(catalogue, "cache_folder", lambda: tmp_path / "hub")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def listed() -> dict[str, Model]:
    return {model.name: model for model in models()}


def test_without_a_cache_there_are_the_models_of_the_package(cache: Path) -> None:
    found = models()
    assert [model.name for model in found] == ["nano", "nano-stt", "nano-persona"]
    assert {(model.repo, model.used, model.complete) for model in found} == {(None, None, True)}
    assert max(found[1].nbytes, found[2].nbytes) < 10e6 < found[0].nbytes < 100e6


def test_models_are_listed_with_what_they_lack(cache: Path, tiny_folder: Path) -> None:
    files = {path.name: path.read_bytes() for path in tiny_folder.iterdir()}
    weights = files.pop("model.safetensors")
    fill_cache(cache, "kyutai/moshika-mlx-q8", files | {"model.safetensors": weights})
    fill_cache(cache, "someone/fine-tuned", files)
    found = listed()
    assert list(found) == ["nano", "nano-stt", "nano-persona", "moshika-q8", "someone/fine-tuned"]
    assert found["moshika-q8"].complete
    assert found["moshika-q8"].nbytes == sum(map(len, files.values())) + len(weights)
    assert found["someone/fine-tuned"].problem == "model.safetensors is not here"


def test_a_part_of_a_file_is_counted(cache: Path) -> None:
    fill_cache(cache, "kyutai/moshiko-mlx-q4", {})
    blobs = cache / "models--kyutai--moshiko-mlx-q4" / "blobs"
    blobs.mkdir()
    (blobs / "abc.incomplete").write_bytes(bytes(1000))
    model = listed()["moshiko-q4"]
    assert (model.complete, model.nbytes) == (False, 1000)


def test_models_of_other_families_are_not_listed(cache: Path) -> None:
    fill_cache(cache, "another/llama", {"config.json": b'{"model_type": "llama", "dim": 1}'})
    fill_cache(cache, "another/broken", {"config.json": b"{"})
    (cache / "datasets--another--one").mkdir()
    for name in ("models--alone", "models--a--b--c"):
        (cache / name).mkdir()
    assert list(listed()) == ["nano", "nano-stt", "nano-persona"]


def test_bits_are_those_of_all_weights_that_a_file_holds(tmp_path: Path) -> None:
    folder = write_random_checkpoint(tmp_path / "persona", TINY_PERSONA)  # half of its depth steps are never run
    assert describe(str(folder))["bits_per_weight"] == pytest.approx(32, abs=0.1)


def test_blobs_are_counted_once(cache: Path, tiny_folder: Path) -> None:
    blob = cache / "models--kyutai--moshiko-mlx-q8" / "blobs" / "abc"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(bytes(500))
    os.utime(blob, (1_000_000, 2_000_000))
    fill_cache(cache, "kyutai/moshiko-mlx-q8", {"a": blob, "b": blob}, "v1")
    model = listed()["moshiko-q8"]
    assert model.nbytes == 500
    assert model.used == 1_000_000
