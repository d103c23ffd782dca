"""Conversations made of codes: who speaks when, who interrupts whom, and what Nano's three streams are then.

Streams as in Moshi: row 0 text, rows 1-8 Nano's codes, rows 9-16 the user's. Nothing is delayed here.
"""

from dataclasses import dataclass

import numpy as np

from training.dialogue import ANSWERS, FILLERS, STOPS, UNKNOWN, UNKNOWN_ANSWER
from training.text import EPAD, PAD, token_ids
from training.utterances import FORGET_FRAMES, Answer, Said, SpeechCodes

GAP = 4  # frames between the end of a question and the answer
WAITS, ANSWERS_THEN = 0.3, 0.5
"""WAITS of the answers begin later, from the frame after that on in ANSWERS_THEN of the frames. Nothing is learned
of those in which Nano could have answered already, so in each it should."""
LEAD_IN = 0.3
"""Of what is heard, so much brings some frames of its own room before it, as a microphone that is switched on.
Of the rest nothing but the sound itself tells that it begins."""
REACTION, REACTS, DEAF = 2, 0.35, 0.2
"""Frames between the beginning of an interruption and silence: at least REACTION, and from there on Nano falls
silent in REACTS of the frames; in DEAF of all, in any frame of its answer. Nothing is learned of the frames in
which it could have been silent already, so in each it should be, however long it has not noticed."""
TEXT, OWN, USER = 0, slice(1, 9), slice(9, 17)


@dataclass(frozen=True)
class Window:
    """codes: [17, frames]; the others: [frames], where Nano's audio is not silence, where the microphone hears it
    or others to whom it is not to listen, where it would have spoken on but for an interruption, where it still
    speaks in spite of one, where it does not answer yet though it could, and where there is a sound."""

    codes: np.ndarray
    speaking: np.ndarray
    echoes: np.ndarray
    cut: np.ndarray
    late: np.ndarray
    waiting: np.ndarray
    sounds: np.ndarray

    @property
    def marks(self) -> tuple[np.ndarray, ...]:
        """All but the codes, in order."""
        return self.speaking, self.echoes, self.cut, self.late, self.waiting, self.sounds


