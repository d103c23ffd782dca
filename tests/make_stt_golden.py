"""Makes tests/assets/stt.npz: what PyTorch's speech-to-text model answers, words and voice activity.

Needs torch 2.13 and moshi 0.2.13 in an environment of their own (never a dependency):

    python tests/make_stt_golden.py

The file holds a config of the published shape (no depth transformer, no delays, 32 streams, 4 extra heads) with
everything else small, the names and shapes of PyTorch's tensors (their values come from `random_weights`), the
user's codes, and a greedy `LMGen` stream: the text token and the softmax of the extra heads at each step. Float32.
"""

import json

import numpy as np
import torch
from make_lm_golden import ASSETS, stacked
from moshi.models import LMGen
from moshi.models.lm import LMModel
from moshi.models.loaders import get_moshi_lm
from random_weights import random_tensor

FRAMES = 120  # the window wraps four times
CONFIG = {
    "dim": 64,
    "num_heads": 4,
    "num_layers": 3,
    "text_card": 48,
    "card": 32,
    "existing_text_padding_id": 3,
    "causal": True,
    "gating": "silu",
    "norm": "rms_norm_f32",
    "context": 24,
    "max_period": 100_000,
    "positional_embedding": "rope",
    "hidden_scale": 4.125,
    "n_q": 32,
    "dep_q": 0,
    "delays": [0] * 33,
    "extra_heads_num_heads": 4,
    "extra_heads_dim": 6,
    "stt_config": {"audio_delay_seconds": 0.5, "audio_silence_prefix_seconds": 0.0},
}


def stream(lm: LMModel, user: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The text tokens (T,) and voice activity (T, heads, classes) of a greedy stream. user: (T, n_q)."""
    generator = LMGen(lm, use_sampling=False, check=True)
    texts, vad = [], []
    with torch.no_grad(), generator.streaming(1):
        for codes in user:
            tokens, heads = generator.step_with_extra_heads(torch.from_numpy(codes)[None, :, None])
            texts.append(int(tokens[0, 0, 0]))
            vad.append(np.stack([head[0, 0].numpy() for head in heads]))
    return np.array(texts, np.int16), np.stack(vad)


def main() -> None:
    torch.set_num_threads(1)
    config = {key: value for key, value in CONFIG.items() if key != "stt_config"}
    lm = get_moshi_lm(None, lm_kwargs=config, device="cpu", dtype=torch.float32)
    shapes = stacked({key: tuple(value.shape) for key, value in lm.state_dict().items()})
    lm.load_state_dict({key: torch.from_numpy(random_tensor(key, shape)) for key, shape in shapes.items()})
    lm.eval()
    user = np.random.RandomState(7).randint(0, CONFIG["card"], (FRAMES, CONFIG["n_q"]))
    texts, vad = stream(lm, user)
    others, _ = stream(lm, user[::-1].copy())
    assert len(set(texts.tolist())) > 8, "the text must vary"
    assert (texts != others).mean() > 0.5, "the text must follow the audio"
    assert np.ptp(vad, axis=0).max() > 0.1, "voice activity must change"
    path = ASSETS / "stt.npz"
    answers = {"user": user.astype(np.int16), "texts": texts, "vad": vad}
    np.savez_compressed(path, config=json.dumps(CONFIG), shapes=json.dumps(shapes), **answers)
    print(path.name, path.stat().st_size, "bytes;", len(set(texts.tolist())), "different text tokens")


if __name__ == "__main__":
    main()
