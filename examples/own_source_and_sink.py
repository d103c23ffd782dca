"""Answer recordings one after the other through a source and a sink of your own, and print what was said to each.

    python examples/own_source_and_sink.py one.wav two.wav --model moshiko-q4

A source gives frames, (1920,) float32 at 24 kHz, and can be closed; a sink takes replies. After each recording
this source says RESET, so that the next is answered as if it were the first.
"""

import argparse

import numpy as np

import moshi_mlx


class Recordings:
    """Each recording between silences, a RESET after it."""

    def __init__(self, paths: list[str]) -> None:
        self._paths, self._closed = paths, False

    def __iter__(self):
        for path in self._paths:
            # A second of silence before, in which Moshi may greet; five after, to answer in.
            for frame in moshi_mlx.split_frames(np.pad(moshi_mlx.read_audio(path).pcm, (24_000, 120_000))):
                if self._closed:
                    return
                yield frame
            yield moshi_mlx.RESET

    def close(self) -> None:
        self._closed = True


class Words:
    """What was said in each conversation."""

    def __init__(self) -> None:
        self.answers: list[str] = []
        self._time = float("inf")

    def write(self, reply: moshi_mlx.Reply) -> None:
        if reply.time <= self._time:  # time begins again: a new conversation
            self.answers.append("")
        self._time = reply.time
        self.answers[-1] += reply.text


def main() -> None:
    parser = argparse.ArgumentParser(description="Print what Moshi says to each recording.")
    parser.add_argument("recordings", nargs="+")
    parser.add_argument("--model", default="nano")
    options = parser.parse_args()
    words = Words()
    with moshi_mlx.load(options.model).session(seed=1) as session:
        moshi_mlx.converse(session, Recordings(options.recordings), words)
    for path, answer in zip(options.recordings, words.answers, strict=True):
        print(f"{path}: {answer.strip()}")


if __name__ == "__main__":
    main()
