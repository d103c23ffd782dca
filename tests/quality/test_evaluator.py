"""Candidates against a reference: recipes, windows, codecs, samplers and other checkpoints."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.random_checkpoint import TINY, write_random_checkpoint
from moshi_mlx.errors import CheckpointError, ConfigError, QuantizationError
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.layers import parameter_bytes
from moshi_mlx.quality.candidates import Candidate, apply_recipe, dense_twin, find_candidate, parse_candidate
from moshi_mlx.quality.conversations import hear_recordings
from moshi_mlx.quality.evaluator import Evaluator, Quality, bandwidths, sampler, steps_to_evaluate
from moshi_mlx.quality.predictions import predict
from moshi_mlx.runtime.sampling import RowSettings, gumbel, sample
from moshi_mlx.sampling_config import GREEDY, SamplingConfig
from moshi_mlx.weights.quantization import Recipe, Scheme, parse_recipe

pytestmark = pytest.mark.slow

FRAMES = 25


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with heads wide enough for an int8 window."""
    return write_random_checkpoint(tmp_path_factory.mktemp("quality") / "wide", {**TINY, "num_heads": 2})


@pytest.fixture(scope="module")
def recording(noise_frames: np.ndarray) -> np.ndarray:
    return noise_frames[:FRAMES].reshape(-1)


@pytest.fixture(scope="module")
def told() -> list[int]:
    return []


@pytest.fixture(scope="module")
def evaluate(folder: Path, recording: np.ndarray, told: list[int]) -> Callable[[str], Quality]:
    """Hold a candidate, as a person writes it, against the small model."""
    one = Evaluator(Checkpoint.resolve(folder), [recording], seed=3, advance=told.append)
    return lambda text: one.evaluate(parse_candidate(text))


def test_the_same_model_is_no_different(evaluate: Callable[[str], Quality], folder: Path, told: list[int]) -> None:
    for text in ("bf16", str(folder)):
        found = evaluate(text)
        assert found.kl.value == found.changed.value == found.hidden_error.value == 0
        assert found.top1_text.value == found.top1_audio.value == 1
        assert found.bytes == parameter_bytes(Checkpoint.resolve(folder).load_lm())
    assert found.steps == FRAMES + 1 + 7 + 50  # one unheard, 0.5 s before, 4 s after
    assert sum(told) == steps_to_evaluate([np.zeros(FRAMES * 1920)], [Candidate("bf16"), Candidate("itself")])


def test_fewer_bytes_cost_more(evaluate: Callable[[str], Quality]) -> None:
    found = [evaluate(recipe) for recipe in ("q8", "q5", "q4-g64")]
    for fine, coarse in pairwise(found):
        assert coarse.bytes < fine.bytes
        assert coarse.bytes_per_frame < fine.bytes_per_frame
        assert coarse.kl.value > fine.kl.value > 0
        assert coarse.hidden_error.value > fine.hidden_error.value > 0
        assert coarse.frame_ms["M1"] < fine.frame_ms["M1"]
    for one in found:
        assert one.kl.low <= one.kl.value <= one.kl.high
        assert one.kl.value == pytest.approx(one.kl_text.value + one.kl_audio.value)
        assert one.kl.value == pytest.approx(sum(stream.kl.value for stream in one.streams))
        assert [stream.stream for stream in one.streams] == ["text", *(f"code {index}" for index in range(8))]
        assert json.loads(json.dumps(one.as_dict()))["candidate"] == one.candidate


def test_perplexities_are_of_the_tokens_drawn(evaluate: Callable[[str], Quality]) -> None:
    text, code = evaluate("q4").streams[:2]
    assert 10 < text.reference_perplexity < 128  # the likeliest 25 of 256 were drawn from
    assert 10 < code.reference_perplexity < 64  # nearly any of 64
    assert text.perplexity_delta.low < text.perplexity_delta.value < text.perplexity_delta.high


def test_an_int8_window_is_evaluated(evaluate: Callable[[str], Quality]) -> None:
    dense, int8 = evaluate("bf16"), evaluate("kv8")
    assert 0 < int8.kl.value < evaluate("q8").kl.value * 10
    assert int8.bytes == dense.bytes
    window = LmConfig.from_dict({**TINY, "num_heads": 2}).transformer.context
    cells = 2 * 2 * 64  # keys and values, layers, channels
    assert dense.bytes_per_frame - int8.bytes_per_frame == pytest.approx(window * cells * (2 - 8.5 / 8), abs=1)


def test_a_codec_is_evaluated_by_its_codes(evaluate: Callable[[str], Quality]) -> None:
    found = evaluate("codec=mlx")
    assert found.same_codes == 1
    assert found.kl.value == 0
    assert evaluate("q8").same_codes is None


