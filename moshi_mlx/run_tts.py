"""`python -m moshi_mlx.run_tts`: the flags people know, in front of what `moshi-mlx say` does, for many texts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from moshi_mlx.cli import members, options
from moshi_mlx.cli.main import program, run_program
from moshi_mlx.errors import ConfigError

SEED = 299792458


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
    batch_size: Annotated[int, typer.Option(min=1, help="Texts that are said in a step of the model.")] = 8,
    temp: Annotated[float, typer.Option(help="Temperature of text and audio.")] = 0.6,
    cfg_coef: Annotated[float, typer.Option(help="Guidance, as --cfg of `moshi-mlx say`.")] = 2.0,
    quantize: Annotated[
        int | None, typer.Option(help="Refused: `moshi-mlx quantize` makes a smaller model once and for all.")
    ] = None,
    max_padding: Annotated[int, typer.Option(min=0, help="Steps of padding in a row, at most.")] = 8,
    initial_padding: Annotated[int, typer.Option(min=0, help="Steps of padding before the text.")] = 2,
    final_padding: Annotated[int, typer.Option(min=0, help="Frames after the text.")] = 4,
    padding_bonus: Annotated[
        float, typer.Option(help="Added to the logit of padding: above 0 speech is slower, below faster.")
    ] = 0.0,
    padding_between: Annotated[int, typer.Option(min=0, help="Steps of padding between words, at least.")] = 1,
    only_wav: Annotated[bool, typer.Option("--only-wav", help="Write no .json beside the speech.")] = False,
    offline: options.OfflineOption = False,
) -> None:
    """Say the texts of a file, several at once: each into OUT_FOLDER/ID.wav, times of words beside it."""
    if quantize is not None:
        raise ConfigError(
            f"--quantize {quantize} is not done while loading: write a smaller model once, "
            f"`moshi-mlx quantize {hf_repo} FOLDER --recipe q{quantize}`, and give --hf-repo FOLDER"
        )
    from moshi_mlx.audio.speakers import Speakers
    from moshi_mlx.cli.speech_requests import read_requests, read_voices, say_requests
    from moshi_mlx.tasks.utterance import Pace

    pace = Pace(padding_between, max_padding, initial_padding, final_padding, cfg_coef, padding_bonus)
    requests = read_requests(jsonl)
    files = {"config": config, "tokenizer": tokenizer, "mimi_weights": mimi_weights, "lm_weights": moshi_weights}
    model = members.SpeakerOptions(hf_repo, offline=offline, files=options.given(**files))
    sampling = options.SamplingOptions(SEED, text_temperature=temp, audio_temperature=temp)
    found = model.resolve(sampling, lambda note: print(f"note: {note}", file=sys.stderr))
    voices = read_voices(requests, Speakers(found, offline, voice_repo))
    moshi = model.load(found, lambda note: print(f"note: {note}", file=sys.stderr))
    for speech in say_requests(moshi, requests, voices, out_folder, pace, SEED, batch_size):
        one = speech.request
        if not only_wav:
            facts = {"turns": one.turns, "voices": one.voices, "cfg_coef": cfg_coef, "temp": temp, "seed": SEED}
            words = [[text.strip(), round(seconds, 2)] for seconds, text in speech.words.pieces]
            described = json.dumps({**facts, "padding_bonus": padding_bonus, "words": words})
            (out_folder / f"{one.id}.json").write_text(described, encoding="utf-8")
        print(f"{speech.file.name}: {speech.file.seconds:.2f} s", flush=True)


if __name__ == "__main__":
    run_program(program(run_tts))
