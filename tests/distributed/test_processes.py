"""Several processes that share a model: they say what one says, and end together."""

import json
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moshi_mlx.cli.options import ModelOptions, WrongUsage
from moshi_mlx.cli.processes import shared
from moshi_mlx.distributed.channel import Channel
from moshi_mlx.distributed.launcher import is_launched, own_hosts
from moshi_mlx.distributed.leader import Leader, LeadingWindow, ended_together
from moshi_mlx.errors import ProcessError
from moshi_mlx.models.cache import KVCache
from tests.distributed.company import alone
from tests.distributed.ring import Ring

GONE = "it has ended, or its machine cannot be reached any more"
Start = Callable[..., Ring]


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[Start]:
    started: list[Ring] = []

    def start(count: int, *words: object) -> Ring:
        started.append(Ring(count, tmp_path, *words))
        return started[-1]

    yield start
    for each in started:
        each.kill()


def test_two_processes_say_what_one_says(ring: Start, tiny_folder: Path, tiny_q4: Path) -> None:
    models = [str(tiny_folder), str(tiny_q4)]
    two = ring(2, "-m", "tests.distributed.company", *models)
    expected = [alone(model) for model in models]
    (code, said, errors), others = two.ends()
    assert (code, errors, others) == (0, [], (0, "", []))
    assert json.loads(said) == expected


@pytest.mark.slow
def test_four_processes_say_what_one_says(ring: Start, tiny_folder: Path) -> None:
    (code, said, errors), *others = ring(4, "-m", "tests.distributed.company", tiny_folder).ends()
    assert (code, errors, others) == (0, [], 3 * [(0, "", [])])
    assert json.loads(said) == [alone(str(tiny_folder))]


@pytest.mark.parametrize("dead", [0, 2])
def test_all_end_when_one_dies_and_one_line_tells(ring: Start, dead: int) -> None:
    three = ring(3, "-m", "tests.distributed.waiting")
    for process in three.processes:
        assert process.stdout
        assert process.stdout.readline() == "waiting\n"
    three.processes[dead].send_signal(signal.SIGKILL)
    first, *others = three.ends()
    if dead:
        assert first == (1, "", [f"error: process 2 of 3, which shares the model: {GONE}"])
        assert others == [(1, "", []), (-9, "", [])], "the first alone tells"
    else:
        line = "error: the first process has ended, or its machine cannot be reached any more"
        assert others == [(1, "", [line])] * 2


class Group:
    """Two processes, of which this is the first."""

    def size(self) -> int:
        return 2


@pytest.fixture
def pair() -> Iterator[tuple[Leader, Channel]]:
    """The first process, and the other's end of their connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = Channel(socket.create_connection(server.getsockname()))
        yield Leader(Group(), [Channel(server.accept()[0])], end_seconds=600), there  # type: ignore[arg-type]
    there.close()


def fail(leader: Leader, error: Exception) -> None:
    with ended_together(leader):
        raise error


def test_what_fails_because_a_process_has_gone_says_so(pair: tuple[Leader, Channel]) -> None:
    leader, other = pair
    other.close()
    with pytest.raises(ProcessError, match=f"process 1 of 2, which shares the model: {GONE}"):
        fail(leader, RuntimeError("[ring] connection to a peer was lost"))


def test_what_another_process_cannot_do_is_said_by_the_first(pair: tuple[Leader, Channel]) -> None:
    leader, other = pair
    other.send({"error": "there is no such folder"})
    with pytest.raises(ProcessError, match="process 1 of 2, which shares the model: there is no such folder"):
        fail(leader, RuntimeError("[ring] connection to a peer was lost"))


def test_all_that_changes_a_window_is_told() -> None:
    untold = {
        "arrays",
        "batch",
        "extend",
        "end",
        "rotate_keys",
        "joined",
    }  # they read, follow another, or make one
    changing = {name for name in vars(KVCache) if not name.startswith("_")} - untold
    assert changing == {name for name in vars(LeadingWindow) if not name.startswith("_")}


def test_an_error_that_is_no_end_of_a_process_stays_what_it_is(pair: tuple[Leader, Channel]) -> None:
    leader, other = pair
    with pytest.raises(KeyError):
        fail(leader, KeyError("a fault"))
    assert list(other) == [{"do": "stop", "code": 0}]


def test_a_launcher_tells_that_there_are_several_and_where_the_first_is(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.json"
    hosts.write_text('[["10.0.0.1:5000", "10.0.1.1:5001"], ["10.0.0.2:5000"]]')
    assert not is_launched({})
    assert is_launched({"MLX_RANK": "0", "MLX_HOSTFILE": str(hosts)})
    assert is_launched({"OMPI_COMM_WORLD_RANK": "1"})
    name = socket.gethostname()
    assert own_hosts({"MLX_HOSTFILE": str(hosts)}) == ["10.0.0.1", "10.0.1.1", name]
    assert own_hosts({"MLX_JACCL_COORDINATOR": "192.168.0.1:32323"}) == ["192.168.0.1", name]
    hosts.write_text('[["127.0.0.1:5000"], ["127.0.0.1:5001"]]')
    assert own_hosts({"MLX_HOSTFILE": str(hosts)}) == ["127.0.0.1"], "nobody else can reach it"
    hosts.write_text("")
    assert not is_launched({"MLX_RANK": "0", "MLX_HOSTFILE": str(hosts)}), "mlx.launch -n 1"


@pytest.mark.parametrize("command", ["transcribe", "eval_", "bench"])
def test_a_command_that_processes_would_only_repeat_is_refused(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"model": ModelOptions(), "word": 1}
    with shared(command, options) as same:
        assert same == options
    monkeypatch.setenv("MLX_RANK", "0")
    name = command.rstrip("_")
    with pytest.raises(WrongUsage, match=f"cannot share the model of `moshi-mlx {name}`; start it without"):
        shared(command, options).__enter__()
