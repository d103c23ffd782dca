"""Talk with two people at once, who share every step of the model. Whoever comes third waits for a free place.

    python examples/two_people.py anna.wav ben.wav carol.wav --model moshiko-q4

A step for two reads the weights once, so it costs little more than a step for one. Neither notices when the other
joins or leaves. `moshi-mlx serve --max-sessions 2` is the same over the network.
"""

import argparse
from collections import deque

import moshi_mlx

PLACES = 2


class Person:
    """Somebody who says what a recording says, and what was answered."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.frames = iter(moshi_mlx.FileSource(moshi_mlx.read_audio(path).pcm, lead=1, tail=5))
        self.answer = ""


def main() -> None:
    parser = argparse.ArgumentParser(description="Print what Moshi says to each recording.")
    parser.add_argument("recordings", nargs="+")
    parser.add_argument("--model", default="nano")
    options = parser.parse_args()
    batch = moshi_mlx.load(options.model).batch(PLACES)
    waiting = deque(Person(path) for path in options.recordings)
    talking: dict[moshi_mlx.Session, Person] = {}
    while waiting or talking:
        while waiting and len(talking) < PLACES:
            talking[batch.join(seed=1)] = waiting.popleft()
        frames = {session: next(person.frames, None) for session, person in talking.items()}
        for session, frame in frames.items():
            if frame is None:  # the recording has ended
                session.close()
                person = talking.pop(session)
                print(f"{person.path}: {person.answer.strip()}")
        heard = {session: frame for session, frame in frames.items() if frame is not None}
        for session, reply in batch.step(heard).items():
            talking[session].answer += reply.text


if __name__ == "__main__":
    main()
