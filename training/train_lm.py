"""Train Nano's language model on conversations made of codes.

`python -m training.train_lm FOLDER [STEPS]`; stops and goes on at any time, from FOLDER/lm.pt.
"""

import csv
import sys
import time
from pathlib import Path

import numpy as np
import torch
from moshi.models.lm_utils import _delay_sequence
from torch.nn import functional

from training import speech_codes, train_codec
from training.codec import Codec, books, vectors
from training.codec_data import ahead
from training.lm import build
from training.precision import autocast
from training.text import PAD
from training.turns import OWN, TEXT, USER, Turns, Window

STEPS = 6_850
BATCH, FRAMES = 16, 200
RATE, LAST_RATE = 2e-3, 5e-5
PAD_WEIGHT = 0.3  # of the loss of text padding, but where an interruption takes the place of words
SEMANTIC_WEIGHT, ACOUSTIC_WEIGHT = 0.67, 2.0
SPOKEN_SHARE, QUIET_SHARE = 0.4, 0.08
"""Of the frames in which Nano speaks and of its silent ones, those that the depth transformer trains on, besides
every one in which it falls silent: so it does that as soon as it is likelier than not that somebody speaks."""
ZERO = -1  # a code that is not there
SEMANTIC, ACOUSTIC = 9, slice(10, 17)  # of the user's codes
NEIGHBOURS = 8
SAVE_EVERY, LOG_EVERY = 100, 20


