"""Makes tests/assets/translate.npz: how PyTorch's Moshi plays Hibiki, for the tests of translation and guidance.

Needs torch 2.13 and moshi 0.2.13 in an environment of their own (never a dependency):

    python tests/make_translate_golden.py

What runs is moshi/run_inference.py itself, greedy and in float32, on a small model of Hibiki's streams, whose
weights come from `random_weights`; in place of Mimi stand known codes. Kept are, for a few conditions and
strengths of guidance, the tokens of every step, and where it stopped.
"""

import json
from functools import partial
from types import SimpleNamespace

import numpy as np
import torch
from make_lm_golden import ASSETS, COMMON, stacked
from moshi import run_inference
from moshi.conditioners import ConditionAttributes
from moshi.models import LMModel
from moshi.models.loaders import get_moshi_lm
from random_weights import random_tensor

SOURCE, TAIL = 190, 120  # frames: of the source, and at most after it
QUALITIES = ["very_bad", "bad", "neutral", "good", "very_good"]
CONFIG = COMMON | {
    "text_card": 40,
    "context": 40,
    "max_period": 100_000,
    "positional_embedding": "rope",
    "hidden_scale": 4.125,
    "n_q": 16,
    "dep_q": 8,
    "delays": [0] + ([0] + [2] * 7) * 2,
    "depformer_dim_feedforward": 132,
    "conditioners": {
        "description": {
            "type": "lut",
            "lut": {"n_bins": 31, "dim": 16, "tokenizer": "noop", "possible_values": QUALITIES},
        }
    },
    "fuser": {"sum": ["description"], "cross": [], "prepend": []},
}
OWN = run_inference.get_condition_tensors  # always "very_good", against "very_bad" with guidance
# name -> condition, guidance, seed of the codes. In none of these streams do the two best tokens lie so near each
# other that rounding chooses between them, as in others; the last says once too early that it has ended.
PLAYED = {
    "plain": ("very_good", 1.0, 13),
    "neutral": ("neutral", 1.0, 13),
    "guided": ("very_good", 3.0, 13),
    "ended": ("very_good", 1.2, 12),
}


class KnownCodes:
    """In place of Mimi: the n-th call of `encode` gives the n-th codes, until there are no more."""

    sample_rate, frame_rate, channels, cardinality, num_codebooks = 24_000, 12.5, 1, CONFIG["card"], 8

    def __init__(self, codes: np.ndarray) -> None:
        self._codes = iter(torch.from_numpy(codes))

    def streaming_forever(self, batch: int) -> None: ...

    def encode(self, pcm: torch.Tensor) -> torch.Tensor:
        return next(self._codes)[None, :, None]

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return codes.reshape(1, 1, -1)


def conditions(value: str, model_type: str, lm: LMModel, batch_size: int, cfg_coef: float) -> object:
    values = [value, *(["very_bad"] if cfg_coef != 1 else [])]
    attributes = [ConditionAttributes(text={"description": one}, tensor={}) for one in values]
    assert lm.condition_provider
    return lm.condition_provider.prepare_and_provide(attributes)


def load() -> tuple[LMModel, dict[str, tuple[int, ...]]]:
    """A new model, for each stream of its own, and the names and shapes of its tensors as published."""
    lm = get_moshi_lm(None, lm_kwargs=json.loads(json.dumps(CONFIG)), device="cpu", dtype=torch.float32)
    shapes = stacked({key: tuple(value.shape) for key, value in lm.state_dict().items()})
    lm.load_state_dict({key: torch.from_numpy(random_tensor(key, shape)) for key, shape in shapes.items()})
    lm.eval()
    lm.text_emb.weight.data[2] = lm.text_emb.weight.data[3]  # as `CheckpointInfo.get_moshi`
    return lm, shapes


def play(lm: LMModel, codes: np.ndarray, value: str, guidance: float) -> tuple[np.ndarray, int]:
    """The tokens of every step, (steps, 1 + dep_q), and how many frames came out; -1 if it never ended."""
    texts: list[int] = []
    audio: list[list[int]] = []
    run_inference.get_condition_tensors = OWN if value == "very_good" else partial(conditions, value)
    state = run_inference.InferenceState(
        SimpleNamespace(model_type="hibiki"),  # type: ignore[arg-type]
        KnownCodes(codes),  # type: ignore[arg-type]
        SimpleNamespace(eos_id=lambda: 2, id_to_piece=str),  # type: ignore[arg-type]
        lm,
        1,
        guidance,
        "cpu",
        use_sampling=False,
        check=True,
        on_text_hook=lambda token: texts.append(int(token[0])),
        on_audio_hook=lambda tokens: audio.append(tokens[0].tolist()),
    )
    try:
        ((said, _),) = state.run(torch.zeros(1, 1, SOURCE * 1920))
        frames = len(said)
    except StopIteration:
        frames = -1
    return np.concatenate([np.array(texts)[: len(audio), None], np.array(audio)], axis=1), frames


def main() -> None:
    torch.set_num_threads(1)
    answers: dict[str, np.ndarray] = {}
    shapes = {}
    with torch.no_grad():
        for name, (value, guidance, seed) in PLAYED.items():
            lm, shapes = load()
            codes = np.random.RandomState(seed).randint(0, CONFIG["card"], (SOURCE + TAIL, 8))
            stream, frames = play(lm, codes, value, guidance)
            answers |= {f"{name}_codes": codes.astype(np.int16), f"{name}_stream": stream.astype(np.int16)}
            answers[f"{name}_frames"] = np.array(frames)
            print(f"\n{name}: {frames} frames, {len(set(stream[:, 0]))} different text tokens")
    for name in ("neutral", "guided"):
        assert (answers[f"{name}_stream"][:200, 0] != answers["plain_stream"][:200, 0]).mean() > 0.5, name
    for name in ("plain", "ended"):
        assert answers[f"{name}_frames"] >= SOURCE, name
    path = ASSETS / "translate.npz"
    made = {"config": json.dumps(CONFIG), "shapes": json.dumps(shapes), "played": json.dumps(PLAYED)}
    np.savez_compressed(path, source=SOURCE, **made, **answers)
    print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
