"""Models that people look for here and that are not played here: called by their names, with who plays them.

A model is known by its repository, by what its config says, or by what its tensors are called.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moshi_mlx.checkpoint.names import Place
from moshi_mlx.errors import CheckpointError

MLX_REPOSITORY = "use a checkpoint such as kyutai/moshiko-mlx-q4"
HELIUM = "Helium, a text model without audio: mlx-lm runs it, `python -m moshi_mlx.run_helium`"
VIS = "MoshiVis, which looks at images by cross attention: Kyutai's moshivis runs it"
POCKET = "Pocket TTS, another architecture (continuous latents, no codes): pip install pocket-tts"
VOICECHAT = "NemotronLabs VoiceChat, another architecture: mlx-vlm runs it"
CSM = "CSM, a Llama that speaks Mimi's codes: csm-mlx runs it"
RAG = "MoshiRAG, which asks for references while it speaks, not yet played here: Kyutai's moshi runs it"
TRANSFORMERS = f"in the layout of transformers, which is not read here; {MLX_REPOSITORY}"

BY_REPOSITORY = {  # how a repository's name begins
    "kyutai/helium-1": HELIUM,
    "kyutai/moshika-vis": VIS,
    "kyutai/pocket-tts": POCKET,
    "kyutai/moshika-rag": RAG,
    "mlx-community/nemotronlabs-voicechat": VOICECHAT,
    "sesame/csm": CSM,
    "mlx-community/csm": CSM,
}
BY_MODEL_TYPE = {  # of configs without a field that LMModel has
    "helium": HELIUM,
    "csm": CSM,
    "kyutai_speech_to_text": TRANSFORMERS,
    "moshi": TRANSFORMERS,
    "mimi": "the codec Mimi alone, not a language model",
}
SPLIT = ("temporal.safetensors", "depformer.safetensors", "embeddings.safetensors")


def refuse_repository(repo: str) -> None:
    """Raise CheckpointError for a hub repository of another model, before anything is fetched."""
    found = next((what for start, what in BY_REPOSITORY.items() if repo.lower().startswith(start)), None)
    if found:
        raise CheckpointError(f"{repo} is {found}")


def refuse_parts(place: Place) -> None:
    """Raise CheckpointError for a place with a model that is cut in parts for another program."""
    if all(map(place.find, SPLIT)):
        raise CheckpointError(
            f"{place} is cut into temporal, depformer and embeddings for speech-swift, whose names are not read "
            f"here; {MLX_REPOSITORY}"
        )


def refuse_settings(settings: Mapping[str, Any], path: Path | None) -> None:
    """Raise CheckpointError for the config of another model. path: of the config."""
    kind = settings.get("model_type")
    if "dim" in settings:
        return
    if isinstance(kind, str) and (found := BY_MODEL_TYPE.get(kind.lower())):
        raise CheckpointError(f"{path} is that of {'a model ' if found == TRANSFORMERS else ''}{found}")
    if "nemotron" in str(kind).lower():
        raise CheckpointError(f"{path} is that of {VOICECHAT}")
    if foreign := kind or settings.get("architectures"):
        raise CheckpointError(
            f"{path} is not Kyutai's config but another program's (model_type or architectures: {foreign}), whose "
            f"files are not read here; {MLX_REPOSITORY}"
        )
