"""What the documents name is there: files, modules, the classes and functions in them, and linked pages."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "benchmarks/RESULTS.md", ROOT / "training/README.md"]
OF_THE_PAST = {"CHANGELOG.md", "log.md"}  # they name what was there once
MADE = {"build", "demo"}  # folders that commands make
SOURCES = (".py", ".js", ".sh", ".md", ".yml")


def named(page: Path) -> set[str]:
    """What stands in backticks, alone or in a command, and looks like a path of this repository or a module."""
    inline = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    words = {word for code in re.findall(r"`([^`\n]+)`", inline) for word in code.split()}
    words = {word for word in words if re.fullmatch(r"\w[\w./-]*", word)}
    paths = {word for word in words if "/" in word or word.endswith(SOURCES) or word.startswith("moshi_mlx.")}
    return {path for path in paths if path.split("/")[0] not in MADE and not path.startswith("kyutai/")}


def is_there(name: str, folders: list[Path]) -> bool:
    """name: a file, a folder, a module, or what a module defines, such as `runtime/stages.Stages`."""
    path = name.replace(".", "/") if name.startswith("moshi_mlx.") else name
    module, _, defined = path.replace(".", "/").rpartition("/")
    for folder in folders:
        source = folder / f"{module}.py"
        if (folder / path).exists() or (folder / f"{path}.py").exists():
            return True
        if source.is_file() and re.search(rf"^(class|def) {defined}\b", source.read_text(), re.MULTILINE):
            return True
    return False


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in OF_THE_PAST], ids=lambda page: page.name
)
def test_what_a_page_names_is_there(page: Path) -> None:
    names = named(page)
    folders = [ROOT, ROOT / "moshi_mlx", page.parent]  # paths are written from any of these
    folders += [ROOT / name for name in names if (ROOT / name).is_dir()]  # and files of a folder that is named
    folders += [folder / name for folder in folders for name in names if name.endswith("/")]
    lost = sorted(name for name in names if not is_there(name, folders))
    assert not lost, f"{page.name} names what is not there: {lost}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page.read_text()) if "://" not in link]
    for link in links:
        target, _, section = link.partition("#")
        there = page.parent / target if target else page
        assert there.exists(), f"{page.name} links to {target}, which is not there"
        headings = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE) if section else []
        sections = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not section or section in sections, f"{page.name} links to {link}, but there is no such section"
