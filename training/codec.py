"""Nano's Mimi in PyTorch: the `moshi` package's modules at small sizes, and a quantizer that can be trained."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from moshi.models.compression import MimiModel
from moshi.modules import SEANetDecoder, SEANetEncoder, transformer
from moshi.quantization import SplitResidualVectorQuantizer
from torch import nn
from torch.nn import functional

from training.phones import PHONES

FRAME = 1920  # samples
SUB_FRAMES = 2  # phones heard per frame
FINER_BOOKS = 2  # acoustic codebooks that help to tell phones
_DIMENSION = 128

CONFIG: dict[str, Any] = {
    "sample_rate": 24_000, "channels": 1, "frame_rate": 12.5,
    "seanet": {
        "channels": 1, "dimension": _DIMENSION, "causal": True, "n_filters": 16, "n_residual_layers": 1,
        "activation": "ELU", "compress": 2, "dilation_base": 2, "disable_norm_outer_blocks": 0, "kernel_size": 7,
        "residual_kernel_size": 3, "last_kernel_size": 3, "norm": "none", "pad_mode": "constant",
        "ratios": [8, 6, 5, 4], "true_skip": True,
    },
    "quantizer": {
        "dimension": 64, "n_q": 8, "bins": 512, "input_dimension": _DIMENSION, "output_dimension": _DIMENSION,
    },
    "transformer": {
        "d_model": _DIMENSION, "num_heads": 4, "num_layers": 4, "causal": True, "layer_scale": 0.1, "context": 24,
        "conv_layout": True, "max_period": 10_000, "gating": "none", "norm": "layer_norm",
        "positional_embedding": "rope", "dim_feedforward": 512, "input_dimension": _DIMENSION,
        "output_dimensions": [_DIMENSION],
    },
}  # fmt: skip
"""As `mimi_config.json` says it. The context is short because training sees pieces of 1.6 s."""


def build(norm: str = "none") -> MimiModel:
    """An untrained codec. norm: "weight_norm" to train, "none" to use."""
    seanet = {**CONFIG["seanet"], "norm": norm}
    encoder, decoder = SEANetEncoder(**seanet), SEANetDecoder(**seanet)
    return MimiModel(
        encoder,
        decoder,
        SplitResidualVectorQuantizer(**CONFIG["quantizer"]),
        channels=1,
        sample_rate=24_000,
        frame_rate=12.5,
        encoder_frame_rate=24_000 / encoder.hop_length,
        causal=True,
        resample_method="conv",
        encoder_transformer=transformer.ProjectedTransformer(**CONFIG["transformer"]),
        decoder_transformer=transformer.ProjectedTransformer(**CONFIG["transformer"]),
    )


@dataclass(frozen=True)
class Quantized:
    """latent: [B, 128, T] after the quantizer; codes: [B, 8, T].

    semantic, finer, acoustic: [B, 64, T] each, of the first book, of the first FINER_BOOKS acoustic ones, of all.
    """

    latent: torch.Tensor
    codes: torch.Tensor | None
    semantic: torch.Tensor
    finer: torch.Tensor
    acoustic: torch.Tensor
    commitment: torch.Tensor


class Codec(nn.Module):
    """The codec in training: Mimi, plus heads.

    They tell phones by the semantic codebook, phones by that and the first acoustic ones, and loudness by all
    acoustic ones.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mimi = build("weight_norm")
        dimension = CONFIG["quantizer"]["dimension"]
        self.phones = nn.Linear(dimension, SUB_FRAMES * len(PHONES))
        self.finer = nn.Linear(2 * dimension, 2 * SUB_FRAMES * len(PHONES))
        self.loudness = nn.Linear(dimension, 1)
        keep_variance(self.mimi)

    def encode(self, pcm: torch.Tensor) -> torch.Tensor:
        """[B, 1, samples] to latents [B, 128, frames]."""
        hidden = self.mimi.encoder(pcm)
        (hidden,) = self.mimi.encoder_transformer(hidden)
        return self.mimi.downsample(hidden)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Quantized latents [B, 128, frames] to [B, 1, samples], float32."""
        hidden = self.mimi.upsample(latent)
        (hidden,) = self.mimi.decoder_transformer(hidden)
        *layers, last = self.mimi.decoder.model
        for layer in layers:
            hidden = layer(hidden)
        with torch.autocast("cpu", enabled=False):  # bf16 is too coarse for samples
            return last(hidden.float())

    def hear(self, semantic: torch.Tensor) -> torch.Tensor:
        """Phone logits [B, frames, sub-frames, phones]."""
        logits = self.phones(semantic.transpose(1, 2))
        return logits.unflatten(-1, (SUB_FRAMES, len(PHONES)))

    def hear_finely(self, semantic: torch.Tensor, finer: torch.Tensor) -> torch.Tensor:
        """Phone logits [B, frames, 2 x sub-frames, phones], of the frame before, now it is over, and of this."""
        logits = self.finer(torch.cat([semantic, finer], 1).transpose(1, 2))
        return logits.unflatten(-1, (2 * SUB_FRAMES, len(PHONES)))

    def pass_through(self, latent: torch.Tensor) -> Quantized:
        """The quantizer's projections without quantizing."""
        first, rest = self.mimi.quantizer.rvq_first, self.mimi.quantizer.rvq_rest
        semantic, acoustic = first.input_proj(latent), rest.input_proj(latent)
        out = first.output_proj(semantic) + rest.output_proj(acoustic)
        return Quantized(out, None, semantic, acoustic, acoustic, latent.new_zeros(()))

    def quantize(self, latent: torch.Tensor, levels: int = 8, update: float | None = None) -> Quantized:
        """Through the codebooks, gradients straight past them.

        levels: how many books to use. update: decay of the books' moving averages; None leaves them.
        """
        first, rest = self.mimi.quantizer.rvq_first, self.mimi.quantizer.rvq_rest
        semantic_in = first.input_proj(latent).float()
        acoustic_in = rest.input_proj(latent).float()
        semantic, _, codes, commitment = _residual(books(self.mimi)[:1], semantic_in, update)
        if levels > 1:
            acoustic, finer, more, more_commitment = _residual(books(self.mimi)[1:levels], acoustic_in, update)
            out = first.output_proj(semantic) + rest.output_proj(acoustic)
            return Quantized(
                out, torch.cat([codes, more], 1), semantic, finer, acoustic, commitment + more_commitment
            )
        none = torch.zeros_like(semantic)
        return Quantized(first.output_proj(semantic), codes, semantic, none, none, commitment)


