"""Noticing that the model says the same thing over and over."""

from collections import Counter, deque

WORDS = 6  # in a row
TIMES = 3
RECENT = 200  # words that are remembered


class LoopDetector:
    """Counts every run of WORDS words among the latest ones.

    >>> detector = LoopDetector()
    >>> any(detector.add(" so I said to him that") for _ in range(3))
    True
    """

    def __init__(self) -> None:
        self._part = ""  # a word that may not be complete yet
        self._words: deque[str] = deque(maxlen=RECENT)
        self._runs: Counter[tuple[str, ...]] = Counter()
        self._order: deque[tuple[str, ...]] = deque()

    def add(self, piece: str) -> bool:
        """Take a piece of the monologue (words begin with a space); whether a run has come TIMES times by now.

        After it has said so the detector begins anew.
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
        """Begin anew."""
        self.__init__()

    def _run(self) -> tuple[str, ...]:
        """The latest WORDS words with the one that is being said."""
        return (*list(self._words)[1 - WORDS :], self._part.lower())

    def _complete(self) -> bool:
        """The word that was being said is over; whether its run has come often enough."""
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
