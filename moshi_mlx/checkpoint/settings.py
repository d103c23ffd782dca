"""What a checkpoint's config.json says beside the shape of its language model, and what stands in for one.

Source: moshi/models/loaders.py `CheckpointInfo.from_hf_repo`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moshi_mlx.checkpoint.hub import HubRepo, NotCachedError
from moshi_mlx.checkpoint.names import FIRST, Folder, Place, locate
from moshi_mlx.errors import ConfigError, DownloadError
from moshi_mlx.models.config import HIBIKI, MOSHI_7B, PERSONA, PERSONAPLEX_7B, WITHOUT_EFFECT, LmConfig
from moshi_mlx.models.config_reader import ConfigReader, read_json, shown
from moshi_mlx.sampling_config import SamplingConfig

CONFIG_NAME, LM_KWARGS_NAME = "config.json", "moshi_lm_kwargs.json"
FINE_TUNED = "consolidated.safetensors"  # what moshi-finetune calls a model that it has merged
LM_NAMES = (
    *("model.safetensors", "model.q4.safetensors", "model.q8.safetensors"),
    *("model.safetensors.index.json", "model.q8.gguf", FINE_TUNED),
)


def read_settings(place: Place, override: str | None, offline: bool) -> dict[str, Any]:
    """Read config.json, or the arguments of `LMModel` beside it or in its place, as LLM-jp-Moshi has them.

    A checkpoint that has neither has the settings of Moshi 7B, or of PersonaPlex.
    """
    from moshi_mlx.checkpoint import others

    if isinstance(place, HubRepo):
        others.refuse_repository(place.repo)
    first = isinstance(place, HubRepo) and place.repo in FIRST.values()
    try:
        path = locate(Folder(Path()), override, offline) if override else place.find(CONFIG_NAME)
    except DownloadError as error:
        # Kyutai's first repositories may have none, and a cache filled by another program does not say so.
        if override or not (first or _is_persona(place, {})):
            raise
        there = isinstance(place, HubRepo) and any(map(place.has, LM_NAMES))
        if not (isinstance(error, NotCachedError) or there):
            raise  # the hub would be waited for once more for every file
        path = None
    settings = read_json(path) if path else {}
    if not first and not settings.keys() & {"dim", "model_type", "architectures"} and not _is_persona(place, {}):
        with contextlib.suppress(NotCachedError):  # a cache filled before they were looked for
            if arguments := place.find(LM_KWARGS_NAME):
                path, settings = arguments, {**read_json(arguments), **settings}
    if not path and not _is_persona(place, settings):
        settings = dict(MOSHI_7B)
    if "dim" not in settings and _is_persona(place, settings):
        # NVIDIA's config says what the model is called, the rest is in its program.
        known = {*PERSONAPLEX_7B, *WITHOUT_EFFECT}
        settings = {**PERSONAPLEX_7B, **{key: value for key, value in settings.items() if key in known}}
    if "dim" not in settings:
        others.refuse_settings(settings, path)
    for key in ("moshi_name", "mimi_name", "mimi_config_name", "tokenizer_name"):
        if not isinstance(settings.get(key), str | None):
            raise ConfigError(f"config field {key!r} is {shown(settings[key])}: a file name expected")
    for key in ("lm_gen_config", "quantization"):
        if not isinstance(settings.get(key), Mapping | None):
            raise ConfigError(f"config field {key!r} is {shown(settings[key])}: a group of fields expected")
    return settings


def _is_persona(place: Place, settings: Mapping[str, Any]) -> bool:
    """Return whether a config without dimensions is that of PersonaPlex: it or the repository is called so."""
    kind = settings.get("model_type")
    named = isinstance(place, HubRepo) and PERSONA in place.repo.lower()
    return kind == PERSONA or (kind is None and not settings.get("architectures") and named)


def is_translator(settings: Mapping[str, Any], lm_config: LmConfig) -> bool:
    """Return whether a config is that of Hibiki, which translates.

    Its model_type says so, as PyTorch wants it; configs that were written for MLX may leave that out.
    """
    kind = settings.get("model_type")
    named = str(settings.get("moshi_name") or "").startswith(HIBIKI)
    return kind == HIBIKI or (kind is None and (named or lm_config.rates_quality))


def read_sampling(settings: Mapping[str, Any]) -> SamplingConfig:
    """Read how the authors draw tokens.

    Source: moshi/models/lm.py `LMGen.__init__`, whose arguments `lm_gen_config` holds.
    """
    read = ConfigReader(settings, prefix="lm_gen_config.")
    default = SamplingConfig()
    text, audio = (
        read.number("temp_text", default.text_temperature),
        read.number("temp", default.audio_temperature),
    )
    if read.get("use_sampling", True) is False:
        text = audio = 0.0
    return SamplingConfig(
        text_temperature=text,
        text_top_k=read.integer("top_k_text", default.text_top_k),
        audio_temperature=audio,
        audio_top_k=read.integer("top_k", default.audio_top_k),
    )
