"""The language model of `nano-persona`: Nano's, with a window that holds prompts and the talk after them."""

from typing import Any

from moshi_mlx.models.config import PERSONA
from training import lm
from training.persona_words import text_card

CONTEXT = 280  # frames, 22.4 s


def config() -> dict[str, Any]:
    """As `config.json` says it, without the names of files.

    Two layers of the depth transformer, where Nano has three: the wheel has no room for more.
    """
    return {
        **lm.config(),
        "model_type": PERSONA,
        "context": CONTEXT,
        "depformer_num_layers": 2,
        "text_card": text_card(),
        "lm_gen_config": {"use_sampling": False},
    }
