"""A model half way between two: the mean of their language models, with everything else of the first.

`python -m training.halfway MODEL OTHER TARGET`, folders that `export` wrote. OTHER has learned on from MODEL, so
weights mean the same in both. Source: Wortsman et al., 2022, Robust fine-tuning of zero-shot models.
"""

import shutil
import sys
from pathlib import Path

import mlx.core as mx

from training.model_folder import MODEL, tensors


def halfway(model: Path, other: Path, target: Path) -> None:
    """Write `target`, in bfloat16.

    Raises ValueError if the two have not the same tensors.
    """
    one, two = tensors(model / MODEL), tensors(other / MODEL)
    if {name: value.shape for name, value in one.items()} != {name: value.shape for name, value in two.items()}:
        raise ValueError(f"{model} and {other} have not the same tensors")
    shutil.copytree(model, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MODEL))
    mean = {name: ((one[name] + two[name]) / 2).astype(mx.bfloat16) for name in one}
    mx.save_safetensors(str(target / MODEL), mean, {"format": "pt"})


if __name__ == "__main__":
    halfway(*map(Path, sys.argv[1:4]))
