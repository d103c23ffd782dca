"""`moshi-mlx finetune`: teach a model from recordings."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moshi_mlx.cli import options
from moshi_mlx.errors import MoshiError

if TYPE_CHECKING:
    from moshi_mlx.checkpoint.checkpoint import Checkpoint
    from moshi_mlx.cli.words import JsonLines
    from moshi_mlx.finetune.estimate import Estimate
    from moshi_mlx.finetune.run import Data, Report
    from moshi_mlx.finetune.settings import Settings

BETWEEN = 5.0  # seconds between two lines of progress


def finetune(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="The base: an alias, a hub repository or a folder.")
    ],
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A list (.jsonl), or a folder of lists, of stereo recordings or of kept conversations; several "
            "with commas, PATH[:WEIGHT].",
        ),
    ],
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the adapter, or the model.")],
    full: Annotated[
        bool | None,
        typer.Option("--full", help="Train every weight instead of an adapter.", show_default="adapter"),
    ] = None,
    lora_rank: Annotated[int | None, typer.Option(help="Rank of the adapter.", show_default="128")] = None,
    lora_scaling: Annotated[float | None, typer.Option(help="Its scaling.", show_default="2.0")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps to take.", show_default="2000")] = None,
    batch: Annotated[int | None, typer.Option(help="Windows a step learns from.", show_default="1")] = None,
    rows: Annotated[
        int | None, typer.Option(help="Windows in memory at once; less takes less of it.", show_default="all")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Length of a window.", show_default="100.0")] = None,
    lr: Annotated[float | None, typer.Option(help="The highest learning rate.", show_default="2e-06")] = None,
    checkpointing: Annotated[
        bool | None,
        typer.Option(
            "--checkpointing/--no-checkpointing", help="Take less memory and more time.", show_default="on"
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of draws and of the adapter.", show_default="0")] = None,
    save_every: Annotated[int | None, typer.Option(help="Steps between checkpoints.", show_default="100")] = None,
    keep: Annotated[int | None, typer.Option(help="Checkpoints that are kept.", show_default="3")] = None,
    eval_every: Annotated[int | None, typer.Option(help="Steps between tests.", show_default="100")] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="Settings from a file, by these names; what is given here wins."),
    ] = None,
    test_share: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share of the recordings that are tested with, not learned from.")
    ] = 0.05,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the training that OUT holds.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out recordings that cannot be used, and list them.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what memory and time it takes, and do nothing.")
    ] = False,
    codec: options.CodecOption = "auto",
    offline: options.OfflineOption = False,
    as_json: options.EventsOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Teach MODEL from recordings of two people, one of whom speaks as Moshi is to speak.

    DATA is what Kyutai's trainer takes: a list of stereo files (left Moshi, right the user), a line
    {"path": ..., "duration": seconds} each, with the words beside each file; or a folder of such lists, of stereo
    files with their words, or of conversations that chat has kept. OUT becomes an adapter (lora.safetensors and
    config.json, which PyTorch's moshi reads, too), to be used as `chat --model MODEL --adapter OUT`; or, with
    --full, a model folder. A training that was ended goes on with --resume. docs/finetune.md tells it from the
    beginning.
    """
    from moshi_mlx.checkpoint.checkpoint import Checkpoint
    from moshi_mlx.cli.config_file import read_settings
    from moshi_mlx.cli.words import JsonLines
    from moshi_mlx.finetune.settings import Settings

    given = options.given(
        full=full,
        lora_rank=lora_rank,
        lora_scaling=lora_scaling,
        steps=steps,
        batch=batch,
        rows=rows,
        seconds=seconds,
        lr=lr,
        checkpointing=checkpointing,
        seed=seed,
        save_every=save_every,
        keep=keep,
        eval_every=eval_every,
    )
    with options.usage():
        if config and not config.is_file():
            raise options.WrongUsage(f"{config} does not exist; give a file of settings (TOML)")
        settings = Settings.from_dict({**(read_settings(config) if config else {}), **given}, str(config))
    talk = _Talk(JsonLines(sys.stdout) if as_json else None, quiet)
    checkpoint = Checkpoint.resolve(model, offline=offline)
    for note in checkpoint.notes:
        talk.note(note)
    _teach(checkpoint, data, folder, settings, talk, _Manner(test_share, resume, skip_bad, dry_run, codec))


class _Manner:
    """What was asked for besides the settings of the training."""

    def __init__(self, test_share: float, resume: bool, skip_bad: bool, dry_run: bool, codec: str) -> None:
        self.test_share, self.resume, self.skip_bad = test_share, resume, skip_bad
        self.dry_run, self.codec = dry_run, codec


class _Talk:
    """What a person and a program are told. events: where programs read, None for people alone."""

    def __init__(self, events: JsonLines | None, quiet: bool) -> None:
        self._events, self._quiet = events, quiet
        self._last = 0.0

    @property
    def bar(self) -> bool | None:
        """Whether bars are drawn, as `progress.Progress`."""
        return False if self._quiet else None

    def note(self, text: str) -> None:
        """Say what is not as the person may think, however quiet it should be."""
        print(f"note: {text}", file=sys.stderr)
        if self._events:
            self._events.emit("note", text=text)

    def say(self, text: str) -> None:
        """Tell a person."""
        if not self._quiet:
            print(text, file=sys.stderr)

    def event(self, kind: str, **values: object) -> None:
        """Tell a program."""
        if self._events:
            self._events.emit(kind, **values)

    def report(self, report: Report, steps: int) -> None:
        """Tell of a step, or of a test; people every few seconds."""
        self.event(report.kind, **{name: value for name, value in report.as_dict().items() if name != "event"})
        now = time.monotonic()
        if report.kind == "step" and report.step not in (1, steps) and now - self._last < BETWEEN:
            return
        self._last = now
        parts = ", ".join(f"{name} {value:.3f}" for name, value in report.losses.parts.items())
        line = f"{report.kind} {report.step}/{steps}: loss {report.losses.total:.4f} ({parts})"
        if report.kind == "step":
            line += (
                f", {report.tokens_per_second:,.0f} tokens/s, {_clock(report.left)} left, "
                f"{report.memory / 1e9:.2f} GB"
            )
        self.say(line)


