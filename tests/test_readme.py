"""The README's example runs as it stands, on a small model."""

import re
import shutil
from pathlib import Path

import pytest
import soundfile

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_python_example_runs(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(example.splitlines()) <= 10
    pcm, rate = soundfile.read(ROOT / "tests" / "data" / "question.flac")
    (tmp_path / "demo").mkdir()
    soundfile.write(tmp_path / "demo" / "question.wav", pcm, rate)
    shutil.copytree(tiny_folder, tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    exec(compile(example.replace('"moshiko-q4"', '"./tiny"'), "README.md", "exec"), {})
    assert "frames/s" in capsys.readouterr().out
    assert soundfile.info("answer.wav").frames == (25 + 38 + 125) * 1920


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    assert all((page.parent / link).exists() for link in links if "://" not in link)
