"""A run: what it writes, what it goes on from, and what it survives."""

import json
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.adapter import find_adapter, with_adapter
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.random_checkpoint import TINY, TINY_PERSONA, write_random_checkpoint
from moshi_mlx.errors import CheckpointError, ConfigError, DataError
from moshi_mlx.finetune.base import check_model
from moshi_mlx.finetune.batches import Data
from moshi_mlx.finetune.codes import Window
from moshi_mlx.finetune.data import Recording
from moshi_mlx.finetune.folder import open_folder
from moshi_mlx.finetune.run import Run
from moshi_mlx.finetune.settings import Settings
from moshi_mlx.models.layers import parameters
from moshi_mlx.models.lm import Lm
from tests.finetune.dataset import small_files

SETTINGS = Settings(
    steps=5, batch=2, seconds=1.0, lr=1e-2, lora_rank=4, save_every=2, eval_every=100, checkpointing=False
)


def windows(count: int, seed: int = 0) -> list[Window]:
    random = np.random.RandomState(seed)
    recording = Recording(Path("one.wav"), Path("one.wav"), tuple)
    codes = random.randint(0, 60, (count, 17, 13)).astype(np.int16)
    return [Window(each, recording, float(index)) for index, each in enumerate(codes)]


DATA = Data([windows(5)], [1.0])


def start(base: Path, folder: Path, settings: Settings = SETTINGS, data: Data = DATA, resume: bool = False) -> Run:
    checkpoint = Checkpoint.resolve(base)
    open_folder(folder, checkpoint, "data", settings, resume)
    return Run(checkpoint, folder, settings, data)


def logits(lm: Lm) -> np.ndarray:
    tokens = mx.array(np.random.RandomState(1).randint(0, 60, (1, 17, 9)))
    hidden = lm.temporal(tokens, lm.new_state())
    return np.concatenate(
        [np.array(lm.text_linear(hidden)).ravel(), np.array(lm.depformer.logits(hidden, tokens)).ravel()]
    )


def test_an_adapter_that_is_loaded_again_is_the_model_that_was_trained(tiny_folder: Path, tmp_path: Path) -> None:
    run = start(tiny_folder, tmp_path / "out")
    reports = list(run.train())
    assert [report.step for report in reports] == [1, 2, 3, 4, 5]
    checkpoint = Checkpoint.resolve(tiny_folder)
    loaded = with_adapter(checkpoint, str(tmp_path / "out")).load_lm()
    trained = logits(run.trainer.settle())
    assert np.abs(logits(loaded) - trained).max() < 1e-4
    assert np.abs(logits(checkpoint.load_lm()) - trained).max() > 0.1
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["lora"], config["lora_rank"], config["lora_scaling"]) == (True, 4, 2.0)
    assert {key: config[key] for key in TINY} == TINY


def test_a_whole_model_that_is_loaded_again_is_the_one_that_was_trained(tmp_path: Path) -> None:
    config = {**TINY, "depformer_weights_per_step_schedule": [0, 1, 2, 2, 2, 2, 2, 2]}
    base = write_random_checkpoint(tmp_path / "base", config)
    run = start(base, tmp_path / "out", Settings(**{**vars(SETTINGS), "full": True}))
    list(run.train())
    made = Checkpoint.resolve(tmp_path / "out")
    ours, trained = parameters(made.load_lm()), parameters(run.trainer.settle())
    assert all(mx.array_equal(ours[name], trained[name]) for name in trained)


def test_an_adapter_of_bfloat16_weights_is_written_in_bfloat16(tmp_path: Path) -> None:
    base = write_random_checkpoint(tmp_path / "base", dtype="bfloat16")
    run = start(base, tmp_path / "out")
    list(run.train())
    adapter = find_adapter(str(tmp_path / "out"), Checkpoint.resolve(base))
    assert {pair.down.dtype for pair in adapter.pairs.values()} == {"BF16"}


def test_personaplex_is_trained_with_all_that_its_file_holds(tmp_path: Path) -> None:
    base = write_random_checkpoint(tmp_path / "base", TINY_PERSONA)
    run = start(base, tmp_path / "out", Settings(**{**vars(SETTINGS), "steps": 1}))
    list(run.train())
    assert any(name.startswith("linears.15.") for name in run.trainer.values)
    with_adapter(Checkpoint.resolve(base), str(tmp_path / "out")).load_lm()


def test_an_adapter_of_quantized_weights_stands_beside_them(tiny_q4: Path, tmp_path: Path) -> None:
    run = start(tiny_q4, tmp_path / "out")
    list(run.train())
    checkpoint = Checkpoint.resolve(tiny_q4)
    trained = logits(run.trainer.settle())
    loaded = with_adapter(checkpoint, str(tmp_path / "out")).load_lm()
    assert np.abs(logits(loaded) - trained).max() < 0.02 * np.abs(trained).max()  # factors are stored in bfloat16
    assert np.abs(logits(checkpoint.load_lm()) - trained).max() > 0.1 * np.abs(trained).max()
    with pytest.raises(ConfigError, match=r"is quantized, q4.*start from bf16"):
        check_model(checkpoint, Settings(full=True))
    check_model(checkpoint, Settings())


