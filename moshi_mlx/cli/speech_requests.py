"""Many texts, lines of JSON, each into a file of its own: `say --jsonl` and `python -m moshi_mlx.run_tts`."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer

from moshi_mlx.audio.speakers import Speakers
from moshi_mlx.audio.writer import AudioWriter
from moshi_mlx.cli.answer import Manner, ending_of, write_words
from moshi_mlx.cli.interruption import interruptible, undone
from moshi_mlx.cli.members import SpeakerOptions
from moshi_mlx.cli.words import JsonLines
from moshi_mlx.conversation.transcript import Transcript
from moshi_mlx.errors import AudioFileError, ConfigError, system_errors
from moshi_mlx.runtime.reply import Reply
from moshi_mlx.sampling_config import new_seed
from moshi_mlx.tasks.say import say_together
from moshi_mlx.tasks.utterance import Pace, tempered
from moshi_mlx.tasks.voice import prepared

if TYPE_CHECKING:
    from moshi_mlx.runtime.moshi import Moshi

TOGETHER = 8  # texts in a step of the model


@dataclass(frozen=True)
class Request:
    """A line of the file. turns: of two speakers in alternation. voices: of each. id: what its file is called."""

    turns: list[str]
    voices: list[str]
    id: str


@dataclass
class Speech:
    """What was made of a request. words: with their times, as replies tell them."""

    request: Request
    file: AudioWriter
    words: Transcript = field(default_factory=Transcript)


def say_file(
    path: str, folder: str, model: SpeakerOptions, manner: Manner, pace: Pace, size: int = TOGETHER
) -> None:
    """Say the texts of a file, each into FOLDER/ID.wav, and report on it. size: texts in a step of the model."""
    ending = None
    if manner.transcript:
        ending = ending_of(manner.transcript)
        if Path(manner.transcript).suffix:
            raise typer.BadParameter(f"--transcript {manner.transcript}: for many texts give {ending} alone")
    requests = read_requests(path)
    tell = partial(manner.tell, manner.events)
    done: list[Speech] = []
    seed = new_seed() if manner.sampling.seed is None else manner.sampling.seed
    with undone(lambda: f"{len(done)} of {len(requests)} texts are said, {len(requests) - len(done)} are not"):
        found = model.resolve(manner.sampling, tell)
        voices = read_voices(requests, Speakers(found, model.offline))
        moshi = model.load(found, tell)
        moshi.sampling = tempered(moshi.sampling, **manner.sampling.asked)
        for speech in say_requests(moshi, requests, voices, Path(folder), pace, seed, size, tell):
            done.append(speech)
            name, seconds = speech.file.name, round(speech.file.seconds, 2)
            words = f"{name.removesuffix('.wav')}.{ending}" if ending else None
            if words:
                write_words(speech.words, seconds, words)
            if manner.as_json:
                events = JsonLines(sys.stdout, id=speech.request.id)
                for at, text in speech.words.pieces:
                    events.write(Reply(None, text, at))
                facts = {"text": speech.words.text, "output": name, "output_seconds": seconds, "transcript": words}
                events.emit("end", seed=seed, **facts)
            else:
                print(f"{name}: {seconds:.2f} s", flush=True)
    manner.say(f"seed {seed}")


def say_requests(
    moshi: Moshi,
    requests: Sequence[Request],
    voices: Mapping[str, np.ndarray],
    folder: Path,
    pace: Pace,
    seed: int,
    size: int = TOGETHER,
    tell: Callable[[str], None] = warnings.warn,
) -> Iterator[Speech]:
    """Say texts together, and yield each when its file is whole; files that are not are not there at the end.

    tell: as in `say_together`.

    Ctrl-C ends it within a step. Raises KeyboardInterrupt then.
    """
    with system_errors(f"cannot make {folder}", AudioFileError):
        folder.mkdir(parents=True, exist_ok=True)
    voices = {name: prepared(moshi, voice) for name, voice in voices.items()}  # once each
    texts = ((one.turns, [voices[name] for name in one.voices or [""] if name in voices]) for one in requests)
    begun: dict[int, Speech] = {}
    with (
        ExitStack() as stack,
        interruptible(lambda: None) as interruption,
        closing(
            say_together(moshi, texts, size=size, pace=pace, seed=seed, sampling=moshi.sampling, tell=tell)
        ) as steps,
    ):
        for index, spoken in steps:
            if interruption.came:
                break
            if index not in begun:
                file = AudioWriter(folder / f"{requests[index].id}.wav")
                stack.callback(file.discard)
                begun[index] = Speech(requests[index], file)
            speech = begun[index]
            if spoken:
                speech.file.write(spoken.audio)
                for word, at in spoken.words:
                    speech.words.write(Reply(None, f" {word}", at))
            else:
                speech.file.finish()
                yield speech
    if interruption.came:
        raise KeyboardInterrupt


def read_voices(requests: Sequence[Request], speakers: Speakers) -> dict[str, np.ndarray]:
    """Return the voices of requests by name; "" is that of those which name none, if there is one."""
    names = dict.fromkeys(name for one in requests for name in one.voices)
    found = {name: speakers.read(name) for name in names}
    if speakers.default and not all(one.voices for one in requests):
        found[""] = speakers.read()
    return found


def read_requests(path: str | Path) -> list[Request]:
    """Read a file of requests, "-" for stdin. Raises ConfigError, which names the line."""
    name = "standard input" if str(path) == "-" else str(path)
    try:
        text = sys.stdin.read() if str(path) == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {name}: {error}") from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    requests = [_request(line, f"{name}, line {number}") for number, line in lines]
    first: dict[str, int] = {}
    for (number, _), one in zip(lines, requests, strict=True):
        if (other := first.setdefault(one.id, number)) != number:
            raise ConfigError(f"{name}, line {number}: id {one.id!r} is that of line {other} already")
    if not requests:
        raise ConfigError(f"{name} has no lines: there is nothing to say")
    return requests


def _request(line: str, where: str) -> Request:
    """Read a line with the keys of Kyutai's program (turns, voices, id), or with text and voice of one speaker."""
    try:
        fields: Any = json.loads(line)
        turns = fields["turns"] if "turns" in fields else [fields["text"]]
        voices = fields.get("voices", [fields["voice"]] if fields.get("voice") else [])
        request = Request(turns, voices, fields["id"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{where}: text (or turns) and id expected, and voice (or voices): {error!r}") from error
    listed = all(
        isinstance(each, list) and all(isinstance(one, str) for one in each)
        for each in (request.turns, request.voices)
    )
    if not listed or not isinstance(request.id, str) or Path(request.id).name != request.id:
        raise ConfigError(f"{where}: turns and voices must be lists of texts, id the name of a file")
    if not any(turn.strip() for turn in request.turns):
        raise ConfigError(f"{where}: the text is empty")
    return request
