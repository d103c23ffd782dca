"""Reading a `mimi_config`, and what is said when it or a weights file asks for something else."""

from copy import deepcopy
from dataclasses import replace

import mlx.core as mx
import pytest

from moshi_mlx.errors import CheckpointError, ConfigError
from moshi_mlx.models.mimi import Mimi
from moshi_mlx.models.mimi_config import MIMI, MimiConfig, published_shapes
from tests.random_mimi import SMALL_MIMI

CONFIG = MimiConfig.from_dict(SMALL_MIMI)

PUBLISHED = {
    "sample_rate": 24000, "channels": 1, "frame_rate": 12.5,
    "seanet": {**SMALL_MIMI["seanet"], "dimension": 512, "n_filters": 64},
    "quantizer": {"dimension": 256, "n_q": 32, "bins": 2048, "input_dimension": 512, "output_dimension": 512},
    "transformer": {
        **SMALL_MIMI["transformer"], "d_model": 512, "num_heads": 8, "num_layers": 8, "context": 250,
        "dim_feedforward": 2048, "input_dimension": 512, "output_dimensions": [512],
    },
}  # fmt: skip


def changed(section: str | None, **fields: object) -> dict:
    config = deepcopy(SMALL_MIMI)
    (config[section] if section else config).update(fields)
    return config


def test_the_published_config_is_the_default() -> None:
    assert MimiConfig.from_dict(PUBLISHED) == MIMI == MimiConfig()


def test_the_published_file_has_318_tensors_and_its_size() -> None:
    shapes = published_shapes(MIMI)
    values = sum(int(mx.array(shape).prod()) for shape in shapes.values())
    assert (len(shapes), values) == (318, 96_151_393)  # 384,644,900 bytes with the header, as published


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (changed("seanet", ratios=[8, 6, 5, 3]), "'seanet.ratios' is [8, 6, 5, 3], 720 samples in all"),
        (changed("seanet", ratios=[8, 6, 5, 8]), "1920 samples in all"),
        (changed("seanet", causal=False), "'seanet.causal' is False; only True is supported"),
        (changed("seanet", pad_mode="reflect"), "'seanet.pad_mode' is 'reflect'"),
        (changed("seanet", lstm=2), "'seanet.lstm' is 2; this is not supported"),
        (changed("quantizer", input_dimension=16), "'quantizer.input_dimension' is 16; only 32 is supported"),
        (changed("quantizer", n_q=1), "'quantizer.n_q' is 1; it must be a number, at least 2"),
        (changed("transformer", d_model=64), "'transformer.d_model' is 64; only 32 is supported"),
        (changed("transformer", gating="silu"), "'transformer.gating' is 'silu'"),
        (
            changed("transformer", num_heads=5),
            "num_heads' is 5; it must split 32 channels into heads of even width",
        ),
        (changed(None, frame_rate=25), "'frame_rate' is 25"),
        (changed(None, resample_method="avg_pool"), "'resample_method' is 'avg_pool'; this is not supported"),
        (changed(None, seanet=None), "'seanet' is None; it must be a group of fields"),
        ({}, "'seanet' is missing"),
    ],
)
def test_a_config_we_cannot_follow_is_refused_by_field(config: dict, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        MimiConfig.from_dict(config)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_other_strides_that_make_whole_frames_are_read() -> None:
    assert MimiConfig.from_dict(changed("seanet", ratios=[8, 5, 4, 4])).positions_per_frame == 3


@pytest.fixture
def weights() -> dict[str, mx.array]:
    return {name: mx.zeros(shape) for name, shape in published_shapes(CONFIG).items()}


def test_missing_weights_are_named(weights: dict[str, mx.array]) -> None:
    for name in list(weights):
        if name.startswith("downsample") or ".layers.1._codebook" in name:
            del weights[name]
    with pytest.raises(CheckpointError, match=r"lack downsample\.conv\.conv\.conv\.weight, .* and 1 more"):
        Mimi.sanitize(weights, CONFIG, 6)


def test_extra_weights_are_named(weights: dict[str, mx.array]) -> None:
    with pytest.raises(CheckpointError, match=r"hold encoder\.model\.99\.bias, which the config has no place for"):
        Mimi.sanitize({**weights, "encoder.model.99.bias": mx.zeros(3)}, CONFIG, 6)


def test_weights_of_wrong_shape_are_named_with_both_shapes(weights: dict[str, mx.array]) -> None:
    message = r"encoder\.model\.0\.conv\.conv\.weight with shape \(8, 1, 7\) instead of \(8, 1, 5\)"
    config = replace(CONFIG, seanet=replace(CONFIG.seanet, kernel_size=5))
    with pytest.raises(CheckpointError, match=message):
        Mimi.sanitize(weights, config, 6)


def test_every_weight_of_a_file_finds_its_place(weights: dict[str, mx.array]) -> None:
    Mimi(CONFIG, 6).load_weights(list(Mimi.sanitize(weights, CONFIG, 6).items()), strict=True)
