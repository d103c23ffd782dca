"""Which model, for commands that want one that does something else than talk."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moshi_mlx.cli.options import ModelOptions
from moshi_mlx.errors import ConfigError

if TYPE_CHECKING:
    from moshi_mlx.checkpoint.checkpoint import Checkpoint


@dataclass(frozen=True)
class TranslatorOptions(ModelOptions):
    """Which translation model, and how it is loaded."""

    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="An alias (hibiki-1b, hibiki-2b: French to English; hibiki-zero), a hub repository, or a folder.",
            show_default="hibiki-1b",
        ),
    ] = None

    @property
    def checkpoint(self) -> dict[str, Any]:
        """The arguments of `Checkpoint.resolve`."""
        from moshi_mlx.checkpoint.names import DEFAULT_TRANSLATOR

        return {"name": DEFAULT_TRANSLATOR, **super().checkpoint}

    def check(self, found: "Checkpoint") -> None:
        """Raise ConfigError for a model that does not translate."""
        from moshi_mlx.tasks.translate import check_translates

        check_translates(found.translates, found.name)


@dataclass(frozen=True)
class SttModelOptions(ModelOptions):
    """Which speech-to-text model, and how it is loaded."""

    condition: list[str] | None = None  # no option: it takes none
    cfg: float | None = None  # likewise

    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="An alias (stt-1b: English and French, stt-2.6b: English, nano-stt: tiny, in the package), "
            "a hub repository, or a folder.",
            show_default="stt-1b",
        ),
    ] = None

    @property
    def checkpoint(self) -> dict[str, Any]:
        """The arguments of `Checkpoint.resolve`."""
        from moshi_mlx.checkpoint.names import DEFAULT_STT_MODEL

        return {"name": DEFAULT_STT_MODEL, **super().checkpoint}

    def check(self, found: "Checkpoint") -> None:
        """Raise ConfigError for a model that speaks."""
        if found.lm_config.depth and found.lm_config.tts:
            super().check(found)
        if found.lm_config.depth:
            raise ConfigError(
                f"{found.name} is a model that speaks, not a speech-to-text model; "
                f"give one such as stt-1b, or let it answer with `moshi-mlx run --model {found.name}`"
            )


@dataclass(frozen=True)
class SpeakerOptions(ModelOptions):
    """Which text-to-speech model, and how it is loaded."""

    condition: list[str] | None = None  # no option: it has its own

    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="An alias (tts-1.6b: English and French, tts-0.75b: English), a hub repository, or a folder.",
            show_default="tts-1.6b",
        ),
    ] = None
    cfg: Annotated[
        float | None,
        typer.Option(help="How closely text and voice are kept to (guidance); 1 is none.", show_default="2.0"),
    ] = None

    @property
    def checkpoint(self) -> dict[str, Any]:
        """The arguments of `Checkpoint.resolve`."""
        from moshi_mlx.checkpoint.names import DEFAULT_SPEAKER

        return {"name": DEFAULT_SPEAKER, **super().checkpoint}

    @property
    def played(self) -> dict[str, Any]:
        """Nothing: guidance is given with the text."""
        return {}

    def check(self, found: "Checkpoint") -> None:
        """Raise ConfigError for a model that says no text."""
        from moshi_mlx.tasks.say import check_says

        check_says(found.lm_config, found.name)
