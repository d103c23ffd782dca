"""kill -9 at random moments: whatever lies there then can be read, and the next run goes on, or cleans up.

    python benchmarks/kills.py [--kills 200] [--chats 40] [--only quantize|get|finetune|chat] [--seed 0]

The first three are forked from this program, which has imported all they need, so that the moments fall into their
work. `chat` is a program of its own, between the microphone and the speaker of a sound card made of software
(scripts/system_packages.sh). Prints a table, and fails where something was found.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import soundfile

sys.path.insert(0, str(Path(__file__).parents[1]))

from moshi_mlx.checkpoint.nano import RECORDING
from moshi_mlx.checkpoint.random_checkpoint import TINY
from moshi_mlx.conversation.history import Kept
from moshi_mlx.frames import FRAME_SECONDS, SAMPLE_RATE
from tests.finetune.dataset import stereo_set
from tests.hub_stub import HubStub

REPO, ALIAS = "kyutai/moshiko-mlx-q4", "moshiko-q4"
WIDE = {**TINY, "dim": 512, "num_layers": 6, "context": 64}  # some ten megabytes
EVERY = 20  # kills after which one run is let end
CHAT_LOSES = 1.0  # seconds


class Found(Exception):
    """Something that a kill must not leave."""


class Case:
    """A command: how it is run, and what may lie there at any time."""

    name = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: Counter[str] = Counter()
        folder.mkdir()

    def words(self) -> list[object]:
        """Return what is run next."""
        raise NotImplementedError

    def look(self) -> None:
        """Look at what lies there, after a kill. Raises Found."""
        raise NotImplementedError

    def ended(self) -> None:
        """Look at what lies there after a run that ended, and begin anew. Raises Found."""
        raise NotImplementedError


class Quantize(Case):
    """A model folder, made or replaced: the whole one, the one before, or none."""

    name = "quantize"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        run(lambda: random_model(folder / "base"))
        self.out = folder / "out" / "model"
        self.out.parent.mkdir()
        self._whole, self.recipe = {"": "none"}, "q8"
        for _ in range(2):
            assert moshi(self.words()) == 0
            self._whole[contents(self.out)] = self.recipe

    def words(self) -> list[object]:
        self.recipe = "q8" if self.recipe == "q4" else "q4"
        return ["quantize", self.folder / "base", self.out, "--recipe", self.recipe, "--force", "--quiet"]

    def look(self) -> None:
        found = contents(self.out)
        if found not in self._whole:
            raise Found(f"a folder that is neither of the two: {names(self.out)}")
        self.seen[self._whole[found]] += 1
        if not found and not list(self.out.parent.glob(".model.*.old")):
            raise Found("neither the folder nor the one before")

    def ended(self) -> None:
        if self._whole.get(contents(self.out)) != self.recipe or names(self.out.parent) != ["model"]:
            raise Found(f"after a whole run: {names(self.out.parent)}")


class Get(Case):
    """A cache: files are whole, and a part is the beginning of one."""

    name = "models get"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        run(lambda: random_model(folder / "model"))
        self.files = {path.name: path.read_bytes() for path in (folder / "model").iterdir()}
        self.cache = folder / "cache"

    @contextmanager
    def serving(self) -> Iterator[None]:
        """A hub, in a process of its own: a program with threads is not to be forked."""
        from huggingface_hub import constants

        read, write = os.pipe()
        if not (hub := os.fork()):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what it says of clients that vanish
            with HubStub({REPO: self.files}).serving() as endpoint:
                os.write(write, endpoint.encode())
                signal.pause()
        endpoint = os.read(read, 100).decode()
        constants.ENDPOINT, constants.HF_HUB_CACHE, constants.HF_HUB_DISABLE_XET = endpoint, str(self.cache), True
        constants.HUGGINGFACE_CO_URL_TEMPLATE = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        try:
            yield
        finally:
            os.kill(hub, signal.SIGKILL)
            os.waitpid(hub, 0)

    def words(self) -> list[object]:
        return ["models", "get", ALIAS]

    def look(self) -> None:
        whole = {sha256(content).hexdigest(): content for content in self.files.values()}
        parts = [path for path in self.cache.rglob("*.incomplete") if path.stat().st_size]
        for path in self.cache.rglob("snapshots/*/*"):
            if path.read_bytes() != self.files[path.name]:
                raise Found(f"{path.name} is not whole")
        for path in parts:
            content = whole.get(path.name.partition(".")[0])
            if content is not None and not content.startswith(path.read_bytes()):
                raise Found(f"a part of {path.name} that is not its beginning")
        self.seen["a part" if parts else "files" if self.cache.exists() else "nothing"] += 1

    def ended(self) -> None:
        there = {path.name: path.read_bytes() for path in self.cache.rglob("snapshots/*/*")}
        if there != self.files:
            raise Found(f"after a whole run: {sorted(there)} of {sorted(self.files)}")
        if parts := [path.name for path in self.cache.rglob("*.incomplete")]:
            raise Found(f"after a whole run parts are left: {parts}")
        remove(self.cache)


class Finetune(Case):
    """A training: what it has written is whole, and it goes on to what it would have become."""

    name = "finetune"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        os.environ["XDG_CACHE_HOME"] = str(folder / "codes")
        run(lambda: random_model(folder / "base", TINY))
        self.data = stereo_set(folder / "data")
        self.out = folder / "uninterrupted"
        assert moshi(self.words()) == 0
        self._end = (self.out / "lora.safetensors").read_bytes()
        self.out = folder / "out"

    def words(self) -> list[object]:
        small = ("--seconds", 1, "--batch", 1, "--lora-rank", 4, "--lr", 0.03, "--no-checkpointing")
        steps = ("--steps", 12, "--save-every", 2, "--codec", "mlx", "--quiet")
        resume = ("--resume",) if (self.out / "run.json").exists() else ()
        return ["finetune", self.folder / "base", self.data, self.out, *small, *steps, *resume]

    def look(self) -> None:
        self.seen[f"{len(list(self.out.glob('checkpoints/0*')))} checkpoints"] += 1
        if run(lambda: read_training(self.out, self.folder / "base")):
            raise Found(f"a training that cannot be read: {names(self.out)}, {names(self.out / 'checkpoints')}")

    def ended(self) -> None:
        if (self.out / "lora.safetensors").read_bytes() != self._end:
            raise Found("the adapter is not that of a run that nobody ended")
        if left := [path.name for path in self.out.rglob(".*")]:
            raise Found(f"after a whole run: {left}")
        remove(self.out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="of quantize, models get and finetune each")
    parser.add_argument("--chats", type=int, default=40)
    parser.add_argument("--only", choices=["quantize", "get", "finetune", "chat"])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance, found = random.Random(options.seed), 0
    import_all()
    print("| command | killed | found | what lay there |\n|---|---|---|---|", flush=True)
    with TemporaryDirectory() as folder, ExitStack() as stack:
        for kind in (Quantize, Get, Finetune):
            if options.only in (None, kind.__name__.lower()):
                case = kind(Path(folder, kind.__name__))
                with case.serving() if isinstance(case, Get) else nullcontext():
                    found += killed(case, options.kills, chance)
        if options.only in (None, "chat"):
            found += Chats(Path(folder, "chat"), stack).killed(options.chats, chance)
    if found:
        sys.exit(f"{found} times something was found")


def killed(case: Case, kills: int, chance: random.Random) -> int:
    """Kill a command so many times, and print a row. Returns how often something was found."""
    found, done = 0, 0
    began = time.monotonic()
    assert moshi(case.words()) == 0, "a first run, to be timed"
    longest = time.monotonic() - began
    while done < kills:
        pid = start(case.words())
        status = end_at(pid, time.monotonic() + chance.random() * longest)
        longest *= 1.02 if os.WIFSIGNALED(status) else 0.95  # so that some end, however busy the machine is
        problem = ""
        try:
            if os.WIFSIGNALED(status):
                done += 1
                case.look()
            elif status:
                problem = f"exit code {os.waitstatus_to_exitcode(status)}"
            if not os.WIFSIGNALED(status) or done % EVERY == 0:
                code = moshi(case.words()) if os.WIFSIGNALED(status) else 0
                problem = problem or (f"the next run ended with exit code {code}" if code else "")
                if not problem:
                    case.ended()
        except Found as error:
            problem = str(error)
        if problem:
            found += 1
            print(f"{case.name}, after {done} kills: {problem}", file=sys.stderr)
    row(case.name, done, found, case.seen)
    return found


class Chats:
    """Conversations between a microphone and a speaker of software, each kept in a folder."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        from live_audio import software_card

        from tests.sound_card import missing

        if reason := missing():
            sys.exit(f"error: {reason}")
        folder.mkdir()
        self._folder = folder
        self._model = folder / "tiny"  # of random weights: it says something all the time
        run(lambda: random_model(self._model, TINY))
        self._card = stack.enter_context(software_card())

    def killed(self, kills: int, chance: random.Random) -> int:
        """As the function."""
        from moshi_mlx.audio.files import read_audio

        found, seen, most = 0, Counter[str](), 0.0
        speech = read_audio(RECORDING).pcm[: 20 * SAMPLE_RATE]
        for number in range(kills):
            out = self._folder / str(number)
            words = ["chat", "--model", str(self._model), "--json", "--input", "virtmic", "--output", "virtspk"]
            program = [sys.executable, "-m", "moshi_mlx", *words, "--save", str(out)]
            process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            assert process.stdout
            for line in process.stdout:
                if json.loads(line).get("state") == "ready":
                    break
            speaking = self._card.speak(speech)
            time.sleep(0.2 + 6 * chance.random())
            process.kill()
            told = [json.loads(line) for line in process.stdout.read().split(b"\n")[:-1]]
            process.wait()
            speaking.kill()
            said = max((event["t"] for event in told if event["event"] == "text"), default=0.0)
            try:
                seconds = read_conversation(out)
                most = max(most, said - seconds)
                seen[f"{int(seconds)} to {int(seconds) + 1} s"] += 1
                if said - seconds > CHAT_LOSES + 2 * FRAME_SECONDS:
                    raise Found(f"{said - seconds:.2f} s are lost of {said:.2f}")
            except Found as error:
                found += 1
                print(f"chat, kill {number + 1}: {error}", file=sys.stderr)
        seen[f"at most {most:.2f} s lost"] = 1
        row("chat --save", kills, found, seen)
        return found