def test_a_run_that_was_ended_goes_on_as_if_it_had_not_been(tiny_folder: Path, tmp_path: Path) -> None:
    straight = start(tiny_folder, tmp_path / "straight")
    whole = [report.losses.total for report in straight.train()]
    ended = start(tiny_folder, tmp_path / "ended")
    steps = ended.train()
    first = [next(steps).losses.total for _ in range(3)]
    steps.close()  # after step 3: the checkpoint of step 2 is what is left
    assert ended.newest == 2
    again = start(tiny_folder, tmp_path / "ended", resume=True)
    rest = [report.losses.total for report in again.train()]
    assert first == whole[:3]
    assert rest == whole[2:]
    for name, value in straight.trainer.values.items():
        assert mx.array_equal(again.trainer.values[name], value), name


def test_so_many_checkpoints_are_kept_and_one_can_be_gone_on_from(tiny_folder: Path, tmp_path: Path) -> None:
    settings = Settings(**{**vars(SETTINGS), "save_every": 1, "keep": 2})
    run = start(tiny_folder, tmp_path / "out", settings)
    list(run.train())
    places = sorted((tmp_path / "out" / "checkpoints").iterdir())
    assert [place.name for place in places] == ["000004", "000005"]
    assert [(place / "state.safetensors").exists() for place in places] == [False, True]
    for place in places:
        find_adapter(str(place), Checkpoint.resolve(tiny_folder))


def test_the_best_by_its_test_is_what_is_used(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(**{**vars(SETTINGS), "eval_every": 1, "steps": 3})
    run = start(tiny_folder, tmp_path / "out", settings, Data([windows(5)], [1.0], windows(2, 7)))
    evaluate, totals = run.trainer.evaluate, iter([2.0, 2.0, 1.0, 1.0, 3.0, 3.0])

    def given(batch):  # the second test is the best
        found = evaluate(batch)
        return type(found)(next(totals), found.parts)

    monkeypatch.setattr(run.trainer, "evaluate", given)
    reports = list(run.train())
    assert [report.kind for report in reports] == ["step", "test"] * 3
    assert run.best == 1.0
    best = (tmp_path / "out" / "lora.safetensors").read_bytes()
    shelf = tmp_path / "out" / "checkpoints"
    assert [(shelf / f"{n:06}" / "lora.safetensors").read_bytes() == best for n in (1, 2, 3)] == [
        False,
        True,
        False,
    ]
    assert start(tiny_folder, tmp_path / "out", settings, resume=True).best == 1.0


def test_a_full_disk_costs_no_more_than_the_steps_since_the_last_checkpoint(
    tiny_folder: Path, tmp_path: Path
) -> None:
    run = start(tiny_folder, tmp_path / "out")
    steps = run.train()
    for _ in range(3):
        next(steps)
    with small_files(100_000), pytest.raises(CheckpointError, match="File too large"):
        list(steps)
    assert [path.name for path in (tmp_path / "out" / "checkpoints").iterdir()] == ["000002"]
    assert start(tiny_folder, tmp_path / "out", resume=True).trainer.step == 2


def test_a_loss_that_is_no_number_ends_the_run_with_its_step_and_windows(
    tiny_folder: Path, tmp_path: Path
) -> None:
    run = start(tiny_folder, tmp_path / "out")
    steps = run.train()
    next(steps)
    run.trainer.values["text_linear.lora_B.weight"] *= float("nan")
    with pytest.raises(DataError, match=r"no number at step 2: one\.wav from \d s, one\.wav from \d s"):
        next(steps)


def test_replayed_recordings_are_tested_with_too_and_count_by_their_share(
    tiny_folder: Path, tmp_path: Path
) -> None:
    old = Data([windows(4, 3)], [1.0], windows(2, 8))
    data = Data([windows(5)], [1.0], windows(2, 7), old, 0.25)
    run = start(tiny_folder, tmp_path / "out", Settings(**{**vars(SETTINGS), "steps": 1}), data)
    step, new, replayed = run.train()
    assert (step.kind, new.kind, replayed.kind) == ("step", "test", "replay")
    assert new.losses.total != replayed.losses.total
    assert run.best == pytest.approx(0.75 * new.losses.total + 0.25 * replayed.losses.total)


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(CheckpointError) as error:
        call()
    return str(error.value)


def test_a_folder_is_not_written_over(tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    list(start(tiny_folder, out).train())
    assert "holds a training of 5 steps: go on with --resume" in refusal(lambda: start(tiny_folder, out))
    other = Settings(**{**vars(SETTINGS), "lr": 5e-3})
    assert "was begun with lr 0.01, not 0.005" in refusal(lambda: start(tiny_folder, out, other, resume=True))
    start(tiny_folder, out, Settings(**{**vars(SETTINGS), "keep": 7}), resume=True)
    base = write_random_checkpoint(tmp_path / "base", seed=1)
    assert "was begun with weights" in refusal(lambda: start(base, out, resume=True))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("")
    assert "holds no training" in refusal(lambda: start(tiny_folder, tmp_path / "mine"))


def test_models_that_cannot_be_trained_so_are_refused(stt_folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    deaf = write_random_checkpoint(tmp_path / "deaf", {**TINY, "n_q": 8, "delays": TINY["delays"][:9]})
    with pytest.raises(ConfigError, match="speaks texts and hears nobody"):
        check_model(Checkpoint.resolve(deaf), Settings())
    with pytest.raises(ConfigError, match="speech-to-text"):
        check_model(Checkpoint.resolve(stt_folder), Settings())
    with pytest.raises(ConfigError, match=r"0\.1 s is shorter than the model's delay; give at least 0\.24"):
        check_model(Checkpoint.resolve(tiny_folder), Settings(seconds=0.1))
    check_model(Checkpoint.resolve(tiny_folder), Settings(seconds=0.24))
