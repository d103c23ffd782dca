"""Print how a checkout of this package is arranged, and check it against limits.

    scripts/structure.py [CHECKOUT] [--against COMMIT_OR_CHECKOUT] [--check] [--list]

Files that run are counted by `traced_files.py`, which says what counts. Packages are folders of any depth; the
files at the top are one, the ground, but for the front doors: `__init__`, `__main__` and what no other module
imports. Code lines have no blanks, comments or strings that stand alone. What has left the package since the other
checkout still counts: Python files that git sees renamed out of it, and the growth of text files with data in it.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import tokenize
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PACKAGE = "moshi_mlx"
WORK = {  # of `traced_files.py`
    "chat": "files that run from the microphone to the temporal transformer",
    "load": "files that run from a name to weights",
    "quantize": "files that run from a recipe to a file",
}
MUTUAL, CRUMBS = "packages that import each other", "modules of fewer than 60 lines with one importer"
LONG, TOP = "files of more than 350 lines", "Python files at the top level"
PYTHON, ALL_CODE = "code lines of Python", "code lines, the page's too"
DATA = "lines of text files with data"

MOST_RATIO = 0.65  # of the files that run in the other checkout
MOST_CRUMBS, CRUMB_LINES = 8, 60
MOST_TOP = 13
MOST_LINES = 350
FEWER_CODE_LINES = 800  # than in the other checkout
COMMENTS = {
    ".js": r"/\*.*?\*/|^[ \t]*//[^\n]*",
    ".css": r"/\*.*?\*/",
    ".html": r"<!--.*?-->",
    ".svg": r"<!--.*?-->",
}
TEXT_DATA = {".json", ".toml", ".yaml", ".yml", ".txt", ".csv", ".tsv", ".ini"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkout", nargs="?", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--against", help="a commit, or another checkout: compare with it")
    parser.add_argument("--check", action="store_true", help="fail if a limit is not kept; --against does so too")
    parser.add_argument("--list", action="store_true", help="name what is counted")
    given = parser.parse_args()
    root = given.checkout.resolve()
    now, other, moved = measure(root), None, []
    if given.against:
        with checkout(given.against, root) as (folder, commit):
            other, moved = measure(folder), moved_out(root, commit)
    kept = report(now, other, moved, given.list)
    sys.exit(not kept and (given.check or given.against is not None))


def modules(root: Path) -> dict[str, Path]:
    """Name -> file of every module, relative to the package; that of a package's own module is the folder's."""
    paths = sorted((root / PACKAGE).rglob("*.py"))
    names = [".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    return dict(zip(names, paths, strict=True))


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of the package that a file imports, wherever in it, for type checkers too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in whole}
    return found & set(known)


def mutual_packages(root: Path, known: dict[str, Path]) -> list[str]:
    """Pairs of packages that import each other."""
    edges = {name: imports(path, known) for name, path in known.items()}
    imported = set().union(*edges.values())

    def package(name: str) -> str:
        folder = str(known[name].parent.relative_to(root / PACKAGE))
        if folder != ".":
            return folder
        return "ground" if name in imported and name not in (PACKAGE, f"{PACKAGE}.__main__") else "front doors"

    pairs = {(package(name), package(other)) for name, others in edges.items() for other in others}
    return sorted(f"{a} and {b}" for a, b in pairs if a < b and (b, a) in pairs)


def crumbs(root: Path, known: dict[str, Path]) -> list[str]:
    """Short modules that one file of the package imports."""
    importers = Counter(other for name, path in known.items() for other in imports(path, known) - {name})
    named = {name: path for name, path in known.items() if path.stem not in ("__init__", "__main__")}
    short = {name: lines for name, path in named.items() if (lines := line_count(path)) < CRUMB_LINES}
    return [f"{known[name].relative_to(root / PACKAGE)} ({short[name]})" for name in short if importers[name] == 1]


def line_count(path: Path) -> int:
    return len(path.read_text().splitlines())


def code_lines(path: Path) -> int:
    """Lines that hold code: no blanks, comments, docstrings or other strings that stand alone."""
    text = path.read_text()
    if path.suffix != ".py":
        comment = re.compile(COMMENTS.get(path.suffix, r"(?!)"), re.DOTALL | re.MULTILINE)
        return sum(bool(line.strip()) for line in comment.sub("", text).splitlines())
    layout = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in (tokenize.COMMENT, *layout):
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str):
            lines -= set(range(node.lineno, (node.end_lineno or 0) + 1))
    return len(lines)


def moved_out(root: Path, commit: str) -> list[tuple[str, int]]:
    """Python files outside the package that git sees renamed out of it since `commit`, with their code lines."""
    rows = git(root, "diff", "-M40%", "-l4000", "--name-status", "--diff-filter=R", commit).splitlines()
    renamed = [line.split("\t")[1:] for line in rows]
    inside = f"{PACKAGE}/"
    left = [new for old, new in renamed if old.startswith(inside) and not new.startswith(inside)]
    return [(name, code_lines(root / name)) for name in left if name.endswith(".py")]


def measure(root: Path) -> dict[str, Any]:
    """All that is known of the checkout in `root`: name -> number, or list of what is counted."""
    known = modules(root)
    files = sorted(path for path in (root / PACKAGE).rglob("*") if path.suffix in {".py", *COMMENTS, *TEXT_DATA})
    code = {path: code_lines(path) for path in files if path.suffix not in TEXT_DATA}
    long = [path for path in code if line_count(path) > MOST_LINES]
    running = {title: traced(work, root) for work, title in WORK.items()}
    return {
        **running,
        **{f"{title}, networks aside": networks_aside(root, names) for title, names in running.items()},
        MUTUAL: mutual_packages(root, known),
        CRUMBS: crumbs(root, known),
        LONG: [f"{path.relative_to(root / PACKAGE)} ({line_count(path)})" for path in long],
        TOP: [path.name for path in files if path.suffix == ".py" and path.parent == root / PACKAGE],
        PYTHON: sum(count for path, count in code.items() if path.suffix == ".py"),
        ALL_CODE: sum(code.values()),
        DATA: sum(code_lines(path) for path in files if path not in code),
    }


def traced(work: str, root: Path) -> list[str]:
    """The files that run, found in a process of its own with the checkout's own environment where it has one."""
    python = root / ".venv" / "bin" / "python"
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "files.json"
        program = Path(__file__).with_name("traced_files.py")
        words = [str(python) if python.exists() else sys.executable, str(program), work, str(root), str(result)]
        environment = {**os.environ, "PYTHONPATH": str(root)}
        done = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True)
        if done.returncode or not result.exists():
            sys.exit(f"{WORK[work]} could not be traced in {root}:\n{done.stderr}")
        return json.loads(result.read_text())


