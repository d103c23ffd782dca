"""Makes tests/assets/finetune_*.npz: losses, gradients and optimizer steps of PyTorch, for the tests of training.

Needs torch 2.13 and moshi 0.2.13 in an environment of their own, and a checkout of kyutai-labs/moshi-finetune:

    PYTHONPATH=.:tests python tests/make_finetune_golden.py path/to/moshi-finetune

Gradients and what ten steps change are kept as a norm and some projections of each tensor: see `made_up.shadow`.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import torch
from make_lm_golden import COMMON, CONFIGS, stacked
from moshi.conditioners import ConditionAttributes
from moshi.models.loaders import get_moshi_lm
from random_weights import random_tensor

from tests.finetune.made_up import ADAPTED, RANK, SCALING, SCHEDULES, STEPS, TOTAL, codes_of, shadow

ASSETS = Path(__file__).parent / "assets"
PERSONA = {
    **CONFIGS["moshi"],
    "dep_q": 16,
    "depformer_dim_feedforward": 96,
}
TRAINED = {"moshi": CONFIGS["moshi"], "scheduled": CONFIGS["scheduled"], "persona": PERSONA}
LR = 1e-3


def model(config: dict, lora: bool):
    changes = {"lora": True, "lora_rank": RANK, "lora_scaling": SCALING} if lora else {}
    kwargs = json.loads(json.dumps(config | changes))
    lm = get_moshi_lm(None, lm_kwargs=kwargs, device="cpu", dtype=torch.float32, fuse_lora=False)
    plain = {key.replace("frozen_W.", ""): tuple(value.shape) for key, value in lm.state_dict().items()}
    adapter = {key: shape for key, shape in plain.items() if "lora_" in key}
    shapes = stacked({key: shape for key, shape in plain.items() if key not in adapter})
    state = {key: torch.from_numpy(random_tensor(key, shape)) for key, shape in shapes.items()}
    result = lm.load_state_dict(state, strict=False)
    assert all("lora_" in key for key in result.missing_keys), result.missing_keys
    assert not result.unexpected_keys, result.unexpected_keys
    with torch.no_grad():
        for name, parameter in lm.named_parameters():
            if "lora_" in name:
                parameter.copy_(ADAPTED * torch.from_numpy(random_tensor(name, tuple(parameter.shape))))
            parameter.requires_grad = not lora or "lora_" in name
    return lm.train(), shapes


def loss_of(lm, config: dict, step: int, compute) -> tuple:
    codes = torch.from_numpy(codes_of(config, step)).long()
    conditions = None
    if "conditioners" in config:
        attributes = [ConditionAttributes(text={"description": "good"})] * len(codes)
        conditions = lm.condition_provider(lm.condition_provider.prepare(attributes))
    out = lm(codes, conditions)
    text = compute(
        out.text_logits, codes[:, :1], out.text_mask, mode="text", text_padding_weight=0.5, text_padding_ids={3, 0}
    )
    target = codes[:, 1 : 1 + lm.dep_q]
    audio = compute(out.logits, target, out.mask, mode="audio", first_codebook_weight_multiplier=100.0)
    return text + audio, text, audio


def main(checkout: Path) -> None:
    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location("loss", checkout / "finetune/loss.py")
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    compute = theirs.compute_loss_with_mask
    for name, changes in TRAINED.items():
        config = COMMON | changes
        answers: dict[str, object] = {"config": json.dumps(config)}
        for kind, lora in (("full", False), ("lora", True)):
            lm, shapes = model(config, lora)
            answers["shapes"] = json.dumps(shapes)
            trained = {key: value for key, value in lm.named_parameters() if value.requires_grad}
            before = {key: value.detach().clone() for key, value in trained.items()}
            optimizer = torch.optim.AdamW(trained.values(), lr=LR, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=TOTAL, pct_start=0.05)
            found = []
            for step in range(STEPS):
                optimizer.zero_grad()
                total, text, audio = loss_of(lm, config, step, compute)
                total.backward()
                found.append([total.item(), text.item(), audio.item()])
                if not step:
                    gradients = {key: value.grad for key, value in trained.items() if value.grad is not None}
                    names = sorted(gradients)
                    answers[f"{kind}_names"] = json.dumps(names)
                    answers[f"{kind}_gradients"] = np.stack([shadow(key, gradients[key].numpy()) for key in names])
                torch.nn.utils.clip_grad_norm_(list(trained.values()), 1.0)
                optimizer.step()
                schedule.step()
            answers[f"{kind}_losses"] = np.array(found)
            answers[f"{kind}_changes"] = np.stack(
                [shadow(key, (trained[key] - before[key]).detach().numpy()) for key in names]
            )
            if lora:
                answers["adapter"] = json.dumps({key: list(value.shape) for key, value in trained.items()})
            print(name, kind, found[0], "->", found[-1])
        path = ASSETS / f"finetune_{name}.npz"
        np.savez_compressed(path, **answers)
        print(path.name, path.stat().st_size, "bytes")
    cycles = {}
    for number, (total, start) in enumerate(SCHEDULES):
        optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=2e-6, betas=(0.9, 0.95))
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-6, total_steps=total, pct_start=start)
        rows = []
        for _ in range(total):
            group = optimizer.param_groups[0]
            rows.append([group["lr"], group["betas"][0]])
            optimizer.step()
            if len(rows) < total:
                schedule.step()
        cycles[f"{number}"] = np.array(rows)
    np.savez_compressed(ASSETS / "finetune_schedules.npz", **cycles)
    print((ASSETS / "finetune_schedules.npz").stat().st_size, "bytes of schedules")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
