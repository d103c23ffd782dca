"""Writing GGUF files as Kyutai's are: Q8_0 for matrices of whole blocks, float32 for all else."""

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

BLOCK, ALIGNMENT = 32, 1024
F32, Q8_0, Q4_K = 0, 8, 12


def q8_0(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the float16 scales (rows, blocks) and int8 levels (rows, blocks, 32) of float32 weights."""
    blocks = weight.reshape(len(weight), -1, BLOCK)
    scales = (np.abs(blocks).max(axis=-1) / 127).astype(np.float16)
    levels = np.round(blocks / scales.astype(np.float32)[..., None]).clip(-127, 127).astype(np.int8)
    return scales, levels


def meaning(weight: np.ndarray) -> np.ndarray:
    """Return the float32 weights that the Q8_0 of a matrix stands for."""
    scales, levels = q8_0(weight)
    return (levels * scales.astype(np.float32)[..., None]).reshape(weight.shape)


def has_whole_blocks(name: str, weight: np.ndarray) -> bool:
    """Whether a tensor becomes Q8_0."""
    return name.endswith("weight") and weight.ndim == 2 and weight.shape[1] % BLOCK == 0


def write_gguf(path: Path, arrays: Mapping[str, np.ndarray], matrices: int = Q8_0) -> None:
    """Write float32 arrays, with metadata of each kind. matrices: the type that the header gives them."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    metadata = [
        text("general.name") + struct.pack("<I", 8) + text("tiny"),
        text("general.alignment") + struct.pack("<II", 4, ALIGNMENT),
        text("tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"),
        text("scores") + struct.pack("<IIQ2f", 9, 6, 2, 0.5, 1.5),
    ]
    infos, bodies, offset = [], [], 0
    for name, array in arrays.items():
        kind = matrices if has_whole_blocks(name, array) else F32
        body = array.astype("<f4").tobytes()
        if kind != F32:
            scales, levels = q8_0(array)
            body = np.concatenate([scales[..., None].view(np.int8), levels], axis=-1).tobytes()
        infos.append(text(name) + struct.pack(f"<I{array.ndim}QIQ", array.ndim, *array.shape[::-1], kind, offset))
        body += bytes(-len(body) % ALIGNMENT)
        bodies.append(body)
        offset += len(body)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(arrays), len(metadata)) + b"".join(metadata + infos)
    path.write_bytes(head + bytes(-len(head) % ALIGNMENT) + b"".join(bodies))
