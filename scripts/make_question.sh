#!/usr/bin/env bash
# Speaks the question of the tests with flite: tests/data/question.flac. Needs flite and .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flite -voice slt -t "Hello! Can you tell me something about the sea?" "$work/question.wav"
.venv/bin/python - "$work/question.wav" tests/data/question.flac <<'PYTHON'
import sys
import soundfile
pcm, rate = soundfile.read(sys.argv[1], dtype="int16")
soundfile.write(sys.argv[2], pcm, rate, subtype="PCM_16", compression_level=1.0)
PYTHON
