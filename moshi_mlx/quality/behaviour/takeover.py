"""Whether a model takes the turn, and how soon: takeover and response latency.

Source: DanielLin94144/Full-Duplex-Bench, v1_v1.5/evaluation/eval_pause_handling.py, eval_smooth_turn_taking.py,
eval_user_interruption.py; both rules of what a takeover is are published.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from moshi_mlx.tasks.words import Word

SHORT = 1.0  # seconds, below which a few words are a backchannel
OFFICIAL, KYUTAI = 3, 2  # most words of a short answer that does not take the turn
"""The benchmark's scripts call three short words no takeover, Kyutai's evaluator does; else they are the same."""


def takes_over(words: Sequence[Word], most: int = OFFICIAL) -> bool:
    """Return whether these words take the turn. most: the rule, OFFICIAL or KYUTAI.

    A word's end may be NaN where it is not known; it counts as its start then.
    """
    if not words:
        return False
    end = words[-1].start if math.isnan(words[-1].end) else words[-1].end
    return end - words[0].start >= SHORT or len(words) > most


def response_latency(words: Sequence[Word], turn_end: float, most: int = OFFICIAL) -> float:
    """Return seconds from the end of the user's turn to the first word, 0 if that is earlier; NaN: no takeover."""
    if not takes_over(words, most):
        return math.nan
    return max(0.0, words[0].start - turn_end)


def words_after(words: Sequence[Word], time: float) -> list[Word]:
    """Return the words that begin at a time or later.

    The benchmark transcribes what comes after an interruption alone; a word that is being said then is not in it.
    """
    return [word for word in words if word.start >= time]


def words_per_minute(words: Sequence[Word]) -> float:
    """Return the speech rate from the first word's start to the last one's end; NaN if nothing is said.

    Source: eval_general_before_after.py of version 1.5, `_wpm_speech_only`, which gives 0 there.
    """
    if not words:
        return math.nan
    seconds = words[-1].end - words[0].start
    return 60 * len(words) / seconds if seconds > 0 else math.nan
