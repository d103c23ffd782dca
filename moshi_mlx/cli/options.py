"""Options that several commands share. Nothing heavy is imported here: `--help` must be instant.

Defaults live where they are used (`checkpoint.DEFAULT_MODEL`, `sampling.SamplingConfig`, `audio.file_stream`):
here None means "not given", and a test checks the defaults that the help shows against them.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="An alias (moshiko-q4, moshika-q8, nano), a hub repository (owner/name[@revision]), or a folder.",
        show_default="moshiko-q4",
    ),
]
QuantizedOption = Annotated[
    str | None,
    typer.Option(
        "--quantized",
        "-q",
        help="Check that the weights have this quantization (4, 8); never needed to load them.",
    ),
]
CodecOption = Annotated[
    str,
    typer.Option("--codec", help="Mimi in Rust or in MLX (rust, mlx); auto takes Rust where it is installed."),
]


def _only_eight(bits: int | None) -> int | None:
    """Refused here already: a model may take a minute to load."""
    if bits not in (None, 8):
        raise typer.BadParameter(f"{bits}: only 8 is possible; leave it out to keep the window as the weights are")
    return bits


KvBitsOption = Annotated[
    int | None,
    typer.Option(
        "--kv-bits",
        callback=_only_eight,
        help="8 keeps the model's window in int8: less to read, for chips of little memory bandwidth.",
        show_default="as the weights",
    ),
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Use only files that are already here.")]
SeedOption = Annotated[
    int | None,
    typer.Option("--seed", min=0, max=2**32 - 1, help="Makes the answer reproducible.", show_default="random"),
]
FileOption = Annotated[  # of the commands that keep the flags of Kyutai's package
    str | None, typer.Option(help="Instead of the model's own: a path or hf://owner/name/file.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Say nothing on stderr but errors.")]

TextTemperatureOption = Annotated[
    float | None,
    typer.Option("--text-temperature", help="Of the inner monologue; 0 is greedy.", show_default="0.7"),
]
TextTopKOption = Annotated[
    int | None, typer.Option("--text-top-k", help="Likeliest text tokens to draw from; 0: all.", show_default="25")
]
AudioTemperatureOption = Annotated[
    float | None, typer.Option("--audio-temperature", help="Of the voice; 0 is greedy.", show_default="0.8")
]
AudioTopKOption = Annotated[
    int | None,
    typer.Option("--audio-top-k", help="Likeliest audio tokens to draw from; 0: all.", show_default="250"),
]
TopPOption = Annotated[
    float | None,
    typer.Option("--top-p", help="Fewest tokens that together are this likely; 0: off.", show_default="0.0"),
]
MinPOption = Annotated[
    float | None,
    typer.Option("--min-p", help="Drop tokens below this share of the likeliest; 0: off.", show_default="0.0"),
]
RepetitionPenaltyOption = Annotated[
    float | None,
    typer.Option(
        "--repetition-penalty", help="Above 1, text tokens said recently become less likely.", show_default="1.0"
    ),
]
RepetitionContextOption = Annotated[
    int | None,
    typer.Option("--repetition-context", help="How many text tokens count as recent.", show_default="64"),
]


SAMPLING = (  # names of the options above, as commands take them and as `SamplingConfig` has them
    "text_temperature",
    "text_top_k",
    "audio_temperature",
    "audio_top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "repetition_context",
)


def sampling(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those sampling options of a command that were given, out of its `locals()`."""
    return given(**{name: options[name] for name in SAMPLING})


def moshiko(quantized: str | None) -> str:
    """The model that Kyutai's `local` and `local_web` take for their -q."""
    return "moshiko-q8" if quantized == "8" else "moshiko-q4"


def given(**values: object) -> dict[str, Any]:
    """The options that were given, as keyword arguments."""
    return {name: value for name, value in values.items() if value is not None}
