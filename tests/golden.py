"""Reading the golden files of language models, and building the models they were made with."""

import json
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.layers import parameters as parameters_of
from moshi_mlx.models.lm import Lm
from moshi_mlx.weights.key_map import torch_origin
from tests.random_weights import random_tensor

ASSETS = Path(__file__).parent / "assets"
LM_GOLDENS = ("moshi", "scheduled", "grouped", "plain")


@dataclass
class Golden:
    """One file of a maker: the model with PyTorch's weights, and what PyTorch answered."""

    lm: Lm
    condition: mx.array | None
    answers: dict[str, np.ndarray]


def lm_golden(name: str) -> Golden:
    """Load tests/assets/lm_{name}.npz, of `make_lm_golden.py`."""
    return read_golden(f"lm_{name}")


def stt_golden() -> Golden:
    """Load tests/assets/stt.npz, of `make_stt_golden.py`."""
    return read_golden("stt")


def read_golden(name: str, as_stored: bool = False) -> Golden:
    """Load tests/assets/{name}.npz: a config, the shapes of PyTorch's tensors, and answers.

    as_stored: with all depth steps that a file holds, also those that are never run.
    """
    with np.load(ASSETS / f"{name}.npz") as file:
        answers = dict(file)
    config = json.loads(str(answers.pop("config")))
    shapes = json.loads(str(answers.pop("shapes")))
    lm_config = LmConfig.from_dict(config)
    lm = Lm(lm_config.as_stored if as_stored else lm_config)
    parameters = []
    for parameter, value in parameters_of(lm).items():
        source = torch_origin(parameter, lm.config)
        tensor = mx.array(random_tensor(source.key, tuple(shapes[source.key])))
        if source.parts > 1:
            tensor = mx.split(tensor, source.parts)[source.part]
        parameters.append((parameter, tensor.reshape(value.shape)))
    lm.load_weights(parameters)
    condition = lm.condition({"description": "good"}) if "description" in lm.config.conditioners else None
    return Golden(lm, condition, answers)
