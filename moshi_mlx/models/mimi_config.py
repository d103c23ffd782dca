"""The audio codec's config, as frozen dataclasses, and the tensors that a published file with it holds. No MLX.

The defaults are Kyutai's published Mimi. Source: moshi/models/loaders.py (`_mimi_config`, `get_mimi`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from moshi_mlx.errors import CheckpointError, ConfigError, some
from moshi_mlx.frames import FRAME_RATE, FRAME_SAMPLES, SAMPLE_RATE
from moshi_mlx.models.config import POSITIONS, TransformerConfig, check_shape
from moshi_mlx.models.config_reader import ConfigReader

MOST_RATIOS = 10  # a frame of 1920 samples has no more factors of at least 2
FURTHEST = 10 * SAMPLE_RATE  # samples that a convolution looks back; as many are kept for each channel

_MIMI_TRANSFORMER = TransformerConfig(
    dim=512,
    num_heads=8,
    num_layers=8,
    ffn_hidden=2048,
    context=250,
    norm="layer_norm",
    gated=False,
    layer_scale=True,
)


@dataclass(frozen=True)
class SeanetConfig:
    """The convolutional encoder and its mirror image, the decoder."""

    dimension: int = 512  # channels between encoder and decoder
    n_filters: int = 64  # channels at the audio rate, doubled at each ratio
    n_residual_layers: int = 1  # residual blocks per ratio
    ratios: tuple[int, ...] = (8, 6, 5, 4)  # in the decoder's order
    kernel_size: int = 7
    residual_kernel_size: int = 3
    last_kernel_size: int = 3
    dilation_base: int = 2
    compress: int = 2  # residual blocks are this many times narrower inside

    @property
    def hop(self) -> int:
        """Audio samples per position of the encoder's output."""
        return math.prod(self.ratios)


@dataclass(frozen=True)
class MimiConfig:
    """The audio codec: 24 kHz mono in, `n_q` codes per frame of 1920 samples out, and back."""

    seanet: SeanetConfig = field(default_factory=SeanetConfig)
    transformer: TransformerConfig = _MIMI_TRANSFORMER  # one such stack on each side of the quantizer
    n_q: int = 32  # codebooks in the file, the semantic one included
    bins: int = 2048  # entries per codebook
    codebook_dim: int = 256

    @property
    def positions_per_frame(self) -> int:
        """Transformer positions per frame, also the stride of the last downsampling."""
        return FRAME_SAMPLES // self.seanet.hop

    @property
    def published(self) -> bool:
        """Whether this is the shape of Kyutai's published Mimi, however many codebooks a file holds."""
        return replace(self, n_q=MIMI.n_q) == MIMI

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> MimiConfig:
        """Read PyTorch's `mimi_config`: {sample_rate, channels, frame_rate, seanet, quantizer, transformer}.

        Raises ConfigError that names the field: missing, unknown and asking for something, asking for
        what this package does not have, or not making frames of 1920 samples.
        """
        read = ConfigReader(config, kind="Mimi config field")
        read.only("sample_rate", SAMPLE_RATE)
        read.only("frame_rate", FRAME_RATE)
        read.only("channels", 1)
        seanet = _seanet(read.section("seanet"))
        n_q, bins, codebook_dim = _quantizer(read.section("quantizer"), seanet.dimension)
        transformer = _transformer(read.section("transformer"), seanet.dimension)
        read.finish()
        positions, rest = divmod(FRAME_SAMPLES, seanet.hop)
        if rest or positions < 2:
            raise ConfigError(
                f"Mimi config field 'seanet.ratios' is {list(seanet.ratios)}, {seanet.hop} samples in all; "
                f"it must be a whole fraction (1/2, 1/3, ...) of a frame of {FRAME_SAMPLES} samples"
            )
        return cls(seanet, transformer, n_q, bins, codebook_dim)


