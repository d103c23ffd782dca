#!/bin/sh
# huggingface_hub 2.4.0: HF_HUB_ETAG_TIMEOUT or HF_HUB_DOWNLOAD_TIMEOUT holds a fraction of a second, or is empty.
#
# What one would think: 0.5 is a timeout like any other, for the functions of the library take float seconds; an empty variable
# counts as one that is not set, as it does for the library's switches; and what is wrong with one setting matters only when
# that setting is used.
# What happens: the variables are read by int() while the library's constants are imported. So anything that is no integer, an
# empty value too, ends every program with a ValueError at its first use of the library, even one that only reads its cache;
# the message names neither the variable nor the library's wish.
# Output seen:
#   HF_HUB_ETAG_TIMEOUT=10: imported, 10 s
#   HF_HUB_ETAG_TIMEOUT=0.5: ValueError: invalid literal for int() with base 10: '0.5'
#   HF_HUB_ETAG_TIMEOUT=: ValueError: invalid literal for int() with base 10: ''
#   HF_HUB_DISABLE_TELEMETRY=: imported, 10 s
# What to do: write whole seconds; where a program must not end in a traceback, look at both variables before its first import.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env" > /dev/null
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check 'huggingface_hub==2.4.0' 2> /dev/null
for setting in HF_HUB_ETAG_TIMEOUT=10 HF_HUB_ETAG_TIMEOUT=0.5 HF_HUB_ETAG_TIMEOUT= HF_HUB_DISABLE_TELEMETRY=; do
    env -u HF_HUB_ETAG_TIMEOUT HF_HOME="$folder/home" "$setting" "$folder/env/bin/python" - "$setting" <<'EOF'
import sys

try:
    from huggingface_hub import constants
    says = f"imported, {constants.HF_HUB_ETAG_TIMEOUT} s"
except ValueError as error:
    says = f"ValueError: {error}"
print(f"{sys.argv[1]}: {says}")
EOF
done | tee "$folder/out"
[ "$(grep -c ': imported, 10 s' "$folder/out")" = 2 ] && [ "$(grep -c 'ValueError: invalid literal for int' "$folder/out")" = 2 ]
