#!/bin/sh
# soundfile 0.14.0 (libsndfile 1.2.2): an MP3 of variable bit rate, written to something that cannot seek, and read again.
#
# What one would think: what was written to a pipe or a socket is the file that was written to disk, and reads back as long.
# What happens: the encoder cannot go back to put the number of frames into the first one, so the file has none. libsndfile then
# reckons the length from its size and the bit rate of the first frames, and stops reading there: sound after it is lost without
# an error, though it is in the file (to disk: all 5 s; to a pipe: 3.2 s of the same). A constant bit rate makes the guess right.
# Output seen (5 s, 24 kHz: 120000 samples):
#   VARIABLE: to memory 25152 bytes, 120000 samples; to a stream 25344 bytes, 76032 samples
#   CONSTANT: to memory 50880 bytes, 120000 samples; to a stream 51120 bytes, 122688 samples
# What to do: stream MP3 with bitrate_mode="CONSTANT" and a compression_level; read files of others with a decoder that goes to
# the end (ffmpeg, mpg123), or tell where the length was a guess.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'soundfile==0.14.0' 'numpy<3' 2> /dev/null
"$folder/env/bin/python" - 2> /dev/null <<'EOF'
import io
import sys

import numpy as np
import soundfile

rate = 24_000
time = np.arange(5 * rate) / rate
sound = (0.3 * np.sin(2 * np.pi * 220 * time) + 0.05 * np.random.default_rng(0).standard_normal(5 * rate)).astype(np.float32)


class Stream(io.RawIOBase):
    """As a pipe: it takes bytes, and cannot go back."""

    def __init__(self):
        self.taken = bytearray()

    def write(self, data):
        self.taken += bytes(data)
        return len(data)

    def tell(self):
        return len(self.taken)

    def seek(self, *place):
        raise OSError("it cannot seek")

    def read(self, count=-1):
        return b""


def written(into, mode):
    with soundfile.SoundFile(into, "w", rate, 1, format="MP3", bitrate_mode=mode, compression_level=0.5) as file:
        for start in range(0, len(sound), 1920):
            file.write(sound[start : start + 1920])


lengths = {}
for mode in ("VARIABLE", "CONSTANT"):
    memory, stream = io.BytesIO(), Stream()
    written(memory, mode)
    written(stream, mode)
    whole, part = memory.getvalue(), bytes(stream.taken)
    lengths[mode] = [len(soundfile.read(io.BytesIO(data))[0]) for data in (whole, part)]
    first, second = lengths[mode]
    print(f"{mode}: to memory {len(whole)} bytes, {first} samples; to a stream {len(part)} bytes, {second} samples")
sys.exit(not (lengths["VARIABLE"][0] == 120_000 > 100_000 > lengths["VARIABLE"][1] and lengths["CONSTANT"][1] >= 120_000))
EOF
