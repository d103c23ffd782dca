"""PyTorch's side of `finetune_vs_torch.py`: Kyutai's model (moshi 0.2.13), its loss, AdamW; float32.

python worker_train_peer.py CONFIG BATCH FRAMES THREADS
"""

# pyright: reportMissingImports=false
import json
import sys
import time
from pathlib import Path

import torch
from moshi.models.lm import LMModel
from torch.nn import functional
from train_codes import made_up, peak_bytes, serve

NOT_THE_MODELS = ("depformer_causal", "model_type", "moshi_name", "mimi_name", "mimi_config_name")
NOT_THE_MODELS += ("tokenizer_name", "lm_gen_config")
PADDING_WEIGHT, SEMANTIC_WEIGHT = 0.5, 100.0


def weighted(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """logits: (..., card); targets, weights: (...)."""
    used = weights > 0
    found = functional.cross_entropy(logits[used].float(), targets[used], reduction="none")
    return (found * weights[used]).sum() / weights[used].sum()


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text())
    batch, frames = int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(int(sys.argv[4]))
    torch.manual_seed(0)
    sizes = {key: value for key, value in config.items() if key not in NOT_THE_MODELS}
    model = LMModel(**sizes, device="cpu", dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1)
    levels = torch.ones(8)
    levels[0] = SEMANTIC_WEIGHT

    def step(number: int) -> dict[str, float]:
        codes = torch.from_numpy(made_up(number, batch, frames, config["card"], config["text_card"]))
        begin = time.perf_counter()
        out = model(codes)
        text, audio = codes[:, :1], codes[:, 1:9]
        padding = (text == 3) | (text == 0)
        words = torch.where(padding, PADDING_WEIGHT, 1.0) * out.text_mask
        loss = weighted(out.text_logits, text, words)
        loss = loss + weighted(out.logits, audio, levels[None, :, None] * out.mask)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seconds = time.perf_counter() - begin
        return {"step": 1000 * seconds, "peak": peak_bytes()}

    serve(step)


main()
