#!/usr/bin/env bash
# kyutai_client.sh VENV FOLDER: Kyutai's own Python client into FOLDER, which the tests let talk with `serve`. It brings
# nothing along: PyTorch is not needed for it. Without a network the test is skipped, with its reason.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1 folder=$2
wanted=moshi==0.2.13

[ ! -e "$folder/moshi/client.py" ] || exit 0
if "$venv/bin/python" -c 'import pip' 2> /dev/null; then
    install=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
else
    install=(uv pip install --quiet --python "$venv/bin/python")
fi
"${install[@]}" --no-deps --target "$folder" "$wanted" || echo "could not fetch $wanted; the test that uses it is skipped"
