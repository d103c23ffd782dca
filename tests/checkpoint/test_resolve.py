"""From a name to files: aliases, repositories, folders, files."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

from moshi_mlx.checkpoint import hub, nano
from moshi_mlx.checkpoint.checkpoint import MIMI_NAME, TOKENIZER_NAME, Checkpoint
from moshi_mlx.checkpoint.download import UnreachableError
from moshi_mlx.checkpoint.names import ALIASES, DEFAULT_MODEL
from moshi_mlx.checkpoint.random_checkpoint import lm_tensors, train_tokenizer
from moshi_mlx.errors import CheckpointError, DownloadError, QuantizationError
from moshi_mlx.models.config import MOSHI_7B, PERSONAPLEX_7B, LmConfig
from moshi_mlx.models.mimi_config import MIMI, published_shapes
from moshi_mlx.weights.quantization import SCHEMES
from moshi_mlx.weights.safetensors import TensorInfo, header_bytes, read_header
from tests.config_file import edit
from tests.hub_stub import COMMITS, fill_cache


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache on a machine without a network."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Kyutai's published files as far as a header goes; the weights are holes that take no disk."""
    base = tmp_path_factory.mktemp("full")
    config = LmConfig.from_dict(MOSHI_7B)
    mimi = {name: TensorInfo("F32", shape) for name, shape in published_shapes(MIMI).items()}
    headers = {"mimi": mimi, "bf16": lm_tensors(config, "mlx", None, "BF16")}
    headers |= {name: lm_tensors(config, "mlx", scheme, "BF16") for name, scheme in SCHEMES.items()}
    headers["torch"] = lm_tensors(config, "torch", None, "BF16")
    headers["persona"] = lm_tensors(LmConfig.from_dict(PERSONAPLEX_7B).as_stored, "torch", None, "BF16")
    for name, tensors in headers.items():
        sparse(base / name, tensors)
    (base / "tokenizer").write_bytes(train_tokenizer(32_000))
    return {path.name: path for path in base.iterdir()}


def sparse(path: Path, tensors: dict[str, TensorInfo]) -> None:
    path.write_bytes(header_bytes(tensors, {"format": "mlx"}))
    sizes = {"F32": 4, "U32": 4, "BF16": 2}
    size = sum(sizes[tensor.dtype] * int(np.prod(tensor.shape)) for tensor in tensors.values())
    os.truncate(path, path.stat().st_size + size)


def usual(full_size: dict[str, Path], lm: str) -> dict[str, bytes | Path]:
    name = "model.safetensors" if lm in ("bf16", "torch", "persona") else f"model.{lm}.safetensors"
    return {name: full_size[lm], MIMI_NAME: full_size["mimi"], TOKENIZER_NAME: full_size["tokenizer"]}


@pytest.mark.parametrize("alias", [alias for alias in ALIASES if alias.startswith("moshi")])
def test_an_alias_is_kyutais_repository_also_without_config(cache: Path, full_size, alias: str) -> None:
    voice, kind = alias.split("-")
    fill_cache(cache, f"kyutai/{voice}-mlx-{kind}", usual(full_size, kind))
    checkpoint = Checkpoint.resolve(alias, offline=True, quantization=None if kind == "bf16" else kind)
    assert checkpoint.scheme == SCHEMES.get(kind)
    assert checkpoint.lm_config == LmConfig.from_dict(MOSHI_7B)
    assert checkpoint.mimi_config == MIMI
    assert checkpoint.notes == ()
    assert Checkpoint.resolve(f"kyutai/{voice}-mlx-{kind}", offline=True).lm_weights == checkpoint.lm_weights


@pytest.mark.parametrize(
    ("alias", "config"),
    [
        ("personaplex", None),
        ("personaplex", {}),
        ("personaplex", {"model_type": "personaplex", "version": "1.0"}),
        ("personaplex-rl", PERSONAPLEX_7B | {"model_type": None, "depformer_dim_feedforward": None}),
    ],
)
def test_personaplex_is_found_with_a_config_that_says_little(cache: Path, full_size, alias: str, config) -> None:
    files = usual(full_size, "persona")
    if config is not None:
        files["config.json"] = json.dumps(config).encode()
    fill_cache(cache, ALIASES[alias], files)
    found = Checkpoint.resolve(alias, offline=True)
    assert found.lm_config == LmConfig.from_dict(PERSONAPLEX_7B)
    assert (found.lm_config.dep_q, found.lm_config.input_codebooks, found.lm_config.codebooks) == (8, 8, 8)
    # A depth step has 85 million weights: 0.68 billion of 8.37 stay where they are.
    assert found.weights.nbytes == pytest.approx(2 * 7.688e9, rel=1e-3)
    header = sum(tensor.nbytes for tensor in found.weights.tensors.values())
    assert header == pytest.approx(2 * 8.37e9, rel=1e-3)