def _clock(seconds: float) -> str:
    minutes, hours = round(seconds / 60), seconds / 3600
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes} min" if minutes < 90 else f"{hours:.1f} h"


def _teach(
    checkpoint: Checkpoint, data: str, folder: Path, settings: Settings, talk: _Talk, manner: _Manner
) -> None:
    from moshi_mlx.cli.interruption import undone
    from moshi_mlx.finetune.data import find_sources, no_words
    from moshi_mlx.finetune.estimate import check_fits
    from moshi_mlx.finetune.run import Run, append_log, check_model, open_folder
    from moshi_mlx.weights.progress import progress_bar

    check_model(checkpoint, settings)
    bad: list[str] = []

    def skip(error: MoshiError) -> None:
        bad.append(str(error))
        talk.note(f"left out: {error}")

    lag = max(checkpoint.lm_config.delays[1 : 1 + checkpoint.lm_config.dep_q])
    sources = find_sources(data, skip if manner.skip_bad else None, lag)
    for source in sources:
        if silent := no_words(source.recordings):
            talk.note(silent)
    need = check_fits(checkpoint, settings)
    if manner.dry_run:
        _tell_need(need, settings, talk)
        return
    before = open_folder(folder, checkpoint, data, settings, manner.resume)
    with undone("no step was taken; codes that were computed are kept"):
        windows = _windows(checkpoint, sources, settings, talk, manner, skip if manner.skip_bad else None)
        with progress_bar(f"loading {checkpoint.lm_weights.name}", checkpoint.weights.nbytes, talk.bar) as advance:
            run = Run(checkpoint, folder, settings, windows, advance)
    count, after = sum(map(len, windows.sources)), f"; going on after step {before}" if before else ""
    talk.say(
        f"{count} windows of {settings.seconds:g} s to learn from, {len(windows.tests)} to test with; "
        f"{run.trainer.trained.count:,} numbers are trained{after}"
    )

    def kept() -> str:
        newest = run.newest
        where = (
            f"the checkpoint of step {newest} is kept; go on with --resume" if newest else "nothing is kept yet"
        )
        return f"step {run.trainer.step} was taken, {where}"

    with undone(kept):
        for report in run.train():
            append_log(folder, report)
            talk.report(report, settings.steps)
    talk.event("end", folder=str(folder), step=run.trainer.step, best=run.best_or_none, skipped=bad)
    if bad:
        talk.say(f"{len(bad)} recordings were left out, see the notes above")
    use = f"--model {folder}" if settings.full else f"--model {checkpoint.name} --adapter {folder}"
    talk.say(f"{folder} is ready: moshi-mlx chat {use}")


def _windows(
    checkpoint: Checkpoint,
    sources: Any,
    settings: Settings,
    talk: _Talk,
    manner: _Manner,
    skip: Callable[[MoshiError], None] | None,
) -> Data:
    from moshi_mlx.errors import DataError
    from moshi_mlx.finetune.batches import held_out
    from moshi_mlx.finetune.codes import Encoder, Window
    from moshi_mlx.finetune.run import Data
    from moshi_mlx.weights.progress import progress_bar

    encode = checkpoint.load_tokenizer().encode
    codec = checkpoint.load_codec(manner.codec)
    encoder = Encoder(
        codec, checkpoint.mimi_weights, checkpoint.lm_config, settings.seconds, encode, tell=talk.note
    )
    learned: list[list[Window]] = []
    tests: list[Window] = []
    total = sum(len(source.recordings) for source in sources)
    with progress_bar("encoding", total, talk.bar, "recordings") as advance:
        for source in sources:
            chosen = held_out(len(source.recordings), manner.test_share, settings.seed)
            learned.append([])
            for number, recording in enumerate(source.recordings):
                try:
                    found = encoder.windows(recording)
                except MoshiError as error:
                    if not skip:
                        raise
                    skip(error)
                else:
                    (tests if number in chosen else learned[-1]).extend(found)
                advance(1)
            if not learned[-1]:
                raise DataError(f"nothing is left of {source.place} to learn from")
    if encoder.encoded < total:
        talk.say(f"the codes of {total - encoder.encoded} of {total} recordings were in the cache")
    return Data(learned, [source.weight for source in sources], tests)


def _tell_need(need: Estimate, settings: Settings, talk: _Talk) -> None:
    from moshi_mlx.finetune.estimate import step_seconds

    seconds = step_seconds(need)
    talk.event("estimate", **need.as_dict(), step_seconds=seconds, steps=settings.steps)
    rows = [
        ("model", need.weights),
        (f"optimizer ({need.trained:,} numbers are trained)", need.optimizer),
        ("windows in memory", need.activations),
        ("in all", need.memory),
    ]
    for name, size in rows:
        talk.say(f"{name}: {size / 1e9:.2f} GB")
    talk.say(f"about {seconds:.2g} s a step, {_clock(seconds * settings.steps)} for {settings.steps} steps")
