"""Train Nano's Mimi: autoencoder, codebooks, the encoder alone on people, the decoder alone on Nano's own voice.

`python -m training.train_codec FOLDER [LAST_PHASE]`; stops and goes on at any time, from FOLDER/codec.pt.
`torchrun --nproc-per-node 2 -m training.train_codec FOLDER ears` trains the ears in two processes, twice as fast.
"""

import csv
import shutil
import sys
import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from moshi_mlx.weights.atomic import AtomicPath
from training import corpus as corpus_file
from training import persona_text, ranks, tts_speech
from training.ahead import ahead
from training.answers import answer_streams
from training.codec import FRAME, Codec, Quantized, books, fit_books, vectors
from training.codec_data import Batch, model_batch, user_batch
from training.codec_spoken import spoken_batches
from training.model_folder import START
from training.phones import IGNORE
from training.precision import autocast
from training.spectral import Distance
from training.speech_codes import SPEAKING, own_codes, persona_codes
from training.tts_speech import TTS_FOLDER, WORDS, Words

MODEL_CROPS, USER_CROPS, USER_DECODED, HEARD_CROPS = 4, 8, 2, 24
BEFORE_WEIGHT = 0.3  # of phones heard before the codebook
LOUDNESS_WEIGHT = 0.2
WAVE_WEIGHT = {"autoencoder": 1.0, "codebooks": 1.0, "decoder": 4.0}


@dataclass(frozen=True)
class Phase:
    """A stretch of training. rate: learning rate, falling along half a cosine to `last_rate`."""

    name: str
    steps: int
    rate: float
    last_rate: float


PHASES = (
    Phase("autoencoder", 900, 1.5e-3, 1.5e-3),
    Phase("codebooks", 3_000, 8e-4, 5e-5),
    Phase("ears", 5_000, 6e-4, 2e-5),
    Phase("decoder", 3_800, 1e-3, 2e-5),
)
AGAIN = 2.5e-4  # the rate at which the ears of a finished model learn on: what they know is soon lost
SAVE_EVERY = 200
LOG_EVERY = 25
COLUMNS = (
    "phase", "step", "seconds", "loss", "mel", "wave", "phones", "heard", "finer", "heard_finely", "loudness",
    "commitment", "gradient",
)  # fmt: skip


