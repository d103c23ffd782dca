"""What the config.json of a language model says, as frozen dataclasses. No MLX.

A field exists here because some line reads it. Source: moshi/models/loaders.py `_lm_kwargs`, moshi/models/lm.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from moshi_mlx.errors import ConfigError
from moshi_mlx.models.conditioner_config import Condition, Conditioners, LutConfig, TensorConfig, read_conditioners
from moshi_mlx.models.config_reader import ConfigReader
from moshi_mlx.models.tts_config import TTS, TtsConfig, read_tts

NORMS = ("rms_norm_f32", "layer_norm")
POSITIONS = ("rope", "rope_concat", "sin", "none")
PERSONA, HIBIKI = "personaplex", "hibiki"  # model_types
LONGEST_DELAY = 45_000  # frames, an hour: as many columns of tokens are held
END_OF_TEXT = 2  # sentencepiece's </s>: a translation has ended

WITHOUT_EFFECT = (  # they describe files, provenance or training, not what the model computes
    *("moshi_name", "mimi_name", "mimi_config_name", "tokenizer_name", "_name_or_path", "model_id"),
    *("lm_gen_config", "stt_config", "quantize", "quantization", "quantization_config", "lora_rank"),
    *("lora_scaling", "depformer_context", "depformer_causal", "gradient_checkpointing", "device", "dtype"),
)
_UNSUPPORTED = (*("layer_scale", "norm_emb", "bias_proj", "same_initial", "lora", "lora_name"),)


@dataclass(frozen=True)
class TransformerConfig:
    """One stack of transformer layers, as used by the temporal transformer, the depth steps and Mimi."""

    dim: int
    num_heads: int
    num_layers: int
    ffn_hidden: int  # width inside the feed-forward block
    context: int  # attended positions, the current one included
    kv_repeat: int = 1  # query heads that share one key/value head
    rope: str = "rope"  # "rope": interleaved pairs, "rope_concat": split halves; "sin": added to the input; "none"
    max_period: float = 10_000.0
    norm: str = "rms_norm_f32"  # or "layer_norm"
    gated: bool = True  # gated SiLU; else linear1 -> exact GELU -> linear2
    layer_scale: bool = False
    cross_attention: bool = False  # a second attention in each layer, over vectors that stay the same

    @property
    def head_dim(self) -> int:
        """Channels of one head."""
        return self.dim // self.num_heads

    @property
    def rotates(self) -> bool:
        """Whether queries and keys are rotated by their positions."""
        return self.rope in ("rope", "rope_concat")

    @property
    def num_kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.num_heads // self.kv_repeat


@dataclass(frozen=True)
class DepthConfig:
    """The depth transformer: `steps` small transformers, one per codebook, that attend to each other."""

    steps: int  # codebooks that the model generates
    transformer: TransformerConfig
    schedule: tuple[int, ...]  # step -> index of the weights it uses
    stored_schedule: tuple[int, ...]  # of all steps that a file holds: those beyond `steps` are never loaded
    low_rank_embeddings: int | None = None
    norm: str | None = None  # norm of each step's output before its head ("layer_norm" or None)


@dataclass(frozen=True)
class LmConfig:
    """The language model: streams, vocabularies, delays and both transformers."""

    transformer: TransformerConfig
    depth: DepthConfig | None  # None for models that emit text only (dep_q 0)
    text_card: int
    card: int
    n_q: int  # audio streams read at each position
    delays: tuple[int, ...]  # frames, [text, generated codebooks, input codebooks]
    text_padding_id: int = 3
    text_end_padding_id: int = 0
    extra_heads: int = 0
    extra_heads_dim: int = 6
    conditioning: Conditioners = field(default_factory=Conditioners)
    takes_prompt: bool = False  # a voice and a role, lived through before the conversation: PersonaPlex
    text_card_out: int | None = None  # text tokens that the model can write, where it reads others, too
    demux_second_stream: bool = False  # a text token is two: (second + 1) * (text_card + 1) + first
    tts: TtsConfig | None = None  # for models that say a text

    @property
    def dep_q(self) -> int:
        """Codebooks the model generates; fewer than a config's `dep_q` where that counts the user's, too."""
        return self.depth.steps if self.depth else 0

    @property
    def text_classes(self) -> int:
        """Text tokens that the model can write."""
        return self.text_card_out or self.text_card

    @property
    def conditioners(self) -> Mapping[str, LutConfig | TensorConfig]:
        """The conditioners by their names."""
        return self.conditioning.by_name

    @property
    def named_conditions(self) -> dict[str, tuple[str, ...]]:
        """The conditioners whose values have names, with these; others take vectors."""
        return {name: one.possible_values for name, one in self.conditioners.items() if isinstance(one, LutConfig)}

    @property
    def input_codebooks(self) -> int:
        """Codebooks of the user's audio that the model reads."""
        return self.n_q - self.dep_q

    @property
    def codebooks(self) -> int:
        """Codebooks the codec must deliver and understand."""
        return max(self.dep_q, self.input_codebooks)

    @property
    def as_stored(self) -> LmConfig:
        """The config of everything that a file holds, also the depth steps that are never run."""
        depth = self.depth
        if not depth:
            return self
        transformer = replace(depth.transformer, context=len(depth.stored_schedule))
        schedule = depth.stored_schedule
        return replace(self, depth=replace(depth, steps=len(schedule), schedule=schedule, transformer=transformer))

    def conditions(self, given: Mapping[str, Condition] | None = None) -> dict[str, Condition]:
        """Return the value of every conditioner: as given, else its best one (see `LutConfig.best`).

        given: name -> value, None for the learned padding. Raises ConfigError for an unknown name or value.
        """
        given = given or {}
        for name, value in given.items():
            if name not in self.conditioners:
                known = ", ".join(self.conditioners)
                there = f"only {known}" if known else "it takes no conditions"
                raise ConfigError(f"this model has no conditioner {name!r} ({there})")
            self.conditioners[name].check(name, value)
        return {name: each.best for name, each in self.conditioners.items()} | dict(given)

    def condition_row(self, given: Mapping[str, Condition] | None = None) -> tuple[int, ...]:
        """Return the number of each look-up table's value among those it knows, -1 for the learned padding.

        given: as in `conditions`.
        """
        values = self.conditions(given)
        luts = {name: lut for name, lut in self.conditioners.items() if isinstance(lut, LutConfig)}
        return tuple(
            lut.possible_values.index(value) if isinstance(value := values[name], str) else -1
            for name, lut in luts.items()
        )

    @property
    def rates_quality(self) -> bool:
        """Whether a conditioner says how good a translation is, as Hibiki's does."""
        return any(each.best for each in self.conditioners.values())

    def contrary_conditions(self) -> dict[str, Condition]:
        """Return the values that guidance leads away from."""
        return {name: each.worst for name, each in self.conditioners.items()}

    def check_guidance(self, guidance: float) -> None:
        """Raise ConfigError for guidance that this model cannot have. guidance: 1 for none."""
        if not math.isfinite(guidance):
            raise ConfigError(f"guidance of {guidance}: a number expected, 1 for none")
        if guidance != 1 and self.tts and "cfg" in self.conditioners:
            raise ConfigError(f"guidance of {guidance:g}: this model has learned it, as its condition 'cfg'")
        if guidance != 1 and not self.conditioners and not self.tts:
            raise ConfigError(
                f"guidance of {guidance:g} compares two conditions, but this model takes none; leave it at 1"
            )

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> LmConfig:
        """Read the keyword arguments of PyTorch's `LMModel` from a config.json, which may have other known keys.

        Raises ConfigError that names a field which is missing, wrong, unknown or asks for what is not supported.
        """
        read = ConfigReader(config)
        read.only("causal", True)
        read.unsupported(*_UNSUPPORTED)
        read.ignore(*WITHOUT_EFFECT, *[key for key in read.left if key.endswith("_quantization")])
        n_q, dep_q = read.integer("n_q", 8), read.integer("dep_q", 8)
        if n_q < dep_q:  # before anything is counted up to dep_q
            raise read.error("n_q", n_q, f"it must be at least dep_q = {dep_q}")
        delays = read.list_of(int, "delays")
        if len(delays) != n_q + 1 or min(delays) < 0 or max(delays) > LONGEST_DELAY:
            needs = f"it must be n_q + 1 = {n_q + 1} numbers of frames, none negative or above {LONGEST_DELAY}"
            raise read.error("delays", delays, needs)
        steps = _own_codebooks(delays, dep_q)
        persona = read.left.get("model_type") == PERSONA
        if persona and steps == n_q:
            needs = "the user's codebooks must be told by delays of two equal groups, each begun by the smallest"
            raise read.error("delays", delays, needs)
        hidden_scale = read.number("hidden_scale", 4.0)
        transformer = _temporal(read, hidden_scale)
        depth = _depth(read, steps, dep_q, hidden_scale, transformer) if dep_q else None
        if not dep_q:
            read.ignore(*[key for key in read.left if key.startswith("depformer_")])
        text_card = read.size("text_card", 32_000)
        text_card_out = read.integer("text_card_out", 0, below=text_card + 1) or None
        below = text_card_out or text_card
        conditioning = Conditioners()
        if {"conditioners", "fuser"} & read.left.keys():
            conditioning = read_conditioners(read)
        if bool(conditioning.crossed) != transformer.cross_attention:
            needs = "it must be true for models whose fuser has 'cross', and for no others"
            raise read.error("cross_attention", transformer.cross_attention, needs)
        tts = None
        if read.get("model_type", None) == TTS or read.left.get("tts_config"):
            tts = read_tts(read)
        demux = [bool(read.get(f"demux_second_{name}", False)) for name in ("stream", "text_stream")]
        lm = cls(
            transformer=transformer,
            depth=depth,
            text_card=text_card,
            card=read.size("card", 1024),
            n_q=n_q,
            delays=tuple(delays),
            text_padding_id=read.integer("existing_text_padding_id", 3, below=below),
            text_end_padding_id=read.integer("existing_text_end_padding_id", 0, below=below),
            extra_heads=read.integer("extra_heads_num_heads", 0),
            extra_heads_dim=read.size("extra_heads_dim", 6),
            conditioning=conditioning,
            takes_prompt=persona or steps < dep_q,
            text_card_out=text_card_out,
            demux_second_stream=any(demux),
            tts=tts,
        )
        read.finish()
        return lm


