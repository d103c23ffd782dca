#!/bin/sh
# soundfile 0.13.1 (libsndfile 1.2.2) on a FLAC whose header leaves the number of samples open.
#
# What one would think: such a file is read to its end. RFC 9639 allows 0 for "not known", and encoders that write into a
# pipe leave it so; the samples are all there, and libsndfile decodes them.
# What happens: `read` gives no samples but raises LibsndfileError. The length counts as 2**63 - 1, the file counts as one
# that can be sought, and after every block the wrapper seeks to where it is already, which this decoder cannot do.
# Output seen:
#   length in the header: read 24000 samples
#   length left open: frames 9223372036854775807, LibsndfileError
#   the same, told that it cannot seek: read 24000 samples
# What to do: open it by a subclass whose `seekable()` is False; then blocks are read one after the other until none is left.
# MP3 needs the same: without an Info frame its length is a guess that the wrapper otherwise stops at.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check soundfile==0.13.1 numpy==2.2.6 2> /dev/null
"$folder/env/bin/python" - > "$folder/seen" <<'EOF'
import io

import numpy as np
import soundfile

out = io.BytesIO()
soundfile.write(out, 0.1 * np.sin(np.arange(24_000) / 9), 24_000, format="FLAC", subtype="PCM_16")
known = out.getvalue()
unknown = bytearray(known)
unknown[21] &= 0xF0  # the 36 bits of STREAMINFO that count the samples
unknown[22:26] = bytes(4)


class NoSeeking(soundfile.SoundFile):
    def seekable(self):
        return False


def read(kind, data):
    with kind(io.BytesIO(data)) as file:
        total = 0
        while count := len(file.read(4096)):
            total += count
        return f"read {total} samples"


print("length in the header:", read(soundfile.SoundFile, known))
try:
    print("length left open:", read(soundfile.SoundFile, bytes(unknown)))
except soundfile.LibsndfileError:
    print("length left open: frames", soundfile.SoundFile(io.BytesIO(bytes(unknown))).frames, end=", LibsndfileError\n")
print("the same, told that it cannot seek:", read(NoSeeking, bytes(unknown)))
EOF
cat "$folder/seen"
cat > "$folder/expected" <<'EOF'
length in the header: read 24000 samples
length left open: frames 9223372036854775807, LibsndfileError
the same, told that it cannot seek: read 24000 samples
EOF
cmp -s "$folder/seen" "$folder/expected" || { echo "this has changed"; exit 1; }