def read_conversation(folder: Path) -> float:
    """Read all that is kept of a conversation; return its length in seconds. Raises Found."""
    lengths = []
    for name in ("user", "moshi", "mix"):
        path = folder / f"{name}.wav"
        try:
            held, _ = soundfile.read(path, dtype="int16")
        except (OSError, RuntimeError) as error:
            raise Found(f"{path.name} cannot be read: {error}") from error
        lengths.append(len(held) / SAMPLE_RATE)
    try:
        about = Kept.read(folder)
    except Exception as error:
        raise Found(f"{folder} cannot be read: {error}") from error
    return min(*lengths, about.seconds)


def read_training(folder: Path, base: Path) -> None:
    """Load all that a training has left, as whoever goes on from it does."""
    import mlx.core as mx

    from moshi_mlx.checkpoint.adapter import find_adapter
    from moshi_mlx.checkpoint.checkpoint import Checkpoint
    from moshi_mlx.finetune.output import PROGRESS, STATE, Shelf

    shelf, model = Shelf(folder / "checkpoints", 3), Checkpoint.resolve(base)
    for number in shelf.numbers():
        find_adapter(str(shelf.place(number)), model)
    if newest := shelf.newest():
        state: Any = mx.load(str(newest / STATE))
        mx.eval(state)
        json.loads((newest / PROGRESS).read_text())
    if (folder / "config.json").exists():
        find_adapter(str(folder), model)