def _own_codebooks(delays: Sequence[int], dep_q: int) -> int:
    """Return how many of the codebooks that a model predicts are its own.

    PersonaPlex was trained to predict the user's, too, which a conversation never asks for: all of them are heard.
    Its delays are those of two voices, [0, 1, 1, ..., 0, 1, 1, ...]; a voice's first codebook goes ahead.
    """
    audio, half = list(delays[1:]), dep_q // 2
    first = audio[:half]
    two_voices = len(audio) == dep_q and first + first == audio and half > 1 and first[0] < min(first[1:])
    return half if two_voices else dep_q


def _temporal(read: ConfigReader, hidden_scale: float) -> TransformerConfig:
    dim = read.size("dim")
    gated = read.choice("gating", "none", ("silu", "none")) == "silu"
    transformer = TransformerConfig(
        dim=dim,
        num_heads=read.size("num_heads", 8),
        num_layers=read.size("num_layers"),
        ffn_hidden=_gated_hidden(dim, int(hidden_scale * dim)) if gated else int(hidden_scale * dim),
        context=read.size("context"),
        kv_repeat=read.size("kv_repeat", 1),
        rope=read.choice("positional_embedding", "sin", POSITIONS),
        max_period=read.number("max_period", 10_000.0, least=1),
        norm=read.choice("norm", "layer_norm", NORMS),
        gated=gated,
        cross_attention=bool(read.get("cross_attention", False)),
    )
    check_shape(read, transformer)
    if transformer.cross_attention and transformer.kv_repeat > 1:
        raise read.error("kv_repeat", transformer.kv_repeat, "it must be 1 where cross_attention is true")
    return transformer


