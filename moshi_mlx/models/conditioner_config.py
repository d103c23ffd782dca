"""What a config.json says of conditioners, and what values they take. No MLX.

Source: moshi/models/loaders.py `get_conditioner_provider`, moshi/conditioners/text.py, base.py `ConditionFuser`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from moshi_mlx.errors import ConfigError
from moshi_mlx.models.config_reader import ConfigReader

if TYPE_CHECKING:  # `--help` needs nothing of it
    import numpy as np

QUALITIES = ("very_bad", "bad", "neutral", "good", "very_good")  # of Hibiki's translations, the worst first


@dataclass(frozen=True, eq=False)
class Vectors:
    """The value of a conditioner that takes vectors, such as those of speakers.

    values: (S, dim) float32. known: (S,) bool, the places that hold one; in others stands the learned padding.
    """

    values: np.ndarray
    known: np.ndarray


Condition = str | Vectors | None  # what a conditioner can be given; None for its learned padding


@dataclass(frozen=True)
class TensorConfig:
    """A conditioner that takes vectors from outside and brings them to the model's width."""

    dim: int
    best = worst = None  # such values have no order

    def check(self, name: str, value: Condition) -> None:
        """Raise ConfigError for a value that it does not take. name: its own."""
        if value is None or (
            isinstance(value, Vectors)
            and value.values.shape == (len(value.known), self.dim)
            and len(value.known) > 0
        ):
            return
        given = f"those of shape {value.values.shape}" if isinstance(value, Vectors) else repr(value)
        raise ConfigError(f"conditioner {name!r} takes vectors of {self.dim} values, not {given}")


@dataclass(frozen=True)
class LutConfig:
    """A conditioner with a look-up table: one learned vector per named value, added to every position."""

    n_bins: int
    dim: int
    possible_values: tuple[str, ...]

    @property
    def best(self) -> str | None:
        """The value of a conversation that chooses none: the best quality; None where values have no order.

        Source: moshi/run_inference.py `get_condition_tensors`.
        """
        ranked = self._ranked()
        return ranked[-1] if ranked else None

    @property
    def worst(self) -> str | None:
        """The value that guidance leads away from: the worst quality; None where values have no order."""
        ranked = self._ranked()
        return ranked[0] if ranked else None

    def check(self, name: str, value: Condition) -> None:
        """Raise ConfigError for a value that it does not have. name: its own."""
        if value is not None and value not in self.possible_values:
            values = ", ".join(self.possible_values)
            raise ConfigError(f"conditioner {name!r} has no value {value!r}; it must be one of {values}")

    def _ranked(self) -> list[str]:
        return sorted(self.possible_values, key=QUALITIES.index) if {*self.possible_values} <= {*QUALITIES} else []


@dataclass(frozen=True)
class Conditioners:
    """All conditioners of a model, and how what they give reaches it.

    crossed: the names of those that are attended to, the others are added to every position.
    cross_positions: the factor of the sinusoids that tell places among what is attended to; 0 for none.
    """

    by_name: Mapping[str, LutConfig | TensorConfig] = field(default_factory=dict)
    crossed: tuple[str, ...] = ()
    cross_positions: float = 0.0


def read_conditioners(read: ConfigReader) -> Conditioners:
    """Read the conditioners of a model and where they go. Raises ConfigError for what is not supported."""
    entries, fuser = read.section("conditioners", {}), read.section("fuser", {})
    found = {name: _conditioner(entries.section(name)) for name in list(entries.left)}
    added, crossed = fuser.list_of(str, "sum", []), fuser.list_of(str, "cross", [])
    if sorted([*added, *crossed]) != sorted(found):
        names = ", ".join(found) or "none"
        needs = f"it must name each conditioner ({names}), no other, but for those of 'cross' ({crossed})"
        raise fuser.error("sum", added, needs)
    if vectors := [name for name in added if isinstance(found[name], TensorConfig)]:
        raise fuser.error("sum", added, f"{vectors[0]} has many positions, which cannot be added")
    fuser.unsupported("prepend")
    has_positions = bool(fuser.get("cross_attention_pos_emb", False))
    scale = fuser.number("cross_attention_pos_emb_scale", 1.0)
    fuser.finish()
    return Conditioners(found, tuple(crossed), scale if has_positions and crossed else 0.0)


def _conditioner(entry: ConfigReader) -> LutConfig | TensorConfig:
    if entry.choice("type", "nothing", ("lut", "tensor")) == "lut":
        return _lut(entry)
    read = entry.section("tensor")
    entry.finish()
    _read_base(read)
    tensor = TensorConfig(read.size("dim"))
    read.finish()
    return tensor


def _read_base(read: ConfigReader) -> None:
    """Refuse what no published conditioner asks for. Source: moshi/conditioners/base.py `BaseConditioner`."""
    read.only("output_bias", False)
    read.only("learn_padding", True)
    read.only("force_linear", True)
    read.ignore("pad_empty")


def _lut(entry: ConfigReader) -> LutConfig:
    read = entry.section("lut")
    entry.finish()
    read.only("tokenizer", "noop", default="nothing")
    _read_base(read)
    read.ignore("init_scale")
    n_bins, values = read.size("n_bins"), read.list_of(str, "possible_values")
    if not 1 <= len(values) <= n_bins:
        raise read.error("possible_values", values, f"it must have 1 to n_bins = {n_bins} values")
    lut = LutConfig(n_bins, read.size("dim"), tuple(values))
    read.finish()
    return lut
