"""`python -m moshi_mlx.run_helium` hands over to mlx-lm."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from moshi_mlx.errors import ConfigError
from moshi_mlx.run_helium import HELIUM, run_helium


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What mlx-lm is asked, which answers with two pieces."""
    calls: list[object] = []
    module = ModuleType("mlx_lm")

    def load(path: str) -> tuple[str, str]:
        calls.append(path)
        return "model", "tokenizer"

    def stream_generate(model: str, tokenizer: str, prompt: str, max_tokens: int) -> list[SimpleNamespace]:
        calls.append((model, tokenizer, prompt, max_tokens))
        return [SimpleNamespace(text=" de"), SimpleNamespace(text=" partir")]

    monkeypatch.setattr(module, "load", load, raising=False)
    monkeypatch.setattr(module, "stream_generate", stream_generate, raising=False)
    monkeypatch.setitem(sys.modules, "mlx_lm", module)
    return calls


def test_a_prompt_is_continued_by_mlx_lm(asked: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    run_helium(prompt="Il est temps", nsteps=2)
    assert asked == [HELIUM, ("model", "tokenizer", "Il est temps", 2)]
    said = capsys.readouterr()
    assert said.out == "Il est temps de partir\n"
    assert not said.err


def test_kyutais_own_layout_is_replaced_by_the_one_that_mlx_lm_reads(
    asked: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    run_helium(hf_repo="kyutai/helium-1-preview-2b-mlx")
    assert asked[0] == "kyutai/helium-1-preview-2b"
    assert "note: taking kyutai/helium-1-preview-2b, the same weights" in capsys.readouterr().err


def test_without_mlx_lm_the_way_on_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlx_lm", None)
    with pytest.raises(ConfigError, match="run by mlx-lm, which is not installed here: pip install mlx-lm"):
        run_helium()