def test_a_config_of_another_program_is_not_taken_for_personaplex(cache: Path, full_size) -> None:
    config = {"architectures": ["LlamaForCausalLM"]}
    files = usual(full_size, "persona") | {"config.json": json.dumps(config).encode()}
    fill_cache(cache, "me/personaplex-llama", files)
    with pytest.raises(CheckpointError, match="another program's"):
        Checkpoint.resolve("me/personaplex-llama", offline=True)


def test_the_default_is_moshiko_in_four_bits(cache: Path, full_size) -> None:
    assert DEFAULT_MODEL == "moshiko-q4"
    fill_cache(cache, "kyutai/moshiko-mlx-q4", usual(full_size, "q4"))
    assert Checkpoint.resolve(offline=True).name == "moshiko-q4"


def test_pytorchs_repository_is_loaded_as_it_is(cache: Path, full_size) -> None:
    files = usual(full_size, "torch") | {"config.json": json.dumps(MOSHI_7B | {"model_type": "moshi"}).encode()}
    fill_cache(cache, "kyutai/moshiko-pytorch-bf16", files)
    checkpoint = Checkpoint.resolve("kyutai/moshiko-pytorch-bf16", offline=True)
    assert checkpoint.weights.layout == "torch"
    assert checkpoint.scheme is None


def test_where_a_repository_has_several_sizes_its_name_picks(cache: Path, full_size) -> None:
    both = usual(full_size, "q4") | usual(full_size, "q8")
    for name in ("me/moshi-q4", "me/moshi-q8"):
        fill_cache(cache, name, both | {"config.json": json.dumps(MOSHI_7B).encode()})
        fill_cache_absent(cache, name, "model.safetensors")
        assert Checkpoint.resolve(name, offline=True).scheme == SCHEMES[name[-2:]]


def fill_cache_absent(cache: Path, repo: str, name: str) -> None:
    """What huggingface_hub notes when a file turned out not to exist."""
    marker = cache / f"models--{repo.replace('/', '--')}" / ".no_exist" / COMMITS["main"] / name
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()


def test_a_revision_follows_an_at_sign(cache: Path, tiny_folder: Path) -> None:
    fill_cache(cache, "me/tiny", {path.name: path for path in tiny_folder.iterdir()}, "v1")
    assert COMMITS["v1"] in Checkpoint.resolve("me/tiny@v1", offline=True).lm_weights.parts
    with pytest.raises(DownloadError, match=r"config\.json of me/tiny is not in the cache"):
        Checkpoint.resolve("me/tiny", offline=True)


def test_another_repository_without_config_is_not_guessed_offline(cache: Path, full_size) -> None:
    fill_cache(cache, "me/tiny", usual(full_size, "q4"))
    with pytest.raises(DownloadError, match=r"config\.json of me/tiny is not in the cache and --offline"):
        Checkpoint.resolve("me/tiny", offline=True)
    fill_cache_absent(cache, "me/tiny", "config.json")
    fill_cache_absent(cache, "me/tiny", "model.safetensors")
    assert Checkpoint.resolve("me/tiny", offline=True).scheme == SCHEMES["q4"]


def test_a_file_of_a_repository_can_be_named(cache: Path, tiny_folder: Path) -> None:
    files = {path.name: path for path in tiny_folder.iterdir()}
    fill_cache(cache, "me/tiny", files | {"other/weights.safetensors": tiny_folder / "model.safetensors"})
    checkpoint = Checkpoint.resolve("hf://me/tiny/other/weights.safetensors", offline=True)
    assert checkpoint.lm_weights.name == "weights.safetensors"
    assert checkpoint.tokenizer.name == "tokenizer.model"


def test_a_folder_and_a_file_in_it_are_the_same_checkpoint(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_folder.parent)
    for name in (
        str(tiny_folder),
        tiny_folder.name,
        f"./{tiny_folder.name}",
        f"file://{tiny_folder}",
        str(tiny_folder / "model.safetensors"),
    ):
        assert Checkpoint.resolve(name, offline=True).lm_weights.samefile(tiny_folder / "model.safetensors")


def test_a_folder_without_config_is_moshi_with_the_usual_names(tmp_path: Path, full_size) -> None:
    for name, path in usual(full_size, "q8").items():
        assert isinstance(path, Path)
        (tmp_path / name).symlink_to(path)
    checkpoint = Checkpoint.resolve(str(tmp_path))
    assert checkpoint.scheme == SCHEMES["q8"]
    assert checkpoint.tokenizer == tmp_path / TOKENIZER_NAME


def test_config_may_name_files_elsewhere(cache: Path, folder: Path) -> None:
    fill_cache(cache, "me/parts", {"codec.safetensors": folder / "mimi.safetensors"})
    (folder.parent / "tok.model").write_bytes((folder / "tokenizer.model").read_bytes())
    edit(
        folder, mimi_name="hf://me/parts/codec.safetensors", tokenizer_name=f"file://{folder.parent / 'tok.model'}"
    )
    checkpoint = Checkpoint.resolve(str(folder), offline=True)
    assert checkpoint.mimi_weights.name == "codec.safetensors"
    assert checkpoint.tokenizer == folder.parent / "tok.model"


