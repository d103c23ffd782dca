"""What Nano is to reach, with every group of unheard voices, and what of it it does not."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

RIGHT, WORST_VOICE = 0.98, 0.95  # of turns, of all voices of a group and of each
STOPS_IN_TIME, P95_SECONDS, LONGEST_SECONDS = 0.97, 0.5, 1.0
INTERRUPTION_ANSWERED = 0.95
CONVERSATION = 0.9  # without a mistake
UNKNOWN = 0.95
EARLY = 0.01
UNDER_CONDITION = 0.93
LEFT_ALONE = 0.98
SENTENCES, WORDS, STOI = 1.0, 0.986, 0.932  # of its spoken answers: what they were in the first release


@dataclass(frozen=True)
class Bar:
    """A figure and its bar, as the card writes them. of: the group, voice or condition, if it is of one."""

    what: str
    of: str
    found: str
    limit: str
    reached: bool


def percent(value: float) -> str:
    """A share as people read it."""
    return f"{100 * value:.1f} %"


def interval(found: dict[str, Any]) -> str:
    """A share with its count and its interval."""
    low, high = found["interval"]
    return f"{percent(found['share'])} of {found['of']} [{100 * low:.1f}, {100 * high:.1f}]"


def bars(figures: dict[str, Any]) -> Iterator[Bar]:
    """Every bar beside its figure, of those of `evaluate`."""
    neural = figures["neural"]
    for group, turns in {**figures["turns"], "neural": neural["turns"]}.items():
        yield _least("right words", group, turns, RIGHT)
        yield from (_least("right words", voice, one, WORST_VOICE) for voice, one in turns["by_voice"].items())
        early = turns["early"]
        yield Bar("early speech", group, interval(early), f"≤ {percent(EARLY)}", early["share"] <= EARLY)
    for group, cuts in figures["interruptions"].items():
        yield _least("silent within half a second of an interruption", group, cuts, STOPS_IN_TIME)
        yield _soon("silent after an interruption, p95", group, cuts["p95_seconds"], P95_SECONDS)
        yield _soon("silent after an interruption, longest", group, cuts["longest_seconds"], LONGEST_SECONDS)
        yield _least("interrupting questions answered", group, cuts["answered"], INTERRUPTION_ANSWERED)
    for talks in (*figures["conversations"].values(), neural["conversations"]):
        for voice, one in talks["by_voice"].items():
            yield _least("conversations of ten questions without a mistake", voice, one, CONVERSATION)
    yield _least("unknown sentences admitted", "", figures["unknown"], UNKNOWN)
    for group, one in figures["unknown"]["by_group"].items():
        yield _least("unknown sentences admitted", group, one, UNKNOWN)
    for name, one in figures["conditions"].items():
        if name != "none":
            yield _least("right words under a bad condition", name, one, UNDER_CONDITION)
    yield _least("noise, knocks, music and others' talk left alone", "", figures["left_alone"], LEFT_ALONE)
    spoken = figures["voice"]["nano"]
    for what, key, limit in (
        ("answers recognized, grammar", "sentences", SENTENCES),
        ("words recognized, bigram model", "words", WORDS),
        ("STOI", "stoi", STOI),
    ):
        yield Bar(what, "", str(spoken[key]), f"≥ {limit}", spoken[key] >= limit)


def _least(what: str, of: str, found: dict[str, Any], limit: float) -> Bar:
    return Bar(what, of, interval(found), f"≥ {percent(limit)}", found["share"] >= limit)


def _soon(what: str, of: str, seconds: float, limit: float) -> Bar:
    return Bar(what, of, f"{seconds:.2f} s", f"≤ {limit} s", seconds <= limit)
