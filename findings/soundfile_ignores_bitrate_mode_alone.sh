#!/bin/sh
# soundfile 0.14.0 (libsndfile 1.2.2): bitrate_mode for MP3, given without compression_level.
#
# What one would think: bitrate_mode="CONSTANT" makes a file of one bit rate, "VARIABLE" one that follows the sound.
# What happens: alone it has no effect and no error: all modes give the same bytes as none. Only where compression_level is given
# too are they three different files.
# Output seen (5 s of a tone in noise, 24 kHz):
#   alone:                     none 29472 bytes, CONSTANT the same, AVERAGE the same, VARIABLE the same
#   with compression_level .5: none 25152 bytes, CONSTANT 50880, AVERAGE 49752, VARIABLE 25152
# What to do: always give both.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'soundfile==0.14.0' 'numpy<3' 2> /dev/null
cd "$folder"
"$folder/env/bin/python" - <<'EOF'
import sys
from pathlib import Path

import numpy as np
import soundfile

rate = 24_000
time = np.arange(5 * rate) / rate
sound = (0.3 * np.sin(2 * np.pi * 220 * time) + 0.05 * np.random.default_rng(0).standard_normal(5 * rate)).astype(np.float32)
MODES = ("CONSTANT", "AVERAGE", "VARIABLE")


def written(**options):
    soundfile.write("sound.mp3", sound, rate, format="MP3", **options)
    return Path("sound.mp3").read_bytes()


plain, alone = written(), {mode: written(bitrate_mode=mode) for mode in MODES}
level = written(compression_level=0.5)
both = {mode: written(bitrate_mode=mode, compression_level=0.5) for mode in MODES}
told = (f"{mode} {'the same' if data == plain else len(data)}" for mode, data in alone.items())
print(f"alone:                     none {len(plain)} bytes,", ", ".join(told))
told = (f"{mode} {len(data)}" for mode, data in both.items())
print(f"with compression_level .5: none {len(level)} bytes,", ", ".join(told))
sys.exit(not (set(alone.values()) == {plain} and len(set(both.values())) == 3))
EOF
