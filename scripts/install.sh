#!/usr/bin/env bash
# install.sh VENV BACKEND: this package and its tools into a virtual environment, with uv where there is one, else pip.
# BACKEND: auto (Metal on macOS, CPU on Linux), cpu, cuda13.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1 backend=$2

fail() {
    echo "error: $*" >&2
    exit 1
}

# The cpu and cuda13 wheels of MLX carry the same library, so an environment has one of them.
case $backend in
    auto | cpu) extra=dev ;;
    cuda13) extra=cuda13 ;;
    *) fail "BACKEND=$backend: auto, cpu or cuda13 expected" ;;
esac
for stamp in "$venv"/.installed-*; do
    if [ -e "$stamp" ] && [ "$stamp" != "$venv/.installed-$backend" ]; then
        echo "switching the MLX backend: building $venv anew"
        rm -rf "${venv:?}"
    fi
done

fits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2> /dev/null; }
python=
for candidate in "${PYTHON:-}" "$venv/bin/python" python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
    if [ -n "$candidate" ] && fits "$candidate"; then
        python=$candidate
        break
    fi
    [ -z "${PYTHON:-}" ] || fail "PYTHON=$PYTHON is not a Python 3.10 or newer"
done

if command -v uv > /dev/null; then
    # uv brings its own Python where there is none. The lock holds versions known to work together; with another
    # package index than the public one it does not apply, and the newest versions are taken.
    export UV_PROJECT_ENVIRONMENT=$venv
    choice=(${python:+--python "$python"})  # may be empty, which bash 3.2 of macOS takes for unset
    extras=(--extra "$extra")
    if [ "$extra" = cuda13 ]; then extras+=(--extra tools); fi
    uv sync --quiet --locked ${choice[@]+"${choice[@]}"} "${extras[@]}" && exit 0
    echo "uv.lock cannot be used here; installing the newest versions instead"
    [ -x "$venv/bin/python" ] || uv venv --quiet ${choice[@]+"${choice[@]}"} "$venv"
    uv pip install --quiet --python "$venv/bin/python" --editable ".[$extra,tools]"
    exit 0
fi

[ -n "$python" ] || fail "Python 3.10 or newer is needed, python3 is $(python3 --version 2>&1 || true); install one, or uv"
machine=$("$python" -c 'import platform; print(platform.system(), platform.machine())')
[ "$machine" != "Darwin x86_64" ] || fail "MLX needs Apple Silicon, and $python is an Intel build"
if [ ! -x "$venv/bin/python" ]; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$python" -c 'import ensurepip, venv' 2> /dev/null ||
        fail "$python cannot make virtual environments; run 'apt-get install python$version-venv' as root, or install uv"
    "$python" -m venv "$venv"
fi
echo "installing into $venv (a few minutes the first time)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[$extra,tools]"
