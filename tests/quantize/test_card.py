"""Model cards."""

from pathlib import Path

import pytest

from moshi_mlx.errors import CheckpointError
from moshi_mlx.quantize.card import Made, add_quality, card, grouped

MADE = Made(
    folder=Path("moshika-mixed"),
    base="kyutai/moshika-pytorch-bf16",
    title="moshika-mixed",
    recipe="mixed",
    weights=5_291_000_000,
    bits_per_weight=5.5062,
    files={"model.safetensors": 5_291_000_000, "tokenizer.model": 552_778},
    schemes={"q4 (4 bits, group 32)": 128, "q8 (8 bits, group 64)": 228},
    dense=("out_norm.weight", "transformer.layers.0.norm1.weight", "transformer.layers.1.norm1.weight"),
    undivided=(),
)


def test_a_card_says_what_it_was_made_of_how_and_how_large_it_is() -> None:
    text = card(MADE)
    for said in (
        "base_model: kyutai/moshika-pytorch-bf16\n",
        "recipe `mixed`: 128 layers in q4 (4 bits, group 32); 228 layers in q8 (8 bits, group 64).",
        "moshi-mlx chat --model moshika-mixed\n",
        "5.51 bits per weight",
        "| model.safetensors | 5,291,000,000 |\n",
        "* transformer.layers.*.norm1.weight (2)\n",
        "Not measured yet: `moshi-mlx quality kyutai/moshika-pytorch-bf16 moshika-mixed` does.",
    ):
        assert said in text


@pytest.mark.parametrize(
    ("base", "shown", "linked"),
    [
        ("/home/ada/secret/tuned", "`tuned`", None),
        ("moshika-bf16", "`kyutai/moshika-mlx-bf16`", "kyutai/moshika-mlx-bf16"),
        ("me/model@v2", "`me/model@v2`", "me/model"),
        ("nano", "`nano`", None),
    ],
)
def test_the_base_is_linked_if_it_is_on_the_hub_and_no_path_is_given_away(
    base: str, shown: str, linked: str | None
) -> None:
    text = card(Made(**{**vars(MADE), "base": base}))
    assert f"\n{shown}, for [MLX]" in text
    assert "/home" not in text
    assert (f"base_model: {linked}\n" in text) if linked else ("base_model" not in text)


def test_measured_figures_are_a_table() -> None:
    text = card(MADE, {"KL": {"text": 0.0123456, "audio": 0.5}, "frames": 100, "note": "a|b"})
    assert "| KL text | 0.012346 |\n| KL audio | 0.5 |\n| frames | 100 |\n| note | a\\|b |\n" in text
    assert "Not measured" not in text


def test_figures_can_be_put_in_later_and_again(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(card(MADE))
    for figures in ({"KL": 0.25}, {"KL": 0.125, "top-1": r"9\1"}):
        add_quality(tmp_path, figures)
        assert path.read_text() == card(MADE, figures)


def test_a_card_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Moshika\n")
    with pytest.raises(CheckpointError, match=r"README\.md has no section Quality"):
        add_quality(tmp_path, {"KL": 1})
    assert (tmp_path / "README.md").read_text() == "# Moshika\n"
    with pytest.raises(CheckpointError, match=r"cannot write .*none/README\.md: No such file"):
        add_quality(tmp_path / "none", {"KL": 1})


def test_names_that_differ_in_a_number_are_one_line() -> None:
    names = ["a.0.b.1.weight", "a.1.b.1.weight", "c.3.weight", "d"]
    assert grouped(names) == ["a.*.b.*.weight (2)", "c.3.weight", "d"]
