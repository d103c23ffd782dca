"""Makes tests/assets/mimi_golden_{window}.npz: what PyTorch's Mimi answers, for the tests of our Mimi.

Needs torch 2.13 and moshi 0.2.13 in an environment of their own (never a dependency):

    python tests/make_mimi_golden.py

Weights and audio come from `random_mimi`, so the file holds answers only: the codes, and of the audio that they
decode to every GOLDEN_STRIDE-th sample and the last frame whole. PyTorch gets the recording as a whole: when
streaming, its transformers see one position less than their window at every other position.
"""

from pathlib import Path

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from moshi.models.loaders import get_mimi  # pyright: ignore[reportMissingImports]
from random_mimi import (
    GOLDEN_FRAMES,
    GOLDEN_STRIDE,
    GOLDEN_WINDOWS,
    QUANTIZER,
    gliding_tone,
    mimi_tensor,
    with_window,
)


def main() -> None:
    torch.set_num_threads(1)
    for window in GOLDEN_WINDOWS:
        write_golden(window)


def write_golden(window: int) -> None:
    mimi = get_mimi(None, with_window(window), num_codebooks=QUANTIZER["n_q"])
    shapes = {_published(name): tuple(tensor.shape) for name, tensor in mimi.state_dict().items()}
    mimi.load_state_dict({name: torch.from_numpy(mimi_tensor(name, shape)) for name, shape in shapes.items()})
    with torch.no_grad():
        codes = mimi.encode(torch.from_numpy(gliding_tone(GOLDEN_FRAMES))[None, None])
        pcm = mimi.decode(codes)[0, 0].numpy()
    np.savez_compressed(
        Path(__file__).parent / "assets" / f"mimi_golden_{window}.npz",
        names=np.array(sorted(shapes)),
        codes=codes[0].numpy().astype(np.uint8),
        samples=pcm[::GOLDEN_STRIDE],
        last_frame=pcm[-1920:],
    )
    distinct = [len(np.unique(row)) for row in codes[0].numpy()]
    print(f"codes {tuple(codes.shape)}, distinct per codebook {distinct}, peak {np.abs(pcm).max():.2f}")


def _published(name: str) -> str:
    """PyTorch renamed two modules after the weights were published, and still reads the old names."""
    return name.replace("in_projs.0.weight", "in_proj_weight").replace("out_projs.0.", "out_proj.")


if __name__ == "__main__":
    main()
