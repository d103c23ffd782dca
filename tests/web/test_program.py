"""`moshi-mlx serve` as a person starts it: where it listens, what it says, how it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moshi_mlx.checkpoint.random_checkpoint import TINY
from moshi_mlx.errors import ServerError
from moshi_mlx.web.certificate import lan_addresses, load_tls, own_tls
from moshi_mlx.web.serving.program import choose_endpoint
from tests.adapter_file import adapter
from tests.config_file import edit
from tests.weights_file import rewrite

pytestmark = pytest.mark.slow

PATIENCE = 60  # seconds for what takes a few: the machine may be busy


class Program:
    """A running server and what it printed so far."""

    def __init__(
        self, *words: object, module: str = "moshi_mlx", environment: dict[str, str] | None = None
    ) -> None:
        command = [] if module.endswith("local_web") else ["serve"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *command, *map(str, words)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.printed = ""
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            with self._changed:
                self.printed += line
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def until(self, pattern: str) -> re.Match[str]:
        """Wait until this was printed."""
        with self._changed:
            self._changed.wait_for(
                lambda: re.search(pattern, self.printed) or self.process.poll() is not None, PATIENCE
            )
            found = re.search(pattern, self.printed)
            assert found, self.printed
            return found

    def end(self, number: int = signal.SIGINT) -> int:
        """Send a signal and wait; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self._thread.join()
        assert self.process.stderr
        self.process.stderr.close()
        return code


@pytest.fixture
def serve() -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def start(*words: object, **how) -> Program:
        started.append(Program(*words, **how))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.end(signal.SIGKILL)


