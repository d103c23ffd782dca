#!/usr/bin/env bash
# test.sh PYTHON [arguments of pytest]: the tests in two rounds: first, in WORKERS processes (2), those that do not mind
# what else the machine does; then, one after the other, those that are marked `serial`, because they listen to a sound
# card or look at a clock. Fails if either round fails; `-x` ends both. Without processes (for --pdb and -s): WORKERS=0.
# COVERAGE=yes prints which part of the package the tests ran in their own processes (the commands that they start are
# not counted), and fails below the floor of pyproject.toml; the tests take a fifth longer.
set -uo pipefail
python=$1
shift
marked= given=()
while [ $# -gt 0 ]; do
    case $1 in
        -m) marked="($2) and " && shift ;;
        *) given+=("$1") ;;
    esac
    shift
done

measured() {  # which part of the package a round runs; the second one adds to what the first one has found
    [ "${COVERAGE:-no}" = yes ] && echo --cov=moshi_mlx --cov-report= --cov-fail-under=0 "$@"
}

round() {  # round EXPRESSION ARGUMENTS...: 5 where none of its tests was asked for
    local of=$1
    shift
    "$python" -m pytest -m "$marked$of" "$@" ${given[@]+"${given[@]}"}
}

round "not serial" -n "${WORKERS:-2}" --dist worksteal $(measured)
first=$?
[ $first -le 1 ] || [ $first = 5 ] || exit $first  # stopped by -x or Ctrl-C, or not begun
round serial -n 0 $(measured --cov-append)
second=$?
[ $second != 5 ] || [ $first = 5 ] || second=0
[ $first != 5 ] || first=$second
case $first$second in
    00) echo "passed" ;;
    55) echo "no test was asked for" ;;
    *0) echo "FAILED in the first round, see above" ;;
    *) echo "FAILED" ;;
esac
[ $first = 0 ] || exit $first
[ $second = 0 ] || exit $second
[ "${COVERAGE:-no}" != yes ] || "$python" -m coverage report
