#!/bin/sh
# sphn 0.2.1: resampling, by `resample` or by `read(..., sample_rate=...)`.
#
# What one would think: the sound keeps its place in time and its end; two seconds stay two seconds, as with soxr.
# What happens: it comes out late by the delay of the filter, which depends on the pair of rates (2.7 to 14.6 ms), and what
# is returned is longer than it should be by another amount, so that the end of the sound may be cut. Alignments of words
# that were made on the file itself no longer fit, by another offset for each rate.
# Output seen:
#   48000 -> 24000: 256 samples late (10.7 ms), 48128 samples in place of 48000
#   44100 -> 24000: 280 samples late (11.7 ms), 48160 samples in place of 48000
#   16000 -> 24000: 350 samples late (14.6 ms), 49152 samples in place of 48000
#   soxr, 48000 -> 24000: 0 samples late (0.0 ms), 48000 samples in place of 48000
# What to do: resample with soxr (or measure the delay once for your rates, pad the end, and cut both).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check sphn==0.2.1 soxr==1.0.0 numpy==2.2.6 2> /dev/null
status=0
"$folder/env/bin/python" - > "$folder/seen" <<'EOF' || status=1
import sys

import numpy as np
import soxr
import sphn

TARGET = 24_000


def sweep(rate):
    """Two seconds from 100 to 3100 Hz: every piece of it fits at one place alone."""
    time = np.arange(2 * rate) / rate
    return (0.5 * np.sin(2 * np.pi * (100 * time + 750 * time**2))).astype(np.float32)


def late(sound):
    wanted, middle = sweep(TARGET), slice(2000, 20_000)
    fits = [float(np.dot(sound[2000 + by : 20_000 + by], wanted[middle])) for by in range(-400, 400)]
    return int(np.argmax(fits)) - 400


found = []
for name, function, rate in [
    ("", sphn.resample, 48_000),
    ("", sphn.resample, 44_100),
    ("", sphn.resample, 16_000),
    ("soxr, ", soxr.resample, 48_000),
]:
    sound = np.asarray(function(sweep(rate), rate, TARGET)).ravel()
    found.append(late(sound))
    print(
        f"{name}{rate} -> {TARGET}: {found[-1]} samples late ({1000 * found[-1] / TARGET:.1f} ms), "
        f"{len(sound)} samples in place of {2 * TARGET}"
    )
sys.exit(found != [256, 280, 350, 0])
EOF
cat "$folder/seen"
exit $status
