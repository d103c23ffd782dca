"""Talk to Moshi through microphone and speaker, and print its words. Ctrl-C ends it.

    python examples/microphone.py --model moshiko-q4

Wear headphones: what the microphone hears of the speaker is not taken out here. `moshi-mlx chat` does that, and
`moshi-mlx devices` lists what --input and --output can be.
"""

import argparse
import contextlib
import sys
import threading

import moshi_mlx


class SpeakerAndWords:
    """Two sinks in one: the voice to the speaker, the words to the terminal."""

    def __init__(self, duplex: moshi_mlx.Duplex) -> None:
        self._duplex = duplex

    def write(self, reply: moshi_mlx.Reply) -> None:
        self._duplex.write(reply)  # first, so that nothing makes it late
        print(reply.text, end="", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Talk to Moshi.")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--input", help="a part of the microphone's name")
    parser.add_argument("--output", help="a part of the speaker's name")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end by itself after so long")
    options = parser.parse_args()
    moshi = moshi_mlx.load(options.model)
    moshi.warm_up()  # before the microphone opens, so that the first word is not late
    duplex = moshi_mlx.Duplex(options.input, options.output, on_event=lambda e: print(e.message, file=sys.stderr))
    end = threading.Timer(min(options.seconds, threading.TIMEOUT_MAX), duplex.close)
    end.daemon = True
    end.start()
    print(*duplex.describe(), "speak now", sep="\n", flush=True)
    with moshi.session() as session, contextlib.suppress(KeyboardInterrupt):
        moshi_mlx.converse(session, duplex, SpeakerAndWords(duplex))
    print(f"\n{duplex.status().dropped} frames were dropped")


if __name__ == "__main__":
    main()
