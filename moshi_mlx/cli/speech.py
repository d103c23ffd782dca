"""A text in, speech out: `moshi-mlx say`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, nullcontext
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import typer

from moshi_mlx.audio.devices import choose
from moshi_mlx.audio.file_stream import Tee, WavSink
from moshi_mlx.audio.player import Player
from moshi_mlx.audio.portaudio import unsuppressed_stderr
from moshi_mlx.audio.speakers import Speakers
from moshi_mlx.cli.answer import Manner, check_output, write_words
from moshi_mlx.cli.given_text import GivenText
from moshi_mlx.cli.interruption import INTERRUPTED, interruptible, undone
from moshi_mlx.cli.members import SpeakerOptions
from moshi_mlx.cli.words import PlainText
from moshi_mlx.conversation.transcript import Transcript
from moshi_mlx.frames import FRAME_SECONDS
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.sampling_config import new_seed
from moshi_mlx.tasks.say import say
from moshi_mlx.tasks.utterance import Pace, tempered

CONSENT = "the voice is a recording of yours: use it with the consent of who speaks, and say that it is synthetic"

if TYPE_CHECKING:
    from moshi_mlx.runtime.engine import Sink
    from moshi_mlx.runtime.moshi import Moshi
    from moshi_mlx.tasks.script import Word


def say_text(
    text: str,
    output: str | None,
    model: SpeakerOptions,
    manner: Manner,
    voices: Sequence[str],
    pace: Pace,
    speaker: str | None = None,
) -> None:
    """Say a text and report on it.

    text: as `GivenText` takes it. output: a file, or None to play it. voices: as `Speakers` reads them.
    speaker: the device that plays.
    """
    check_output(text, output, manner)
    events = manner.events
    tell = partial(manner.tell, events)
    transcript = Transcript()
    seed = new_seed() if manner.sampling.seed is None else manner.sampling.seed
    with undone("nothing is said"), ExitStack() as stack:
        given = stack.enter_context(closing(GivenText(text)))
        wav = stack.enter_context(WavSink(output)) if output else None
        if not wav:
            stack.enter_context(unsuppressed_stderr())
            choose("output", speaker)  # before anything is loaded
        found = model.resolve(manner.sampling, tell)
        speakers = Speakers(found, model.offline)
        heard = read_voices(speakers, voices)
        if any(map(speakers.is_own, voices)):
            tell(CONSENT)
        moshi = model.load(found, tell)
        player = None if wav else stack.enter_context(Player(speaker, lambda event: manner.say(event.message)))
        if player:
            manner.say(player.describe())
        shown = stack.enter_context(nullcontext() if manner.quiet else PlainText(sys.stderr))
        moshi.sampling = tempered(moshi.sampling, **manner.sampling.asked)
        speech = _Speech(moshi, given.words(moshi, len(heard) > 1, pace, tell), heard, pace, seed)
        sinks = [sink for sink in (wav, player, transcript, events, shown) if sink]

        def stop() -> None:
            speech.stopped = True
            given.stop()
            if player:
                player.close()

        with interruptible(stop) as interruption:
            seconds = speech.write_to(Tee(*sinks))
            if player:
                player.finish()
    # The speech is complete and has its name from here on.
    if manner.transcript:
        write_words(transcript, seconds, manner.transcript)
    if events:
        events.emit(
            "end",
            text=transcript.text,
            interrupted=interruption.came,
            seed=seed,
            output=output,
            output_seconds=round(seconds, 2),
            transcript=manner.transcript,
        )
    if wav:
        manner.say(f"speech in {wav.file.name}: {wav.file.seconds:.2f} s")
    elif player and player.gaps and not given.is_coming:
        manner.say(f"{player.gaps} gaps: the model did not keep time; name a file, OUT, to hear it without any")
    if manner.transcript:
        manner.say(f"words in {manner.transcript}")
    manner.say(f"seed {seed}")
    if interruption.came:
        raise typer.Exit(INTERRUPTED)


class _Speech:
    """A text that is being said. stopped: set from any thread, to end after the step that runs."""

    def __init__(
        self,
        moshi: Moshi,
        words: Iterator[Word],
        voices: Sequence[np.ndarray],
        pace: Pace,
        seed: int,
    ) -> None:
        self._steps = say(moshi, words, voices, pace=pace, seed=seed, sampling=moshi.sampling)
        self.stopped = False

    def write_to(self, sink: Sink) -> float:
        """Give the speech to a sink as it is made. Returns the seconds of it."""
        frames = 0
        with closing(self._steps) as steps:
            for spoken in steps:
                if self.stopped:
                    break
                frames += bool(len(spoken.audio))
                said = "".join(f" {word}" for word, _ in spoken.words)
                at = spoken.words[0][1] if spoken.words else 0.0
                sink.write(Reply(spoken.audio if len(spoken.audio) else None, said, at))
        return frames * FRAME_SECONDS


def read_voices(speakers: Speakers, names: Sequence[str]) -> list[np.ndarray]:
    """Return voices as `say` takes them. names: none for what the model has without a choice."""
    if not names:
        return [speakers.read()] if speakers.default else []
    return [speakers.read(name) for name in names]