class Turns:
    """Endless conversations."""

    token_ids = staticmethod(token_ids)  # of the words that are said

    def __init__(self, codes: SpeechCodes, rng: np.random.Generator) -> None:
        self.codes, self.rng = codes, rng
        sentences = codes.by_text  # so that each is said equally often, and by each kind of voices
        self.questions = [said for text, said in sentences.items() if text in ANSWERS]
        self.stops = [said for text, said in sentences.items() if text in STOPS]
        familiar = frozenset([*UNKNOWN, *FILLERS])
        common = familiar.union(ANSWERS, STOPS)
        self.unknown = [said for text, said in sentences.items() if text in familiar]
        self.strange = [said for text, said in sentences.items() if text not in common]

    def window(self, frames: int) -> Window:
        """One conversation of `frames` frames, from the very first."""
        rng = self.rng
        length = frames + 80  # turns may reach over the end
        codes = np.zeros((17, length), np.int64)
        codes[TEXT] = PAD
        codes[OWN] = self.codes.silence[:, None]
        codes[USER] = self._room(length)
        window = Window(codes, *np.zeros((6, length), bool))
        time = int(rng.integers(0, 14))
        while time < frames - 10:
            time = self._turn(window, time) + self._pause()
        return Window(codes[:, :frames], *(one[:frames] for one in window.marks))

    def _pause(self) -> int:
        return int(self.rng.integers(25, 70) if self.rng.random() < 0.1 else self.rng.integers(2, 20))

    def _room(self, length: int) -> np.ndarray:
        """The same room for a whole conversation, [8, length], half of them from its very start."""
        room = self.codes.rooms[self.rng.integers(len(self.codes.rooms))]
        frames = np.arange(length)
        if self.rng.random() < 0.5:
            frames = frames + self.rng.integers(FORGET_FRAMES, room.shape[1])
        settled = FORGET_FRAMES + (frames - FORGET_FRAMES) % (room.shape[1] - FORGET_FRAMES)
        return room[:, np.where(frames < room.shape[1], frames, settled)]

    def _turn(self, window: Window, time: int) -> int:
        """Let something happen at frame `time`; returns the frame at which all is quiet again."""
        chance = self.rng.random()
        if chance < 0.10:
            return self._hear(window, self._one(self.codes.bumps), time)[1]
        if chance < 0.17:
            return self._hear(window, self._said(self.stops), time)[1]
        if chance < 0.21:
            return self._aside(window, time)
        said = self._question() if chance < 0.81 else self._unknown()
        return self._asked(window, said, time, deep=0)

    def _aside(self, window: Window, time: int) -> int:
        """Music, or others who talk to each other, for up to some seconds."""
        aside = self._one(self.codes.asides)
        begin = int(self.rng.integers(aside.shape[1] - 10))
        piece = aside[:, begin : begin + int(self.rng.integers(10, aside.shape[1] + 1))]
        self._put(window, time, piece)
        window.echoes[max(0, time) : time + piece.shape[1]] = True
        return time + piece.shape[1]

    def _asked(self, window: Window, said: Said, time: int, deep: int) -> int:
        """A question at `time`, its answer, and perhaps what interrupts that."""
        _, end = self._hear(window, said, time)
        return self._answered(window, said.text, end, deep)

    def _answered(self, window: Window, question: str, end: int, deep: int) -> int:
        """The answer to a question that has ended at frame `end`, and perhaps what interrupts it."""
        text = ANSWERS.get(question, UNKNOWN_ANSWER)
        answer = self.codes.answers[text]
        begin = end + GAP + self._wait()
        window.waiting[end + GAP - 1 : begin - 1] = True  # padding before the first word tells that it comes
        last = begin + answer.codes.shape[1]
        chance = self.rng.random()
        if chance < 0.48 and deep < 2:
            return self._interrupted(window, answer, begin, deep)
        self._answer(window, answer, begin, last)
        if chance < 0.54:  # a noise that is no interruption
            self._hear(window, self._one(self.codes.bumps), int(self.rng.integers(begin, last)))
        elif chance < 0.57:  # people who talk to each other, or music
            self._aside(window, begin + int(self.rng.integers(-2, last - begin)))
        elif chance < 0.71:  # the microphone hears the loudspeaker
            echo = self._one(self.codes.echoes[text])
            self._put(window, begin + int(self.rng.integers(0, 3)), echo[:, : last - begin])
            window.echoes[begin:last] = True
        return last

    def _interrupted(self, window: Window, answer: Answer, begin: int, deep: int) -> int:
        """An answer at frame `begin` that somebody speaks over."""
        last = begin + answer.codes.shape[1]
        onset = int(self.rng.integers(begin + 1, last))
        said = self._interruption()
        _, end = self._hear(window, said, onset - said.begin)
        stop = self._stop(onset + REACTION, min(last, end + GAP - 1))
        self._answer(window, answer, begin, stop)
        window.late[onset + REACTION : stop] = True
        window.cut[stop:last] = True
        return max(end, last) if said.text in STOPS else self._answered(window, said.text, end, deep + 1)

    def _interruption(self) -> Said:
        chance = self.rng.random()
        if chance < 0.5:
            return self._said(self.stops)
        return self._question() if chance < 0.9 else self._unknown()

    def _stop(self, first: int, last: int) -> int:
        """The frame in which it falls silent for an interruption, `first` or later, `last` at the latest."""
        if self.rng.random() < DEAF:
            return int(self.rng.integers(min(first, last), last + 1))
        return min(first - 1 + int(self.rng.geometric(REACTS)), last)

    def _wait(self) -> int:
        """Frames by which an answer begins later than it could."""
        return int(self.rng.geometric(ANSWERS_THEN)) if self.rng.random() < WAITS else 0

    def _hear(self, window: Window, said: Said, time: int) -> tuple[int, int]:
        """Put a recording into the user's stream; the frames at which its speech begins and has ended.

        Half of them are said at an uneven pace: a frame is dropped here and there, another one comes twice.
        """
        heard, end = said.codes, said.end
        if self.rng.random() < 0.5:
            spoken = np.arange(said.begin + 1, said.end - 1)
            times = self.rng.choice(3, len(spoken), p=self._pace())
            order = [np.arange(said.begin + 1), np.repeat(spoken, times), np.arange(said.end - 1, heard.shape[1])]
            heard, end = heard[:, np.concatenate(order)], end + int(times.sum()) - len(spoken)
        lead = 0 if self.rng.random() < LEAD_IN else said.begin
        self._put(window, time + lead, heard[:, lead:])
        return time + said.begin, time + end

    def _pace(self) -> list[float]:
        """How often a frame is left out, said once, said twice."""
        out, twice = self.rng.uniform(0, 0.08, 2)
        return [out, 1 - out - twice, twice]

    @staticmethod
    def _put(window: Window, time: int, piece: np.ndarray) -> None:
        piece = piece[:, max(0, -time) :]
        time = max(0, time)
        count = max(0, min(piece.shape[1], window.codes.shape[1] - time))
        window.codes[USER, time : time + count] = piece[:, :count]
        window.sounds[time : time + count] = True

    def _answer(self, window: Window, answer: Answer, begin: int, stop: int) -> None:
        """Put an answer into Nano's streams, up to frame `stop`."""
        codes = window.codes
        stop = min(stop, codes.shape[1])
        count = stop - begin
        if count <= 0:
            return
        codes[OWN, begin:stop] = answer.codes[:, :count]
        window.speaking[begin:stop] = True
        window.cut[begin:stop] = False
        ids = self.token_ids()
        for frame, word in answer.words:
            if begin + frame < stop:
                codes[TEXT, begin + frame] = ids[word]
                if codes[TEXT, begin + frame - 1] == PAD:
                    codes[TEXT, begin + frame - 1] = EPAD

    def _question(self) -> Said:
        return self._said(self.questions)

    def _unknown(self) -> Said:
        return self._said(self.unknown if self.rng.random() < 0.5 else self.strange)

    def _said(self, sentences: list[list[list[Said]]]) -> Said:
        return self._one(self._one(self._one(sentences)))

    def _one(self, things: list):
        return things[self.rng.integers(len(things))]
