"""Several processes that train together, as `mlx.launch` starts them."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.errors import ConfigError
from moshi_mlx.finetune.batches import read_windows
from moshi_mlx.finetune.codes import Encoder
from moshi_mlx.finetune.data import find_sources
from moshi_mlx.finetune.folder import open_folder
from moshi_mlx.finetune.loss import make_batch
from moshi_mlx.finetune.processes import Processes
from moshi_mlx.finetune.run import Run
from moshi_mlx.finetune.settings import Settings
from tests.finetune.dataset import stereo_set
from tests.finetune.made_up import codes_of
from tests.finetune.test_trainer import SIZES, small
from tests.ports import free_port

pytestmark = pytest.mark.slow

SETTINGS = {
    "steps": 1000,
    "seconds": 1.0,
    "batch": 2,
    "lora_rank": 4,
    "lr": 0.01,
    "save_every": 1,
    "checkpointing": False,
}


class Group:
    """Two processes of `moshi-mlx finetune` in a ring on this machine."""

    def __init__(self, folder: Path, *words: object) -> None:
        addresses = [[f"127.0.0.1:{free_port()}"] for _ in range(2)]
        hosts = folder / "hosts.json"
        hosts.write_text(json.dumps(addresses))
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "moshi_mlx", "finetune", *map(str, words)],
                env={**os.environ, "MLX_RANK": str(rank), "MLX_HOSTFILE": str(hosts)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]

    def ends(self) -> list[tuple[int, str, str]]:
        """Wait for both: (code, stdout, stderr) each."""
        told = [process.communicate(timeout=120) for process in self.processes]
        return [(process.returncode, *each) for process, each in zip(self.processes, told, strict=True)]

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture
def groups() -> Iterator[list[Group]]:
    started: list[Group] = []
    yield started
    for group in started:
        group.kill()


def ours(stderr: str) -> list[str]:
    """The lines that are not MLX's own."""
    return [line for line in stderr.splitlines() if not line.startswith("[ring]")]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "codes"))


def alone(base: Path, data: Path, folder: Path) -> Iterator[list[float]]:
    """Give the losses of each step of one process."""
    checkpoint, settings = Checkpoint.resolve(base), Settings(**SETTINGS)
    open_folder(folder, checkpoint, str(data), settings, False)
    encode = checkpoint.load_tokenizer().encode
    codec = checkpoint.load_codec("mlx")
    encoder = Encoder(codec, checkpoint.mimi_weights, checkpoint.lm_config, settings.seconds, encode)
    windows = read_windows(encoder, find_sources(str(data)), settings)
    for report in Run(checkpoint, folder, settings, windows).train():
        yield [report.losses.total, *report.losses.parts.values()]


def test_two_processes_learn_as_one_and_end_when_one_dies_and_go_on_later(
    tiny_folder: Path, tmp_path: Path, groups: list[Group]
) -> None:
    data = stereo_set(tmp_path / "set")
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
    options[-1] = "--no-checkpointing"
    words = (tiny_folder, data, tmp_path / "out", *options, "--codec", "mlx", "--json")
    expected = alone(tiny_folder, data, tmp_path / "alone")
    groups.append(Group(tmp_path, *words))
    first, second = groups[0].processes
    for step in range(1, 4):
        assert_step(first, step, next(expected))
    second.send_signal(signal.SIGKILL)
    (code, _, stderr), (_, *told) = groups[0].ends()
    assert told == ["", ""], "the first one alone tells"
    *_, error = ours(stderr)
    assert code == 1
    line = r"step \d+ was taken, the checkpoint of step \d+ is kept; go on with --resume"
    assert re.fullmatch(f"error: another process of this training has ended: {line}", error)
    saved = max(int(place.name) for place in (tmp_path / "out" / "checkpoints").iterdir())
    for _ in range(4, saved + 1):
        next(expected)
    groups.append(Group(tmp_path, *words, "--resume"))
    for step in (saved + 1, saved + 2):
        assert_step(groups[1].processes[0], step, next(expected))


def assert_step(process: subprocess.Popen[str], step: int, losses: list[float]) -> None:
    """Check what the process tells next."""
    assert process.stdout
    line = process.stdout.readline()
    assert line, process.stderr.read() if process.stderr else ""
    told = json.loads(line)
    assert told["step"] == step
    assert [told[name] for name in ("loss", "text", "semantic", "acoustic")] == pytest.approx(losses, rel=1e-5)


def test_a_batch_is_shared_by_all_or_refused() -> None:
    class Third(Processes):
        def __init__(self) -> None:
            super().__init__()
            self.rank, self.size = 1, 3

    third = Third()
    batch = make_batch(codes_of(SIZES, 0, rows=6), small().lm.config)
    share = third.share(batch)
    assert (share.tokens == batch.tokens[2:4]).all()
    assert (share.weights == batch.weights[2:4]).all()
    third.check(Settings(batch=6))
    with pytest.raises(ConfigError, match="a batch of 4 cannot be shared by 3 processes; give --batch 6"):
        third.check(Settings(batch=4))