def train(folder: Path, until: str = "decoder") -> None:
    """Run the phases that are not done yet, up to and with `until`.

    Raises ValueError for several processes in others than "ears": their codebooks would move apart.
    """
    torch.manual_seed(1)
    rank, many = ranks.meet()
    codec, done = load(folder)
    corpus = cache(lambda: corpus_file.load(folder))  # the decoder needs none
    streams = answer_streams()
    distance = Distance()
    state: dict[str, Any] = {}
    begin = 0
    for phase in PHASES:
        end = begin + phase.steps
        if done < end:
            if many > 1 and phase.name != "ears":
                raise ValueError(f"{phase.name!r} is trained by one process; this is one of {many}")
            rng = np.random.default_rng([1000 + done, rank])
            if phase.name == "decoder":
                part = {key: value for key, value in codec.named_parameters() if _decodes(key)}
                silence, own = own_codes(folder, codec)
                own |= persona_codes(folder, codec)
                spoken = {**streams, **persona_text.streams()}
                batches = ahead(spoken_batches(rng, silence, own, spoken, _words(folder)))
            elif phase.name == "ears":
                if rank == 0:
                    own_codes(folder, codec)  # what is to be said keeps the codes that it has now
                    persona_codes(folder, codec)
                finished = (folder / START).exists()
                kept = _HEADS if finished else ()
                part = {key: value for key, value in codec.named_parameters() if _hears(key, kept)}
                phase = replace(phase, rate=AGAIN if finished else phase.rate)
                batches = ahead(lambda rng=rng: user_batch(rng, corpus(), HEARD_CROPS // many))
            else:
                part = dict(codec.named_parameters())
                batches = ahead(
                    lambda rng=rng: (
                        model_batch(rng, list(streams.values()), MODEL_CROPS),
                        user_batch(rng, corpus(), USER_CROPS),
                    )
                )
            if phase.name == "codebooks" and done == begin:
                print(
                    "books:", [round(share, 4) for share in fit_books(codec, _latents(codec, batches))], flush=True
                )
            if phase.name == "ears":
                if rank == 0 and not (folder / "codec.opt.pt").exists():
                    _fit_heads(codec, batches)  # a restored model has none
                ranks.share_values(codec.parameters())
                if shutil.which("g++"):
                    codec.encode = torch.compile(codec.encode)
            for key, value in codec.named_parameters():
                value.requires_grad_(key in part)
            optimizer = torch.optim.AdamW(part.values(), lr=phase.rate, betas=(0.9, 0.95), weight_decay=1e-3)
            if done > begin and (folder / "codec.opt.pt").exists():
                state = torch.load(folder / "codec.opt.pt")
                if state["phase"] == phase.name:
                    optimizer.load_state_dict(state["optimizer"])
            _run(folder, codec, phase, done - begin, begin, batches, optimizer, distance)
            if phase.name == "codebooks":
                torch.save(codec.state_dict(), folder / SPEAKING)  # for `tts_codes`
            done = end
        begin = end
        if phase.name == until:
            return


def load(folder: Path) -> tuple[Codec, int]:
    """The codec as far as it is trained, and the number of steps done."""
    codec = Codec()
    path = folder / "codec.pt"
    if not path.exists():
        return codec, 0
    state = torch.load(path)
    codec.load_state_dict(state["codec"])
    return codec, state["steps"]


def _words(folder: Path) -> Words | None:
    """What the decoder is to say besides, where `tts_codes` has made it."""
    place = folder / TTS_FOLDER
    return tts_speech.load(place) if (place / WORDS).exists() else None


_HEADS = ("phones", "finer", "loudness")


def _decodes(name: str) -> bool:
    return name.startswith(("mimi.decoder", "mimi.upsample")) or "output_proj" in name


def _hears(name: str, kept: tuple[str, ...]) -> bool:
    """Whether the ears learn this. A finished model's heads are kept: what a code means to others stays."""
    learn = ("mimi.encoder", "mimi.downsample", *_HEADS)
    return (name.startswith(learn) or "input_proj" in name) and not name.startswith(kept)


def _run(folder: Path, codec: Codec, phase: Phase, first: int, before: int, batches, optimizer, distance) -> None:
    log = folder / "codec.csv"
    new = not log.exists()
    began, rows = time.time(), []
    rank, _ = ranks.meet()
    for step in range(first, phase.steps):
        progress = step / phase.steps
        rate = phase.last_rate + (phase.rate - phase.last_rate) * 0.5 * (1 + np.cos(np.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = float(rate) * min(1.0, (step - first + 1) / 50)
        losses = _losses(codec, phase, next(batches), distance, progress)
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        parameters = [value for group in optimizer.param_groups for value in group["params"]]
        ranks.average_gradients(parameters)
        losses["gradient"] = torch.nn.utils.clip_grad_norm_(parameters, 10.0)
        optimizer.step()
        if rank > 0:
            continue  # the first process tells and keeps what all have learned
        rows.append({key: float(value.detach()) for key, value in losses.items()})
        if (step + 1) % LOG_EVERY == 0:
            mean = {key: round(float(np.mean([row[key] for row in rows])), 4) for key in rows[0]}
            line = {
                "phase": phase.name,
                "step": before + step + 1,
                "seconds": round(time.time() - began, 1),
                **mean,
            }
            print(line, flush=True)
            with log.open("a", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, restval=0.0)  # a phase has not all of these losses
                if new:
                    writer.writeheader()
                    new = False
                writer.writerow(line)
            rows = []
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == phase.steps:
            _save(folder, codec, before + step + 1, phase, optimizer)


def _save(folder: Path, codec: Codec, steps: int, phase: Phase, optimizer) -> None:
    for name, state in (
        ("codec.pt", {"codec": codec.state_dict(), "steps": steps}),
        ("codec.opt.pt", {"phase": phase.name, "optimizer": optimizer.state_dict()}),
    ):
        with AtomicPath(folder / name) as part:
            torch.save(state, part)


def _losses(codec: Codec, phase: Phase, batch, distance: Distance, progress: float) -> dict[str, torch.Tensor]:
    if phase.name == "ears":
        return _heard(codec, batch)
    if phase.name == "decoder":
        pcm, latent = batch
        with autocast():
            made = codec.decode(_quantized_again(codec, latent))[:, 0]
        mel, wave = distance(made, pcm)
        loss = mel + WAVE_WEIGHT[phase.name] * wave
        return {"loss": loss, "mel": mel, "wave": wave}
    own, said = batch
    pcm = torch.cat([own, said.pcm])
    with autocast():
        latent = codec.encode(pcm[:, None])
    with autocast(phase.name == "autoencoder"):
        quantized = _through(codec, phase, latent.float(), progress)
    of_people = Quantized(*(_of_people(value) for value in vars(quantized).values()))
    told = _told(codec, of_people, said)
    count = MODEL_CROPS + USER_DECODED
    with autocast():
        made = codec.decode(quantized.latent[:count])[:, 0]
    mel, wave = distance(made, pcm[:count])
    loss = mel + WAVE_WEIGHT[phase.name] * wave + told["phones"] + told["finer"]
    loss = loss + LOUDNESS_WEIGHT * told["loudness"] + quantized.commitment
    return {"loss": loss, "mel": mel, "wave": wave, **told, "commitment": quantized.commitment}


def _of_people(value: torch.Tensor | None) -> Any:
    return value if value is None or not value.dim() else value[MODEL_CROPS:]


def _heard(codec: Codec, said: Batch) -> dict[str, torch.Tensor]:
    """The encoder learns to hear phones in the codebooks as they are: what the decoder makes of codes stays."""
    with autocast():
        latent = codec.encode(said.pcm[:, None]).float()
    quantized = codec.quantize(latent)
    passed = codec.pass_through(latent)
    losses = _told(codec, quantized, said)
    before, _ = _phones(codec, passed.semantic, said)
    more, _ = _finely(codec, passed, said)
    loss = sum(losses[name] for name in ("phones", "finer")) + LOUDNESS_WEIGHT * losses["loudness"]
    return {"loss": loss + BEFORE_WEIGHT * (before + more) + quantized.commitment, **losses,
            "commitment": quantized.commitment}  # fmt: skip


def _told(codec: Codec, quantized: Quantized, said: Batch) -> dict[str, torch.Tensor]:
    """What the heads tell of quantized latents."""
    phones, heard = _phones(codec, quantized.semantic, said)
    finer, heard_finely = _finely(codec, quantized, said)
    loud = (said.pcm.unflatten(1, (-1, FRAME)).square().mean(2).sqrt() + 1e-4).log10()
    loudness = functional.mse_loss(codec.loudness(quantized.acoustic.transpose(1, 2).float())[..., 0], loud)
    return {"phones": phones, "heard": heard, "finer": finer, "heard_finely": heard_finely, "loudness": loudness}


def _fit_heads(codec: Codec, batches, rounds: int = 60, times: int = 30) -> None:
    """The heads alone, on the codec as it is: on what so many batches sound like, each seen so many times."""
    heard: list[tuple[Quantized, Batch]] = []
    for _ in range(rounds):
        said = next(batches)
        with torch.no_grad(), autocast():
            latent = codec.encode(said.pcm[:, None]).float()
        with torch.no_grad():
            heard.append((codec.quantize(latent), said))
    parameters = [value for key, value in codec.named_parameters() if key.startswith(_HEADS)]
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    steps = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, times * rounds)
    right = []
    for number in range(times * rounds):
        told = _told(codec, *heard[number % rounds])
        optimizer.zero_grad()
        (told["phones"] + told["finer"] + told["loudness"]).backward()
        optimizer.step()
        steps.step()
        right.append([float(told["heard"]), float(told["heard_finely"])])
    once, finely = np.mean(right[-rounds:], 0)
    print(f"heads: {once:.2f} and {finely:.2f} of the phones right", flush=True)


def _phones(codec: Codec, semantic: torch.Tensor, said: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of phones heard in semantic latents [B, 64, T], and the share of them that is right."""
    return _right(codec.hear(semantic.float()), said.phones)


def _finely(codec: Codec, quantized: Quantized, said: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """As `_phones`, in the semantic and the first acoustic latents, of the frame before, too."""
    before = torch.full_like(said.phones, IGNORE)
    before[:, 1:] = said.phones[:, :-1]
    logits = codec.hear_finely(quantized.semantic.float(), quantized.finer.float())
    return _right(logits, torch.cat([before, said.phones], 2))


def _right(logits: torch.Tensor, phones: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    loss = functional.cross_entropy(logits.flatten(0, 2), phones.flatten(), ignore_index=IGNORE)
    spoken = (phones != IGNORE) & (phones != 0)
    return loss, (logits.argmax(-1) == phones)[spoken].float().mean()


def _through(codec: Codec, phase: Phase, latent: torch.Tensor, progress: float) -> Quantized:
    if phase.name == "autoencoder":
        return codec.pass_through(latent)
    levels = int(torch.randint(1, 9, ())) if torch.rand(()) < 0.15 else 8
    return codec.quantize(latent, levels, update=0.98 if progress < 0.5 else 0.99)


@torch.no_grad()
def _latents(codec: Codec, batches, rounds: int = 70) -> torch.Tensor:
    out = []
    for _ in range(rounds):
        own, said = next(batches)
        latent = codec.encode(torch.cat([own, own.flip(0), said.pcm])[:, None])
        out.append(latent.transpose(1, 2).flatten(0, 1))
    return torch.cat(out)


def _quantized_again(codec: Codec, codes: torch.Tensor) -> torch.Tensor:
    """Codes [B, 8, T] to latents [B, 128, T], with gradients for the output projections."""
    first, rest = codec.mimi.quantizer.rvq_first, codec.mimi.quantizer.rvq_rest
    tables = [vectors(book) for book in books(codec.mimi)]
    semantic = tables[0][codes[:, 0]].transpose(1, 2)
    acoustic = torch.stack([table[codes[:, level]] for level, table in enumerate(tables) if level]).sum(0)
    return first.output_proj(semantic) + rest.output_proj(acoustic.transpose(1, 2))


if __name__ == "__main__":
    train(Path(sys.argv[1]), *sys.argv[2:])
    ranks.part()
