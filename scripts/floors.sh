#!/usr/bin/env bash
# floors.sh ENVIRONMENT [PYTHON...]: install the lowest versions that pyproject.toml allows, and run what `make test-fast`
# runs. PYTHON: versions, 3.10 and 3.12 unless given; uv fetches those that are not here. ENVIRONMENT: a folder to make
# environments in. Everything that is not in pyproject.toml comes in its newest version that resolves with the rest.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$1
shift
pythons=("$@")
[ $# -gt 0 ] || pythons=(3.10 3.12)

mkdir -p "$folder"
uv=$(command -v uv || true)
if [ -z "$uv" ]; then
    python3 -m venv "$folder/uv"
    "$folder/uv/bin/python" -m pip install --quiet --disable-pip-version-check uv
    uv=$folder/uv/bin/uv
fi

for python in "${pythons[@]}"; do
    echo "the floors, with Python $python"
    place=$folder/$python
    "$uv" venv --quiet --clear --python "$python" "$place"
    "$uv" pip install --quiet --python "$place/bin/python" --resolution lowest-direct --only-binary :all: \
        --requirements pyproject.toml --extra dev
    # The package itself; hatchling, which builds it, is no matter of floors.
    "$uv" pip install --quiet --python "$place/bin/python" --no-deps --editable .
    "$uv" pip freeze --python "$place/bin/python" > "$place/versions.txt"
    scripts/with_blas.sh "$place/bin/python" -m pytest -n 2 -m "not serial and not browser and not slow" \
        -p no:cacheprovider ${PYTEST_ARGS:-}
done
