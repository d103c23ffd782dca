"""Checkpoints: from what a person calls a model to its files, config, weights, tokenizer and codec.

This is the one place that finds and loads models. A name is an alias, a hub repository, a folder, or one
weights file; what belongs to it is named by its config.json, or has Kyutai's default names.
Source of names and defaults: moshi/models/loaders.py `CheckpointInfo.from_hf_repo`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moshi_mlx.checkpoint import nano
from moshi_mlx.checkpoint.names import DEFAULT_MODEL, Folder, Place, find_place, locate
from moshi_mlx.checkpoint.settings import FINE_TUNED, LM_NAMES, is_translator, read_sampling, read_settings
from moshi_mlx.checkpoint.tokenizer import TextTokenizer
from moshi_mlx.errors import CheckpointError, ConfigError, DownloadError, some
from moshi_mlx.models.config import END_OF_TEXT, PERSONA, LmConfig
from moshi_mlx.models.config_reader import read_json
from moshi_mlx.models.mimi_config import MIMI, MimiConfig, check_published
from moshi_mlx.sampling_config import SamplingConfig
from moshi_mlx.weights.safetensors import read_header, shard_names

if TYPE_CHECKING:
    import mlx.core as mx

    from moshi_mlx.codec.base import Codec
    from moshi_mlx.models.lm import Lm
    from moshi_mlx.weights.adapter import Adapter
    from moshi_mlx.weights.lm_weights import LmWeights
    from moshi_mlx.weights.quantization import Scheme

MIMI_NAME = "tokenizer-e351c8d8-checkpoint125.safetensors"
TOKENIZER_NAME = "tokenizer_spm_32k_3.model"


@dataclass(frozen=True)
class Checkpoint:
    """Everything that belongs to one model, found; no weights are loaded yet.

    sampling: what the checkpoint's authors recommend.
    settings: what its config.json says, file names included; Moshi 7B's where it has none.
    adapter: what `load_lm` puts on the weights, from `find_adapter`.
    choices: what was decided for the person, a line each: which of several sets of weights was taken.
    """

    name: str
    lm_config: LmConfig
    mimi_config: MimiConfig
    lm_weights: Path
    mimi_weights: Path
    tokenizer: Path
    sampling: SamplingConfig
    settings: Mapping[str, Any]
    mimi_config_file: Path | None
    choices: tuple[str, ...] = ()
    adapter: Adapter | None = None

    def __repr__(self) -> str:
        return f"<Checkpoint {self.name}: {self.lm_weights}>"

    @classmethod
    def resolve(
        cls,
        name: str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        offline: bool = False,
        quantization: str | int | None = None,
        lm_weights: str | None = None,
        mimi_weights: str | None = None,
        tokenizer: str | None = None,
        config: str | None = None,
    ) -> Checkpoint:
        """Find a checkpoint's files as `find` does, and check them against each other.

        quantization: what the caller believes it is ("q4"); never needed, an error if wrong.
        Raises CheckpointError (DownloadError for the hub), ConfigError or QuantizationError.
        """
        checkpoint = cls.find(
            name,
            offline=offline,
            lm_weights=lm_weights,
            mimi_weights=mimi_weights,
            tokenizer=tokenizer,
            config=config,
        )
        checkpoint.check(quantization)
        return checkpoint

    @classmethod
    def find(
        cls,
        name: str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        offline: bool = False,
        lm_weights: str | None = None,
        mimi_weights: str | None = None,
        tokenizer: str | None = None,
        config: str | None = None,
    ) -> Checkpoint:
        """Find a checkpoint's files, downloading what the cache lacks, and read its configs. Works without MLX.

        name: alias, hub repository ("owner/name", "owner/name@revision"), folder, weights file, or
            "hf://owner/name/file". offline: never touch the network.
        lm_weights, mimi_weights, tokenizer, config: files to use instead of the checkpoint's own: a path or
            "hf://owner/name/file".
        Raises CheckpointError (DownloadError for the hub) or ConfigError.
        """
        name = os.fspath(name)
        place, own_file = find_place(name, offline)
        here = Folder(Path())  # what a person names lies where the person is
        settings = read_settings(place, config, offline)
        named = bool(lm_weights or own_file or settings.get("moshi_name"))
        lm_file, settings = _lm_file(place, name, lm_weights, own_file, settings)
        lm_config = LmConfig.from_dict(settings)

        def found(given: str | None, usual: str) -> Path:
            if given:
                return locate(here, given, offline)
            try:
                return locate(place, usual, offline)
            except CheckpointError as error:
                if isinstance(error, DownloadError) or settings.get("model_type") != PERSONA:
                    raise
                raise CheckpointError(f"{error} (its config is PersonaPlex's, which names no files)") from error

        mimi_config_name = settings.get("mimi_config_name")
        mimi_config_file = found(None, mimi_config_name) if mimi_config_name else None
        return cls(
            name=name,
            lm_config=lm_config,
            mimi_config=MimiConfig.from_dict(read_json(mimi_config_file)) if mimi_config_file else MIMI,
            lm_weights=_with_shards(here if lm_weights else place, lm_file, offline),
            mimi_weights=found(mimi_weights, settings.get("mimi_name") or MIMI_NAME),
            tokenizer=found(tokenizer, settings.get("tokenizer_name") or TOKENIZER_NAME),
            sampling=read_sampling(settings.get("lm_gen_config") or {}),
            settings=settings,
            mimi_config_file=mimi_config_file,
            choices=() if named else _other_sets(place, lm_file),
        )

    def check(self, quantization: str | int | None = None) -> None:
        """Check all files against the config and each other: the headers of weights, and the whole tokenizer.

        Now, not after minutes of loading weights, is the time to complain. Arguments and errors as in `resolve`.
        """
        scheme = self.scheme  # which reads the header of the weights, asked for or not
        if quantization is not None:
            from moshi_mlx.weights.quantization import check_against_request

            check_against_request(scheme, quantization, self.name)
        mimi, lm = self.mimi_config, self.lm_config
        header = read_header(self.mimi_weights)
        try:
            check_published(header, mimi)
        except CheckpointError as error:
            raise CheckpointError(f"{self.mimi_weights}: {error}") from error
        if mimi.bins != lm.card or mimi.n_q < lm.codebooks:
            raise ConfigError(
                f"the codec {self.mimi_weights} has {mimi.n_q} codebooks of {mimi.bins} codes, "
                f"but the model needs {lm.codebooks} of {lm.card}"
            )
        self.load_tokenizer()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know before using the model, a line each."""
        return (*filter(None, [nano.greeting(self.name)]), *self.choices)

    @cached_property
    def weights(self) -> LmWeights:
        """The weights file, its header checked against the config. Raises as `LmWeights`."""
        from moshi_mlx.weights.lm_weights import LmWeights

        return LmWeights(self.lm_weights, self.lm_config, self.settings.get("quantization"))

    @property
    def translates(self) -> bool:
        """Whether it is Hibiki, a model that translates speech."""
        return is_translator(self.settings, self.lm_config)

    @property
    def scheme(self) -> Scheme | None:
        """How the language model is quantized, None if it is not."""
        return self.weights.scheme

    def load_lm(
        self,
        dtype: mx.Dtype | None = None,
        advance: Callable[[int], None] = lambda count: None,
        tell: Callable[[str], None] = lambda note: None,
        weights: LmWeights | None = None,
    ) -> Lm:
        """Return the language model, all weights in memory. Arguments and errors as in `LmWeights.load`.

        weights: in place of all that its file holds, those of one process of several.
        """
        lm = (weights or self.weights).load(dtype, advance, tell)
        if self.adapter:
            from moshi_mlx.weights.adapted import apply_adapter

            apply_adapter(lm, self.adapter)
        if self.translates:
            # It may say too early that it has ended; that is to be read as padding, so that it goes on.
            # Source: moshi/models/loaders.py `CheckpointInfo.get_moshi`.
            lm.read_text_as(END_OF_TEXT, lm.config.text_padding_id)
        return lm

    def load_tokenizer(self) -> TextTokenizer:
        """Return the text tokenizer, read once. Raises CheckpointError if its vocabulary is not the model's."""
        return self._text_tokenizer

    @cached_property
    def _text_tokenizer(self) -> TextTokenizer:
        config = self.lm_config
        tokenizer = TextTokenizer(self.tokenizer, silent=(config.text_padding_id, config.text_end_padding_id))
        if tokenizer.size != config.text_card:
            raise CheckpointError(
                f"{self.tokenizer} has {tokenizer.size} pieces, but text_card = {config.text_card} expected; "
                "it is the tokenizer of another model"
            )
        return tokenizer

    def load_codec(self, kind: str = "auto") -> Codec:
        """Load the audio codec. kind: "rust", "mlx", or "auto", see `codec.load.auto_kind`. Raises CodecError."""
        from moshi_mlx.codec.load import load_codec

        return load_codec(self.mimi_weights, self.mimi_config, self.lm_config.codebooks, kind)


