"""JSON files that come from elsewhere: read with one line for whatever is wrong with them."""

import json
from pathlib import Path
from typing import Any

from moshi_mlx.errors import CheckpointError


def read_json(path: Path) -> dict[str, Any]:
    """A config file. Raises CheckpointError."""
    try:
        settings = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}; fetch it again") from error
    if not isinstance(settings, dict):
        raise CheckpointError(
            f"{path} is not a config: a group of fields expected, {type(settings).__name__} found"
        )
    return settings
