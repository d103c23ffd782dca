"""A text in, speech out: `moshi-mlx say` and `python -m moshi_mlx.run_tts`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import typer

from moshi_mlx.audio.file_stream import Tee, WavSink
from moshi_mlx.audio.speakers import Speakers
from moshi_mlx.cli.answer import Manner, check_output, write_words
from moshi_mlx.cli.interruption import INTERRUPTED, interruptible, undone
from moshi_mlx.cli.members import SpeakerOptions
from moshi_mlx.cli.words import PlainText
from moshi_mlx.conversation.transcript import Transcript
from moshi_mlx.errors import ConfigError
from moshi_mlx.runtime.session import Reply
from moshi_mlx.sampling_config import new_seed
from moshi_mlx.tasks.say import new_words, say
from moshi_mlx.tasks.utterance import TEMPERATURE, Pace

if TYPE_CHECKING:
    from moshi_mlx.runtime.moshi import Moshi
    from moshi_mlx.tasks.script import Word

STDIN = "-"


def say_text(
    text: str, output: str, model: SpeakerOptions, manner: Manner, voices: Sequence[str], pace: Pace
) -> None:
    """Say a text and report on it. text: itself, a file's name, or "-". voices: as `find_voice` takes them."""
    check_output(text, output, manner)
    events = manner.events
    tell = partial(manner.tell, events)
    lines = lines_of(text)
    transcript = Transcript()
    seed = new_seed() if manner.sampling.seed is None else manner.sampling.seed
    stopped: list[bool] = []
    with undone("nothing is said"), WavSink(output) as wav:
        found = model.resolve(manner.sampling, tell)
        heard = read_voices(Speakers(found, model.offline), voices)
        moshi = model.load(found, tell)
        sampling = replace(moshi.sampling, **temperatures(manner))
        with (
            interruptible(lambda: stopped.append(True)) as interruption,
            nullcontext() if manner.quiet else PlainText(sys.stderr) as shown,
        ):
            sink = Tee(*(one for one in (wav, transcript, events, shown) if one))
            for spoken in say(
                moshi, words_in(moshi, lines, len(heard) > 1, pace), heard, pace=pace, seed=seed, sampling=sampling
            ):
                first = spoken.words[0][1] if spoken.words else 0.0
                said = "".join(f" {word}" for word, _ in spoken.words)
                sink.write(Reply(spoken.audio if len(spoken.audio) else None, said, first))
                if stopped:
                    break
    # The speech is complete and has its name from here on.
    if manner.transcript:
        write_words(transcript, wav.file.seconds, manner.transcript)
    if events:
        events.emit(
            "end",
            text=transcript.text,
            interrupted=interruption.came,
            seed=seed,
            output=output,
            output_seconds=wav.file.seconds,
            transcript=manner.transcript,
        )
    manner.say(f"speech in {wav.file.name}: {wav.file.seconds:.2f} s")
    if manner.transcript:
        manner.say(f"words in {manner.transcript}")
    manner.say(f"seed {seed}")
    if interruption.came:
        raise typer.Exit(INTERRUPTED)


def temperatures(manner: Manner) -> dict[str, float]:
    """Return how tokens are drawn: as for this kind of model, but for what was asked for."""
    return {"text_temperature": TEMPERATURE, "audio_temperature": TEMPERATURE, **manner.sampling.asked}


def lines_of(text: str) -> Iterator[str]:
    """Return the lines of a text, of the file that it names, or of stdin as they come. Raises ConfigError."""
    if text == STDIN:
        return _pieces()
    if os.path.isfile(text):
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read {text} as text: {error}") from error
    if not text.strip():
        raise ConfigError("the text is empty: there is nothing to say")
    return iter(text.splitlines(keepends=True))


def _pieces() -> Iterator[str]:
    """Yield what comes on stdin, up to each white space: a word is whole only then."""
    held = ""
    while piece := sys.stdin.read(1):
        held += piece
        if piece.isspace():
            yield held
            held = ""
    if held:
        yield held


def words_in(moshi: Moshi, lines: Iterator[str], turns: bool, pace: Pace) -> Iterator[Word]:
    """Yield the words of lines. turns: whether each line is a turn, of two speakers in alternation."""
    words = new_words(moshi, pace)
    begins = True
    for line in _whole(lines):
        yield from words.turn(line) if begins else words.more(line)
        begins = turns and line.endswith("\n")


def _whole(lines: Iterator[str]) -> Iterator[str]:
    """Keep a <break .../> in one piece, which has a space in it."""
    held = ""
    for line in lines:
        held += line
        if held.rfind("<break") <= held.rfind(">"):
            yield held
            held = ""
    if held:
        yield held


def read_voices(speakers: Speakers, names: Sequence[str]) -> list[np.ndarray]:
    """Return voices as `say` takes them. names: none for what the model has without a choice."""
    if not names:
        return [speakers.read()] if speakers.default else []
    return [speakers.read(name) for name in names]
