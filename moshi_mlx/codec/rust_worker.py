"""The process that runs one direction of rustymimi for `rust`.

Started as `python -m moshi_mlx.codec.rust_worker WEIGHTS encode|decode CODEBOOKS MAX_FRAMES`, it reads requests on
stdin and answers each on stdout. A request is one of the letters below, followed by a frame (1920 float32) or the
codes of one (CODEBOOKS uint32) where there is something to run. An answer is OK or FAILED, the number of bytes
that follow (uint32), and those bytes. The first answer comes unasked, when the weights are loaded. The end of
stdin ends the process.
"""

import os
import signal
import struct
import sys
import time
from typing import Any, BinaryIO

import numpy as np

from moshi_mlx.frames import FRAME_SAMPLES

STEP = b"s"  # answered with the codes or the audio of the frame
WARM_UP = b"w"  # the same, but answered with nothing
RESET = b"r"  # forget the stream; answered with nothing
SPENT = b"t"  # answered with the processor seconds (float64) that the process has taken, all threads
SECONDS = struct.Struct("<d")

OK, FAILED = b"+", b"-"
ANSWER = struct.Struct("<cI")


class Encoder:
    """Audio to codes."""

    def __init__(self, mimi: Any) -> None:
        self._mimi = mimi
        self._was_reset = False

    def step(self, request: bytes) -> bytes:
        pcm = np.frombuffer(request, np.float32).reshape(1, 1, -1)
        if not self._was_reset:
            return self._mimi.encode_step(pcm).tobytes()
        # rustymimi's reset forgets all but the past of the last downsampling, which falsifies one frame: that
        # frame's codes come from encoding it as a whole recording, and its step only fills the stream.
        self._was_reset = False
        codes = self._mimi.encode(pcm)
        self._mimi.reset()
        self._mimi.encode_step(pcm)
        return codes.tobytes()

    def reset(self) -> None:
        self._mimi.reset()
        self._was_reset = True


class Decoder:
    """Codes to audio."""

    def __init__(self, mimi: Any) -> None:
        self._mimi = mimi

    def step(self, request: bytes) -> bytes:
        return self._mimi.decode_step(np.frombuffer(request, np.uint32).reshape(1, -1, 1)).tobytes()

    def reset(self) -> None:
        self._mimi.reset()


def main(path: str, direction: str, codebooks: int, max_frames: int) -> None:
    """Load the weights at `path`, say so, and answer requests until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches us too; when to end is our parent's decision
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever else is printed must not get between answers
    size = 4 * (FRAME_SAMPLES if direction == "encode" else codebooks)
    try:
        coder = (Encoder if direction == "encode" else Decoder)(_load(path, codebooks, max_frames))
        _answer(answers, OK)
        serve(coder, requests, answers, size)
    except (ValueError, ImportError) as error:  # what candle raises, and a rustymimi that does not fit this Python
        _answer(answers, FAILED, str(error).partition("\n")[0].encode())


def _load(path: str, codebooks: int, max_frames: int) -> Any:
    import rustymimi

    make: Any = rustymimi.Tokenizer
    # Room is counted in positions, two a frame; unless told, rustymimi makes room for 4096 frames.
    return make(path, num_codebooks=codebooks, max_seq_len=2 * max_frames)


def serve(coder: Encoder | Decoder, requests: BinaryIO, answers: BinaryIO, size: int) -> None:
    """Answer requests until stdin ends."""
    while kind := requests.read(1):
        result = b""
        if kind == RESET:
            coder.reset()
        elif kind == SPENT:
            result = SECONDS.pack(time.process_time())
        else:
            frame = requests.read(size)
            if len(frame) < size:
                return
            result = coder.step(frame)
        _answer(answers, OK, b"" if kind == WARM_UP else result)


def _answer(answers: BinaryIO, status: bytes, result: bytes = b"") -> None:
    answers.write(ANSWER.pack(status, len(result)) + result)
    answers.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
