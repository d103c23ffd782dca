#!/bin/sh
# soundfile 0.13.1 (libsndfile 1.2.2): seek in an MP3 file.
#
# What one would think: a read after seek(n) gives the samples that a read from the start has at n, as in WAV, FLAC, Ogg Vorbis
# and Opus, where it does to the last bit.
# What happens: the length is right, but the first .05 to .2 s after the seek are other samples, off by up to the loudness of the
# sound itself, for the decoder starts in the middle of a bit reservoir and of an overlap. Nothing is raised; the decoder
# under it may write a line of its own to stderr. Reading a long recording in pieces by seeking leaves a crack at each seam.
# Output seen:
#   OPUS: 0 of 48000 samples differ after a seek
#   VORBIS: 0 of 48000 samples differ after a seek
#   MPEG_LAYER_III: 4730 of 48000 samples differ after a seek, by up to 0.41 of a sound of 0.40
# What to do: read MP3 from its start, in blocks of one open file; to begin later, read and throw away.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'soundfile==0.13.1' 'numpy<3' 2> /dev/null
cd "$folder"
"$folder/env/bin/python" - 2> /dev/null <<'EOF'
import sys

import numpy as np
import soundfile

rate = 24_000
time = np.arange(4 * rate) / rate
sweep = (0.4 * np.sin(2 * np.pi * (200 + 100 * time) * time)).astype(np.float32)
wrong = {}
for container, codec in (("OGG", "OPUS"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")):
    soundfile.write("sound", sweep, rate, format=container, subtype=codec)
    whole, _ = soundfile.read("sound", dtype="float32")
    with soundfile.SoundFile("sound") as file:
        file.seek(2 * rate)
        rest = file.read(dtype="float32")
    off = np.abs(rest - whole[2 * rate : 2 * rate + len(rest)])
    wrong[codec] = int((off > 1e-3).sum())
    by = f", by up to {off.max():.2f} of a sound of 0.40" if wrong[codec] else ""
    print(f"{codec}: {wrong[codec]} of {len(rest)} samples differ after a seek{by}")
sys.exit(not (wrong["OPUS"] == wrong["VORBIS"] == 0 and wrong["MPEG_LAYER_III"] > 500))
EOF
