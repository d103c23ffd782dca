"""Whatever a recipe file says: it is a recipe that can be written and read again, or it is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moshi_mlx.errors import QuantizationError
from moshi_mlx.weights.quantization import NAMED, parse_recipe
from tests.anything import json_values, one_line

blocks = st.fixed_dictionaries(
    {}, optional={"bits": st.one_of(st.sampled_from([2, 3, 4, 5, 6, 8]), json_values),
                  "group_size": st.one_of(st.sampled_from([16, 32, 64, 128]), json_values),
                  "mode": st.one_of(st.sampled_from(["affine", *NAMED]), json_values)}
)  # fmt: skip
paths = st.one_of(st.text("ab.*?[]", min_size=1, max_size=5), st.sampled_from(["text_linear", "depformer.*"]))
layers = st.dictionaries(paths, st.one_of(st.booleans(), blocks, json_values), max_size=4)
recipes = st.one_of(
    json_values, blocks, st.builds(lambda block, layers: {**block, "layers": layers}, blocks, layers)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


@given(said=recipes)
def test_any_recipe_is_read_or_refused(folder: Path, said: Any) -> None:
    path = folder / "mine.json"
    path.write_text(json.dumps(said))
    try:
        recipe = parse_recipe(path)
    except QuantizationError as refused:
        one_line(refused)
        return
    chosen = {layer: recipe.how(layer) for layer in (*recipe.layers, "text_linear", "depformer.a", "a.b")}
    path.write_text(json.dumps(recipe.as_json()))
    again = parse_recipe(path)
    assert {layer: again.how(layer) for layer in chosen} == chosen


@given(name=st.text(max_size=12))
def test_any_name_is_a_recipe_or_refused(name: str) -> None:
    try:
        parse_recipe(name)
    except QuantizationError as refused:
        one_line(refused)