def test_files_can_be_replaced_by_others(tiny_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("model.safetensors", "mimi.safetensors", "tokenizer.model", "config.json"):
        (folder / name).rename(folder / f"my-{name}")
    monkeypatch.chdir(folder)
    checkpoint = Checkpoint.resolve(
        str(tiny_folder),
        lm_weights="my-model.safetensors",
        mimi_weights="my-mimi.safetensors",
        tokenizer=str(folder / "my-tokenizer.model"),
        config="my-config.json",
    )
    for path in (checkpoint.lm_weights, checkpoint.mimi_weights, checkpoint.tokenizer):
        assert path.resolve().parent == folder


def test_nano_comes_with_the_package_and_says_what_it_knows() -> None:
    checkpoint = Checkpoint.resolve("nano", offline=True)
    assert checkpoint.lm_weights.parent == nano.FOLDER
    assert "What is the capital of France?" in checkpoint.notes[0]
    assert (checkpoint.sampling.text_temperature, checkpoint.sampling.audio_temperature) == (0, 0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("moshiko", r"there is no model 'moshiko': one of moshiko-q4, .*nano-stt, nano-persona, a hub repository"),
        ("", "there is no model ''"),
        ("a/b/c", "there is no model 'a/b/c'"),
        ("./nothing", r"\./nothing does not exist"),
        ("/nothing/here", "/nothing/here does not exist"),
        ("file:///nothing", "file:///nothing does not exist"),
        ("model.safetensors", r"model\.safetensors does not exist"),
        ("hf://a/b", "hf://owner/name/file expected"),
    ],
)  # fmt: skip
def test_names_that_mean_nothing_are_refused_with_what_could_be_meant(
    cache: Path, name: str, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.resolve(name, offline=True)


def test_sampling_is_what_the_authors_recommend(folder: Path) -> None:
    assert Checkpoint.resolve(str(folder)).sampling.text_top_k == 25
    edit(folder, lm_gen_config={"temp": 0.6, "temp_text": 0.5, "top_k": 100, "top_k_text": 50})
    sampling = Checkpoint.resolve(str(folder)).sampling
    assert (sampling.audio_temperature, sampling.text_temperature) == (0.6, 0.5)
    assert (sampling.audio_top_k, sampling.text_top_k) == (100, 50)
    edit(folder, lm_gen_config={"use_sampling": False})
    sampling = Checkpoint.resolve(str(folder)).sampling
    assert (sampling.audio_temperature, sampling.text_temperature) == (0, 0)


def test_asking_for_the_wrong_quantization_is_an_error(tiny_folder: Path, tiny_q4: Path) -> None:
    assert Checkpoint.resolve(str(tiny_q4), quantization="q4").scheme == SCHEMES["q4"]
    with pytest.raises(QuantizationError, match=r"-q asks for q8 .* is q4 .*; leave -q out"):
        Checkpoint.resolve(str(tiny_q4), quantization=8)
    with pytest.raises(QuantizationError, match=r"-q asks for q4 .* is not quantized"):
        Checkpoint.resolve(str(tiny_folder), quantization="q4")


def test_resolving_a_full_size_model_reads_headers_only(cache: Path, full_size) -> None:
    assert full_size["bf16"].stat().st_size > 15e9
    assert full_size["bf16"].stat().st_blocks * 512 < 1e6
    assert len(read_header(full_size["torch"])) == 355


WITHOUT_MLX = """
import sys
sys.modules["mlx"] = None
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.names import ALIASES

found = Checkpoint.find("nano", offline=True)
print(len(ALIASES), found.lm_config.dep_q, found.mimi_config.n_q, found.load_tokenizer().size)
print(found.lm_weights.name)
"""


def test_a_checkpoint_is_found_where_mlx_is_not_installed() -> None:
    expected = Checkpoint.resolve("nano", offline=True)
    done = subprocess.run([sys.executable, "-c", WITHOUT_MLX], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert done.stdout.split() == [
        str(len(ALIASES)),
        str(expected.lm_config.dep_q),
        str(expected.mimi_config.n_q),
        str(expected.lm_config.text_card),
        expected.lm_weights.name,
    ]


def test_a_cache_without_a_config_is_enough_where_the_hub_cannot_be_had(
    cache: Path, full_size, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def nobody(repo: str, filename: str, revision: str | None) -> None:
        asked.append(filename)
        raise UnreachableError("no answer")

    monkeypatch.setattr(hub, "ask", nobody)
    with pytest.raises(
        DownloadError, match=r"cannot reach .* for config\.json of kyutai/moshiko-mlx-q4 \(no answer\)"
    ):
        Checkpoint.resolve("moshiko-q4")
    assert asked == ["config.json"], "once, not for every file"
    fill_cache(cache, "kyutai/moshiko-mlx-q4", usual(full_size, "q4"))
    assert Checkpoint.resolve("moshiko-q4").lm_weights.exists()