def networks_aside(root: Path, names: list[str]) -> list[str]:
    """The files that define no layer of a network: nothing that inherits from a class of `mlx.nn`."""
    layer = re.compile(r"^class \w+\(.*\bnn\.", re.MULTILINE)
    return [name for name in names if not layer.search((root / PACKAGE / name).read_text())]


@contextmanager
def checkout(wanted: str, root: Path) -> Iterator[tuple[Path, str]]:
    """A folder with the other checkout, and its commit. wanted: such a folder, or a commit of the repository."""
    if Path(wanted).is_dir():
        yield Path(wanted).resolve(), git(Path(wanted), "rev-parse", "HEAD").strip()
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "package.zip"
        git(root, "archive", "--output", str(archive), wanted, PACKAGE)
        with zipfile.ZipFile(archive) as package:
            package.extractall(folder)
        yield Path(folder).resolve(), wanted


def git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"git {words[0]} failed in {root}: {done.stderr.strip()}")
    return done.stdout


def limits(now: dict[str, Any], other: dict[str, Any] | None, moved: int) -> dict[str, tuple[float, str]]:
    """Name -> the most that is allowed, and how the limit is called."""
    most: dict[str, tuple[float, str]] = {
        MUTUAL: (0, "none"),
        CRUMBS: (MOST_CRUMBS, f"at most {MOST_CRUMBS}"),
        LONG: (0, "none"),
        TOP: (MOST_TOP, f"at most {MOST_TOP}"),
    }
    if other:
        most |= {
            title: (MOST_RATIO * len(other[title]), f"at most {MOST_RATIO} of before") for title in WORK.values()
        }
        outside = moved + max(0, now[DATA] - other[DATA])
        most[PYTHON] = (
            other[PYTHON] - FEWER_CODE_LINES - outside,
            f"{FEWER_CODE_LINES} fewer, {outside} moved out or into data",
        )
    return most


def report(now: dict[str, Any], other: dict[str, Any] | None, moved: list[tuple[str, int]], listed: bool) -> bool:
    """Print all numbers and limits. Returns whether all limits are kept."""
    most = limits(now, other, sum(count for _, count in moved))
    kept = True
    print(f"{'':<80}{'now':>7}{'before' if other else '':>8}".rstrip())
    for name, value in now.items():
        before = number(other[name]) if other else ""
        limit, called = most.get(name, (float("inf"), ""))
        kept &= number(value) <= limit
        verdict = called and f"  {called}: {'ok' if number(value) <= limit else 'NOT KEPT'}"
        print(f"{name:<80}{number(value):>7}{before:>8}{verdict}".rstrip())
        if listed and isinstance(value, list):
            print("".join(f"    {each}\n" for each in value), end="")
    for name, count in moved:
        print(f"moved out of the package: {name} ({count})")
    return kept


def number(value: int | list[str]) -> int:
    return value if isinstance(value, int) else len(value)


if __name__ == "__main__":
    main()
