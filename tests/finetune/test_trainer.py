"""Steps of training: PyTorch's, reproducible, and the same however a batch is cut."""

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.errors import CheckpointError, ConfigError
from moshi_mlx.finetune.loss import Batch, make_batch
from moshi_mlx.finetune.parameters import Trained, train_adapter
from moshi_mlx.finetune.settings import Settings
from moshi_mlx.finetune.trainer import Trainer
from tests.finetune.made_up import STEPS, TOTAL, codes_of
from tests.finetune.test_loss import MODELS, Case
from tests.golden import read_golden

SIZES = {"card": 32, "text_card": 48, "n_q": 16}


def small(compiled: bool | None = None, **changes: object) -> Trainer:
    """A tiny model that learns an adapter."""
    lm = read_golden("finetune_moshi").lm
    settings = Settings(**{"steps": 20, "batch": 2, "lr": 1e-2, "lora_rank": 4, "checkpointing": False, **changes})
    return Trainer(lm, train_adapter(lm, settings.lora_rank, settings.lora_scaling), settings, compiled=compiled)


@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize("name", MODELS)
def test_ten_steps_end_at_pytorchs_weights(name: str, kind: str) -> None:
    one = Case(name, kind)
    settings = Settings(steps=TOTAL, batch=2, lr=1e-3, checkpointing=False)
    trainer = Trainer(one.lm, one.trained, settings)
    for step in range(STEPS):
        found = trainer.learn(one.batch(step))
        assert abs(found.total / one.answers[f"{kind}_losses"][step][0] - 1) < 1e-3, f"step {step}"
    # The first depth step sees itself alone: its queries and keys have no gradient but rounding, of which the
    # optimizer makes steps of full length in either direction. In its values it goes where PyTorch goes.
    undecided = [name for name in one.names if name.startswith("depformer") and ".in_projs.0." in name]
    changes = {name: trainer.values[name] - one.trained.start[name] for name in one.names}
    one.check("changes", changes, 1e-3, undecided)


def test_a_batch_that_is_cut_teaches_what_the_whole_one_does() -> None:
    whole, cut = small(batch=2), small(batch=2, rows=1)
    for step in range(3):
        batch = make_batch(codes_of(SIZES, step), whole.lm.config)
        assert whole.learn(batch).total == pytest.approx(cut.learn(batch).total, rel=1e-5)
    for name, value in whole.values.items():
        np.testing.assert_allclose(cut.values[name], value, atol=1e-2 * float(mx.abs(value).max()) + 1e-6)


def test_codes_may_be_predicted_in_some_frames_alone() -> None:
    whole, some = small(), small()
    batch = make_batch(codes_of(SIZES, 0), whole.lm.config)
    frames = np.array([[1, 4, 5, 9], [0, 7, 8, 20]], np.int32)
    others = np.setdiff1d(np.arange(batch.weights.shape[2]), frames[0]), np.setdiff1d(np.arange(30), frames[1])
    for row, none in enumerate(others):
        batch.weights[row, 1:, none] = 0
    chosen = Batch(batch.tokens, batch.weights, batch.shares, frames)
    first, second = whole.learn(batch), some.learn(chosen)
    assert second.total == pytest.approx(first.total, rel=1e-5)
    assert second.parts == pytest.approx(first.parts, rel=1e-5)
    for name, value in whole.values.items():
        np.testing.assert_allclose(some.values[name], value, atol=1e-2 * float(mx.abs(value).max()) + 1e-6)


def test_a_compiled_step_is_traced_once_and_learns_the_same() -> None:
    compiled, plain = small(compiled=True), small(compiled=False)
    for step in range(3):
        batch = make_batch(codes_of(SIZES, step), plain.lm.config)
        assert compiled.learn(batch).total == pytest.approx(plain.learn(batch).total, rel=1e-4)
    assert compiled.traces == 1
    assert plain.traces >= 3


def test_a_model_learns_a_batch_by_heart() -> None:
    trainer = small(steps=25, lr=3e-2)
    batch = make_batch(codes_of(SIZES, 0), trainer.lm.config)
    before = trainer.evaluate(batch)
    for _ in range(25):
        trainer.learn(batch)
    after = trainer.evaluate(batch)
    assert after.total < 0.6 * before.total
    assert all(after.parts[name] < before.parts[name] for name in before.parts)


def test_what_was_saved_goes_on_as_if_nothing_had_been() -> None:
    straight, first, second = small(), small(), small()
    batches = [make_batch(codes_of(SIZES, step), straight.lm.config) for step in range(6)]
    for batch in batches:
        straight.learn(batch)
    for batch in batches[:3]:
        first.learn(batch)
    second.resume(first.state(), first.step, "here")
    for batch in batches[3:]:
        second.learn(batch)
    assert second.step == 6
    for name, value in straight.values.items():
        assert mx.array_equal(second.values[name], value), name


def test_the_state_of_another_adapter_is_refused() -> None:
    with pytest.raises(CheckpointError, match="of another model"):
        small().resume(small(lora_rank=8).state(), 1, "checkpoint 1")


def test_a_loss_that_is_no_number_changes_nothing() -> None:
    trainer = small()
    batch = make_batch(codes_of(SIZES, 0), trainer.lm.config)
    trainer.learn(batch)
    kept = dict(trainer.values)
    batch.shares[0] = np.nan
    assert not trainer.learn(batch).finite
    assert trainer.step == 1
    assert all(mx.array_equal(trainer.values[name], kept[name]) for name in kept)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"steps": 0}, "'steps' is 0; it must be a whole number of at least 1"),
        ({"lr": float("nan")}, "'lr' is nan"),
        ({"batch": 4, "rows": 3}, "'rows' is 3; it must be a divisor of 4"),
        ({"warm_up": 2}, "a share, 0 to 1"),
        ({"seed": True}, "'seed' is True"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Settings(**changes)


def test_a_setting_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"mine\.toml has no setting 'stepz'; there are batch"):
        Settings.from_dict({"stepz": 3}, "mine.toml")
    with pytest.raises(ConfigError, match="'full' is 1; true or false expected"):
        Settings.from_dict({"full": 1}, "mine.toml")
    assert Settings.from_dict({"steps": 3, "full": True}, "mine.toml").steps == 3


def test_weights_of_half_the_width_are_trained_in_float32() -> None:
    trainer = small()
    half = Trained(trainer.trained.places, trainer.values, dict.fromkeys(trainer.values, mx.bfloat16))
    trained = Trainer(trainer.lm, half, trainer.settings)
    trained.learn(make_batch(codes_of(SIZES, 0), trainer.lm.config))
    assert {value.dtype for value in trained.values.values()} == {mx.float32}
    name = next(iter(half.places))
    lm = trained.settle()
    held = lm
    for part in half.places[name][0].split("."):
        held = held[int(part)] if part.isdigit() else held[part]
    assert held.dtype == mx.bfloat16


def test_a_model_that_attends_to_a_voice_is_refused() -> None:
    lm, usual = read_golden("say_crossed").lm, small()
    with pytest.raises(ConfigError, match="cross attention, such as a text-to-speech one, cannot be trained"):
        Trainer(lm, usual.trained, usual.settings)
