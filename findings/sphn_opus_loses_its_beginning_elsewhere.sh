#!/bin/sh
# sphn 0.2.1, read by soundfile 0.13.1 (libsndfile 1.2.2): Ogg Opus that `write_opus` wrote.
#
# What one would think: a header's pre-skip is the delay of the encoder, 312 samples of 48 kHz (6.5 ms) here, so that players,
# who leave out as many samples at the beginning (RFC 7845, 4.2), begin with the first sample.
# What happens: the header says 3840 samples, 80 ms. Players that obey it leave out 73.5 ms of the sound: the first sound of
# a short recording. `read_opus` does not obey it and leaves out nothing, so that the round trip seems right but for being
# 6.5 ms late; files of others, whose pre-skip is right, are late by as much when sphn reads them.
# Output seen:
#   pre-skip 3840; 96000 samples written, soundfile reads 92160, 3530 too early; sphn reads 96000, 310 late
#   soundfile's own: pre-skip 312; sphn reads it 312 late
# What to do: let another library write files that are to be kept (soundfile writes Opus); in a stream to a client that does
# not look at the header it does no harm.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check sphn==0.2.1 soundfile==0.13.1 numpy==2.2.6 2> /dev/null
status=0
"$folder/env/bin/python" - "$folder" > "$folder/seen" <<'EOF' || status=1
import sys
from pathlib import Path

import numpy as np
import soundfile
import sphn

RATE = 48_000
folder = Path(sys.argv[1])
time = np.arange(2 * RATE) / RATE
sweep = (0.5 * np.sin(2 * np.pi * (200 * time + 1000 * time**2))).astype(np.float32)


def shift(sound):
    """Samples by which a sound is late, negative where it is too early."""
    far, piece = 4500, sweep[10_000:60_000]
    fits = [float(np.dot(sound[10_000 + by : 60_000 + by], piece)) for by in range(-far, far)]
    return int(np.argmax(fits)) - far


def pre_skip(path):
    data = path.read_bytes()
    return int.from_bytes(data[(at := data.index(b"OpusHead") + 10) : at + 2], "little")


sphn.write_opus(str(folder / "sphn.opus"), sweep, RATE)
theirs, _ = soundfile.read(folder / "sphn.opus", dtype="float32")
again = sphn.read_opus(str(folder / "sphn.opus"))[0][0]
first = pre_skip(folder / "sphn.opus"), len(theirs), -shift(theirs), len(again), shift(again)
print(
    f"pre-skip {first[0]}; {len(sweep)} samples written, soundfile reads {first[1]}, {first[2]} too early; "
    f"sphn reads {first[3]}, {first[4]} late"
)
soundfile.write(folder / "other.opus", sweep, RATE, format="OGG", subtype="OPUS")
second = pre_skip(folder / "other.opus"), shift(sphn.read_opus(str(folder / "other.opus"))[0][0])
print(f"soundfile's own: pre-skip {second[0]}; sphn reads it {second[1]} late")
sys.exit(not (first[0] == 3840 and first[2] > 3000 and 250 < first[4] < 350 and second[0] < 400 < 250 + second[1]))
EOF
cat "$folder/seen"
exit $status
