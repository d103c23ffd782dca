"""How good a transcription is, for whoever has references: word errors, and errors of the words' times."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moshi_mlx.tasks.words import Word

Pair = tuple[int | None, int | None]  # index in the reference and in the hypothesis; None where there is no word


@dataclass(frozen=True)
class WordErrors:
    """What turns a reference of so many words into a hypothesis."""

    words: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def errors(self) -> int:
        """Words to replace, to insert and to delete (Levenshtein's distance)."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """The word error rate; it may pass 1. Without a word in the reference, 0 or infinite."""
        return self.errors / self.words if self.words else float("inf") if self.errors else 0.0

    def __add__(self, other: WordErrors) -> WordErrors:
        """Return the errors of both: rates of several recordings are those of their sum."""
        mine, others = vars(self).values(), vars(other).values()
        return WordErrors(*(a + b for a, b in zip(mine, others, strict=True)))


def word_errors(reference: str, hypothesis: str) -> WordErrors:
    """Count the errors of a hypothesis. Case and punctuation do not count; see `normalized`."""
    right, found = normalized(reference), normalized(hypothesis)
    pairs = aligned(right, found)
    wrong = [(i, j) for i, j in pairs if i is None or j is None or right[i] != found[j]]
    return WordErrors(
        words=len(right),
        substitutions=sum(i is not None and j is not None for i, j in wrong),
        deletions=sum(j is None for _, j in wrong),
        insertions=sum(i is None for i, _ in wrong),
    )


def time_errors(reference: Sequence[Word], hypothesis: Sequence[Word]) -> np.ndarray:
    """Return by how many seconds the words that agree begin too late, (n,) float64; negative: too early."""
    right = [" ".join(normalized(word.text)) for word in reference]
    found = [" ".join(normalized(word.text)) for word in hypothesis]
    pairs = [(i, j) for i, j in aligned(right, found) if i is not None and j is not None]
    return np.array([hypothesis[j].start - reference[i].start for i, j in pairs if right[i] == found[j]])


def normalized(text: str) -> list[str]:
    """Return the words in lower case, without punctuation but for apostrophes and hyphens within a word."""
    kept = "".join(
        char if char.isalnum() or unicodedata.combining(char) or char in "'-" else " "
        for char in unicodedata.normalize("NFKC", text).replace("\u2019", "'").casefold()
    )
    return [word for each in kept.split() if (word := each.strip("'-"))]


def aligned(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Pair]:
    """Return the pairs of the alignment with the fewest errors, in order; of equals that with most words right."""
    rows, columns = len(reference), len(hypothesis)
    error = rows + columns + 1  # more than all substitutions that a tie could be decided by
    cost = np.zeros((rows + 1, columns + 1), np.int64)
    cost[:, 0], cost[0] = error * np.arange(rows + 1), error * np.arange(columns + 1)

    def paired(i: int, j: int) -> int:
        return cost[i - 1, j - 1] + (0 if reference[i - 1] == hypothesis[j - 1] else error + 1)

    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            cost[i, j] = min(paired(i, j), cost[i - 1, j] + error, cost[i, j - 1] + error)
    pairs: list[Pair] = []
    i, j = rows, columns
    while i or j:
        if i and j and cost[i, j] == paired(i, j):
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif i and cost[i, j] == cost[i - 1, j] + error:
            i -= 1
            pairs.append((i, None))
        else:
            j -= 1
            pairs.append((None, j))
    return pairs[::-1]
