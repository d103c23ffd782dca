"""PersonaPlex: whose codebooks are whose, the depth steps that are never loaded, and that it hears."""

import json
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.random_checkpoint import TINY, TINY_PERSONA, write_random_checkpoint
from moshi_mlx.doctor.probe import measure_model
from moshi_mlx.errors import CheckpointError, ConfigError
from moshi_mlx.models.config import MOSHI_7B, PERSONAPLEX_7B, LmConfig
from moshi_mlx.models.layers import parameters
from moshi_mlx.planning.planner import size_of
from moshi_mlx.quantize.writer import make_checkpoint
from moshi_mlx.runtime.moshi import load
from moshi_mlx.runtime.session import Session
from moshi_mlx.sampling_config import GREEDY
from moshi_mlx.weights.quantization import parse_recipe
from moshi_mlx.weights.safetensors import read_header, write
from tests.memory import active_memory

TWO_VOICES = [0, *[0, 1, 1, 1] * 2]
WIDE = TINY_PERSONA | {"depformer_dim": 256, "depformer_num_layers": 4}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same model as NVIDIA, as people with MLX, and as moshi-mlx quantize writes it."""
    base = tmp_path_factory.mktemp("persona")
    made = {
        "torch": write_random_checkpoint(base / "torch", TINY_PERSONA),
        "mlx": write_random_checkpoint(base / "mlx", TINY_PERSONA, layout="mlx"),
        "q8": write_random_checkpoint(base / "q8", TINY_PERSONA, layout="mlx", scheme="q8"),
        "q4": write_random_checkpoint(base / "q4", TINY_PERSONA, layout="mlx", scheme="q4"),
    }
    (made["torch"] / "voices.tgz").write_bytes(b"voices")
    make_checkpoint(Checkpoint.resolve(made["torch"]), base / "ours", parse_recipe("q8"))
    return made | {"ours": base / "ours"}


def heard(session: Session, frames: np.ndarray) -> list[list[int]]:
    """Greedy text tokens and codes of a talk."""
    tokens = []
    for frame in frames:
        made = session.generate(session.encode(frame))
        tokens.append([made.text_id, *([] if made.codes is None else made.codes.tolist())])
    return tokens


def test_the_delays_say_which_codebooks_are_the_users() -> None:
    config = LmConfig.from_dict(PERSONAPLEX_7B)
    plain = LmConfig.from_dict(MOSHI_7B)
    assert config.takes_prompt
    assert not plain.takes_prompt
    assert config.depth
    assert plain.depth
    assert config.depth.stored_schedule == tuple(range(16))
    assert replace(config, depth=plain.depth, takes_prompt=False) == plain
    assert replace(config.depth, stored_schedule=plain.depth.stored_schedule) == plain.depth
    assert size_of(config) == size_of(plain)
    stored = config.as_stored
    assert (stored.dep_q, stored.n_q) == (16, 16)
    assert stored.depth
    assert stored.depth.transformer.context == 16
    assert plain.as_stored == plain


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"n_q": 8, "dep_q": 8, "delays": TWO_VOICES}, 4),
        ({"n_q": 8, "dep_q": 8, "delays": [0, 0, *[2] * 7]}, 8),  # one voice: speech synthesis
        ({"n_q": 8, "dep_q": 8, "delays": [0] * 9}, 8),  # nothing tells two from one
        ({"n_q": 8, "dep_q": 8, "delays": [0, *[1, 0, 0, 0] * 2]}, 8),
        ({"n_q": 2, "dep_q": 2, "delays": [0, 0, 0]}, 2),
        ({"n_q": 8, "dep_q": 4, "delays": TWO_VOICES}, 4),
        ({"n_q": 7, "dep_q": 7, "delays": [0, 0, 1, 1, 0, 1, 1, 1]}, 7),
    ],
)
def test_only_delays_of_two_equal_voices_halve_the_codebooks(changes: dict, steps: int) -> None:
    config = LmConfig.from_dict(TINY | changes)
    assert config.dep_q == steps
    assert config.takes_prompt == (steps < changes["dep_q"])


def test_a_personaplex_without_ears_is_refused() -> None:
    with pytest.raises(ConfigError, match="two equal groups"):
        LmConfig.from_dict(TINY_PERSONA | {"delays": [0] * 17})


@pytest.mark.parametrize("kind", ["torch", "mlx", "q8", "q4", "ours"])
def test_personaplex_hears_and_gives_the_codec_its_own_voice_alone(
    folders: dict[str, Path], kind: str, noise_frames: np.ndarray
) -> None:
    moshi = load(str(folders[kind]), codec="mlx")
    quiet = heard(moshi.session(1, GREEDY), np.zeros_like(noise_frames[:20]))
    loud = heard(moshi.session(1, GREEDY), 5 * noise_frames[:20])
    assert {len(tokens) for tokens in loud[1:]} == {9}
    assert quiet[0] == loud[0]  # the first frame is not heard
    assert quiet != loud


def test_both_layouts_and_our_own_quantized_file_hold_one_model(folders: dict[str, Path]) -> None:
    torch, mlx = (parameters(Checkpoint.resolve(folders[kind]).load_lm()) for kind in ("torch", "mlx"))
    assert torch.keys() == mlx.keys()
    assert all(mx.array_equal(torch[name], mlx[name]) for name in torch)
    assert not any(name.startswith("depformer.slices.8.") for name in torch)
    config = json.loads((folders["ours"] / "config.json").read_text())
    assert (config["dep_q"], config["model_type"]) == (8, "personaplex")
    assert not any(".slices.8." in name for name in read_header(folders["ours"] / "model.safetensors"))
    assert (folders["ours"] / "voices.tgz").read_bytes() == b"voices"
    found = Checkpoint.resolve(folders["ours"]).lm_config
    assert found.takes_prompt
    assert found.delays == LmConfig.from_dict(TINY_PERSONA).delays


@pytest.mark.parametrize("layout", ["torch", "mlx"])
def test_only_the_steps_that_are_run_are_in_memory(tmp_path: Path, layout: str) -> None:
    weights = Checkpoint.resolve(write_random_checkpoint(tmp_path / "model", WIDE, layout=layout)).weights
    stored = sum(tensor.nbytes for tensor in weights.tensors.values())
    before = active_memory()
    lm = weights.load()
    used = active_memory() - before
    assert used == pytest.approx(weights.nbytes, rel=0.02)
    assert weights.nbytes < 0.65 * stored
    del lm


def test_a_tensor_beyond_the_steps_of_the_config_is_still_too_many(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    path = folders["mlx"] / "model.safetensors"
    tensors = read_header(path)
    for name in ("depformer.slices.16.linear_out.weight", "other.weight"):
        made = tmp_path / f"{name}.safetensors"
        arrays = dict(mx.load(str(path)).items())  # type: ignore[union-attr]
        write(
            made,
            tensors | {name: tensors["out_norm.weight"]},
            (np.array(arrays.get(key, arrays["out_norm.weight"])) for key in (*tensors, name)),
        )
        with pytest.raises(CheckpointError, match=f"holds {name}"):
            Checkpoint.resolve(folders["mlx"], lm_weights=str(made))


def test_doctor_counts_the_weights_that_are_loaded(folders: dict[str, Path]) -> None:
    size, bits, _ = measure_model(str(folders["torch"]), check=False)
    assert bits == pytest.approx(32, rel=0.02)
    assert size == size_of(LmConfig.from_dict(TINY_PERSONA))
