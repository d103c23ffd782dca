"""`python -m moshi_mlx.run_tts`: the flags people know, in front of what `moshi-mlx say` does, for many texts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from moshi_mlx.cli import members, options
from moshi_mlx.cli.main import program, run_program
from moshi_mlx.errors import ConfigError

SEED = 299792458


@dataclass(frozen=True)
class Request:
    """A line of the file. turns: of two speakers in alternation. voices: of each. id: what its file is called."""

    turns: list[str]
    voices: list[str]
    id: str


def run_tts(
    jsonl: Annotated[
        Path, typer.Argument(metavar="JSONL", help='Lines of {"turns": [], "voices": [], "id": ""}.')
    ],
    *,
    out_folder: Annotated[Path, typer.Option(help="Folder for the speech.")] = Path("tts-outputs"),
    hf_repo: Annotated[str, typer.Option(help="As --model of `moshi-mlx say`.")] = "kyutai/tts-1.6b-en_fr",
    voice_repo: Annotated[str, typer.Option(help="Hub repository of the voices.")] = "kyutai/tts-voices",
    config: Annotated[
        str | None, typer.Option("--config", "--lm-config", help="Instead of the model's own.")
    ] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Instead of the model's own.")] = None,
    mimi_weights: Annotated[str | None, typer.Option(help="Instead of the model's own.")] = None,
    moshi_weights: Annotated[str | None, typer.Option(help="Instead of the model's own.")] = None,
    nq: Annotated[int, typer.Option(help="Accepted without effect: all codebooks are made.")] = 32,
    temp: Annotated[float, typer.Option(help="Temperature of text and audio.")] = 0.6,
    cfg_coef: Annotated[float, typer.Option(help="Guidance, as --cfg of `moshi-mlx say`.")] = 2.0,
    quantize: Annotated[
        int | None, typer.Option(help="Refused: `moshi-mlx quantize` makes a smaller model once and for all.")
    ] = None,
    max_padding: Annotated[int, typer.Option(min=0, help="Steps of padding in a row, at most.")] = 8,
    initial_padding: Annotated[int, typer.Option(min=0, help="Steps of padding before the text.")] = 2,
    final_padding: Annotated[int, typer.Option(min=0, help="Frames after the text.")] = 4,
    padding_bonus: Annotated[
        float, typer.Option(help="Refused unless 0: speech is as fast as the model's.")
    ] = 0.0,
    padding_between: Annotated[int, typer.Option(min=0, help="Steps of padding between words, at least.")] = 1,
    only_wav: Annotated[bool, typer.Option("--only-wav", help="Write no .json beside the speech.")] = False,
    offline: options.OfflineOption = False,
) -> None:
    """Say the texts of a file, one after the other: each into OUT_FOLDER/ID.wav, times of words beside it."""
    if quantize is not None:
        raise ConfigError(
            f"--quantize {quantize} is not done while loading: write a smaller model once, "
            f"`moshi-mlx quantize {hf_repo} FOLDER --recipe q{quantize}`, and give --hf-repo FOLDER"
        )
    if padding_bonus:
        raise ConfigError(f"--padding-bonus {padding_bonus:g} is not known here; leave it at 0")
    from moshi_mlx.audio.speakers import Speakers
    from moshi_mlx.audio.writer import AudioWriter
    from moshi_mlx.tasks.say import say
    from moshi_mlx.tasks.utterance import Pace

    requests = list(read_requests(jsonl))
    files = {"config": config, "tokenizer": tokenizer, "mimi_weights": mimi_weights, "lm_weights": moshi_weights}
    model = members.SpeakerOptions(hf_repo, offline=offline, files=options.given(**files))
    sampling = options.SamplingOptions(SEED, text_temperature=temp, audio_temperature=temp)
    found = model.resolve(sampling, lambda note: print(f"note: {note}", file=sys.stderr))
    speakers = Speakers(found, offline, voice_repo)
    heard = {voice: speakers.read(voice) for one in requests for voice in one.voices}
    moshi = model.load(found, lambda note: print(f"note: {note}", file=sys.stderr))
    out_folder.mkdir(parents=True, exist_ok=True)
    pace = Pace(padding_between, max_padding, initial_padding, final_padding, cfg_coef)
    for one in requests:
        words: list[tuple[str, float]] = []
        voices = [heard[voice] for voice in one.voices]
        with AudioWriter(out_folder / f"{one.id}.wav") as file:
            for spoken in say(moshi, one.turns, voices, pace=pace, seed=SEED, sampling=moshi.sampling):
                file.write(spoken.audio)
                words += spoken.words
        if not only_wav:
            facts = {"turns": one.turns, "voices": one.voices, "cfg_coef": cfg_coef, "temp": temp, "seed": SEED}
            described = json.dumps({**facts, "words": [[word, round(seconds, 2)] for word, seconds in words]})
            (out_folder / f"{one.id}.json").write_text(described, encoding="utf-8")
        print(f"{file.name}: {file.seconds:.2f} s")


def read_requests(path: Path) -> Iterator[Request]:
    """Yield the requests of a file. Raises ConfigError, which names the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields: Any = json.loads(line)
            request = Request(fields["turns"], fields["voices"], fields["id"])
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{path}, line {number}: turns, voices and id expected ({error!r})") from error
        listed = all(
            isinstance(each, list) and all(isinstance(one, str) for one in each)
            for each in (request.turns, request.voices)
        )
        if not listed or not isinstance(request.id, str) or Path(request.id).name != request.id:
            raise ConfigError(
                f"{path}, line {number}: turns and voices must be lists of texts, id the name of a file"
            )
        yield request


if __name__ == "__main__":
    run_program(program(run_tts))
