"""config.json of a checkpoint's folder, changed for a test."""

import json
from pathlib import Path


def edit(folder: Path, **changes: object) -> None:
    """Change config.json; None removes a field."""
    path = folder / "config.json"
    settings = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))
