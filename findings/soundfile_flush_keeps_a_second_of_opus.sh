#!/bin/sh
# soundfile 0.14.0 (libsndfile 1.2.2): Ogg Opus written in blocks of 20 ms, with flush() after each, as for a live stream.
#
# What one would think: after flush() the blocks written so far are in the file (but for what the encoder itself looks ahead, a
# few milliseconds), so that somebody who listens is 20 or 40 ms behind.
# What happens: flush() leaves the packets in libsndfile, which ends an Ogg page only when it holds a second of sound. The file
# grows once a second, whatever the blocks; Vorbis grows about twice a second. libsndfile has a command for a shorter page
# (SFC_SET_OGG_PAGE_LATENCY_MS, 0x1302), but soundfile has no way to it except its private handles.
# Output seen:
#   OPUS: grew 6 times in 5 s, after 20 1020 2020 3020 4020 5000 ms
#   OPUS, pages of 80 ms asked for by 0x1302: grew 64 times in 5 s, after 20 100 180 260 340 420 ms
# What to do: for live sound write the Ogg pages yourself around an Opus encoder (sphn, opuslib), or send that command; for files it
# does not matter.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'soundfile==0.14.0' numpy 2> /dev/null
"$folder/env/bin/python" - <<'EOF'
import io
import sys

import numpy as np
import soundfile


def grew(page_ms=None):
    """The milliseconds after which there were more bytes than before."""
    held = io.BytesIO()
    noise = np.random.default_rng(0)
    times, size = [], 0
    with soundfile.SoundFile(held, "w", samplerate=48_000, channels=1, format="OGG", subtype="OPUS") as file:
        if page_ms:
            value = soundfile._ffi.new("double*", page_ms)
            soundfile._snd.sf_command(file._file, 0x1302, value, soundfile._ffi.sizeof("double"))
        for block in range(1, 251):
            file.write(0.1 * noise.standard_normal(960).astype(np.float32))
            file.flush()
            if held.getbuffer().nbytes > size:
                size = held.getbuffer().nbytes
                times.append(20 * block)
    if held.getbuffer().nbytes > size:
        times.append(5000)
    return times


plain, short = grew(), grew(80.0)
print(f"OPUS: grew {len(plain)} times in 5 s, after", *plain[:6], "ms")
print(f"OPUS, pages of 80 ms asked for by 0x1302: grew {len(short)} times in 5 s, after", *short[:6], "ms")
sys.exit(not (len(plain) <= 7 and len(short) > 50))
EOF