def _lm_file(
    place: Place, name: str, given: str | None, own_file: str | None, settings: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Return which file holds the language model, and the settings that belong to it.

    given: the file to use instead of the checkpoint's own. own_file: the one that `name` picks.
    """
    file = given or own_file or settings.get("moshi_name")
    if not given and _is_fine_tuned(place, file, bool(settings.get("lora"))):
        # The rest of the config is that of the base model: its file name, and the adapter that is merged now.
        return FINE_TUNED, {**settings, "lora": False, "lora_name": None}
    if settings.get("lora"):
        raise CheckpointError(
            f"{place} is a LoRA adapter: use it with its base, --model BASE --adapter {name}, or merge them, "
            f"`moshi-mlx quantize BASE FOLDER --recipe bf16 --lora {name}`"
        )
    if file and not given and isinstance(place, Folder) and not place.find(file):
        index = f"{file}.index.json"  # somebody has cut the weights into shards, and left the config as it was
        file = index if place.find(index) else file
    return file or _usual_lm_file(place, name), settings


def _is_fine_tuned(place: Place, own_file: str | None, said_adapter: bool) -> bool:
    """Return whether moshi-finetune merged the weights: they have its name and no file that the config names."""
    if own_file == FINE_TUNED:
        return True
    if not (said_adapter or isinstance(place, Folder)) or not place.find(FINE_TUNED):
        return False  # a repository is asked only if what its config says makes no model
    return not any(place.find(file) for file in ([own_file] if own_file else LM_NAMES[:-1]))


def _usual_lm_file(place: Place, name: str) -> str:
    """Return the weights of a checkpoint whose config names none: what its name ends in, before all others."""
    suffix = next((kind for kind in ("q4", "q8") if name.partition("@")[0].rstrip("/").endswith(kind)), "")
    names = sorted(LM_NAMES, key=lambda file: f".{suffix}." not in file) if suffix else LM_NAMES
    for file in names:
        if place.find(file):
            return file
    from moshi_mlx.checkpoint.others import refuse_parts

    refuse_parts(place)
    raise CheckpointError(f"{place} has none of {', '.join(names)}; is it a Moshi model?")


def _other_sets(place: Place, taken: str) -> tuple[str, ...]:
    """Return a line that says which of several sets of weights was taken; none where there is one.

    What a repository holds is not known without fetching it, so only folders are looked at.
    """
    if not isinstance(place, Folder):
        return ()
    sets = [file for file in LM_NAMES if place.find(file)]
    parts = {file: shard_names(place.path / file) or [file] for file in sets}  # an index may list the one file
    if not (others := [file for file in sets if parts[file] != parts[taken]]):
        return ()
    return (
        f"{place} also holds {some(others)}, and no config says which is meant (moshi_name): {taken} was taken; "
        f"to use another, give its path, such as {place.path / others[0]}",
    )


def _with_shards(place: Place, file: str, offline: bool) -> Path:
    """Find a weights file; if it is an index, also the shards that it lists."""
    path = locate(place, file, offline)
    for shard in shard_names(path):
        locate(place, file.removesuffix(path.name) + shard, offline)
    return path