def train(folder: Path, steps: int = STEPS) -> None:
    """Train up to `steps` steps in all."""
    torch.manual_seed(2)
    codec, _ = train_codec.load(folder)
    codes = speech_codes.load(folder, codec.eval())
    model = build()
    groups = [
        {"params": [value for value in model.parameters() if value.dim() > 1], "weight_decay": 0.05},
        {"params": [value for value in model.parameters() if value.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95))
    first = 0
    if (folder / "lm.pt").exists():
        state = torch.load(folder / "lm.pt")
        model.load_state_dict(state["lm"])
        if "optimizer" in state:
            optimizer.load_state_dict(state["optimizer"])
        first = state["steps"]
    rng = np.random.default_rng(3000 + first)
    turns = Turns(codes, rng)
    near = _neighbours(codec)
    batches = ahead(lambda: _batch(turns, rng, near))
    began, rows = time.time(), []
    for step in range(first, steps):
        rate = LAST_RATE + (RATE - LAST_RATE) * 0.5 * (1 + np.cos(np.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = float(rate) * min(1.0, (step - first + 1) / 60)
        losses = _losses(model, *next(batches))
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        losses["gradient"] = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rows.append({key: float(value.detach()) for key, value in losses.items()})
        if (step + 1) % LOG_EVERY == 0:
            mean = {key: round(float(np.mean([row[key] for row in rows])), 4) for key in rows[0]}
            _log(folder, {"step": step + 1, "seconds": round(time.time() - began, 1), **mean})
            rows = []
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            state = {"lm": model.state_dict(), "optimizer": optimizer.state_dict(), "steps": step + 1}
            torch.save(state, folder / "lm.pt.part")
            (folder / "lm.pt.part").rename(folder / "lm.pt")


def _log(folder: Path, line: dict[str, float]) -> None:
    print(line, flush=True)
    path = folder / "lm.csv"
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(line))
        if new:
            writer.writeheader()
        writer.writerow(line)


def _batch(
    turns: Turns, rng: np.random.Generator, near: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Conversations [B, 17, T], the same as the model hears them, where Nano speaks and where it was cut [B, T].

    near: [512, NEIGHBOURS], see `_neighbours`.
    """
    windows: list[Window] = [turns.window(FRAMES) for _ in range(BATCH)]
    wanted = np.stack([window.codes for window in windows])
    heard = wanted.copy()
    for row, window in enumerate(windows):
        other = None if window.echoes.any() else wanted[(row + 1) % BATCH, ACOUSTIC]
        _mishear(rng, heard[row], other, near)
    speaking, cut = (np.stack([getattr(window, name) for window in windows]) for name in ("speaking", "cut"))
    return torch.from_numpy(wanted), torch.from_numpy(heard), torch.from_numpy(speaking), torch.from_numpy(cut)


def _mishear(rng: np.random.Generator, heard: np.ndarray, other: np.ndarray | None, near: np.ndarray) -> None:
    """Make the user's codes in `heard` [17, T] less certain, so that what is said counts and not who says it.

    other: the acoustic codes of somebody else [7, T], or None to leave them: only they tell how loud something is,
    and so an echo of Nano from a person who sounds like it.
    """
    chance = rng.random()
    if other is None:
        pass
    elif chance < 0.25:
        heard[ACOUSTIC] = ZERO
    elif chance < 0.6:
        heard[ACOUSTIC] = other
    elif chance < 0.75:
        heard[int(rng.integers(11, 16)) : 17] = ZERO
    semantic = heard[SEMANTIC]
    if rng.random() < 0.85:  # what the codec could as well have heard
        close = rng.random(semantic.shape) < rng.uniform(0, 0.5)
        semantic[close] = near[semantic[close], rng.integers(0, NEIGHBOURS, int(close.sum()))]
    if rng.random() < 0.3:
        wrong = rng.random(heard[USER].shape) < rng.uniform(0, 0.1)
        heard[USER][wrong] = rng.integers(0, 512, int(wrong.sum()))


def _neighbours(codec: Codec) -> np.ndarray:
    """The codes nearest to each semantic code, [512, NEIGHBOURS]."""
    book = vectors(books(codec.mimi)[0]).detach()
    return torch.cdist(book, book).argsort(dim=1)[:, 1 : 1 + NEIGHBOURS].numpy()


def _losses(
    model, wanted: torch.Tensor, heard: torch.Tensor, speaking: torch.Tensor, cut: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The paper's: text with its padding weighed less, the semantic code, the acoustic codes."""
    initial = model._get_initial_token().expand(len(wanted), -1, -1)
    line = torch.cat([initial, _delay_sequence(model.delays, heard, initial)], dim=2)
    with autocast():
        hidden, text_logits = model.forward_text(line[:, :, :-1])
    text_logits = text_logits[:, 0].float()
    target = wanted[:, TEXT]
    weight = torch.where((target == PAD) & ~cut, PAD_WEIGHT, 1.0)
    text = functional.cross_entropy(text_logits.flatten(0, 1), target.flatten(), reduction="none")
    text = (text * weight.flatten()).sum() / weight.sum()

    # Nano's last acoustic codes come one frame later than its last semantic one (delays).
    later = torch.zeros_like(speaking)
    later[:, 1:] = speaking[:, :-1]
    share = torch.where(speaking, SPOKEN_SHARE, QUIET_SHARE)
    chosen = (torch.rand(speaking.shape) < share) | (later & ~speaking)
    following = line[:, :, 1:].transpose(1, 2)[chosen]  # [N, 17]
    with autocast():
        logits = model.forward_depformer_training(following.T[None].contiguous(), hidden[chosen][None])
    logits = logits[0].float()  # [8, N, card]
    goal = _delay_sequence(model.delays, wanted, initial)[:, OWN].transpose(1, 2)[chosen].T  # [8, N]
    present = goal < model.card  # not before the stream began
    losses = torch.stack(
        [
            functional.cross_entropy(logits[level][present[level]], goal[level][present[level]])
            for level in range(8)
        ]
    )
    semantic, acoustic = losses[0], losses[1:].mean()
    words = target > PAD
    right = text_logits.argmax(-1) == target
    return {
        "loss": text + SEMANTIC_WEIGHT * semantic + ACOUSTIC_WEIGHT * acoustic,
        "text": text, "semantic": semantic, "acoustic": acoustic,
        "words": right[words].float().mean(), "quiet": right[~words].float().mean(),
        "codes": (logits.argmax(-1) == goal)[present].float().mean(),
    }  # fmt: skip


if __name__ == "__main__":
    train(Path(sys.argv[1]), *map(int, sys.argv[2:]))
