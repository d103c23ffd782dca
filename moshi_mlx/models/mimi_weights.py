"""From a published Mimi file to the names and layouts of `moshi_mlx.models.mimi`.

A published file holds PyTorch's names and layouts (318 tensors for Kyutai's Mimi). Ours differ in few places:
in_proj_weight is in_proj.weight, `_codebook` (MLX does not see names that begin with an underscore as weights)
is `codebook`, and what never changes after training is computed once, here: codebooks from their running sums,
convolution kernels as the matrices that the layers multiply with.
Source: moshi/models/loaders.py `get_mimi`, moshi/modules/seanet.py, moshi/quantization/core_vq.py.
"""

from collections.abc import Iterator, Mapping
from typing import Protocol

import mlx.core as mx

from moshi_mlx.errors import CheckpointError, some
from moshi_mlx.models.mimi_config import MimiConfig

Shapes = dict[str, tuple[int, ...]]

USAGE_FLOOR = 1e-5  # a codebook entry nobody used is divided by this instead of by zero


def published_shapes(config: MimiConfig) -> Shapes:
    """Name and shape of every tensor of a published file with this config."""
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
    def shape(self) -> tuple[int, ...]: ...


def check_published(weights: Mapping[str, Shaped], config: MimiConfig) -> None:
    """Raise CheckpointError, one line, if names or shapes differ from what the config asks for."""
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


def from_published(weights: Mapping[str, mx.array], config: MimiConfig, codebooks: int) -> dict[str, mx.array]:
    """Rename and lay out the weights of a published file; codebooks beyond the first `codebooks` are dropped.

    Raises CheckpointError if names or shapes differ from what the config asks for.
    """
    check_published(weights, config)
    ours = {}
    for name, array in weights.items():
        if "._codebook." not in name:
            ours[name.replace("in_proj_weight", "in_proj.weight")] = lay_out(name, array)
    kept = [("rvq_first", 0), *(("rvq_rest", index) for index in range(codebooks - 1))]
    for part, index in kept:
        prefix = f"quantizer.{part}.vq.layers.{index}"
        usage = mx.maximum(weights[f"{prefix}._codebook.cluster_usage"].astype(mx.float32), USAGE_FLOOR)
        embedding = weights[f"{prefix}._codebook.embedding_sum"].astype(mx.float32) / usage[:, None]
        ours[f"{prefix}.codebook.embedding"] = embedding
        ours[f"{prefix}.codebook.half_norm"] = embedding.square().sum(axis=1) / 2
    return ours


def lay_out(name: str, array: mx.array) -> mx.array:
    """One published tensor as the layer that `name` belongs to multiplies with it."""
    array = array.astype(mx.float32)
    if name == "upsample.convtr.convtr.convtr.weight":
        return mx.contiguous(array[:, 0].T)  # (C, 1, kernel) -> (kernel, C)
    if name.endswith("convtr.weight"):
        # (in, out, 2 * stride) -> (2 * in, stride * out): the second half of the kernel acts one position
        # later, so the rows of the previous input come first.
        inputs, outputs, kernel = array.shape
        halves = array.reshape(inputs, outputs, 2, kernel // 2).transpose(2, 0, 3, 1)[::-1]
        return mx.contiguous(halves.reshape(2 * inputs, -1))
    if name.endswith(("conv.weight", "put_proj.weight")):
        return mx.contiguous(array.transpose(0, 2, 1).reshape(len(array), -1))  # (out, in, k) -> (out, k * in)
    return array


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
