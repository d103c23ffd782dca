"""Training a model that only listens: the loss of its text and of its voice activity heads."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_unflatten

from moshi_mlx.checkpoint.random_checkpoint import TINY, TINY_STT
from moshi_mlx.finetune.loss import Batch, delayed, losses
from moshi_mlx.finetune.parameters import train_all
from moshi_mlx.finetune.settings import Settings
from moshi_mlx.finetune.trainer import Trainer
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.layers import parameters
from moshi_mlx.models.lm import Lm
from tests.random_weights import random_tensor

HEADS, CLASSES, FRAMES = 4, 6, 20


def model() -> Lm:
    lm = Lm(LmConfig.from_dict({**TINY_STT, "num_layers": 1}))
    drawn = {name: mx.array(0.2 * random_tensor(name, array.shape)) for name, array in parameters(lm).items()}
    lm.update(tree_unflatten(list(drawn.items())))
    return lm


def batch_for(lm: Lm) -> Batch:
    config, rng = lm.config, np.random.default_rng(0)
    heard = rng.integers(0, config.card, (2, 1 + config.n_q, FRAMES))
    heard[:, 0] = rng.integers(0, config.text_card, (2, FRAMES))
    text = rng.integers(0, config.text_card, (2, 1, FRAMES))  # not what is read: that may be uncertain
    targets = np.concatenate([text, rng.integers(0, CLASSES, (2, HEADS, FRAMES))], axis=1).astype(np.int32)
    weights = rng.random(targets.shape).astype(np.float32)
    return Batch(delayed(heard, config), weights, np.array([1.0, 0.25], np.float32), targets=targets)


def test_text_and_heads_are_predicted_where_a_conversation_predicts_them() -> None:
    lm = model()
    batch = batch_for(lm)
    assert batch.targets is not None
    total, parts = losses(lm, batch.arrays())
    hidden = lm.temporal(mx.array(batch.tokens[:, :, :-1]), lm.new_state(2))
    text = mx.softmax(lm.text_linear(hidden), axis=-1)[:, :, None]
    expected = []
    for each, rows in ((text, slice(0, 1)), (lm.vad(hidden), slice(1, None))):
        targets = batch.targets[:, rows].transpose(0, 2, 1)[..., None]  # (B, T, rows, 1)
        found = np.take_along_axis(np.array(each), targets, axis=-1)[..., 0].transpose(0, 2, 1)
        expected.append(float(-(np.log(found) * batch.weights[:, rows]).sum()))
    np.testing.assert_allclose(np.array(parts), expected, rtol=1e-4)
    assert total.item() == pytest.approx(expected[0] + 0.25 * expected[1], rel=1e-4)


def test_it_learns_both_and_says_so_by_name() -> None:
    lm = model()
    trainer = Trainer(lm, train_all(lm), Settings(steps=30, batch=2, lr=1e-2, full=True, checkpointing=False))
    heads = np.array(lm.extra_heads[2].weight)
    found = [trainer.learn(batch_for(lm)).parts for _ in range(12)]
    assert set(found[0]) == {"text", "pauses"}
    assert all(found[-1][name] < 0.8 * found[0][name] for name in found[0])
    assert np.abs(np.array(trainer.settle().extra_heads[2].weight) - heads).max() > 1e-3


def test_rows_of_a_batch_take_their_targets_along() -> None:
    lm = model()
    batch = batch_for(lm)
    whole = losses(lm, batch.arrays())[1]
    parts = [losses(lm, batch.rows(row, row + 1).arrays())[1] for row in range(2)]
    np.testing.assert_allclose(np.array(parts[0] + parts[1]), np.array(whole), rtol=1e-5)


def test_extra_heads_of_a_model_that_speaks_stay_as_they_are() -> None:
    speaking = Lm(replace(LmConfig.from_dict(TINY), extra_heads=HEADS))
    assert not any("extra_heads" in name for name in train_all(speaking).start)
    assert sum("extra_heads" in name for name in train_all(model()).start) == HEADS
