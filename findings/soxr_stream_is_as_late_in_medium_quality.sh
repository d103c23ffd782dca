#!/bin/sh
# soxr 1.0.0 for Python, `ResampleStream` from 48 to 24 kHz, in chunks of 20 ms, as a sound card gives them.
#
# What one would think: a linear-phase filter of some hundred taps holds a few milliseconds back, each chunk gives its part,
# and a lower quality (a shorter filter) is less late.
# What happens: filters work on blocks of their own. Nearly every other chunk gives nothing, and what has come out lags up to
# 38 ms behind what went in, ten times the filter's own delay. "MQ" is no earlier than "HQ"; the blocks of "LQ" are half as
# long. Smaller chunks change nothing.
# Output seen on 2026-11-30 (chunks of 200 that give nothing; the most and the least that the output lags, ms):
#   VHQ 74, 36.7 to 5.8; HQ 85, 38.3 to 4.2; MQ 90, 39.3 to 3.4; LQ 1, 20.4 to 1.2; QQ 0, 0.0 to 0.0
# What to do: count a block of soxr, not its filter, into the latency of a live path; open devices at the rate that you need.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check soxr==1.0.0 numpy==2.2.6 2> /dev/null
cat > "$folder/one.py" <<'EOF'
import numpy as np
import soxr

CHUNK, COUNT = 960, 200
seen = {}
for quality in ("VHQ", "HQ", "MQ", "LQ", "QQ"):
    stream = soxr.ResampleStream(48_000, 24_000, 1, dtype="float32", quality=quality)
    nothing, given, lags = 0, 0, []
    for number in range(COUNT):
        made = len(stream.resample_chunk(np.full(CHUNK, 0.1, np.float32)))
        nothing, given = nothing + (made == 0), given + made
        lags.append(1000 * ((number + 1) * CHUNK / 48_000 - given / 24_000))
    seen[quality] = nothing, max(lags[20:]), min(lags[20:])
print("; ".join(f"{name} {nothing}, {most:.1f} to {least:.1f}" for name, (nothing, most, least) in seen.items()))
late = all(seen[name][0] > 50 and seen[name][1] > 30 for name in ("VHQ", "HQ", "MQ"))
raise SystemExit(not (late and seen["MQ"][1] >= seen["HQ"][1] and seen["LQ"][0] <= 1))
EOF
"$folder/env/bin/python" "$folder/one.py"
