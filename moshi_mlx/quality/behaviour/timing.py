"""Who yields, and how soon: overlaps of two voices and the gaps between them.

Source: DanielLin94144/Full-Duplex-Bench, v1_v1.5/evaluation/get_timing.py (version 1.5).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from moshi_mlx.quality.behaviour.voice import Span

USER_GAP, MODEL_GAP = 0.6, 0.5  # seconds; shorter silences do not end what the user, the model is saying


def joined(segments: Iterable[Span], gap: float) -> list[Span]:
    """Join segments with no more than `gap` seconds between them."""
    found: list[Span] = []
    for start, end in sorted(segments):
        if found and start - found[-1][1] <= gap:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found


def overlaps(user: Sequence[Span], model: Sequence[Span]) -> list[Span]:
    """Return when both speak. The length of each is a stop latency: until somebody yields.

    user, model: what they say, as `joined` gives it. Times are rounded to milliseconds; of overlaps that end in
    the same one, the shortest is kept.
    """
    shortest: dict[int, Span] = {}
    for start, end in intersections(user, model):
        key = round(end * 1000)
        if key not in shortest or end - start < shortest[key][1] - shortest[key][0]:
            shortest[key] = start, end
    return [(round(start, 3), round(end, 3)) for start, end in sorted(shortest.values(), key=lambda one: one[1])]


def response_gaps(user: Sequence[Span], model: Sequence[Span]) -> list[Span]:
    """Return the silences from the end of what the user says to the next start of the model.

    Before the same start, only the shortest is kept. Rounded as by `overlaps`.
    """
    starts = [start for start, _ in model]
    shortest: dict[int, Span] = {}
    for _, end in user:
        following = next((start for start in starts if start > end), None)
        if following is None:
            continue
        key = round(following * 1000)
        if key not in shortest or round(end, 3) > shortest[key][0]:
            shortest[key] = round(end, 3), round(following, 3)
    return sorted(shortest.values(), key=lambda one: one[1])


def intersections(user: Sequence[Span], model: Sequence[Span]) -> list[Span]:
    """Return when both speak, exactly. Both in order and without overlaps of their own."""
    found: list[Span] = []
    mine, others = 0, 0
    while mine < len(user) and others < len(model):
        start, end = max(user[mine][0], model[others][0]), min(user[mine][1], model[others][1])
        if end > start:
            found.append((start, end))
        if user[mine][1] < model[others][1]:
            mine += 1
        else:
            others += 1
    return found


def length(spans: Iterable[Span]) -> float:
    """Return how long they are together, in seconds."""
    return sum(end - start for start, end in spans)
