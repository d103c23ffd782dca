"""Repetition: the model says the same words over and over."""

from collections import Counter, deque

WORDS = 6  # in a row
TIMES = 3
RECENT = 200  # words that are remembered


class RepetitionDetector:
    """Counts every run of WORDS words among the latest RECENT ones.

    >>> detector = RepetitionDetector()
    >>> any(detector.add(" so I said to him that") for _ in range(3))
    True
    """

    def __init__(self) -> None:
        self._part = ""  # a word that may not be complete yet
        self._words: deque[str] = deque(maxlen=RECENT)
        self._runs: Counter[tuple[str, ...]] = Counter()
        self._order: deque[tuple[str, ...]] = deque()

    def add(self, piece: str) -> bool:
        """Take a piece of the monologue, in which words begin with a space.

        Returns whether a run of words has come for the TIMES-th time; the detector then begins anew.
        """
        found = False
        for index, part in enumerate(piece.split(" ")):
            if index:
                found |= self._complete()
            self._part += part
        found |= len(self._words) >= WORDS - 1 and self._runs[self._run()] >= TIMES - 1 and bool(self._part)
        if found:
            self.forget()
        return found

    def forget(self) -> None:
        """Forget all words."""
        self.__init__()

    def _run(self) -> tuple[str, ...]:
        """The latest WORDS words, the last of which may not be complete."""
        return (*list(self._words)[1 - WORDS :], self._part.lower())

    def _complete(self) -> bool:
        """Add the word that is complete now. Returns whether its run has come often enough."""
        if not self._part:
            return False
        run = self._run()
        self._words.append(self._part.lower())
        self._part = ""
        if len(run) < WORDS:
            return False
        self._runs[run] += 1
        self._order.append(run)
        if len(self._order) > RECENT:
            old = self._order.popleft()
            self._runs[old] -= 1
            if not self._runs[old]:
                del self._runs[old]
        return self._runs[run] >= TIMES
