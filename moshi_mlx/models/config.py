"""What a config.json says about a model, as frozen dataclasses.

The language model's config is the keyword arguments of PyTorch's `LMModel` plus wrapper keys
(file names, `lm_gen_config`, ...). A field exists here because some line reads it. A key that is
not known is an error when it asks for something (its value is not null, false or empty).
Source: moshi/models/loaders.py (`_lm_kwargs`, `_mimi_config`), moshi/models/lm.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from moshi_mlx.errors import ConfigError
from moshi_mlx.models.config_reader import ConfigReader

# Keys of config.json that describe files, provenance or defaults around the model, not the model.
WRAPPER_KEYS = (
    *("moshi_name", "mimi_name", "mimi_config_name", "tokenizer_name", "lora_name"),
    *("model_type", "model_id", "lm_gen_config", "tts_config", "stt_config"),
    *("quantization", "quantization_config", "_name_or_path"),
)


@dataclass(frozen=True)
class TransformerConfig:
    """One stack of transformer layers, as used by the temporal transformer, the depth steps and Mimi."""

    dim: int
    num_heads: int
    num_layers: int
    ffn_hidden: int  # width inside the feed-forward block
    context: int  # attended positions, the current one included
    kv_repeat: int = 1  # query heads that share one key/value head
    rope: str = "rope"  # "rope": interleaved pairs, "rope_concat": split halves, "none"
    max_period: float = 10_000.0
    norm: str = "rms_norm_f32"  # or "layer_norm"
    gated: bool = True  # gated SiLU; else linear1 -> exact GELU -> linear2
    layer_scale: bool = False

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads

    @property
    def num_kv_heads(self) -> int:
        return self.num_heads // self.kv_repeat


@dataclass(frozen=True)
class DepthConfig:
    """The depth transformer: `steps` small transformers, one per codebook, that share a KV window."""

    steps: int  # dep_q
    transformer: TransformerConfig
    schedule: tuple[int, ...]  # step -> index of the weights it uses
    low_rank_embeddings: int | None = None
    norm: str | None = None  # norm of each step's output before its head ("layer_norm" or None)


@dataclass(frozen=True)
class LutConfig:
    """A look-up-table conditioner: one learned vector per named value, added to every position."""

    n_bins: int
    dim: int
    possible_values: tuple[str, ...]


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
    conditioners: Mapping[str, LutConfig] = field(default_factory=dict)

    @property
    def dep_q(self) -> int:
        """Codebooks the model generates."""
        return self.depth.steps if self.depth else 0

    @property
    def input_codebooks(self) -> int:
        """Codebooks of the user that the model reads."""
        return self.n_q - self.dep_q

    @property
    def codebooks(self) -> int:
        """Codebooks the codec must deliver and understand."""
        return max(self.dep_q, self.input_codebooks)

    @property
    def max_delay(self) -> int:
        return max(self.delays)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "LmConfig":
        """Read PyTorch's `LMModel` keyword arguments (a config.json, wrapper keys allowed).

        Raises ConfigError that names the field: missing, unknown and asking for something, or
        asking for what this package does not have.
        """
        read = ConfigReader(config)
        dim = read.size("dim")
        hidden_scale = read.positive("hidden_scale", 4.0)
        max_period = read.positive("max_period", 10_000.0)
        norm = read.choice("norm", "layer_norm", _NORMS)
        n_q, dep_q = read.integer("n_q", 8), read.integer("dep_q", 8)
        if n_q < dep_q:  # before anything is counted up to dep_q
            raise ConfigError(f"config field 'n_q' is {n_q}, less than dep_q = {dep_q}")
        read.only("causal", True)
        read.only("gating", "silu", default="none")
        read.absent(
            "layer_scale",
            "cross_attention",
            "demux_second_stream",
            "demux_second_text_stream",
            "norm_emb",
            "bias_proj",
            "same_initial",
            "lora",
            "lora_name",
            "quantize",
        )
        read.ignore(*WRAPPER_KEYS, "lora_rank", "lora_scaling", "depformer_context", "depformer_causal")
        read.ignore("gradient_checkpointing", "device", "dtype")
        transformer = TransformerConfig(
            dim=dim,
            num_heads=read.size("num_heads", 8),
            num_layers=read.size("num_layers"),
            ffn_hidden=_gated_hidden(dim, int(hidden_scale * dim)),
            context=read.size("context"),
            kv_repeat=read.size("kv_repeat", 1),
            rope=read.choice("positional_embedding", "sin", _ROPES),
            max_period=max_period,
            norm=norm,
        )
        _check_heads("", transformer)
        text_card = read.size("text_card", 32_000)
        read.only("text_card_out", text_card)
        lm = cls(
            transformer=transformer,
            depth=_depth(read, dep_q, hidden_scale, transformer) if dep_q else None,
            text_card=text_card,
            card=read.size("card", 1024),
            n_q=n_q,
            delays=tuple(read.integers("delays")),
            text_padding_id=read.integer("existing_text_padding_id", 3),
            text_end_padding_id=read.integer("existing_text_end_padding_id", 0),
            extra_heads=read.integer("extra_heads_num_heads", 0),
            extra_heads_dim=read.size("extra_heads_dim", 6),
            conditioners=_conditioners(read),
        )
        if not dep_q:
            read.ignore_prefix("depformer_")
        read.finish()
        if len(lm.delays) != lm.n_q + 1:
            raise ConfigError(
                f"config field 'delays' has {len(lm.delays)} entries, n_q + 1 = {lm.n_q + 1} expected"
            )
        if min(lm.delays) < 0:
            raise ConfigError(f"config field 'delays' has a negative entry: {min(lm.delays)}")
        for key, id in (("padding", lm.text_padding_id), ("end_padding", lm.text_end_padding_id)):
            if id >= text_card:
                raise ConfigError(
                    f"config field 'existing_text_{key}_id' is {id}: below text_card = {text_card} expected"
                )
        return lm


_NORMS = ("rms_norm_f32", "layer_norm")
_ROPES = ("rope", "rope_concat", "none")


def _gated_hidden(dim: int, dim_feedforward: int) -> int:
    """Width inside a gated block. Source: moshi/modules/gating.py `ActivationGating`."""
    return 21 * dim // 8 if dim_feedforward == 4 * dim else 2 * dim_feedforward // 3


def _check_heads(prefix: str, config: TransformerConfig) -> None:
    if config.dim % config.num_heads or config.head_dim % 2:
        raise ConfigError(
            f"config field '{prefix}num_heads' is {config.num_heads}: "
            f"{config.dim} channels do not split into heads of even width"
        )
    if config.ffn_hidden < 1:
        raise ConfigError(f"config: the feed-forward block of {prefix or 'the '}transformer has no width")
    if config.num_heads % config.kv_repeat:
        raise ConfigError(
            f"config field '{prefix}kv_repeat' is {config.kv_repeat}: no divisor of {config.num_heads} heads"
        )


def _depth(read: ConfigReader, steps: int, hidden_scale: float, temporal: TransformerConfig) -> DepthConfig:
    dim = read.size("depformer_dim", 256)
    read.only("depformer_multi_linear", True, default=False)
    read.only("depformer_weights_per_step", True, default=False)
    read.only("depformer_gating", "silu")
    read.absent("depformer_layer_scale", "depformer_cross_attention")
    feedforward = read.positive("depformer_dim_feedforward", None)
    schedule = read.integers("depformer_weights_per_step_schedule", range(steps))
    if len(schedule) != steps or sorted(set(schedule)) != list(range(max(schedule) + 1)):
        raise ConfigError(
            f"config field 'depformer_weights_per_step_schedule' is {schedule}: "
            f"{steps} weight indices counted from 0 without gaps expected"
        )
    rope = read.choice("depformer_pos_emb", "sin", _ROPES)
    transformer = TransformerConfig(
        dim=dim,
        num_heads=read.size("depformer_num_heads", temporal.num_heads),
        num_layers=read.size("depformer_num_layers", temporal.num_layers),
        ffn_hidden=_gated_hidden(dim, int(hidden_scale * dim if feedforward is None else feedforward)),
        context=steps,  # PyTorch ignores depformer_context: a step sees every earlier step of its frame
        kv_repeat=read.size("depformer_kv_repeat", temporal.kv_repeat),
        rope=rope,
        max_period=read.positive("depformer_max_period", temporal.max_period),
        norm=temporal.norm,
    )
    _check_heads("depformer_", transformer)
    low_rank = read.integer("depformer_low_rank_embeddings", 0)
    norm = read.get("depformer_norm", None)
    if norm not in (None, *_NORMS):
        raise ConfigError(f"config field 'depformer_norm' is {norm!r}: {', '.join(_NORMS)} or null expected")
    return DepthConfig(steps, transformer, tuple(schedule), low_rank or None, norm)


def _conditioners(read: ConfigReader) -> dict[str, LutConfig]:
    entries, fuser = read.section("conditioners"), read.section("fuser")
    added = fuser.strings("sum", [])
    fuser.absent("cross", "prepend")
    fuser.ignore("cross_attention_pos_emb", "cross_attention_pos_emb_scale")  # of "cross", so of nothing
    fuser.finish()
    found = {}
    for name in list(entries.left):
        entry = entries.section(name)
        entry.only("type", "lut", default="nothing")
        lut = entry.section("lut")
        lut.only("tokenizer", "noop", default="nothing")
        lut.only("output_bias", False)
        lut.only("learn_padding", True)
        lut.only("force_linear", True)
        lut.ignore("init_scale", "pad_empty")
        found[name] = LutConfig(lut.size("n_bins"), lut.size("dim"), tuple(lut.strings("possible_values")))
        lut.finish()
        entry.finish()
        values = len(found[name].possible_values)
        if not 1 <= values <= found[name].n_bins:
            raise ConfigError(
                f"{lut.where} 'possible_values' has {values} values, 1 to n_bins = {found[name].n_bins} expected"
            )
        if name not in added:
            raise ConfigError(f"config field 'fuser.sum' does not name the conditioner {name!r}")
    if unknown := set(added) - set(found):
        raise ConfigError(f"config field 'fuser.sum' names {sorted(unknown)[0]!r}, which is no conditioner")
    return found


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
