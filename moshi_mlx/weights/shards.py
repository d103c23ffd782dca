"""Weights in one safetensors file or in several: the shards that an index lists.

Layout of an index: https://huggingface.co/docs/safetensors, as transformers and mlx-lm write it:
{"metadata": {"total_size": bytes}, "weight_map": {tensor: file beside the index}}.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import numpy as np

from moshi_mlx.errors import CheckpointError, some
from moshi_mlx.weights.safetensors_file import TensorInfo, read_header, write

INDEX_SUFFIX = ".safetensors.index.json"


def read_tensors(path: Path) -> dict[str, TensorInfo]:
    """The tensors of a file, or of all shards of an index. Raises CheckpointError as `read_header`."""
    if not path.name.endswith(INDEX_SUFFIX):
        return read_header(path)
    places = _weight_map(path)
    headers = {name: read_header(path.with_name(name)) for name in dict.fromkeys(places.values())}
    if lost := sorted(name for name, shard in places.items() if name not in headers[shard]):
        raise CheckpointError(f"{path} lists {some(lost)}, which its shards lack; fetch them again")
    return {name: headers[shard][name] for name, shard in places.items()}


def shard_names(path: Path) -> list[str]:
    """The files an index lists; none for a path that is no index."""
    return sorted(set(_weight_map(path).values())) if path.name.endswith(INDEX_SUFFIX) else []


def write_tensors(
    folder: Path,
    layout: Mapping[str, TensorInfo],
    arrays: Iterator[np.ndarray],
    shard_bytes: int | None = None,
    stem: str = "model",
) -> str:
    """Write tensors as `safetensors_file.write` does; return the name of the file that `read_tensors` takes.

    shard_bytes: the most one file may hold, header aside (a larger tensor has one of its own); None for one file.
    """
    shards = list(_split(layout, shard_bytes)) if shard_bytes else [dict(layout)]
    if len(shards) == 1:
        write(folder / f"{stem}.safetensors", layout, arrays)
        return f"{stem}.safetensors"
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = f"{stem}-{number:05}-of-{len(shards):05}.safetensors"
        write(folder / name, shard, islice(arrays, len(shard)))
        places |= dict.fromkeys(shard, name)
    total = sum(tensor.nbytes for tensor in layout.values())
    index = folder / f"{stem}{INDEX_SUFFIX}"
    index.write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": places}, indent=1))
    return index.name


def _split(layout: Mapping[str, TensorInfo], most: int) -> Iterable[dict[str, TensorInfo]]:
    shard: dict[str, TensorInfo] = {}
    size = 0
    for name, tensor in layout.items():
        if shard and size + tensor.nbytes > most:
            yield shard
            shard, size = {}, 0
        shard[name] = tensor
        size += tensor.nbytes
    yield shard


def _weight_map(path: Path) -> dict[str, str]:
    try:
        places = json.loads(path.read_bytes())["weight_map"]
        if not places or any(Path(name).name != name for name in places.values()):
            raise ValueError("no weight_map of files beside it")
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is not an index of shards; fetch it again") from error
    return places
