#!/usr/bin/env bash
# check_release.sh TAG DIST: build sdist and wheel into the empty folder DIST and try what a user would get. TAG is
# v and the version. Needs a Python with `build` and `twine` (PYTHON=...); makes and removes an environment of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
tag=$1 dist=$2
python=${PYTHON:-python3}

fail() {
    echo "error: $*" >&2
    exit 1
}

version=$("$python" -c 'import runpy; print(runpy.run_path("moshi_mlx/version.py")["__version__"])')
[ "$tag" = "v$version" ] || fail "the tag is $tag, moshi_mlx/version.py says $version"
grep -qF "## [$version]" CHANGELOG.md || fail "CHANGELOG.md has no section [$version]"
[ -z "$(ls -A "$dist" 2> /dev/null)" ] || fail "$dist is not empty"

"$python" -m build --outdir "$dist" .
"$python" -m twine check --strict "$dist"/*

clean=$(mktemp -d)
trap 'rm -rf "$clean"' EXIT
"$python" -m venv "$clean/venv"
extra=$([ "$(uname)" = Darwin ] || echo '[cpu]')
"$clean/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$(echo "$dist"/*.whl)$extra"
cd "$clean" # away from the sources: what is installed must be enough
said=$("$clean/venv/bin/moshi-mlx" --version)
[ "$said" = "moshi-mlx $version" ] || fail "the installed program says '$said', 'moshi-mlx $version' was expected"
"$clean/venv/bin/moshi-mlx" demo "$clean/demo"
echo "$dist: $(ls "$dist" | tr '\n' ' ')"