def _depth(
    read: ConfigReader, steps: int, stored: int, hidden_scale: float, temporal: TransformerConfig
) -> DepthConfig:
    """steps: those that are run. stored: those that the file holds, and the schedule counts."""
    dim = read.size("depformer_dim", 256)
    read.only("depformer_multi_linear", True, default=False)
    read.only("depformer_weights_per_step", True, default=False)
    read.only("depformer_gating", "silu")
    read.unsupported("depformer_layer_scale", "depformer_cross_attention")
    schedule = read.list_of(int, "depformer_weights_per_step_schedule", range(stored))
    # A part without gaps has as many indices as its largest says; counting up to that could go on for ever.
    parts = [part for part in (schedule[:steps], schedule) if part]
    whole = all({*part} == {*range(min(max(part) + 1, len(part)))} for part in parts)
    if len(schedule) != stored or not whole:
        needs = f"it must be {stored} indices of weights, counted from 0 without gaps"
        raise read.error("depformer_weights_per_step_schedule", schedule, needs)
    transformer = TransformerConfig(
        dim=dim,
        num_heads=read.size("depformer_num_heads", temporal.num_heads),
        num_layers=read.size("depformer_num_layers", temporal.num_layers),
        ffn_hidden=_gated_hidden(dim, int(read.number("depformer_dim_feedforward", hidden_scale * dim))),
        context=steps,  # PyTorch ignores depformer_context: a step sees every earlier step of its frame
        kv_repeat=read.size("depformer_kv_repeat", temporal.kv_repeat),
        rope=read.choice("depformer_pos_emb", "sin", POSITIONS),
        max_period=read.number("depformer_max_period", temporal.max_period, least=1),
        norm=temporal.norm,
    )
    check_shape(read, transformer, "depformer_")
    low_rank = read.integer("depformer_low_rank_embeddings", 0)
    norm = read.choice("depformer_norm", None, (*NORMS, None))
    return DepthConfig(steps, transformer, tuple(schedule[:steps]), tuple(schedule), low_rank or None, norm)


