"""`moshi-mlx models`, driven as a person would, in a cache made by hand."""

import json
import subprocess
import sys
from pathlib import Path

from tests.hub_stub import fill_cache


def moshi(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command with the environment that a test wants."""
    import os

    return subprocess.run(
        [sys.executable, "-m", "moshi_mlx", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
    )


def test_the_list_says_what_is_here(tmp_path: Path, tiny_folder: Path) -> None:
    files = {path.name: path.read_bytes() for path in tiny_folder.iterdir()}
    fill_cache(tmp_path, "kyutai/moshiko-mlx-q4", files)
    fill_cache(tmp_path, "kyutai/moshika-mlx-q8", {"config.json": files["config.json"]})
    done = moshi("models", "list", HF_HUB_CACHE=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["model", "size", "last", "used", "state"]
    assert [(row[0], row[-1]) for row in rows[1:4]] == [
        ("nano", "package"),
        ("moshika-q8", "incomplete"),
        ("moshiko-q4", "complete"),
    ]
    assert rows[3][3] == "today"
    assert f"GB free in {tmp_path}" in done.stdout

    found = json.loads(moshi("models", "list", "--json", HF_HUB_CACHE=str(tmp_path)).stdout)
    assert found["cache"] == str(tmp_path)
    models = {model["name"]: model for model in found["models"]}
    assert models["moshiko-q4"]["bytes"] == sum(map(len, files.values()))
    assert models["moshiko-q4"]["problem"] is None
    assert models["moshika-q8"]["problem"] == "mimi_config.json is not here"
