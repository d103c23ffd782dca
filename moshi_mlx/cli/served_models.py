"""The models that `serve` has besides the one that talks: found at the start, loaded when they are asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from moshi_mlx.cli.members import SpeakerOptions, SttModelOptions, TranslatorOptions
from moshi_mlx.cli.options import ModelOptions, SamplingOptions

if TYPE_CHECKING:
    from moshi_mlx.checkpoint.checkpoint import Checkpoint
    from moshi_mlx.runtime.moshi import Moshi
    from moshi_mlx.web.model_pool import ServedModel

_LOADED = "loaded when it is asked for"


@dataclass(frozen=True)
class ServedModels:
    """Which models requests of the API may ask for."""

    stt: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help=f"Transcribe recordings with this model, such as stt-1b; {_LOADED}."),
    ] = None
    tts: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help=f"Say texts with this model, such as tts-1.6b; {_LOADED}."),
    ] = None
    translate: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help=f"Translate recordings with this model, such as hibiki-1b; {_LOADED}."),
    ] = None
    tts_voice: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            help="A voice of kyutai/tts-voices, or a file, that requests may name; may be repeated, the first "
            "speaks where none is named.",
            show_default="Kyutai's example",
        ),
    ] = None
    idle_minutes: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=100_000, help="Unload such a model when nobody has asked for so long.", show_default="10"
        ),
    ] = None
    max_seconds: Annotated[
        float | None,
        typer.Option(min=1, max=36_000, help="Seconds that a recording may have.", show_default="600"),
    ] = None

    @property
    def voices(self) -> Sequence[str]:
        """What requests may call the voices of a text-to-speech model."""
        return self.tts_voice or ()

    def find(self, beside: ModelOptions, tell: Callable[[str], None]) -> "list[ServedModel]":
        """Find all of them, downloading what is not here. beside: how the model that talks is loaded.

        Raises MoshiError for a model that is not there, or not of the kind.
        """
        # Rust's codec begins two processes for each request, which would take longer than it is worth.
        codec = "mlx" if beside.codec == "auto" else beside.codec
        how = {"codec": codec, "kv_bits": beside.kv_bits, "offline": beside.offline}
        wanted = [
            SttModelOptions(model=self.stt, **how) if self.stt else None,
            SpeakerOptions(model=self.tts, **how) if self.tts else None,
            TranslatorOptions(model=self.translate, **how) if self.translate else None,
        ]
        return [self._found(options, tell) for options in wanted if options]

    def _found(self, options: ModelOptions, tell: Callable[[str], None]) -> "ServedModel":
        from moshi_mlx.checkpoint.names import ALIASES
        from moshi_mlx.web.model_pool import served

        found = options.resolve(SamplingOptions(), tell)
        repo = ALIASES.get(found.name)
        return served(
            found,
            _loading(found, options, tell),
            [repo] if repo else [],
            options.kv_bits,
            self.voices,
            options.offline,
        )


def _loading(
    found: "Checkpoint", options: ModelOptions, tell: Callable[[str], None]
) -> "Callable[[Callable[[int], None]], Moshi]":
    def load(advance: Callable[[int], None]) -> "Moshi":
        from moshi_mlx.runtime.moshi import assemble

        return assemble(found, options.codec, options.kv_bits, advance, tell=tell, **options.played)

    return load