def _gated_hidden(dim: int, dim_feedforward: int) -> int:
    """Return the width inside a gated block. Source: moshi/modules/gating.py `ActivationGating`."""
    return 21 * dim // 8 if dim_feedforward == 4 * dim else 2 * dim_feedforward // 3


def check_shape(read: ConfigReader, config: TransformerConfig, prefix: str = "") -> None:
    """Raise ConfigError unless the heads of a transformer fit its width. prefix: of its fields."""
    if config.dim % config.num_heads or config.head_dim % 2:
        needs = f"it must split {config.dim} channels into heads of even width"
        raise read.error(f"{prefix}num_heads", config.num_heads, needs)
    if config.num_heads % config.kv_repeat:
        raise read.error(f"{prefix}kv_repeat", config.kv_repeat, f"it must divide {config.num_heads} heads")
    if config.ffn_hidden < 1:
        raise ConfigError(f"config: the feed-forward block of the {prefix}transformer has no width")


MOSHI_7B = {
    "dim": 4096, "text_card": 32_000, "existing_text_padding_id": 3, "n_q": 16, "dep_q": 8, "card": 2048,
    "num_heads": 32, "num_layers": 32, "hidden_scale": 4.125, "causal": True, "context": 3000,
    "max_period": 10_000, "gating": "silu", "norm": "rms_norm_f32", "positional_embedding": "rope",
    "depformer_dim": 1024, "depformer_dim_feedforward": 4224, "depformer_num_heads": 16,
    "depformer_num_layers": 6, "depformer_multi_linear": True, "depformer_gating": "silu",
    "depformer_pos_emb": "none", "depformer_weights_per_step": True,
    "delays": [0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1],
}  # fmt: skip
"""The config of repositories that have no config.json. Source: moshi/models/loaders.py `_lm_kwargs`."""

PERSONAPLEX_7B = {**MOSHI_7B, "dep_q": 16, "model_type": PERSONA}
"""What the config of PersonaPlex leaves out. Source: NVIDIA's fork of moshi, models/loaders.py `get_moshi_lm`."""