def test_other_codes_show(folder: Path, recording: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Evaluator(Checkpoint.resolve(folder), [recording])
    monkeypatch.setattr(
        "moshi_mlx.quality.evaluator.hear_recordings",
        lambda *told: [np.where(codes % 4 == 0, 63 - codes, codes) for codes in hear_recordings(*told)],
    )
    found = one.evaluate(parse_candidate("codec=mlx"))
    assert found.same_codes is not None
    assert 0.5 < found.same_codes < 0.95
    assert found.kl.value > 1e-4


def test_a_sampler_changes_draws_but_no_prediction(evaluate: Callable[[str], Quality]) -> None:
    found = evaluate("audio_top_k=1")
    assert found.kl.value == 0
    assert found.streams[0].changed.value == 0  # text is as it was
    assert found.streams[1].changed.value > 0.5


def test_probabilities_are_how_often_the_sampler_draws() -> None:
    logits = 2 * np.random.RandomState(0).standard_normal(64).astype(np.float32)
    draws, config = 20_000, SamplingConfig(audio_temperature=0.9, audio_top_k=12, min_p=0.02)
    lm = LmConfig.from_dict(TINY)
    settings = RowSettings([config] * draws, "audio", 64)
    noise = gumbel(mx.array([[0, 0]], mx.uint32), draws * 64).reshape(draws, 64)
    drawn = sample(
        mx.broadcast_to(mx.array(logits), (draws, 64)), noise, settings.features, mx.array(settings.values)
    )
    counts = np.bincount(np.array(drawn), minlength=64) / draws
    np.testing.assert_allclose(sampler(config, lm)(logits[None], 1)[0], counts, atol=0.01)
    assert (counts > 0).sum() <= 12
    greedy = sampler(GREEDY, lm)(logits[None], 1)[0]
    assert greedy.tolist() == [float(index == logits.argmax()) for index in range(64)]


@pytest.mark.parametrize("scheme", [Scheme(4, 32), Scheme(5, 64), Scheme(4, 32, "mxfp4")], ids=str)
def test_a_dense_twin_predicts_what_the_quantized_model_does(folder: Path, scheme: Scheme) -> None:
    lm, random = Checkpoint.resolve(folder).load_lm(), np.random.RandomState(0)
    from moshi_mlx.quality.conversations import Conversation

    conversation = Conversation(random.randint(0, 64, (9, 8)), random.randint(0, 64, (9, 9)))
    apply_recipe(lm, Recipe("all", scheme))
    quantized = next(iter(predict(lm, conversation)))
    dense_twin(lm)
    twin = next(iter(predict(lm, conversation)))
    assert not any("Quantized" in str(type(layer)) for _, layer in lm.named_modules() if "emb" not in _)
    for ours, theirs in zip(quantized.logs, twin.logs, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_names_of_candidates(tmp_path: Path) -> None:
    assert parse_candidate("q4+kv8") == Candidate("q4+kv8", "q4", 8)
    assert parse_candidate("kv8+activations=bf16") == Candidate("kv8+activations=bf16", None, 8, "bf16")
    found = parse_candidate("mine.json+codec=rust+text_temperature=0.5+text_top_k=5")
    assert found.codec == "rust"
    assert found.sampling == {"text_temperature": 0.5, "text_top_k": 5}
    odd = tmp_path / "a+b=c"
    odd.mkdir()
    assert parse_candidate(str(odd)) == Candidate(str(odd), str(odd))
    assert parse_candidate(str(odd)).folder == odd
    assert replace(parse_candidate(str(odd)), kv_bits=8).folder is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("q4+q8", "'q8' is neither its only checkpoint or recipe nor one of kv8, codec="),
        ("codec=flac", "'codec=flac'"),
        ("", "''"),
        ("top_p=much", "top_p is 'much', a number expected"),
        ("top_p=2", "top_p is 2.0; it must be between 0.0 and 1.0"),
        ("repetition_penalty=1.1", "'repetition_penalty=1.1'"),
    ],
)
def test_other_names_are_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        parse_candidate(text)
    assert says in str(refusal.value)


def test_recipes_need_a_dense_reference(tmp_path: Path) -> None:
    checkpoint = Checkpoint.resolve(write_random_checkpoint(tmp_path / "q8", layout="mlx", scheme="q8"))
    with pytest.raises(QuantizationError, match=r"already quantized, q8.*give the bf16 checkpoint"):
        find_candidate(parse_candidate("q4"), checkpoint)
    assert find_candidate(parse_candidate("kv8"), checkpoint) is None


def test_recipes_name_layers_that_are_there(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    for names, refused in (("depformr.*", True), ("depformer.*", False)):
        file.write_text(json.dumps({"bits": 4, "layers": {names: {"bits": 8}}}))
        with pytest.raises(QuantizationError, match=r"depformer\.\*") if refused else nullcontext():
            find_candidate(parse_candidate(str(file)), Checkpoint.resolve(folder))


def test_models_with_other_streams_are_not_compared(folder: Path, tmp_path: Path) -> None:
    other = write_random_checkpoint(tmp_path / "other", {**TINY, "delays": [0] * 17})
    with pytest.raises(CheckpointError, match="other streams"):
        find_candidate(parse_candidate(str(other)), Checkpoint.resolve(folder))


def test_a_file_of_recipes_is_one(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"bits": 8, "layers": {"text_linear": False}}))
    found = find_candidate(parse_candidate(str(file)), Checkpoint.resolve(folder))
    assert found == parse_recipe(file)


def test_chips_of_several_widths_are_told_apart() -> None:
    found = bandwidths()
    assert found["M1"] == 68
    assert (found["M4 Max"], found["M4 Max 40 cores"]) == (410, 546)


def test_a_model_that_only_writes_is_evaluated_by_its_text(tmp_path: Path, recording: np.ndarray) -> None:
    config = {**TINY, "dep_q": 0, "n_q": 8, "delays": [0] * 9, "num_layers": 1}
    checkpoint = Checkpoint.resolve(write_random_checkpoint(tmp_path / "text", config))
    found = Evaluator(checkpoint, [recording[:3840]]).evaluate(parse_candidate("q4"))
    assert [stream.stream for stream in found.streams] == ["text"]
    assert found.kl.value == found.kl_text.value > 0
    assert found.kl_audio.value == 0