def _seanet(read: ConfigReader) -> SeanetConfig:
    for key, only, default in (
        ("channels", 1, 1),
        ("causal", True, False),
        ("norm", "none", "none"),
        ("activation", "ELU", "ELU"),
        ("activation_params", {"alpha": 1.0}, {"alpha": 1.0}),
        ("pad_mode", "constant", "reflect"),
        ("true_skip", True, True),
    ):
        read.only(key, only, default)
    read.unsupported("final_activation", "mask_fn")
    read.ignore("disable_norm_outer_blocks")  # about a norm that exists in training only
    ratios = tuple(read.list_of(int, "ratios", (8, 5, 4, 2)))
    if not 0 < len(ratios) <= MOST_RATIOS or min(ratios) < 2:
        raise read.error("ratios", list(ratios), f"it must be at most {MOST_RATIOS} strides of at least 2")
    seanet = SeanetConfig(
        dimension=read.size("dimension", 128),
        n_filters=read.size("n_filters", 32),
        n_residual_layers=read.integer("n_residual_layers", 3),
        ratios=ratios,
        kernel_size=read.size("kernel_size", 7),
        residual_kernel_size=read.size("residual_kernel_size", 3),
        last_kernel_size=read.size("last_kernel_size", 7),
        dilation_base=read.size("dilation_base", 2),
        compress=read.size("compress", 2),
    )
    # The widest block looks back (kernel - 1) * base ** (blocks - 1) samples; as logarithms no power is too large.
    further = (seanet.n_residual_layers - 1) * math.log2(seanet.dilation_base)
    if math.log2(max(seanet.residual_kernel_size - 1, 1)) + further > math.log2(FURTHEST):
        blocks = seanet.n_residual_layers
        needs = f"with {blocks} residual blocks a layer would look back by more than {FURTHEST} samples"
        raise read.error("dilation_base", seanet.dilation_base, needs)
    read.finish()
    return seanet


def _quantizer(read: ConfigReader, dimension: int) -> tuple[int, int, int]:
    codebook_dim = read.size("dimension", 128)
    read.only("input_dimension", dimension, default=codebook_dim)
    read.only("output_dimension", dimension, default=codebook_dim)
    read.only("n_q_semantic", 1)
    # How the codebooks are trained does not matter once they are.
    read.ignore("q_dropout", "no_quantization_rate", "decay", "threshold_usage_ratio", "replaced_usage_ratio")
    n_q = read.integer("n_q", 8, least=2)  # the semantic codebook and one or more acoustic ones
    bins = read.size("bins", 1024)
    read.finish()
    return n_q, bins, codebook_dim


def _transformer(read: ConfigReader, dimension: int) -> TransformerConfig:
    read.only("d_model", dimension)
    read.only("input_dimension", dimension)
    read.only("output_dimensions", [dimension])
    read.only("causal", True, default=False)
    read.only("conv_layout", True, default=False)
    read.only("gating", "none")
    read.only("norm", "layer_norm")
    read.unsupported("cross_attention", "bias_ff", "bias_attn")
    transformer = TransformerConfig(
        dim=dimension,
        num_heads=read.size("num_heads"),
        num_layers=read.integer("num_layers"),
        ffn_hidden=read.size("dim_feedforward", 2048),
        context=read.size("context"),
        kv_repeat=read.size("kv_repeat", 1),
        rope=read.choice("positional_embedding", "sin", POSITIONS),
        max_period=read.number("max_period", 10_000.0, least=1),
        norm="layer_norm",
        gated=False,
        layer_scale=read.get("layer_scale", None) is not None,
    )
    check_shape(read, transformer)
    read.finish()
    return transformer


MIMI = MimiConfig()
"""Kyutai's published Mimi, the config of repositories that name none."""


def published_shapes(config: MimiConfig) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of every tensor of a published file with this config, under PyTorch's names."""
    shapes = dict(_seanet_shapes(config))
    for side in ("encoder_transformer", "decoder_transformer"):
        shapes.update(_transformer_shapes(config, f"{side}.transformer"))
    dim, kernel = config.seanet.dimension, 2 * config.positions_per_frame
    shapes["downsample.conv.conv.conv.weight"] = (dim, dim, kernel)
    shapes["upsample.convtr.convtr.convtr.weight"] = (dim, 1, kernel)
    for part, layers in (("rvq_first", 1), ("rvq_rest", config.n_q - 1)):
        shapes[f"quantizer.{part}.input_proj.weight"] = (config.codebook_dim, dim, 1)
        shapes[f"quantizer.{part}.output_proj.weight"] = (dim, config.codebook_dim, 1)
        for index in range(layers):
            prefix = f"quantizer.{part}.vq.layers.{index}._codebook"
            shapes[f"{prefix}._initialized"] = (1,)
            shapes[f"{prefix}.cluster_usage"] = (config.bins,)
            shapes[f"{prefix}.embedding_sum"] = (config.bins, config.codebook_dim)
    return shapes


