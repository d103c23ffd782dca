"""The rooms of docs/architecture.md: they stand in one order, and imports only go down it."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "moshi_mlx"

# From the ground up. A room imports only rooms on floors below its own: none above, none beside it.
FLOORS = [
    ["errors", "version", "frames", "sampling_config", "machine"],  # files: the ground, which may use each other
    ["models"],
    ["planning"],
    ["weights"],
    ["codec"],
    ["checkpoint"],
    ["distributed"],
    ["runtime"],
    ["tasks"],
    ["audio"],
    ["wire"],
    ["conversation"],
    ["quantize"],
    ["quality"],
    ["finetune"],
    ["web", "bench", "doctor"],
    ["cli"],
    [
        "__init__",
        "__main__",
        "local",
        "local_web",
        "run_inference",
        "run_helium",
        "run_tts",
        "client",
    ],  # front doors
]
FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}
GROUND = FLOORS[0]


def files() -> dict[str, Path]:
    """Dotted name within the package -> file."""
    paths = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in paths.items()}


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """The files of this package that a file imports, anywhere in it, for type checkers too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update((node.module, *(f"{node.module}.{alias.name}" for alias in node.names)))
    return {name for full in names if (name := full.removeprefix("moshi_mlx.")) != full and name in known}


def test_imports_go_down_and_never_in_a_circle() -> None:
    known = files()
    graph = {name: imports(path, known) for name, path in known.items()}
    rooms = {name: name.split(".")[0] for name in known}

    homeless = sorted(set(rooms.values()) - FLOOR_OF.keys())
    assert not homeless, f"these rooms stand on no floor: {homeless}"
    empty = sorted(FLOOR_OF.keys() - set(rooms.values()))
    assert not empty, f"these rooms are not there: {empty}"

    def allowed(room: str, other: str) -> bool:
        together = room == other or {room, other} <= set(GROUND)
        return together or FLOOR_OF[other] < FLOOR_OF[room]

    wrong = [f"{a} -> {b}" for a, names in graph.items() for b in names if not allowed(rooms[a], rooms[b])]
    assert not wrong, "imports that do not go down:\n" + "\n".join(sorted(wrong))

    left = dict(graph)  # files whose imports are all taken away can be taken away; a circle never can
    while done := [name for name, names in left.items() if not names & left.keys()]:
        for name in done:
            del left[name]
    assert not left, f"these files import each other in a circle, or use one that does: {sorted(left)}"
