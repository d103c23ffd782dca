#!/usr/bin/env bash
# first_word.sh [REPOSITORY]: what a new user waits for, from `git clone` to Nano's first spoken word, in a folder that is
# removed afterwards. REPOSITORY is this one unless given. Says how long each step took; fails if there is no word, or if
# all of it took longer than three minutes. Needs git, make and Python, and the package index for the first install.
set -euo pipefail
source=${1:-$(cd "$(dirname "$0")/.." && pwd)}
limit=180
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

step() {  # step NAME COMMAND...: run it, and say how long it took
    local name=$1 began=$SECONDS
    shift
    "$@" > "$folder/$name.log" 2>&1 || { cat "$folder/$name.log" >&2; echo "$name failed" >&2; exit 1; }
    echo "$name: $((SECONDS - began)) s"
}

SECONDS=0
step clone git clone --quiet "$source" "$folder/moshi"
cd "$folder/moshi"
step install make install
.venv/bin/moshi-mlx run "$folder/moshi/tests/data/question.flac" "$folder/answer.wav" --model nano --json \
    > "$folder/words" 2> "$folder/run.log" &
run=$!
while ! grep -q '"event": "text"' "$folder/words"; do  # until the first word, not until the end
    kill -0 $run 2> /dev/null || { wait $run || { cat "$folder/run.log" >&2; exit 1; }; break; }
    sleep 0.1
done
grep -q '"event": "text"' "$folder/words" || { echo "Nano said nothing" >&2; exit 1; }
waited=$SECONDS
echo "first word after $waited s: $(grep -m 1 '"event": "text"' "$folder/words")"
kill -INT $run 2> /dev/null || true  # the rest of the answer is not waited for
wait $run || true
[ $waited -le $limit ] || { echo "that is more than $limit s" >&2; exit 1; }
