"""Runs the check; a program of its own, for MLX may end the process it runs in.

    python -m moshi_mlx.doctor.check.worker full|quick SECONDS

Prints JSON, one object a line: {"cases": number, "device": ..., "mlx": version}, then for each case {"begin":
operation, "detail": ...} and what became of it, or {"left_out": operation} when the time is over.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from itertools import chain, zip_longest

import mlx.core as mx

from moshi_mlx.doctor.check import codec, conversation, draws, layers, networks, window
from moshi_mlx.doctor.check.comparison import Case, judge
from moshi_mlx.doctor.check.shapes import MOSHI, SMALL, Shapes

RESERVED = 0.2  # of the time, for the conversation
PARTS = (layers, window, networks, codec, draws)
KINDS = {"full": (SMALL, MOSHI), "quick": (SMALL,)}
"""Shapes of each kind of check. Small ones first: they take a second, and then every operation has been seen."""


def cases(shapes: Shapes) -> Iterator[Case]:
    """List all operations, the simple ones first, but not the conversation, which is made of all others."""
    return chain.from_iterable(part.cases(shapes) for part in PARTS)


def fair(shapes: Shapes) -> list[Case]:
    """List the same, each part's next in turn: should the time not suffice, none of them is left out altogether.

    Whole networks come last: they take longest, and hold nothing that has not been seen by then.
    """
    turns = zip_longest(*(part.cases(shapes) for part in PARTS if part is not networks))
    return [*(case for turn in turns for case in turn if case), *networks.cases(shapes)]


def main(kind: str, seconds: float) -> None:
    """Check everything, or what the time suffices for."""
    start = time.monotonic()
    quick, *rest = KINDS[kind]
    first, single = list(cases(quick)), [case for shapes in rest for case in fair(shapes)]
    whole = list(conversation.cases(rest[-1] if rest else quick))
    total = len(first) + len(single) + len(whole)
    _tell({"cases": total, "device": str(mx.default_device()), "mlx": version("mlx")})
    most = start + seconds * (1 - RESERVED)
    for end, part in ((most, first), (most, single), (start + seconds, whole)):
        for case in part:
            if time.monotonic() > end:
                _tell({"left_out": case.operation})
                continue
            _tell({"begin": case.operation, "detail": case.detail})
            _tell(asdict(judge(case)))
            mx.clear_cache()


def _tell(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
