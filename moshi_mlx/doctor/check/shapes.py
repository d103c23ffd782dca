"""At which shapes operations are checked: Moshi's own, or the same operations small enough for two seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace

from moshi_mlx.models.config import MOSHI_7B, DepthConfig, LmConfig, TransformerConfig
from moshi_mlx.models.mimi_config import MIMI, MimiConfig, SeanetConfig
from moshi_mlx.weights.quantization import NAMED, Scheme

FORMATS: dict[str, Scheme | None] = {"bf16": None, "q4": NAMED["q4"], "q8": NAMED["q8"], "mxfp4": NAMED["mxfp4"]}
"""Of weights, by name."""


@dataclass(frozen=True)
class Shapes:
    """lm, mimi: whose operations. layers: of a network that is run.

    batches: rows of a batch. windows: (rows, positions that there were): up to the context and beyond it.
    outputs: of a matrix product that are compared; all are computed. frames: of Nano's conversation.
    """

    name: str
    lm: LmConfig
    mimi: MimiConfig
    layers: int
    batches: tuple[int, ...]
    windows: tuple[tuple[int, int], ...]
    outputs: int
    frames: int

    @property
    def temporal(self) -> TransformerConfig:
        """The temporal transformer, of as many layers as are run."""
        return replace(self.lm.transformer, num_layers=self.layers)

    @property
    def depth(self) -> DepthConfig:
        """The depth transformer, likewise, and of two steps."""
        assert self.lm.depth, self.name
        transformer = replace(self.lm.depth.transformer, num_layers=self.layers)
        return replace(self.lm.depth, steps=2, schedule=(0, 1), transformer=transformer)


MOSHI = Shapes(
    name="Moshi 7B",
    lm=LmConfig.from_dict(MOSHI_7B),
    mimi=MIMI,
    layers=1,
    batches=(1, 2, 4, 16),
    windows=((1, 1), (1, 2), (1, 125), (1, 1000), (1, 3000), (1, 3007), (2, 3001), (4, 1100), (16, 260)),
    outputs=768,
    frames=100,
)
"""Moshi 7B and the published Mimi."""

SMALL = Shapes(
    name="small",
    lm=LmConfig.from_dict(
        {
            **MOSHI_7B, "dim": 256, "num_heads": 2, "context": 40, "text_card": 500, "card": 128,
            "depformer_dim": 128, "depformer_num_heads": 2, "depformer_dim_feedforward": 576,
        }
    ),
    mimi=MimiConfig(
        SeanetConfig(dimension=64, n_filters=8),
        replace(MIMI.transformer, dim=64, num_heads=1, ffn_hidden=128, context=20),
        n_q=8,
        bins=64,
        codebook_dim=32,
    ),
    layers=2,
    batches=(1, 2, 4),
    windows=((1, 1), (1, 2), (1, 40), (1, 47), (2, 41), (4, 95)),
    outputs=768,
    frames=12,
)  # fmt: skip
"""The same operations, heads as wide as Moshi's."""
