"""Makes tests/assets/say_*.npz: how PyTorch's Moshi plays Kyutai's text-to-speech models.

Needs torch 2.13 and moshi 0.2.13 in an environment of their own (never a dependency):

    python tests/make_say_golden.py

`crossed` is like the model of 1.6 billion parameters (cross attention over speakers, two text streams, distilled
guidance), `prefixed` like that of 0.75 (a voice's audio first, a short text head, guidance that takes the text
away). Each holds teacher-forced logits and greedy streams of `TTSModel.generate` itself; `script` holds what its
state machine feeds for a hundred texts. Weights come from `random_weights`. All in float32.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from make_lm_golden import ASSETS, COMMON, stacked
from moshi.models import tts
from moshi.models.loaders import get_moshi_lm
from random_weights import random_tensor
from safetensors.torch import save_file
from say_texts import encode, texts, voice, wishes

POSITIONS, KEPT = 16, 4  # teacher-forced, and those whose logits of codes are kept
STEPS = 230
DELAY = 6  # frames from text to audio
BONUS = 1.5  # of padding, in a text that is said slowly
TALK = [
    "Good morning, how did you sleep last night?",
    "Very well: 12 hours!",
    "I am so glad, tell me more of it.",
] * 2
SHARED = COMMON | {
    "text_card": 12,
    "positional_embedding": "rope",
    "hidden_scale": 4.125,
    "depformer_dim_feedforward": 96,
    "depformer_low_rank_embeddings": 8,
    "model_type": "tts",
}
CROSSED = SHARED | {
    "n_q": 32,
    "dep_q": 32,
    "delays": [0, 0] + [2] * 31,
    "depformer_weights_per_step_schedule": [0, 1, 2, 3, 4, 5, 6, 7] + [8] * 8 + [9] * 8 + [10] * 8,
    "demux_second_stream": True,
    "cross_attention": True,
    "conditioners": {
        "speaker_wavs": {"type": "tensor", "tensor": {"dim": 16}},
        "cfg": {
            "type": "lut",
            "lut": {
                "n_bins": 7,
                "dim": 16,
                "tokenizer": "noop",
                "possible_values": ["1.0", "1.5", "2.0", "2.5", "3.0", "3.5", "4.0"],
            },
        },
        "control": {
            "type": "lut",
            "lut": {"n_bins": 1, "dim": 64, "tokenizer": "noop", "possible_values": ["ok"]},
        },
    },
    "fuser": {
        "sum": ["control", "cfg"],
        "cross": ["speaker_wavs"],
        "prepend": [],
        "cross_attention_pos_emb": True,
        "cross_attention_pos_emb_scale": 1.0,
    },
    "tts_config": {"audio_delay": DELAY * 0.08 + 0.001, "second_stream_ahead": 2},
}
PREFIXED = SHARED | {
    "n_q": 16,
    "dep_q": 16,
    "delays": [0, 0] + [2] * 15,
    "text_card_out": 5,
    "conditioners": {},
    "fuser": {"sum": [], "cross": [], "prepend": []},
    "tts_config": {"audio_delay": DELAY * 0.08 + 0.001},
}
NOT_THE_MODELS = ("model_type", "tts_config")  # what the loader takes out of a config
PREFIX = 9  # frames


def load(config: Mapping[str, Any]) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """A model, and the names and shapes of its tensors as published."""
    kwargs = {key: value for key, value in config.items() if key not in NOT_THE_MODELS}
    lm = get_moshi_lm(None, lm_kwargs=json.loads(json.dumps(kwargs)), device="cpu", dtype=torch.float32)
    shapes = stacked({key: tuple(value.shape) for key, value in lm.state_dict().items()})
    lm.load_state_dict({key: torch.from_numpy(random_tensor(key, shape)) for key, shape in shapes.items()})
    lm.eval()
    return lm, shapes


def speaker(lm: Any, config: Mapping[str, Any], guidance: float = 1.0, padding_bonus: float = 0.0) -> tts.TTSModel:
    """What plays a model. Its lm is used up: codebooks are switched off in it."""
    ahead = config["tts_config"].get("second_stream_ahead", 0)
    machine = tts.StateMachine(tts.TokenIds(lm.text_card + 1), ahead, max_padding=8, initial_padding=2)
    return tts.TTSModel(
        lm=lm,
        mimi=SimpleNamespace(frame_rate=12.5),  # type: ignore[arg-type]
        tokenizer=SimpleNamespace(encode=encode),  # type: ignore[arg-type]
        voice_suffix="",
        voice_repo="",
        machine=machine,
        delay_steps=int(config["tts_config"]["audio_delay"] * 12.5),
        cfg_coef=guidance,
        n_q=lm.n_q,
        max_gen_length=STEPS,
        padding_bonus=padding_bonus,
    )


def conditions(player: tts.TTSModel, seeds: list[int], cfg: float) -> list[Any]:
    folder = Path(tempfile.mkdtemp())
    paths = []
    for seed in seeds:
        paths.append(folder / f"{seed}.safetensors")
        save_file({"speaker_wavs": torch.from_numpy(voice(seed))}, paths[-1])
    return [player.make_condition_attributes(paths, cfg)]


def played(
    player: tts.TTSModel, script: list[str], attributes: list[Any], prefix: np.ndarray | None = None
) -> tuple[np.ndarray, int | None, list[tuple[str, int]]]:
    """Rows [wish, text read, codes] of every step, the step at which the text ended, and when words came."""
    rows: list[list[int]] = []
    inner = tts.LMGen

    class Watched(inner):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, on_audio_hook: Any, **kwargs: Any) -> None:
            def hook(codes: torch.Tensor) -> None:
                on_audio_hook(codes)
                rows.append(codes[0].tolist())

            super().__init__(*args, on_audio_hook=hook, **kwargs)

    tts.LMGen = Watched  # type: ignore[misc]
    prefixes = None if prefix is None else [torch.from_numpy(prefix)]
    entries = player.prepare_script(script, padding_between=1)
    result = player.generate([entries], attributes, prefixes, use_sampling=False)
    tts.LMGen = inner  # type: ignore[misc]
    texts = np.array(result.logged_text_tokens[0])
    stepped = np.concatenate([texts, np.array(rows)], axis=1)
    return stepped, result.end_steps[0], result.all_transcripts[0]


def teacher_forced(lm: Any, config: Mapping[str, Any], attributes: list[Any]) -> dict[str, np.ndarray]:
    random = np.random.RandomState(7)
    n_q = config["n_q"]
    tokens = random.randint(0, config["card"] + 1, (1, 1 + n_q, POSITIONS))
    top = 13 * 13 if config.get("demux_second_stream") else 13
    tokens[:, 0] = random.randint(0, top, (1, POSITIONS))
    tokens[:, :, 0] = [config["text_card"]] + [config["card"]] * n_q
    tokens[:, 2, 5:9] = tokens[:, 0, 11] = -1
    sequence = torch.from_numpy(tokens)
    made = lm.condition_provider.prepare_and_provide(attributes)
    cross, total = lm.fuser.get_cross(made), lm.fuser.get_sum(made)
    hidden, text_logits = lm.forward_text(sequence, total, cross)
    audio_logits = lm.forward_depformer_training(sequence, hidden)[0, :, -KEPT:]
    arrays = {"hidden": hidden[0], "text_logits": text_logits[0, 0], "audio_logits": audio_logits}
    arrays |= {} if cross is None else {"cross": cross[0]}
    return {"tokens": tokens.astype(np.int16), **{name: array.numpy() for name, array in arrays.items()}}


def keep(name: str, config: Mapping[str, Any], shapes: Any, answers: dict[str, Any]) -> None:
    path = ASSETS / f"say_{name}.npz"
    np.savez_compressed(path, config=json.dumps(config), shapes=json.dumps(shapes), **answers)
    print(path.name, path.stat().st_size, "bytes")


def make_crossed() -> None:
    variants = {
        "plain": ([1], 2.0, 0.0),
        "voice": ([2], 2.0, 0.0),
        "cfg": ([1], 3.5, 0.0),
        "two": ([1, 2], 2.0, 0.0),
        "slow": ([1], 2.0, BONUS),
    }
    answers: dict[str, Any] = {}
    shapes: Any = None
    for name, (seeds, cfg, bonus) in variants.items():
        lm, shapes = load(CROSSED)
        player = speaker(lm, CROSSED, padding_bonus=bonus)
        attributes = conditions(player, seeds, cfg)
        if name == "two":
            answers |= teacher_forced(lm, CROSSED, attributes)
        rows, end, words = played(player, TALK, attributes)
        answers |= {f"{name}_rows": rows.astype(np.int16), f"{name}_words": json.dumps(words)}
        answers |= {f"{name}_end": np.array(-1 if end is None else end)}
        print(name, len(rows), "steps, ended", end, len(set(rows[:, 1])), "texts", len(set(rows[20:, 2])), "codes")
    for name in ("voice", "cfg", "two", "slow"):
        count = min(len(answers["plain_rows"]), len(answers[f"{name}_rows"]))
        differs = answers["plain_rows"][:count, 2:] != answers[f"{name}_rows"][:count, 2:]
        assert differs[DELAY + 2 :].mean() > 0.3, name
    keep("crossed", CROSSED, shapes, {"talk": json.dumps(TALK), "played": json.dumps(variants), **answers})


def make_prefixed() -> None:
    variants = {
        "plain": (5, 1.0, 0.0),
        "guided": (5, 2.0, 0.0),
        "voice": (6, 2.0, 0.0),
        "none": (None, 1.0, 0.0),
        "fast": (5, 2.0, -BONUS),
    }
    answers: dict[str, Any] = {}
    shapes: Any = None
    for name, (seed, guidance, bonus) in variants.items():
        lm, shapes = load(PREFIXED)
        player = speaker(lm, PREFIXED, guidance, bonus)
        if name == "plain":
            answers |= teacher_forced(lm, PREFIXED, [])
        prefix = None
        if seed is not None:
            codes = np.random.RandomState(seed).randint(0, PREFIXED["card"], (PREFIXED["n_q"], PREFIX))
            prefix = np.concatenate([np.full((1, PREFIX), -1), codes])
        rows, end, words = played(player, TALK[:4], [], prefix)
        answers |= {f"{name}_rows": rows.astype(np.int16), f"{name}_words": json.dumps(words)}
        answers |= {f"{name}_end": np.array(-1 if end is None else end)}
        print(name, len(rows), "steps, ended", end, len(set(rows[:, 1])), "texts", len(set(rows[20:, 2])), "codes")
    for name in ("guided", "voice", "none", "fast"):
        count = min(len(answers["plain_rows"]), len(answers[f"{name}_rows"]))
        differs = answers["plain_rows"][:count, 2:] != answers[f"{name}_rows"][:count, 2:]
        assert differs[PREFIX + DELAY + 2 :].mean() > 0.3, name
    keep("prefixed", PREFIXED, shapes, {"talk": json.dumps(TALK[:4]), "played": json.dumps(variants), **answers})


def make_script() -> None:
    answers: dict[str, Any] = {}
    fed: list[list[int]] = []
    facts = []
    for index, script in enumerate(texts()):
        ahead, between, speakers = (2, 1, True) if index % 3 else (0, 0, index % 2 == 0)
        ids = tts.TokenIds(13)
        machine = tts.StateMachine(ids, ahead, max_padding=8, initial_padding=2)
        entries = tts.script_to_entries(
            SimpleNamespace(encode=encode),  # type: ignore[arg-type]
            ids,
            12.5,
            script,
            speakers,
            between,
        )
        state = machine.new_state(entries)
        outputs: list[int] = []
        for step, wish in enumerate(wishes(index, 2000)):
            if state.end_step is not None and step >= state.end_step + 4:
                break
            outputs.append(machine.process(step, state, wish)[0])
        fed.append(outputs)
        facts.append([ahead, between, speakers, state.end_step, state.transcript])
    answers = {
        "fed": np.concatenate(fed).astype(np.int16),
        "lengths": np.array([len(one) for one in fed], np.int16),
    }
    assert len(facts) == 100
    path = ASSETS / "say_script.npz"
    np.savez_compressed(path, facts=json.dumps(facts), **answers)
    print(path.name, path.stat().st_size, "bytes;", len(answers["fed"]), "steps")


def main() -> None:
    torch.set_num_threads(1)
    with torch.no_grad():
        make_script()
        make_crossed()
        make_prefixed()


if __name__ == "__main__":
    main()
