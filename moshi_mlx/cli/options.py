"""Options that several commands share. Nothing heavy is imported here: `--help` must be instant.

Options that belong together are the fields of a dataclass, which a command takes as one parameter: see
`main.grouped`.
Defaults live where they are used (`checkpoint.DEFAULT_MODEL`, `SamplingConfig`, `audio.file_stream`): here None
means "not given", and a test checks the defaults that the help shows against them.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from moshi_mlx.errors import ConfigError, MoshiError
from moshi_mlx.sampling_config import MAX_SEED, SamplingConfig

if TYPE_CHECKING:
    from moshi_mlx.checkpoint.checkpoint import Checkpoint
    from moshi_mlx.distributed.leader import Leader
    from moshi_mlx.runtime.moshi import Moshi

MODEL_HELP = (
    "An alias (moshiko-q4, moshika-q8, personaplex, nano), a hub repository (owner/name[@revision]), or a folder."
)
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help=MODEL_HELP,
        show_default="moshiko-q4",
    ),
]
PRECISIONS = "q4, q8, q6, q5, q4-g64, mxfp4, mxfp8, nvfp4 or bf16 (4 is q4, 8 is q8)"


class WrongUsage(MoshiError):
    """A value that no model could make right; found before anything is fetched or loaded. Exit code 2."""


@contextmanager
def usage() -> Iterator[None]:
    """Make an error of the block wrong usage."""
    try:
        yield
    except MoshiError as error:
        raise WrongUsage(str(error)) from error


def known_scheme(name: str | None) -> str | None:
    """Refuse what is no quantization here already: a model may have to be fetched first."""
    if name is not None:
        from moshi_mlx.weights.quantization import UNQUANTIZED, parse_scheme

        with usage():
            if name != UNQUANTIZED:
                parse_scheme(name)
    return name


QuantizedOption = Annotated[
    str | None,
    typer.Option(
        "--quantized",
        "-q",
        callback=known_scheme,
        help=f"Check that the weights are {PRECISIONS}; loading never needs it.",
    ),
]
CodecOption = Annotated[
    Literal["auto", "rust", "mlx"],
    typer.Option(help="Mimi in Rust (rust) or MLX (mlx); auto takes Rust beside a GPU where it is installed."),
]


def _only_eight(bits: int | None) -> int | None:
    """Refuse other widths here already: a model may take a minute to load."""
    if bits not in (None, 8):
        raise typer.BadParameter(f"{bits}: only 8 is possible; leave it out to keep the window as the weights are")
    return bits


KvBitsOption = Annotated[
    int | None,
    typer.Option(
        callback=_only_eight,
        metavar="8",
        help="8 stores the model's window in int8: less to read, for chips of little memory bandwidth.",
        show_default="as the weights",
    ),
]
ConditionOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Condition of a model that takes any, such as description=good for Hibiki; may be repeated.",
        show_default="the best",
    ),
]
CfgOption = Annotated[
    float | None,
    typer.Option(
        help="Guidance away from the worst condition (classifier-free); 3 is usual. Doubles the work for a frame.",
        show_default="1: none",
    ),
]
AdapterOption = Annotated[
    str | None,
    typer.Option(help="A LoRA adapter of the model, as finetune makes them: a folder, file or hub repository."),
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Use only files that are already here.")]
SeedOption = Annotated[
    int | None,
    typer.Option(min=0, max=MAX_SEED, help="Seed of the draws, for a reproducible answer.", show_default="random"),
]
TrimOption = Annotated[
    float | None,
    typer.Option(
        "--trim",
        "--refresh",
        min=1,
        max=3600,
        metavar="SECONDS",
        help="When the model's window is full, trim the context to the last SECONDS at the next pause.",
        show_default="off",
    ),
]
UnloadAfterOption = Annotated[
    float | None,
    typer.Option(
        "--unload-after",
        min=0.001,
        max=100_000,
        metavar="MINUTES",
        help="Give the model's memory back when nobody has been there for so long; who comes waits for it again.",
        show_default="never",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")]
EventsOption = Annotated[bool, typer.Option("--json", help="Print events to stdout, one JSON object a line.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Print nothing to stderr but errors and notes.")]


@dataclass(frozen=True)
class SamplingOptions:
    """How tokens are sampled, None where nothing was given; but for the seed, the fields of `SamplingConfig`."""

    seed: SeedOption = None
    text_temperature: Annotated[
        float | None,
        typer.Option(
            help="Temperature of the inner monologue; 0 is greedy.",
            show_default=str(SamplingConfig.text_temperature),
        ),
    ] = None
    text_top_k: Annotated[
        int | None,
        typer.Option(
            help="Number of likeliest text tokens to draw from; 0 is all.",
            show_default=str(SamplingConfig.text_top_k),
        ),
    ] = None
    audio_temperature: Annotated[
        float | None,
        typer.Option(
            help="Temperature of the voice; 0 is greedy.", show_default=str(SamplingConfig.audio_temperature)
        ),
    ] = None
    audio_top_k: Annotated[
        int | None,
        typer.Option(
            help="Number of likeliest audio tokens to draw from; 0 is all.",
            show_default=str(SamplingConfig.audio_top_k),
        ),
    ] = None
    top_p: Annotated[
        float | None,
        typer.Option(
            help="Draw from the fewest tokens whose probabilities reach this; 0 is off.",
            show_default=str(SamplingConfig.top_p),
        ),
    ] = None
    min_p: Annotated[
        float | None,
        typer.Option(
            help="Drop tokens less likely than this share of the likeliest; 0 is off.",
            show_default=str(SamplingConfig.min_p),
        ),
    ] = None
    repetition_penalty: Annotated[
        float | None,
        typer.Option(
            help="Above 1 it makes recent text tokens less likely.",
            show_default=str(SamplingConfig.repetition_penalty),
        ),
    ] = None
    repetition_context: Annotated[
        int | None,
        typer.Option(
            help="Number of text tokens that count as recent.", show_default=str(SamplingConfig.repetition_context)
        ),
    ] = None

    def __post_init__(self) -> None:
        with usage():
            SamplingConfig(**self.asked)

    @property
    def asked(self) -> dict[str, Any]:
        """The settings of `SamplingConfig` that were given."""
        return {name: value for name, value in given(**vars(self)).items() if name != "seed"}


@dataclass(frozen=True)
class ModelOptions:
    """Which model, and how it is loaded."""

    model: ModelOption = None
    quantized: QuantizedOption = None
    codec: CodecOption = "auto"
    kv_bits: KvBitsOption = None
    condition: ConditionOption = None
    cfg: CfgOption = None
    adapter: AdapterOption = None
    offline: OfflineOption = False
    files: Mapping[str, str] = field(default_factory=dict)  # to use instead of its own, as in `Checkpoint.resolve`
    leader: "Leader | None" = None  # of the processes that share the model

    def __post_init__(self) -> None:
        for one in self.condition or ():
            if not all(one.partition("=")):
                raise typer.BadParameter(f"--condition {one}: NAME=VALUE expected, such as description=good")

    @property
    def checkpoint(self) -> dict[str, Any]:
        """The arguments of `Checkpoint.resolve`."""
        return given(name=self.model, quantization=self.quantized, offline=self.offline, **self.files)

    @property
    def played(self) -> dict[str, Any]:
        """How the model is played, as arguments of `assemble`."""
        conditions = dict(one.split("=", 1) for one in self.condition or ())
        guidance = 1.0 if self.cfg is None else self.cfg
        return {"conditions": conditions, "guidance": guidance, **given(leader=self.leader)}

    def resolve(self, sampling: SamplingOptions, tell: Callable[[str], None]) -> "Checkpoint":
        """Find the checkpoint, and let its sampling be what was asked for. Errors are those of `Checkpoint`.

        tell: gets what a person should know of the weights, if anything.
        """
        from moshi_mlx.checkpoint.adapter import with_adapter
        from moshi_mlx.checkpoint.checkpoint import Checkpoint

        found = Checkpoint.resolve(**self.checkpoint)
        self.check(found)
        found = with_adapter(found, self.adapter, offline=self.offline)
        for note in found.notes:
            tell(note)
        return replace(found, sampling=replace(found.sampling, **sampling.asked))

    def check(self, found: "Checkpoint") -> None:
        """Raise ConfigError for a model that cannot do what the command is for: to talk."""
        if not found.lm_config.depth:
            raise ConfigError(
                f"{found.name} is a speech-to-text model, which listens and does not speak; "
                f"use `moshi-mlx transcribe --model {found.name}`"
            )
        if found.lm_config.tts:
            raise ConfigError(
                f"{found.name} is a text-to-speech model, which does not listen; "
                f"use `moshi-mlx say TEXT --model {found.name}`"
            )

    def load(self, found: "Checkpoint", tell: Callable[[str], None]) -> "Moshi":
        """Load the weights of a checkpoint that was found; draws a progress bar. tell: as in `resolve`."""
        from moshi_mlx.runtime.moshi import assemble
        from moshi_mlx.weights.progress import progress_bar

        with progress_bar(f"loading {found.lm_weights.name}", found.weights.nbytes) as advance:
            return assemble(found, self.codec, self.kv_bits, advance, tell=tell, **self.played)


_FILE_HELP = "Instead of the model's own: a path or hf://owner/name/file."


PUBLISHED = {"8": "q8", "q8": "q8", "bf16": "bf16"}  # what -q says, and which of Kyutai's models that is; else q4


@dataclass(frozen=True)
class KyutaiOptions:
    """Which model, by the flags of Kyutai's package."""

    quantized: QuantizedOption = None
    hf_repo: Annotated[
        str | None,
        typer.Option(help="As --model of `moshi-mlx`.", show_default="moshiko of that quantization"),
    ] = None
    lm_weights: Annotated[str | None, typer.Option("--moshi-weight", "--moshi-weights", help=_FILE_HELP)] = None
    mimi_weights: Annotated[str | None, typer.Option("--mimi-weight", "--mimi-weights", help=_FILE_HELP)] = None
    tokenizer: Annotated[str | None, typer.Option(help=_FILE_HELP)] = None
    config: Annotated[str | None, typer.Option("--lm-config", help=_FILE_HELP)] = None

    def model(self, offline: bool = False) -> ModelOptions:
        """The same in the words of `moshi-mlx`."""
        name = self.hf_repo or (f"moshiko-{PUBLISHED.get(self.quantized or '', 'q4')}")
        names = ("lm_weights", "mimi_weights", "tokenizer", "config")
        files = given(**{name: getattr(self, name) for name in names})
        return ModelOptions(name, self.quantized, offline=offline, files=files)


@dataclass(frozen=True)
class DeviceOptions:
    """Microphone, speaker, and what is done about the one hearing the other."""

    microphone: Annotated[
        str | None,
        typer.Option(
            "--input",
            "-i",
            help="Microphone: its number or a part of its name, see `moshi-mlx devices`.",
            show_default="default",
        ),
    ] = None
    speaker: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Speaker: its number or a part of its name.", show_default="default"),
    ] = None
    echo: Annotated[
        Literal["auto", "linear", "webrtc", "off"],
        typer.Option(help="Echo canceller; with headphones auto costs nothing."),
    ] = "auto"


def given(**values: object) -> dict[str, Any]:
    """The options that were given, as keyword arguments."""
    return {name: value for name, value in values.items() if value is not None}
