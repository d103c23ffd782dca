"""People who come and go at random in sixteen places: each hears what it hears alone, whoever else is there."""

import numpy as np

from benchmarks.random_company import company
from moshi_mlx.runtime.moshi import Moshi


def test_each_gets_what_it_gets_alone(tiny_moshi: Moshi) -> None:
    found = company(tiny_moshi, ticks=32, places=16, seed=0, shortest=10, longest=36, share=0.4)
    assert found["talks"] > 16
    assert found["most_at_once"] == 16
    assert found["rows"] == [1, 2, 4, 8, 16]
    assert found["compared"] > 100
    assert found["different"] == []
    assert np.isfinite(found["audio"])
    assert found["audio"] < 1e-5
