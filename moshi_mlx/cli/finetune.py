"""`moshi-mlx finetune`: teach a model from recordings."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moshi_mlx.cli import options
from moshi_mlx.cli.interruption import INTERRUPTED
from moshi_mlx.errors import AudioFileError, CheckpointError, DataError, MoshiError, TrainingError, some

if TYPE_CHECKING:
    from moshi_mlx.checkpoint.checkpoint import Checkpoint
    from moshi_mlx.cli.training import TrainingTalk
    from moshi_mlx.codec.base import Codec
    from moshi_mlx.finetune.batches import Data
    from moshi_mlx.finetune.data import Source
    from moshi_mlx.finetune.processes import Processes
    from moshi_mlx.finetune.report import Sample
    from moshi_mlx.finetune.run import Run
    from moshi_mlx.finetune.sample import Sampler
    from moshi_mlx.finetune.settings import Settings
    from moshi_mlx.finetune.streams import Word
    from moshi_mlx.finetune.transcripts import WordWriter


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
    sample: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Let the model answer a recording that is held out, every N steps; kept in OUT/samples.",
            show_default="never",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="Settings from a file, by these names; what is given here wins."),
    ] = None,
    replay: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="What MODEL was taught before, mixed in so that it is not forgotten: PATH[:SHARE], half of all "
            "windows unless given; several with commas.",
        ),
    ] = None,
    test_share: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share of the recordings that are tested with, not learned from.")
    ] = 0.05,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the training that OUT holds.")] = False,
    words: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="A speech-to-text model, such as stt-1b, that writes the words of recordings which have none.",
        ),
    ] = None,
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
    from moshi_mlx.cli.training import TrainingTalk
    from moshi_mlx.cli.words import JsonLines
    from moshi_mlx.finetune.processes import join
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
        sample=sample,
    )
    with options.usage():
        if config and not config.is_file():
            raise options.WrongUsage(f"{config} does not exist; give a file of settings (TOML)")
        settings = Settings.from_dict({**(read_settings(config) if config else {}), **given}, str(config))
    processes = join()
    talk = TrainingTalk(JsonLines(sys.stdout) if as_json else None, quiet, silent=not processes.first)
    if not (dry_run or processes.first):
        _await_first(processes)
    checkpoint = Checkpoint.resolve(model, offline=offline)
    for note in checkpoint.notes:
        talk.note(note)
    manner = _Manner(replay, test_share, resume, words, skip_bad, dry_run, codec, offline)
    try:
        _teach(checkpoint, data, folder, settings, talk, manner, processes)
    except KeyboardInterrupt:
        if processes.first:
            raise
        raise typer.Exit(INTERRUPTED) from None  # the first one says it


def _await_first(processes: Processes) -> None:
    """Let the first process prepare everything, and find first what is wrong."""
    try:
        processes.wait()
    except (TrainingError, KeyboardInterrupt):
        raise typer.Exit(1) from None  # it has said why


@dataclass(frozen=True)
class _Manner:
    """What was asked for besides the settings of the training."""

    replay: str | None
    test_share: float
    resume: bool
    words: str | None
    skip_bad: bool
    dry_run: bool
    codec: str
    offline: bool

    def writer(self, talk: TrainingTalk) -> WordWriter | None:
        """What writes missing words, if a model for it is named."""
        from moshi_mlx.finetune.transcripts import WordWriter
        from moshi_mlx.tasks.transcribe import load_transcriber

        if self.words is None:
            return None
        load = partial(load_transcriber, self.words, codec=self.codec, offline=self.offline)
        return WordWriter(load, talk.bar)


def _teach(
    checkpoint: Checkpoint,
    data: str,
    folder: Path,
    settings: Settings,
    talk: TrainingTalk,
    manner: _Manner,
    processes: Processes,
) -> None:
    from moshi_mlx.cli.interruption import undone
    from moshi_mlx.cli.loss_plot import LossPlot
    from moshi_mlx.finetune.base import check_model
    from moshi_mlx.finetune.data import find_replay, find_sources, named_twice, no_words
    from moshi_mlx.finetune.estimate import check_fits
    from moshi_mlx.finetune.folder import append_log, open_folder
    from moshi_mlx.finetune.run import Run
    from moshi_mlx.weights.progress import progress_bar

    processes.check(settings)
    check_model(checkpoint, settings)
    bad: list[str] = []

    def skip(error: MoshiError) -> None:
        bad.append(str(error))
        talk.note(f"left out: {error}")

    lag = max(checkpoint.lm_config.delays[1 : 1 + checkpoint.lm_config.dep_q])
    if_bad = skip if manner.skip_bad else None
    writer = manner.writer(talk)
    missing = _none if writer and manner.dry_run else writer
    sources = find_sources(data, if_bad, lag, transcribe=missing)
    replay = find_replay(manner.replay, sources, if_bad, lag, missing) if manner.replay else []
    if writer:
        writer.close()
        if writer.written:
            talk.say(f"words were written, look whether they are right: {some(map(str, writer.written))}")
    if again := named_twice([*sources, *replay]):
        talk.note(again)
    for source in [*sources, *replay] if missing is not _none else []:
        if silent := no_words(source.recordings):
            talk.note(silent)
    need = check_fits(checkpoint, settings)
    if manner.dry_run:
        talk.need(need, settings)
        return
    before = 0
    if processes.first:
        before = open_folder(folder, checkpoint, data, settings, manner.resume, manner.replay)
    with undone("no step was taken; codes that were computed are kept"):
        codec = checkpoint.load_codec(manner.codec)
        windows = _windows(checkpoint, codec, sources, replay, settings, talk, manner, if_bad)
        if processes.first:
            processes.wait()  # for the others, which have waited for this
        sampler = _sampler(checkpoint, codec, windows, settings, talk, folder)
        with progress_bar(f"loading {checkpoint.lm_weights.name}", checkpoint.weights.nbytes, talk.bar) as advance:
            run = Run(checkpoint, folder, settings, windows, advance, sampler, processes)
    talk.begin(windows, settings, run.trainer.count, before, processes.size)
    if not processes.first:
        _follow(run)
        return

    def kept() -> str:
        newest = run.newest
        where = (
            f"the checkpoint of step {newest} is kept; go on with --resume" if newest else "nothing is kept yet"
        )
        return f"step {run.trainer.step} was taken, {where}"

    plot = LossPlot(folder, talk.note)
    with undone(kept):
        try:
            for report in run.train():
                append_log(folder, report)
                talk.report(report, settings.steps)
                plot.update(run.newest)
        except (TrainingError, CheckpointError, AudioFileError) as error:
            raise type(error)(f"{error}: {kept()}") from error
        plot.update(run.newest, last=True)
    talk.event("end", folder=str(folder), step=run.trainer.step, best=run.best_or_none, skipped=bad)
    if bad:
        talk.say(f"{len(bad)} recordings were left out, see the notes above")
    use = f"--model {folder}" if settings.full else f"--model {checkpoint.name} --adapter {folder}"
    talk.say(f"{folder} is ready: moshi-mlx chat {use}")


def _follow(run: Run) -> None:
    """Take part in a training that another process leads and tells of."""
    try:
        for _ in run.train():
            pass
    except DataError:
        raise typer.Exit(1) from None  # all have found it


def _none(sound: Path) -> tuple[Word, ...]:
    """The words of a recording whose words are yet to be written."""
    return ()


def _windows(
    checkpoint: Checkpoint,
    codec: Codec,
    sources: list[Source],
    replay: list[Source],
    settings: Settings,
    talk: TrainingTalk,
    manner: _Manner,
    skip: Callable[[MoshiError], None] | None,
) -> Data:
    from moshi_mlx.finetune.batches import read_windows
    from moshi_mlx.finetune.codes import Encoder
    from moshi_mlx.weights.progress import progress_bar

    encode = checkpoint.load_tokenizer().encode
    encoder = Encoder(
        codec, checkpoint.mimi_weights, checkpoint.lm_config, settings.seconds, encode, tell=talk.note
    )
    total = sum(len(source.recordings) for source in [*sources, *replay])
    with progress_bar("encoding", total, talk.bar, "recordings") as advance:
        data = read_windows(encoder, sources, settings, replay, manner.test_share, skip, advance)
    if encoder.encoded < total:
        talk.say(f"the codes of {total - encoder.encoded} of {total} recordings were in the cache")
    return data


def _sampler(
    checkpoint: Checkpoint, codec: Codec, data: Data, settings: Settings, talk: TrainingTalk, folder: Path
) -> Sampler | None:
    from moshi_mlx.finetune.folder import append_log
    from moshi_mlx.finetune.sample import Sampler

    if not settings.sample:
        return None
    window = data.tests[0] if data.tests else data.sources[0][0]
    if not data.tests:
        talk.note(f"no recording is held out: the model answers one that it learns from, {window}")

    def tell(sample: Sample) -> None:
        append_log(folder, sample)
        talk.answer(sample, settings.steps)

    return Sampler(checkpoint, codec, window, settings.seconds, settings.seed, tell)
