#!/bin/sh
# soxr 1.0.0 for Python: resampling samples of int16.
#
# What one would think: digital silence stays digital silence, two equal channels stay equal, and from a rate to the same
# rate nothing changes, as it is with float32.
# What happens: libsoxr adds dither whenever its output is int16, with no way to leave it out from Python, and each channel
# has its own. So whoever looks for silence by samples that are 0, or for a recording of two channels that is mono, finds
# neither behind it. (The dither begins alike in every call: the same input gives the same output.)
# Output seen on 2026-11-30:
#   a second of zeros at 48 kHz, resampled to 24 kHz, has values: int16 [-1, 0, 1], float32 [0.0]
#   two equal channels are equal afterwards: int16 False, float32 True
#   24 kHz to 24 kHz leaves all as it is: int16 False, float32 True
# What to do: resample float32, and convert to int16 last.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check soxr==1.0.0 numpy==2.2.6 2> /dev/null
cat > "$folder/one.py" <<'EOF'
import numpy as np
import soxr

TYPES = {"int16": np.int16, "float32": np.float32}
tone = np.round(900 * np.sin(np.arange(48_000) * 0.05))
seen = {}
for name, kind in TYPES.items():
    quiet = np.unique(soxr.resample(np.zeros(48_000, kind), 48_000, 24_000)).tolist()
    both = soxr.resample(np.stack([tone, tone], axis=1).astype(kind), 48_000, 24_000)
    same = soxr.resample(tone.astype(kind), 24_000, 24_000)
    seen[name] = quiet, bool((both[:, 0] == both[:, 1]).all()), bool((same == tone.astype(kind)).all())
for index, what in enumerate((
    "a second of zeros at 48 kHz, resampled to 24 kHz, has values",
    "two equal channels are equal afterwards",
    "24 kHz to 24 kHz leaves all as it is",
)):
    print(f"{what}:", ", ".join(f"{name} {found[index]}" for name, found in seen.items()))
raise SystemExit(seen != {"int16": ([-1, 0, 1], False, False), "float32": ([0.0], True, True)})
EOF
"$folder/env/bin/python" "$folder/one.py"
