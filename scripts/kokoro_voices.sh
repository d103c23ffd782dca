#!/usr/bin/env bash
# Fetches the speakers of the synthesizer Kokoro, half a megabyte each, which the npm package kokoro-js brings.
# Usage: kokoro_voices.sh FOLDER. They go to FOLDER/voices; what is there already is not fetched again.
set -euo pipefail
folder=$1
[ -d "$folder/voices" ] && exit 0
command -v npm > /dev/null || {
    echo "npm is missing, which fetches Kokoro's speakers into $folder/voices (package kokoro-js)" >&2
    exit 1
}
mkdir -p "$folder"
cd "$folder"
npm pack --silent kokoro-js@1.2.1 > /dev/null
tar -xzf kokoro-js-1.2.1.tgz package/voices
mv package/voices voices
rm -r package kokoro-js-1.2.1.tgz
