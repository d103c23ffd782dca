"""kill -9 before what a training does to its folder: what lies there is whole, and the training goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# A process that is killed changes nothing any more, whatever its blocks would have done on their way out; so it is
# one in which from some moment on every change of the disk raises, and which has another number afterwards.
PROGRAM = """
import json, os, sys
from dataclasses import replace
from pathlib import Path

from tests.finetune.test_run import DATA, SETTINGS, start

CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}
base, out = Path(sys.argv[1]), Path(sys.argv[2])
settings = replace(SETTINGS, steps=2, save_every=1, keep=1)
passed = kill_at = 0


class Killed(BaseException):
    pass


def count(event, arguments):
    global passed
    if str(out) in str(arguments) and (event in CHANGES or event == "open" and "w" in str(arguments[1])):
        passed += 1
        if kill_at and passed >= kill_at:
            raise Killed(arguments)


def train(folder, at=0):
    global passed, kill_at
    passed, kill_at = 0, at
    try:
        list(start(base, folder, settings, DATA, resume=(folder / "run.json").exists()).train())
    except Killed:
        return True
    finally:
        kill_at = 0
    return False


def lies_in(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


sys.addaudithook(count)
getpid = os.getpid
train(out / "whole")
whole, points = lies_in(out / "whole"), passed
found = []
for point in sorted({1, 2, 3, *range(1, points + 1, 4), points}):
    os.getpid = lambda: 2**22 + point  # nobody has such a number
    killed = train(out / str(point), point)
    os.getpid = getpid
    train(out / str(point))
    there = lies_in(out / str(point))
    other = [name for name in there.keys() | whole.keys() if there.get(name) != whole.get(name)]
    found.append([point, killed, sorted(other)])
print(json.dumps(found))
"""


@pytest.mark.slow
def test_a_training_killed_at_any_point_goes_on_to_what_it_would_have_been(
    tiny_folder: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tiny_folder, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found[-1][0] > 30, "the points that a training passes"
    assert found == [[point, True, []] for point, _, _ in found]
