"""What a config.json says of conditioners. No MLX.

Source: moshi/models/loaders.py `get_conditioner_provider`, moshi/conditioners/text.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from moshi_mlx.models.config_reader import ConfigReader

QUALITIES = ("very_bad", "bad", "neutral", "good", "very_good")  # of Hibiki's translations, the worst first


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

    def _ranked(self) -> list[str]:
        return sorted(self.possible_values, key=QUALITIES.index) if {*self.possible_values} <= {*QUALITIES} else []


def read_conditioners(read: ConfigReader) -> dict[str, LutConfig]:
    """Read the conditioners of a model and how they are added. Raises ConfigError for what is not supported."""
    entries, fuser = read.section("conditioners", {}), read.section("fuser", {})
    found = {name: _lut(entries.section(name)) for name in list(entries.left)}
    added = fuser.list_of(str, "sum", [])
    if set(added) != set(found):
        raise fuser.error("sum", added, f"it must name each conditioner ({', '.join(found) or 'none'}), no other")
    fuser.unsupported("cross", "prepend")
    fuser.ignore("cross_attention_pos_emb", "cross_attention_pos_emb_scale")  # of "cross", so of nothing
    fuser.finish()
    return found


def _lut(entry: ConfigReader) -> LutConfig:
    entry.only("type", "lut", default="nothing")
    read = entry.section("lut")
    entry.finish()
    read.only("tokenizer", "noop", default="nothing")
    read.only("output_bias", False)
    read.only("learn_padding", True)
    read.only("force_linear", True)
    read.ignore("init_scale", "pad_empty")
    n_bins, values = read.size("n_bins"), read.list_of(str, "possible_values")
    if not 1 <= len(values) <= n_bins:
        raise read.error("possible_values", values, f"it must have 1 to n_bins = {n_bins} values")
    lut = LutConfig(n_bins, read.size("dim"), tuple(values))
    read.finish()
    return lut
