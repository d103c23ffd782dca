#!/usr/bin/env bash
# Trains nano-stt, which writes down what is said, from nothing, or goes on where it was stopped: about an hour
# on one CPU core. Usage: train_nano_stt.sh PYTHON, one that has this package with its dev extra. Work files go to
# build/nano-stt; the model to moshi_mlx/assets/nano-stt. The codec is Nano's, as it lies in the package.
set -euo pipefail
cd "$(dirname "$0")/.."
work=build/nano-stt
model=moshi_mlx/assets/nano-stt

scripts/check_synthesizers.sh
python=(scripts/with_blas.sh "$1" -u)
"${python[@]}" -m training.stt_codes "$work"
"${python[@]}" -m training.train_stt "$work"
"${python[@]}" -m training.train_stt "$work" export "$model"
"${python[@]}" -m training.train_stt "$work" curve training/results/stt.csv
"${python[@]}" -m training.evaluate_stt "$model" "$work/stt.json"
cp "$work/stt.json" training/results/stt.json
"${python[@]}" -m training.stt_card training/results/stt.json "$model/README.md"
