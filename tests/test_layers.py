"""The layers of docs/architecture.md: every module has one, and imports point down."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "moshi_mlx"
FACADE = "__init__"  # the package's public names, from every layer, imported when used


def documented() -> dict[str, int]:
    """Module or folder ("cli/") -> layer, from the table."""
    rows = re.findall(r"^\| (\d) \| ([^|]+) \|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    return {module: int(layer) for layer, modules in rows for module in re.findall(r"`([^`]+)`", modules)}


LAYERS = documented()
MODULES = sorted(
    name
    for path in PACKAGE.rglob("*.py")
    if (name := str(path.relative_to(PACKAGE).with_suffix(""))) != FACADE and not name.endswith("/__init__")
)


def layer_of(module: str) -> int | None:
    return LAYERS.get(module, LAYERS.get(module.split("/")[0] + "/"))


def imports(module: str) -> set[str]:
    """The modules of this package that a module imports, anywhere but for type checkers only."""
    found = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found.update(name.removeprefix("moshi_mlx.").replace(".", "/") for name in names if "moshi_mlx." in name)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse((PACKAGE / f"{module}.py").read_text()))
    return found & set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    layer = layer_of(module)
    assert layer is not None, f"{module} is not in the table of docs/architecture.md"
    upward = {name for name in imports(module) if (layer_of(name) or 0) > layer}
    assert not upward, f"{module} (layer {layer}) imports what is above it"


def test_the_table_names_only_what_is_there() -> None:
    for name in LAYERS:
        assert (PACKAGE / name).is_dir() if name.endswith("/") else name in MODULES
