#!/usr/bin/env bash
# Trains nano-persona, which is whoever its prompts say, or goes on where it was stopped: two hours on one CPU core.
# Usage: train_nano_persona.sh VENV, that of train_nano.sh, which comes first: codec, codes and weights are those of
# its work folder. The model goes to moshi_mlx/assets/nano-persona.
set -euo pipefail
cd "$(dirname "$0")/.."
work=build/nano
model=moshi_mlx/assets/nano-persona

if [ ! -e "$work/codec.pt" ] || [ ! -e "$1/bin/python" ]; then
    echo "train_nano_persona.sh: there is no $work/codec.pt or no $1; make nano first" >&2
    exit 1
fi
scripts/check_synthesizers.sh
python=(scripts/with_blas.sh "$1/bin/python" -W ignore::FutureWarning -u)
"${python[@]}" -m training.train_persona "$work"
"${python[@]}" -m training.persona_export "$work" "$model"
"${python[@]}" -m training.evaluate_persona "$model" "$work/persona/persona.json"
cp "$work/persona/persona.json" training/results/persona.json
"${python[@]}" -m training.persona_card training/results/persona.json "$model/README.md"
