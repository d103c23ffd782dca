"""Write Nano as Kyutai publishes a model: config.json, weights, codec and tokenizer, in bfloat16.

Beside them lies questions.json, what it can be asked.

`python -m training.export FOLDER MODEL_FOLDER`
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from training import codec, lm, train_codec
from training.dialogue import ANSWERS
from training.model_folder import LEARNED, LM_FOLDER, MIMI, MIMI_CONFIG, MODEL, OWN_CODEC, write_around
from training.text import tokenizer_model


def export(folder: Path, target: Path) -> None:
    """Write the model trained in `folder` to `target`."""
    export_all_but_lm(folder, target)
    save_file(_half(load_file(folder / LM_FOLDER / LEARNED)), target / MODEL, {"format": "pt"})
    for path in target.iterdir():
        path.chmod(0o644)  # safetensors writes for its owner alone
    size = sum(path.stat().st_size for path in target.iterdir() if path.suffix != ".md")
    print(f"{target}: {size / 1e6:.1f} MB")


def export_all_but_lm(folder: Path, target: Path) -> None:
    """Write codec, tokenizer and configs."""
    target.mkdir(parents=True, exist_ok=True)
    trained, _ = train_codec.load(folder)
    mimi = codec.folded(trained).state_dict()
    save_file(_half(published(mimi)), target / MIMI, {"format": "pt"})
    codec.save_config(target / MIMI_CONFIG)
    config = {**lm.config(), "model_type": "moshi", "lm_gen_config": {"use_sampling": False}}
    write_around(target, config, tokenizer_model(), OWN_CODEC)
    (target / "questions.json").write_text(json.dumps(ANSWERS, indent=1) + "\n")


def published(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The codec's tensors by the names of published files: attention projections in one tensor a layer."""
    out: dict[str, torch.Tensor] = {}
    parts: dict[str, list[torch.Tensor]] = {}
    for name, value in state.items():
        for held, stored in ((".in_projs.", ".in_proj_weight"), (".out_projs.", ".out_proj.weight")):
            if held in name:
                parts.setdefault(name.split(held)[0] + stored, []).append(value)
                break
        else:
            out[name] = value
    return out | {name: torch.cat(values) for name, values in parts.items()}


def _half(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.to(torch.bfloat16).contiguous() for name, value in state.items()}


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))