def books(mimi: MimiModel) -> list[Any]:
    """The eight codebooks, the semantic one first."""
    quantizer = mimi.quantizer
    return [layer._codebook for part in (quantizer.rvq_first, quantizer.rvq_rest) for layer in part.vq.layers]


def vectors(book: Any) -> torch.Tensor:
    """A codebook's entries [512, 64]."""
    return book.embedding_sum / book.cluster_usage.clamp(min=book.epsilon)[:, None]


def nearest(table: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Indices [N] into table [bins, dim] of the entries nearest to points [N, dim]."""
    return (table.square().sum(1) - 2 * points @ table.T).argmin(1)


def _residual(chosen: list[Any], latent: torch.Tensor, update: float | None):
    """What the books make of latents [B, 64, T], what the first FINER_BOOKS make, the codes, the commitment."""
    batch, _, frames = latent.shape
    points = latent.transpose(1, 2).flatten(0, 1)
    left = points
    total, codes, commitment = torch.zeros_like(left), [], latent.new_zeros(())
    sums = []
    for book in chosen:
        table = vectors(book)
        index = nearest(table, left.detach())
        value = table[index].detach()
        commitment = commitment + functional.mse_loss(left, value)
        if update is not None:
            _follow(book, left.detach(), index, update)
        total = total + value
        left = left - value
        sums.append(total)
        codes.append(index.view(batch, frames))

    def straight(made: torch.Tensor) -> torch.Tensor:
        return (points + (made - points).detach()).view(batch, frames, -1).transpose(1, 2)

    finer = straight(sums[min(FINER_BOOKS, len(sums)) - 1])
    return straight(total), finer, torch.stack(codes, 1), commitment


@torch.no_grad()
def _follow(book: Any, points: torch.Tensor, index: torch.Tensor, decay: float) -> None:
    """Move the entries towards the points they stood for; an entry nobody uses becomes a random point."""
    counts = torch.zeros_like(book.cluster_usage).index_add_(0, index, torch.ones(len(index)))
    sums = torch.zeros_like(book.embedding_sum).index_add_(0, index, points)
    book.cluster_usage.mul_(decay).add_(counts, alpha=1 - decay)
    book.embedding_sum.mul_(decay).add_(sums, alpha=1 - decay)
    dead = book.cluster_usage < 0.03 * book.cluster_usage.mean()
    if dead.any():
        usage = book.cluster_usage.mean()
        book.embedding_sum[dead] = points[torch.randint(len(points), (int(dead.sum()),))] * usage
        book.cluster_usage[dead] = usage


@torch.no_grad()
def fit_books(codec: Codec, latents: torch.Tensor, rounds: int = 15) -> list[float]:
    """Put the codebooks on latents [N, 128] by k-means; the share of energy left after each book."""
    first, rest = codec.mimi.quantizer.rvq_first, codec.mimi.quantizer.rvq_rest
    shares = []
    left, energy = torch.zeros(0), torch.zeros(())
    for level, book in enumerate(books(codec.mimi)):
        if level < 2:
            left = (first if level == 0 else rest).input_proj(latents.T[None])[0].T.float()
            energy = (left - left.mean(0)).square().sum()
        table = left[torch.randperm(len(left))[: len(book.cluster_usage)]].clone()
        for _ in range(rounds):
            index = nearest(table, left)
            counts = torch.zeros(len(table)).index_add_(0, index, torch.ones(len(index)))
            sums = torch.zeros_like(table).index_add_(0, index, left)
            table = torch.where(
                counts[:, None] > 0,
                sums / counts[:, None].clamp(min=1),
                left[torch.randint(len(left), (len(table),))],
            )
        index = nearest(table, left)
        usage = torch.zeros(len(table)).index_add_(0, index, torch.ones(len(index))).clamp(min=0.5)
        book.cluster_usage.copy_(usage * len(table) / usage.sum())
        book.embedding_sum.copy_(table * book.cluster_usage[:, None])
        book._initialized.fill_(1)
        left = left - table[index]
        shares.append(float(left.square().sum() / energy))
    return shares


@torch.no_grad()
def keep_variance(mimi: MimiModel) -> None:
    """Start every convolution so that signals keep their size; PyTorch's own start lets them die out."""
    for name, module in mimi.named_modules():
        if not isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            continue
        if isinstance(module, nn.ConvTranspose1d):
            fan_in = module.in_channels // module.groups * module.kernel_size[0] // module.stride[0]
        else:
            fan_in = module.in_channels // module.groups * module.kernel_size[0]
        gain = 1.25 if name.startswith(("encoder.", "decoder.")) else 1.0
        if ".block.3" in name:
            gain *= 0.5  # the end of a residual branch
        if name.startswith("decoder.model.14"):
            gain = 0.1
        if name.startswith("encoder.model.0"):
            gain = 8.0  # audio is quiet
        weight = torch.randn_like(module.weight) * gain * fan_in**-0.5
        if hasattr(module, "weight_g"):
            module.weight_v.copy_(weight)
            module.weight_g.copy_(weight.flatten(1).norm(dim=1).view_as(module.weight_g))
        else:
            module.weight.copy_(weight)
        if module.bias is not None:
            module.bias.zero_()


def folded(codec: Codec) -> MimiModel:
    """The same codec without weight norm, ready to be saved or used."""
    plain = build()
    state = codec.mimi.state_dict()
    for key in [key for key in state if key.endswith("weight_g")]:
        scale, direction = state.pop(key), state.pop(key[:-1] + "v")
        state[key.removesuffix("_g")] = scale * direction / direction.flatten(1).norm(dim=1).view_as(scale)
    plain.load_state_dict(state)
    return plain.eval()


def save_config(path: Path) -> None:
    """Write mimi_config.json."""
    path.write_text(json.dumps(CONFIG, indent=1) + "\n")