class Shaped(Protocol):
    """An array, or what the header of a file says of one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its size along each axis."""
        ...


def check_published(weights: Mapping[str, Shaped], config: MimiConfig) -> None:
    """Raise CheckpointError, one line, if names or shapes of tensors differ from what the config asks for.

    ConfigError if it asks for more of something than there are tensors.
    """
    for name, count in (
        ("quantizer.n_q", config.n_q),
        ("transformer.num_layers", config.transformer.num_layers),
        ("seanet.n_residual_layers", config.seanet.n_residual_layers),
    ):
        if count > len(weights):  # each has tensors of its own; counted before anything is listed
            raise ConfigError(
                f"Mimi config field '{name}' is {count}; it needs as many tensors and more, "
                f"but the weights are {len(weights)} tensors"
            )
    expected = published_shapes(config)
    missing = [name for name in expected if name not in weights]
    if missing:
        raise CheckpointError(f"the Mimi weights lack {some(missing)}")
    extra = [name for name in weights if name not in expected]
    if extra:
        raise CheckpointError(f"the Mimi weights hold {some(extra)}, which the config has no place for")
    wrong = [
        f"{name} with shape {tuple(weights[name].shape)} instead of {shape}"
        for name, shape in expected.items()
        if tuple(weights[name].shape) != shape
    ]
    if wrong:
        raise CheckpointError(f"the Mimi weights hold {some(wrong)}")


def _seanet_shapes(config: MimiConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    seanet = config.seanet
    # encoder
    width, index = seanet.n_filters, 1
    yield from _conv_shapes("encoder.model.0.conv.conv", 1, width, seanet.kernel_size)
    for ratio in reversed(seanet.ratios):
        for _ in range(seanet.n_residual_layers):
            yield from _block_shapes(config, f"encoder.model.{index}", width)
            index += 1
        yield from _conv_shapes(f"encoder.model.{index + 1}.conv.conv", width, 2 * width, 2 * ratio)
        width, index = 2 * width, index + 2
    last = seanet.last_kernel_size
    yield from _conv_shapes(f"encoder.model.{index + 1}.conv.conv", width, seanet.dimension, last)
    # decoder
    index = 1
    yield from _conv_shapes("decoder.model.0.conv.conv", seanet.dimension, width, seanet.kernel_size)
    for ratio in seanet.ratios:
        prefix = f"decoder.model.{index + 1}.convtr.convtr"
        yield f"{prefix}.weight", (width, width // 2, 2 * ratio)
        yield f"{prefix}.bias", (width // 2,)
        width, index = width // 2, index + 2
        for _ in range(seanet.n_residual_layers):
            yield from _block_shapes(config, f"decoder.model.{index}", width)
            index += 1
    yield from _conv_shapes(f"decoder.model.{index + 1}.conv.conv", width, 1, last)


def _conv_shapes(prefix: str, inputs: int, outputs: int, kernel: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{prefix}.weight", (outputs, inputs, kernel)
    yield f"{prefix}.bias", (outputs,)


def _block_shapes(config: MimiConfig, prefix: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden = width // config.seanet.compress
    yield from _conv_shapes(f"{prefix}.block.1.conv.conv", width, hidden, config.seanet.residual_kernel_size)
    yield from _conv_shapes(f"{prefix}.block.3.conv.conv", hidden, width, 1)


def _transformer_shapes(config: MimiConfig, prefix: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    transformer = config.transformer
    dim, hidden = transformer.dim, transformer.ffn_hidden
    rows = (transformer.num_heads + 2 * transformer.num_kv_heads) * transformer.head_dim
    for index in range(transformer.num_layers):
        layer = f"{prefix}.layers.{index}"
        yield f"{layer}.self_attn.in_proj_weight", (rows, dim)
        yield f"{layer}.self_attn.out_proj.weight", (dim, dim)
        yield f"{layer}.linear1.weight", (hidden, dim)
        yield f"{layer}.linear2.weight", (dim, hidden)
        for norm in ("norm1", "norm2"):
            yield f"{layer}.{norm}.weight", (dim,)
            yield f"{layer}.{norm}.bias", (dim,)
        if transformer.layer_scale:
            yield f"{layer}.layer_scale_1.scale", (dim,)
            yield f"{layer}.layer_scale_2.scale", (dim,)