def get(url: str, context: ssl.SSLContext | None = None) -> tuple[int, str]:
    """What a browser would get, in whose eyes no proxy matters."""
    handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)]
    try:
        with urllib.request.build_opener(*handlers).open(url, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_it_says_where_it_is_and_ends_when_told(serve: Callable[..., Program], number: int, code: int) -> None:
    program = serve("--model", "nano", "--port", 0, "--no-browser", "--offline")
    url = program.until(r"listening on (http://localhost:\d+)\n")[1]
    assert get(f"{url}/")[0] == 200
    program.until(r" ready seconds=\d")
    assert program.end(number) == code
    assert "Traceback" not in program.printed
    said = "interrupted: the server has stopped, and its conversations have ended\n"
    assert program.printed.endswith(said) == (number == signal.SIGINT)


def test_it_can_be_ended_while_it_loads(serve: Callable[..., Program]) -> None:
    program = serve("--model", "nano", "--port", 0, "--no-browser")
    program.until("listening on")
    assert program.end() == 130
    assert "Traceback" not in program.printed


def test_a_model_that_cannot_be_loaded_is_one_line(serve: Callable[..., Program], tmp_path: Path) -> None:
    program = serve("--model", tmp_path, "--port", 0, "--no-browser")
    assert program.process.wait(PATIENCE) == 1
    program.end()
    errors = [line for line in program.printed.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "Traceback" not in program.printed


def test_an_adapter_is_put_on_the_model_and_one_of_another_base_ends_it(
    serve: Callable[..., Program], folder: Path, tmp_path: Path
) -> None:
    fine, other = adapter(tmp_path / "fine", 1), adapter(tmp_path / "other", 1, {**TINY, "num_layers": 1})
    program = serve("--model", folder, "--adapter", fine, "--port", 0, "--no-browser")
    program.until(r" ready seconds=\d")
    program.end()
    program = serve("--model", folder, "--adapter", other, "--port", 0, "--no-browser")
    assert program.process.wait(PATIENCE) == 1
    program.end()
    (error,) = [line for line in program.printed.splitlines() if line.startswith("error: ")]
    assert "was made for another base" in error


def test_what_is_doubtful_about_the_weights_is_logged_however_quiet(
    serve: Callable[..., Program], folder: Path
) -> None:
    rewrite(folder / "model.safetensors", lambda arrays: arrays["text_linear.weight"].__setitem__(slice(None), 0))
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")
    edit(folder, moshi_name=None)
    program = serve("--model", folder, "--port", 0, "--no-browser", "--quiet", "--codec", "mlx")
    program.until(r"WARNING note text=.*also holds consolidated\.safetensors")
    program.until(r"WARNING note text=.*nothing but zeros in text_linear\.weight")
    program.end()


def test_a_port_that_is_taken_is_one_line(serve: Callable[..., Program]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        program = serve("--model", "nano", "--host", "127.0.0.1", "--port", port, "--no-browser")
        assert program.process.wait(PATIENCE) == 1
    program.end()
    assert re.fullmatch(
        r"error: cannot listen on 127.0.0.1:\d+: .*; choose another with --port\n", program.printed
    )


def test_the_known_front_door_serves_too(serve: Callable[..., Program], tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("mine")
    program = serve(
        "--hf-repo", "nano", "--port", 0, "--no-browser", "--static", tmp_path, "--steps", 4000,
        module="moshi_mlx.local_web",
    )  # fmt: skip
    url = program.until(r"listening on (http://localhost:\d+)\n")[1]
    assert get(f"{url}/") == (200, "mine")
    assert program.end(signal.SIGTERM) == 0


def test_on_a_local_network_it_has_a_certificate_a_token_and_a_picture_of_its_address(
    serve: Callable[..., Program], tmp_path: Path
) -> None:
    program = serve(
        "--model", "nano", "--port", 0, "--lan", "--no-browser", environment={"XDG_CACHE_HOME": str(tmp_path)}
    )  # fmt: skip
    found = program.until(r"listening on (https://localhost:\d+)/\?token=([\w-]+)\n")
    url, token = found[1], found[2]
    assert len(token) >= 16
    certificate = tmp_path / "moshi-mlx" / "certificate.pem"
    trusting = ssl.create_default_context(cafile=certificate)
    assert get(f"{url}/", trusting)[0] == 401
    assert get(f"{url}/?token={token}", trusting)[0] == 200
    assert (tmp_path / "moshi-mlx" / "key.pem").stat().st_mode & 0o077 == 0
    if addresses := lan_addresses():
        assert addresses[0] in program.until(r"from other machines: https://(\S+)\n")[1]
        program.until("[█▀▄]{10}")
    assert program.end(signal.SIGTERM) == 0


def test_only_localhost_unless_told_otherwise() -> None:
    endpoint = choose_endpoint()
    assert (endpoint.host, endpoint.token, endpoint.tls) == ("localhost", None, None)
    assert set(endpoint.names) == {"localhost", "127.0.0.1", "::1"}
    assert choose_endpoint(host="127.0.0.1").token is None


def test_where_others_can_come_they_need_a_token() -> None:
    first, second = choose_endpoint(host="0.0.0.0"), choose_endpoint(host="0.0.0.0")
    assert first.token
    assert first.token != second.token
    assert choose_endpoint(host="0.0.0.0", token="mine").token == "mine"
    assert choose_endpoint(host="0.0.0.0", token="none").token is None
    assert choose_endpoint(token="mine").token == "mine"
    assert "box.example" in choose_endpoint(allow_hosts=["box.example"]).names
    with pytest.raises(ServerError, match="--token"):
        choose_endpoint(token="two words")


def test_addresses_are_written_as_browsers_read_them() -> None:
    endpoint = choose_endpoint(host="::1", token="abc")
    assert endpoint.url("::1", 80) == "http://[::1]:80/?token=abc"


def test_a_certificate_that_is_none_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"cannot use the certificate .* No such file"):
        load_tls(tmp_path / "cert.pem", tmp_path / "key.pem")
    (tmp_path / "cert.pem").write_text("nothing")
    with pytest.raises(ServerError, match="cannot use the certificate"):
        load_tls(tmp_path / "cert.pem", tmp_path / "cert.pem")
    (tmp_path / "file").write_text("")
    with pytest.raises(ServerError, match="cannot keep a certificate"):
        own_tls(["localhost"], tmp_path / "file")


@pytest.mark.parametrize("talks", [False, True])
def test_a_model_that_cannot_do_what_it_is_asked_for_is_one_line(
    serve: Callable[..., Program], tiny_folder: Path, stt_folder: Path, talks: bool
) -> None:
    model, captions = (tiny_folder, tiny_folder) if talks else (stt_folder, stt_folder)
    program = serve("--model", model, "--captions", captions, "--port", 0, "--no-browser")
    assert program.process.wait(PATIENCE) == 1
    program.end()
    (error,) = [line for line in program.printed.splitlines() if line.startswith("error: ")]
    if talks:
        assert "is a model that speaks, not a speech-to-text model" in error
    else:
        assert "does not talk: --captions" in error
    assert "Traceback" not in program.printed


def test_captions_are_offered_by_the_model_that_makes_them(
    serve: Callable[..., Program], tiny_folder: Path, stt_folder: Path
) -> None:
    program = serve(
        "--model", tiny_folder, "--captions", stt_folder, "--codec", "mlx", "--port", 0, "--no-browser",
        "--max-sessions", 2,
    )  # fmt: skip
    url = program.until(r"listening on (\S+)")[1]
    program.until("ready seconds")
    info = json.loads(get(f"{url}/api/info")[1])
    assert info["captions"] == str(stt_folder)
    assert "moshi_uncaptioned_frames_total 0" in get(f"{url}/metrics")[1]
    assert program.end() == 130
