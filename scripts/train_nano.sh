#!/usr/bin/env bash
# Trains Nano from nothing, or goes on where it was stopped: hours on two CPU cores, alone on the machine.
# Usage: train_nano.sh VENV. Work files go to build/nano; the model to moshi_mlx/assets/nano.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1
work=build/nano
model=moshi_mlx/assets/nano

scripts/check_synthesizers.sh
scripts/kokoro_voices.sh build/kokoro
if [ ! -e "$venv/.installed" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q -e '.[cpu,eval]' -r training/requirements.txt
    "$venv/bin/pip" install -q --no-deps moshi==0.2.13
    touch "$venv/.installed"
fi
python=("$venv/bin/python" -W ignore::FutureWarning -u)
mkdir -p "$work"
"${python[@]}" -m training.train_codec "$work" codebooks  # an hour
"${python[@]}" -m torch.distributed.run --standalone --nproc-per-node 2 -m training.train_codec "$work" ears
scripts/with_blas.sh "${python[@]}" -m training.train_lm "$work"   # hours
"${python[@]}" -m training.train_codec "$work" decoder    # as long as you like: it only makes the voice clearer
"${python[@]}" -m training.export "$work" "$model"
"${python[@]}" -m training.demo_recording moshi_mlx/assets
"${python[@]}" -m training.plots "$work" training/results
scripts/nano_card.sh "$venv" --speed
