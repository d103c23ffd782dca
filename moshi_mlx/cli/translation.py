"""A recording in, its translation out: `moshi-mlx translate` and `python -m moshi_mlx.run_inference`."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from functools import partial

import typer

from moshi_mlx.audio.file_stream import Tee, WavSink
from moshi_mlx.audio.files import open_audio
from moshi_mlx.cli.answer import STREAM, Manner, check_output, introduce, write_words
from moshi_mlx.cli.interruption import INTERRUPTED, interruptible, undone
from moshi_mlx.cli.members import TranslatorOptions
from moshi_mlx.cli.words import shown_words
from moshi_mlx.conversation.transcript import Transcript
from moshi_mlx.frames import FRAME_SAMPLES, SAMPLE_RATE
from moshi_mlx.runtime.engine import converse
from moshi_mlx.runtime.stats import Stats
from moshi_mlx.tasks.translate import TAIL, Translation


def translate_recording(
    recording: str, output: str | None, model: TranslatorOptions, manner: Manner, tail: float | None = None
) -> None:
    """Translate a recording and report on it. tail: as in `Translation`.

    What can go wrong cheaply goes wrong first: the recording, the place of the answer, the options, the weights.
    """
    check_output(recording, output, manner)
    audio, events = open_audio(recording), manner.events
    tell = partial(manner.tell, events)
    tail = TAIL if tail is None else tail
    transcript, stats = Transcript(), Stats()
    with (
        undone("the model was not loaded, and nothing is translated"),
        WavSink(output) if output else nullcontext() as wav,
    ):
        introduce(audio, manner, events)
        moshi = model.load(model.resolve(manner.sampling, tell), tell)
        with (
            moshi.session(manner.sampling.seed) as session,
            shown_words(len(audio.pcm) // FRAME_SAMPLES + 1, manner.quiet) as shown,
        ):
            sink = Tee(*(one for one in (wav, transcript, events, shown) if one))
            translation = Translation(audio.pcm, max(moshi.lm.config.delays), sink, tail)
            with interruptible(translation.close) as interruption:
                converse(session, translation, translation, stats)
    # The translation is complete and has its name from here on.
    if manner.transcript:
        write_words(transcript, len(audio.pcm) / SAMPLE_RATE, manner.transcript)
    if not (translation.ended or interruption.came):
        tell(
            f"the model has not said that the translation has ended within {tail:g} s after the recording, "
            "and was cut off there; --tail gives it longer"
        )
    if events:
        events.emit(
            "end",
            text=transcript.text,
            ended=translation.ended,
            interrupted=interruption.came,
            seed=session.seed,
            output=output,
            output_seconds=wav.file.seconds if wav else None,
            transcript=manner.transcript,
            **stats.as_dict(),
        )
    elif output != STREAM and not (shown and sys.stdout.isatty() and sys.stderr.isatty()):
        print(transcript.text, flush=True)
    manner.say(stats.summary())
    if wav:
        manner.say(f"translation in {wav.file.name}: {wav.file.seconds:.2f} s")
    if manner.transcript:
        manner.say(f"words in {manner.transcript}")
    manner.say(f"seed {session.seed}")
    if interruption.came:
        raise typer.Exit(INTERRUPTED)
