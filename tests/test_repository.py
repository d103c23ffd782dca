"""The files that a repository has for those who come to it: forms, workflows, citation, the check of a release."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from moshi_mlx.version import __version__

ROOT = Path(__file__).parents[1]
YAML = [*sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(".github/**/*.yml")), "CITATION.cff"]


@pytest.mark.parametrize("name", YAML)
def test_yaml_can_be_read(name: str) -> None:
    assert isinstance(yaml.safe_load((ROOT / name).read_text()), dict)


@pytest.mark.parametrize("form", ["bug", "feature"])
def test_a_form_asks_for_something_and_says_what(form: str) -> None:
    """The keys GitHub requires: https://docs.github.com/en/communities (form schema)."""
    read = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{form}.yml").read_text())
    assert read["name"]
    assert read["description"]
    asked = [one for one in read["body"] if one["type"] != "markdown"]
    assert len({one["id"] for one in asked}) == len(asked) >= 3
    assert all(one["attributes"]["label"] for one in asked)
    assert any(one.get("validations", {}).get("required") for one in asked)


def test_every_job_of_a_workflow_has_an_end_and_steps() -> None:
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        for name, job in yaml.safe_load(path.read_text())["jobs"].items():
            assert job["timeout-minutes"] <= 60, (path.name, name)
            assert all(("run" in step) != ("uses" in step) for step in job["steps"])


def test_the_citation_has_the_licence_and_authors_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = (ROOT / "pyproject.toml").read_text()
    assert f'license = "{citation["license"]}"' in project
    (authors,) = citation["authors"]
    assert f'authors = [{{ name = "{authors["name"]}" }}]' in project
    assert citation["references"][0]["url"] in project


def test_a_tag_that_is_not_the_version_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    command = [ROOT / "scripts" / "check_release.sh", "v0.0.1", tmp_path / "dist"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"the tag is v0.0.1, moshi_mlx/version.py says {__version__}" in done.stderr
    assert not (tmp_path / "dist").exists()


def test_nothing_but_the_age_of_files_goes_by_the_clock_on_the_wall() -> None:
    """It is set while programs run, by people and by the network; durations go by one that nobody sets."""
    reckons = re.compile(r"time\.time\(\) *[-+<>]|[-+<>] *time\.time\(\)")
    found = [path for path in (ROOT / "moshi_mlx").rglob("*.py") if reckons.search(path.read_text())]
    assert [str(path.relative_to(ROOT)) for path in found] == ["moshi_mlx/cli/models.py"]