def random_model(folder: Path, shape: dict[str, Any] = WIDE) -> None:
    """Write a model of random weights."""
    from moshi_mlx.checkpoint.random_checkpoint import write_random_checkpoint

    write_random_checkpoint(folder, shape)


def import_all() -> None:
    """Import what the commands import while they run."""
    import huggingface_hub.file_download
    import mlx.core
    import sentencepiece

    import moshi_mlx.checkpoint.adapter
    import moshi_mlx.cli.finetune
    import moshi_mlx.cli.main
    import moshi_mlx.cli.models
    import moshi_mlx.cli.quantize
    import moshi_mlx.finetune.run
    import moshi_mlx.quantize.writer
    import moshi_mlx.runtime.moshi

    del huggingface_hub, mlx, sentencepiece, moshi_mlx


def start(words: list[object]) -> int:
    """Run a command in a process of its own; return its number."""
    return fork(lambda: call(words))


def moshi(words: list[object]) -> int:
    """Run a command, and return its exit code."""
    return run(lambda: call(words))


def call(words: list[object]) -> None:
    from moshi_mlx.__main__ import main

    sys.argv = ["moshi-mlx", *map(str, words)]
    main()


def end_at(pid: int, moment: float) -> int:
    """Kill a process at a moment, unless it has ended by then; return its status."""
    while time.monotonic() < moment:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def run(function: Callable[[], object]) -> int:
    """Run a function in a process of its own, and return the exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(fork(function), 0)[1])


def fork(function: Callable[[], object]) -> int:
    if pid := os.fork():
        return pid
    code = 1
    try:
        function()
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 0 if left.code is None else 1
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def contents(folder: Path) -> str:
    """Return what stands for all files of a folder but the card, which has a date; "" without one."""
    if not folder.is_dir():
        return ""
    files = sorted(path for path in folder.iterdir() if path.name != "README.md")
    return " ".join(f"{path.name} {sha256(path.read_bytes()).hexdigest()}" for path in files)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)


def row(name: str, kills: int, found: int, seen: Counter[str]) -> None:
    there = ", ".join(f"{what}: {count}" for what, count in sorted(seen.items()))
    print(f"| {name} | {kills} | {found} | {there} |", flush=True)


if __name__ == "__main__":
    main()
