#!/bin/sh
# sphn 0.2.1: a piece of a recording by sphn.read(path, start_sec=..., duration_sec=...), as training loaders cut theirs.
#
# What one would think: the samples are those that lie there when the whole file is read; sphn seeks to the packet and drops what
# comes before. Of WAV and FLAC they are.
# What happens: a piece of an MP3 has the right place and length, but its first 0.2 s are silence: the decoder is started at the very
# place, where it lacks the frames before (MP3 borrows bits from them), and what it cannot decode yet is left as zeros. A piece of Ogg
# Vorbis is shifted: every sample is the one 512 samples (21 ms) later. Only a piece that begins at 0 is right. Nothing is raised.
# Output seen (mean over pieces of 0.5 s from 1, 2, 4 and 9 s of a tone that grows):
#   flac: starts with 0.00 s of silence, shifted by 0 samples
#   mp3: starts with 0.22 s of silence, shifted by 0 samples
#   ogg: starts with 0.00 s of silence, shifted by 512 samples
# What to do: cut training data from WAV or FLAC; of an MP3 ask for half a second more in front and drop it; of Vorbis read the whole.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'sphn==0.2.1' 'soundfile==0.14.0' numpy 2> /dev/null
cd "$folder"
"$folder/env/bin/python" - <<'EOF'
import sys

import numpy as np
import soundfile
import sphn

RATE = 24_000
time = np.arange(10 * RATE) / RATE
tone = (0.02 * (1 + time) * np.sin(2 * np.pi * (300 + 20 * time) * time)).astype(np.float32)
seen = {}
for kind in ("flac", "mp3", "ogg"):
    soundfile.write(f"tone.{kind}", tone, RATE)
    whole = sphn.read(f"tone.{kind}")[0][0]
    silences, shifts = [], []
    for second in (1, 2, 4, 9):
        piece = sphn.read(f"tone.{kind}", start_sec=second, duration_sec=0.5)[0][0]
        silences.append(np.argmax(np.abs(piece) > 0.01) / RATE)
        begin, tail = second * RATE + 8_000, piece[8_000:11_000]
        shifts.append(min(range(-1_000, 1_000), key=lambda k: np.square(whole[begin + k :][:3_000] - tail).sum()))
    seen[kind] = np.mean(silences), np.mean(shifts)
    print(f"{kind}: starts with {seen[kind][0]:.2f} s of silence, shifted by {seen[kind][1]:.0f} samples")
right = seen["flac"] < (0.01, 1) and seen["mp3"][0] > 0.1 and abs(seen["mp3"][1]) < 2
sys.exit(not (right and abs(seen["ogg"][1] - 512) < 2))
EOF
