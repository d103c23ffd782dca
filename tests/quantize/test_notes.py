"""What quantizing says of weights that can be converted and are doubtful; good ones are silent."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest

from moshi_mlx.quantize.card import Made
from tests.weights_file import rewrite

Make = Callable[..., Made]
Change = Callable[[dict[str, mx.array]], object]


def times(factor: float, *names: str, rows: slice = slice(None)) -> Change:
    def change(arrays: dict[str, mx.array]) -> None:
        for name in names:
            arrays[name][rows] = arrays[name][rows] * factor

    return change


LINEAR = ("text_linear.weight", "linears.1.weight")
ZEROS = r"model\.safetensors: nothing but zeros in text_linear\.weight, linears\.1\.weight, as"
SMALL = (
    r"weights of text_linear(, depformer\.slices\.1\.linear_out)? are .* for the scales of nvfp4 .* to {} wrong"
)


@pytest.mark.parametrize(
    ("recipe", "change", "said"),
    [
        ("bf16", times(0, *LINEAR), ZEROS),
        ("q4", times(0, *LINEAR), ZEROS),
        ("nvfp4", times(0, *LINEAR), ZEROS),
        ("q4", times(0, *LINEAR, rows=slice(1, None)), None),
        ("q4", times(0, "out_norm.alpha"), None),
        ("nvfp4", times(0.04, *LINEAR), SMALL.format(r"\d\d%")),
        ("nvfp4", times(1e-5, *LINEAR), SMALL.format(r"100%")),
        ("nvfp4", times(0.1, *LINEAR), None),
        ("nvfp4", times(1e-5, *LINEAR, rows=slice(0, 2)), None),  # rows of two tokens that never occur
        ("nvfp4", times(1, *LINEAR), None),
        ("mxfp4", times(1e-5, *LINEAR), None),
        ("q4", times(1e-5, *LINEAR), None),
    ],
)  # fmt: skip
def test_doubtful_weights_are_noted(
    make: Make, small: Path, tmp_path: Path, recipe: str, change: Change, said: str | None
) -> None:
    source = Path(shutil.copytree(small, tmp_path / "source"))
    rewrite(source / "model.safetensors", change)
    notes = make(recipe, source).notes
    assert len(notes) == bool(said)
    if said:
        assert re.search(said, notes[0]), notes[0]


def test_layers_that_are_copied_are_looked_at_too(make: Make, small: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(small, tmp_path / "source"))
    rewrite(source / "model.safetensors", times(0, *LINEAR))
    for name in ("q4", "nvfp4"):
        base = make(name, source, f"{name}-once").folder
        again = make(name, base, f"{name}-twice", requantize=True)
        assert "zeros in text_linear.weight, depformer.slices.1.linear_out.weight," in again.notes[0]
        good = make(name, make(name, small, f"{name}-good").folder, f"{name}-good-twice", requantize=True)
        assert good.notes == ()
