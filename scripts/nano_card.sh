#!/usr/bin/env bash
# Measures Nano and writes its card: minutes on two quiet cores. What has been measured of the same model is kept.
# Usage: nano_card.sh VENV [OPTIONS of training.evaluate]. Work files go to build/nano, figures to training/results.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1
shift
work=build/nano
model=moshi_mlx/assets/nano
results=training/results

scripts/check_synthesizers.sh
scripts/kokoro_voices.sh build/kokoro
if [ ! -e "$venv/.installed" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q -e '.[cpu,eval]' -r training/requirements-card.txt
    touch "$venv/.installed"
fi
run() { scripts/with_blas.sh "$venv/bin/python" -W ignore::FutureWarning -u -m "$@"; }
mkdir -p "$work"
run training.evaluate "$model" "$results/evaluation.json" "$work/figures" "$@"
run moshi_mlx eval "$model" "$model+q8" "$model+q4" --batch 16 --into "$work/eval" --json > "$work/eval.json"
run training.card behaviour "$work/eval.json" > "$work/behaviour.json"
mv "$work/behaviour.json" "$results/behaviour.json"
run training.card "$results/evaluation.json" "$results/behaviour.json" "$model/README.md"
