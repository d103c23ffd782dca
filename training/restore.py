"""Make a work folder from a finished model, to train on where its work folder is gone.

`python -m training.restore MODEL_FOLDER FOLDER`. What a model does not hold begins anew: the optimizers'
state, the head that hears phones, and the step counts, so that every phase is run again from these weights.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from training import lm
from training.codec import Codec
from training.export import LM_NAME, MIMI_NAME


def restore(model: Path, folder: Path) -> None:
    """Write FOLDER/codec.pt and FOLDER/lm.pt from a model that `export` wrote."""
    folder.mkdir(parents=True, exist_ok=True)
    codec = Codec()
    state = codec.state_dict()
    plain = {key.removeprefix("mimi."): key for key in state if key.startswith("mimi.")}
    for name, value in in_memory(load_file(model / MIMI_NAME), list(plain)).items():
        if name in plain:
            state[plain[name]] = value
        else:  # a convolution: its direction and its length
            state[f"mimi.{name}_v"] = value
            state[f"mimi.{name}_g"] = value.flatten(1).norm(dim=1).view_as(state[f"mimi.{name}_g"])
    codec.load_state_dict(state)
    torch.save({"codec": codec.state_dict(), "steps": 0}, folder / "codec.pt")
    names = list(lm.build().state_dict())
    torch.save({"lm": in_memory(load_file(model / LM_NAME), names), "steps": 0}, folder / "lm.pt")


def in_memory(published: dict[str, torch.Tensor], names: list[str]) -> dict[str, torch.Tensor]:
    """Float32 tensors of a published file under the names that modules have: the inverse of `export.published`."""
    out = {name: value.float() for name, value in published.items()}
    for held, stored in ((".in_projs.", ".in_proj_weight"), (".out_projs.", ".out_proj.weight")):
        for layer in dict.fromkeys(name.split(held)[0] for name in names if held in name):
            parts = [name for name in names if name.startswith(layer + held)]
            out |= dict(zip(parts, out.pop(layer + stored).chunk(len(parts)), strict=True))
    return out


if __name__ == "__main__":
    restore(Path(sys.argv[1]), Path(sys.argv[2]))
