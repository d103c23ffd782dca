"""`moshi-mlx finetune`: from recordings to an adapter that every command takes."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from moshi_mlx import load
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.random_checkpoint import TINY, write_random_checkpoint
from moshi_mlx.cli import loss_plot
from moshi_mlx.errors import ConfigError
from moshi_mlx.finetune.data import read_words
from moshi_mlx.finetune.estimate import check_fits, estimate
from moshi_mlx.finetune.folder import read_log
from moshi_mlx.finetune.settings import Settings
from moshi_mlx.tasks.transcribe import load_transcriber
from tests.cli.conftest import Done
from tests.finetune.dataset import small_files, stereo_set

Cli = Callable[..., Done]
SMALL = ("--seconds", 1, "--batch", 2, "--lora-rank", 4, "--lr", 0.03, "--no-checkpointing", "--codec", "mlx")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "codes"))


@pytest.fixture
def made(moshi_cli: Cli, tiny_folder: Path, tmp_path: Path) -> Path:
    """An adapter of the tiny checkpoint."""
    out = tmp_path / "adapter"
    data = stereo_set(tmp_path / "data")
    assert moshi_cli("finetune", tiny_folder, data, out, *SMALL, "--steps", 3, "--quiet").code == 0
    return out


def test_an_adapter_is_made_told_of_and_used(
    moshi_cli: Cli, tiny_folder: Path, tmp_path: Path, question: Path
) -> None:
    data, out = stereo_set(tmp_path / "set"), tmp_path / "out"
    done = moshi_cli("finetune", tiny_folder, data, out, *SMALL, "--steps", 3, "--sample", 3, "--json")
    assert done.code == 0, done.err
    events = [json.loads(line) for line in done.out.splitlines()]
    assert [event["event"] for event in events] == ["step", "step", "step", "test", "sample", "end"]
    assert soundfile.info(events[4]["file"]).channels == 2
    assert events[2].keys() >= {
        "loss",
        "text",
        "semantic",
        "acoustic",
        "tokens_per_second",
        "left",
        "memory",
        "lr",
    }
    assert events[5]["best"] == events[3]["loss"]
    assert f"moshi-mlx chat --model {tiny_folder} --adapter {out}" in done.err
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert log == events[:5]
    assert (out / "losses.png").read_bytes().startswith(b"\x89PNG")

    answers = []
    for words in ((), ("--adapter", out)):
        wav = tmp_path / f"{len(words)}.wav"
        run = ("run", question, wav, "--model", tiny_folder, "--tail", 0, "--audio-temperature", 0)
        done = moshi_cli(*run, "--text-temperature", 0, "--codec", "mlx", *words)
        assert done.code == 0, done.err
        answers.append(soundfile.read(wav)[0])
    assert not np.array_equal(*answers)

    done = moshi_cli("finetune", tiny_folder, data, out, *SMALL, "--steps", 3)
    assert done.code == 1
    assert "go on with --resume" in done.err
    done = moshi_cli("finetune", tiny_folder, data, out, *SMALL, "--steps", 3, "--resume")
    assert done.code == 0, done.err
    assert "going on after step 3" in done.err
    assert "the codes of 2 of 2 recordings were in the cache" in done.err


def test_losses_are_drawn_at_checkpoints_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(loss_plot, "plot_losses", lambda path, log: drawn.append(len(log)))
    notes: list[str] = []
    parts = dict.fromkeys(("loss", "text", "semantic", "acoustic"), 1.0)
    plot = loss_plot.LossPlot(tmp_path, notes.append)
    for step in range(1, 5):
        with (tmp_path / "log.jsonl").open("a") as log:
            log.write(json.dumps({"event": "step", "step": step, **parts}) + "\n")
        plot._rest = 0.0  # as if drawing had taken no time
        plot.update(None if step < 2 else 2)
    plot.update(2, last=True)
    assert (drawn, notes) == ([2, 4], [])
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    loss_plot.LossPlot(tmp_path, notes.append).update(2, last=True)
    assert "losses.png needs matplotlib, which is not installed" in notes[0]
    assert drawn == [2, 4]


def test_the_picture_has_the_losses_of_steps_and_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra: plots)")
    from matplotlib.figure import Figure

    lines = [
        {"event": kind, "step": step, "loss": base + step, "text": 1.0, "semantic": 2.0, "acoustic": 3.0}
        for kind, base in (("step", 10), ("test", 20), ("replay", 30))
        for step in range(1, 9)
    ]
    again = {**lines[0], "loss": 99.0}  # step 1 was taken again
    text = "".join(json.dumps(line) + "\n" for line in [*lines, again])
    (tmp_path / "log.jsonl").write_text(text + '{"event": "sample", "step": 9}\n{"event": "st')
    figures: list[Any] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: (figures.append(figure), save(figure, *a, **k)))
    loss_plot.plot_losses(tmp_path / "losses.png", read_log(tmp_path))
    assert (tmp_path / "losses.png").read_bytes().startswith(b"\x89PNG")
    whole, *parts = figures[0].axes
    assert [axes.get_title() for axes in parts] == ["text", "semantic", "acoustic"]
    dots = whole.collections[0].get_offsets()
    assert dots[:, 1].tolist() == [99.0, *range(12, 19)]
    curves = [line.get_ydata().tolist() for line in whole.lines]
    assert curves[1:] == [list(range(21, 29)), list(range(31, 39))]


def test_python_and_quality_take_an_adapter_too(
    moshi_cli: Cli, made: Path, tiny_folder: Path, question: Path
) -> None:
    plain, adapted = load(tiny_folder, codec="mlx"), load(tiny_folder, codec="mlx", adapter=made)
    change = np.array(plain.lm.text_linear.weight) - np.array(adapted.lm.text_linear.weight)
    assert np.abs(change).max() > 1e-3
    compare = ("quality", tiny_folder, tiny_folder, "--audio", question, "--codec", "mlx", "--json")
    done = moshi_cli(*compare, "--adapter", made)
    assert json.loads(done.out)["candidates"][0]["kl"]["value"] > 1e-3, done.err


def test_settings_come_from_a_file_and_the_command_line_wins(
    moshi_cli: Cli, tiny_folder: Path, tmp_path: Path
) -> None:
    data, file = stereo_set(tmp_path / "set"), tmp_path / "mine.toml"
    file.write_text("steps = 3\nlora_rank = 2\nseconds = 1.0\nlr = 0.01\n")
    out = tmp_path / "out"
    words = ("--config", file, "--steps", 1, "--codec", "mlx", "--quiet")
    assert moshi_cli("finetune", tiny_folder, data, out, *words).code == 0
    settings = json.loads((out / "run.json").read_text())["settings"]
    assert (settings["steps"], settings["lora_rank"], settings["lr"]) == (1, 2, 0.01)
    file.write_text("stepz = 3\n")
    done = moshi_cli("finetune", tiny_folder, data, tmp_path / "other", "--config", file)
    assert (done.code, "mine.toml has no setting 'stepz'" in done.err) == (2, True)
    done = moshi_cli("finetune", tiny_folder, data, tmp_path / "other", "--config", tmp_path / "none.toml")
    assert (done.code, "does not exist" in done.err) == (2, True)
    assert not (tmp_path / "other").exists()


def test_old_recordings_are_replayed(moshi_cli: Cli, tiny_folder: Path, tmp_path: Path) -> None:
    new, old, out = stereo_set(tmp_path / "new"), stereo_set(tmp_path / "old", (1.5, 2.2)), tmp_path / "out"
    words = ("finetune", tiny_folder, new, out, *SMALL, "--steps", 1)
    done = moshi_cli(*words, "--replay", f"{old}:0.5", "--json")
    assert done.code == 0, done.err
    assert [json.loads(line)["event"] for line in done.out.splitlines()] == ["step", "test", "replay", "end"]
    assert "to replay (50%)" in done.err
    done = moshi_cli(*words, "--resume")
    assert (done.code, f"was begun with replay {old}:0.5, not None" in done.err) == (1, True)


def test_missing_words_are_written_by_the_model_that_is_named(
    moshi_cli: Cli, tiny_folder: Path, stt_folder: Path, tmp_path: Path
) -> None:
    data = stereo_set(tmp_path / "set", (2.0, 1.6))
    data.unlink()  # a folder of stereo files
    kept = (tmp_path / "set" / "0.json").read_bytes()
    path = tmp_path / "set" / "1.json"
    path.unlink()
    words = ("finetune", tiny_folder, tmp_path / "set", tmp_path / "out", *SMALL, "--steps", 1, "--test-share", 0)
    done = moshi_cli(*words)
    assert (done.code, "--words stt-1b writes them" in done.err) == (1, True)
    done = moshi_cli(*words, "--words", stt_folder, "--dry-run")
    assert (done.code, path.exists()) == (0, False), done.err
    done = moshi_cli(*words, "--words", stt_folder)
    assert done.code == 0, done.err
    assert f"words were written, look whether they are right: {path}" in done.err
    assert (tmp_path / "set" / "0.json").read_bytes() == kept
    left = soundfile.read(tmp_path / "set" / "1.wav", dtype="float32")[0][:, 0]
    heard = load_transcriber(stt_folder, codec="mlx").transcribe(left).words
    assert len(heard) > 2
    read = read_words(path, tmp_path / "set" / "1.wav")
    assert [word.text for word in read] == [word.text for word in heard]
    assert [word.begin for word in read] == pytest.approx([word.start for word in heard], abs=1e-3)
    (tmp_path / "set" / "1.json").unlink()
    done = moshi_cli(*words, "--words", tiny_folder)
    assert (done.code, "this model speaks, it is no speech-to-text model" in done.err) == (1, True)


def test_bad_recordings_end_it_or_are_listed(moshi_cli: Cli, tiny_folder: Path, tmp_path: Path) -> None:
    data = stereo_set(tmp_path / "set", (2.0, 2.0, 2.0, 2.0))
    (tmp_path / "set" / "1.json").unlink()
    soundfile.write(tmp_path / "set" / "2.wav", np.zeros(48_000), 24_000)
    words = ("finetune", tiny_folder, data, tmp_path / "out", *SMALL, "--steps", 1, "--test-share", 0)
    done = moshi_cli(*words)
    assert done.code == 1
    assert "1.wav has no words" in done.err.splitlines()[-1]
    done = moshi_cli(*words, "--skip-bad", "--json")
    assert done.code == 0, done.err
    end = json.loads(done.out.splitlines()[-1])
    assert len(end["skipped"]) == 2
    assert "2 recordings were left out" in done.err
    assert "2.wav has one channel" in done.err


def test_what_the_system_refuses_is_told_with_what_is_kept(
    moshi_cli: Cli, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = stereo_set(tmp_path / "set"), tmp_path / "out"
    words = ("finetune", tiny_folder, data, out, *SMALL, "--steps", 2, "--save-every", 1, "--quiet")
    with small_files(400_000):  # an adapter, and not its optimizer's state
        done = moshi_cli(*words)
    assert (done.code, "File too large: step 1 was taken, nothing is kept yet" in done.err) == (1, True), done.err
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (error,) = moshi_cli(*words, "--resume").err.splitlines()
    assert error.startswith(f"error: cannot write {tmp_path}/file/moshi-mlx/codes/")


def test_a_picture_that_cannot_be_written_is_a_note(tmp_path: Path) -> None:
    notes: list[str] = []
    (tmp_path / "losses.png").mkdir()
    (tmp_path / "losses.png" / "mine").write_text("")
    (tmp_path / "log.jsonl").write_text("")
    plot = loss_plot.LossPlot(tmp_path, notes.append)
    plot.update(1, last=True)
    plot.update(2, last=True)
    assert len(notes) == 1
    assert "losses.png" in notes[0]


def test_a_dry_run_says_what_it_needs_and_writes_nothing(
    moshi_cli: Cli, tiny_folder: Path, tmp_path: Path
) -> None:
    data = stereo_set(tmp_path / "set")
    done = moshi_cli("finetune", tiny_folder, data, tmp_path / "out", *SMALL, "--dry-run", "--json")
    assert done.code == 0, done.err
    (need,) = map(json.loads, done.out.splitlines())
    assert need["memory"] == need["weights"] + need["optimizer"] + need["activations"]
    assert "in all: " in done.err
    assert not (tmp_path / "out").exists()


def test_what_cannot_fit_is_refused_with_settings_that_would(tiny_folder: Path) -> None:
    checkpoint = Checkpoint.resolve(tiny_folder)
    settings = Settings(batch=16, checkpointing=False, lora_rank=4)
    need = estimate(checkpoint, settings)
    assert estimate(checkpoint, Settings(batch=16, lora_rank=4)).memory < need.memory
    check_fits(checkpoint, settings, round(need.memory * 1.5))
    with pytest.raises(ConfigError, match=r"training needs .* --checkpointing --rows 1 would need"):
        check_fits(checkpoint, settings, round(need.memory / 8))
    with pytest.raises(ConfigError, match="take a quantized base, or a smaller model"):
        check_fits(checkpoint, settings, 1000)


def test_whole_models_are_made_of_dense_ones_alone(
    moshi_cli: Cli, tiny_folder: Path, tiny_q4: Path, tmp_path: Path
) -> None:
    data, out = stereo_set(tmp_path / "set"), tmp_path / "out"
    done = moshi_cli("finetune", tiny_q4, data, out, *SMALL, "--full")
    assert (done.code, "start from bf16" in done.err) == (1, True)
    done = moshi_cli("finetune", tiny_folder, data, out, *SMALL, "--full", "--steps", 1)
    assert done.code == 0, done.err
    assert f"chat --model {out}" in done.err
    Checkpoint.resolve(out)


def test_an_adapter_of_another_base_is_refused(moshi_cli: Cli, made: Path, tmp_path: Path, question: Path) -> None:
    base = write_random_checkpoint(tmp_path / "base", {**TINY, "num_layers": 1})
    done = moshi_cli("run", question, tmp_path / "o.wav", "--model", base, "--adapter", made)
    assert (done.code, "was made for another base" in done.err) == (1, True)
