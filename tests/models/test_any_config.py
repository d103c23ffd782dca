"""Whatever a config.json says: it is read, or refused in one line that names what is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from moshi_mlx.checkpoint.random_checkpoint import TINY, TINY_MIMI
from moshi_mlx.errors import ConfigError
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.mimi_config import MimiConfig
from tests.anything import changed, json_values, one_line


@pytest.mark.parametrize("kind", [LmConfig, MimiConfig])
@given(config=json_values)
def test_any_object_is_refused_in_one_line(kind: Any, config: Any) -> None:
    if isinstance(config, dict):
        with pytest.raises(ConfigError) as refused:
            kind.from_dict(config)
        one_line(refused.value)


@given(config=changed(TINY))
def test_a_changed_language_model_is_consistent_or_refused(config: dict[str, Any]) -> None:
    try:
        read = LmConfig.from_dict(config)
    except ConfigError as refused:
        one_line(refused)
        return
    assert len(read.delays) == read.n_q + 1
    assert min(read.delays) >= 0
    assert read.dep_q <= read.n_q
    assert read.transformer.dim % read.transformer.num_heads == 0
    assert max(read.text_padding_id, read.text_end_padding_id) < read.text_card


@given(config=changed(TINY_MIMI))
def test_a_changed_codec_is_consistent_or_refused(config: dict[str, Any]) -> None:
    try:
        read = MimiConfig.from_dict(config)
    except ConfigError as refused:
        one_line(refused)
        return
    assert 1920 % read.seanet.hop == 0
    assert read.positions_per_frame >= 1
