"""The file of defaults: what it says is taken, what is typed wins, and what is wrong in it is named."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Done

Cli = Callable[..., Done]
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Let the file say this."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def say(text: str) -> Path:
        path = tmp_path / "moshi-mlx.toml"
        path.write_text(text)
        return path

    return say


def test_what_the_file_says_is_taken_and_what_is_typed_wins(
    moshi_cli: Cli, write: Write, tiny_folder: Path, question: Path
) -> None:
    write(f'model = "{tiny_folder}"\ncodec = "mlx"\n[run]\nseed = 7\ntail = 0.5\nlead = 0\njson = true\n')
    first = json.loads(moshi_cli("run", question).out.splitlines()[-1])
    assert (first["event"], first["seed"]) == ("end", 7)
    assert json.loads(moshi_cli("run", question, "--seed", 8).out.splitlines()[-1])["seed"] == 8
    alone = moshi_cli("--no-config", "run", question, "-m", tiny_folder, "--codec", "mlx", "--tail", 0)
    assert alone.code == 0
    assert "event" not in alone.out


def test_the_general_part_is_for_the_commands_that_talk(moshi_cli: Cli, write: Write) -> None:
    write('model = "nobody"\n')
    assert "there is no model 'nobody'" in moshi_cli("run", "tests/data/question.flac").err
    done = moshi_cli("bench", "--counts", "--shape", "moshi-8b")  # whose --model is something else
    assert "there is no shape 'moshi-8b'" in done.err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('modle = "nano"', "has an option modle; did you mean model?"),
        ("port = 90_000", "port is 90000: "),
        ("[srve]\nport = 1", "there is no command [srve]; did you mean serve?"),
        ("[serve]\nprot = 1", "serve has no option prot; did you mean port?"),
        ("[serve]\nport = 'x'", "port of [serve] is x: "),
        ("[serve]\nopen = 'no'", "open of [serve] is no; true or false expected"),
        ("[serve]\nport = true", "port of [serve] is true; a value expected"),
        ("frames = 3", "has an option frames; write it below [bench]"),
        ("echo = 'linaer'", "did you mean linear?"),
        ("top-p = 2.5", "top-p: top_p is 2.5; it must be between 0.0 and 1.0"),
        ("kv_bits = 4", "kv_bits is 4: 4: only 8 is possible"),
        ("model = ['a', 'b']", "model is ['a', 'b']; one value expected"),
        ("[serve]\nhelp = true", "serve has no option help"),
        ("model", "is not TOML: "),
        ("\udcff", "is not TOML: "),
    ],
)
def test_what_is_wrong_is_one_line_with_file_key_and_nearest_name(
    moshi_cli: Cli, write: Write, text: str, says: str
) -> None:
    path = write("")
    path.write_bytes(text.encode(errors="surrogateescape"))
    done = moshi_cli("devices")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert done.err.startswith(f"error: {path}")
    assert says in done.err
    assert moshi_cli("run", "--help").code == 0, "help can always be had"
    assert moshi_cli("--version").code == 0
    assert "no model 'nobody'" in moshi_cli("--no-config", "run", "tests/data/question.flac", "-m", "nobody").err


def test_a_file_that_cannot_be_read_is_named(moshi_cli: Cli, write: Write) -> None:
    path = write("")
    path.unlink()
    path.symlink_to(path)
    done = moshi_cli("devices")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"error: cannot read {path}: ")


def test_everything_that_can_be_right_is(moshi_cli: Cli, write: Write, tmp_path: Path) -> None:
    text = "echo = 'off'\ninput = 2\ntop_p = 0.5\n[serve]\nopen = false\nport = 0\nallow-host = 'a.b'\n"
    write(f"{text}tls = ['~/a.pem', 'b.pem']\nrefresh = 20\n[quantize]\nbudget = '4GB'\n[bench]\nframes = 3\n")
    done = moshi_cli("serve", "-m", "nano", "--lan")
    assert f"{Path.home()}/a.pem" in done.err, "and ~ is home"


def test_doctor_shows_the_file(moshi_cli: Cli, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    from moshi_mlx.cli import doctor
    from tests.cli.test_doctor import GOOD

    monkeypatch.setattr(doctor, "gather", lambda: GOOD)
    path = write('model = "nano"\n[serve]\nport = 9000\n')
    done = moshi_cli("doctor")
    assert done.code == 0
    rows = [line.strip() for line in done.out.partition("Defaults\n")[2].splitlines()]
    assert rows == [f"✓ file             {path}", "model = nano", "serve: port = 9000"]
    told = json.loads(moshi_cli("doctor", "--json").out)["config"]
    assert told == {"file": str(path), "settings": {"model": "nano", "serve": {"port": 9000}}, "problem": None}
    write("modle = 1\n")
    done = moshi_cli("doctor")
    assert done.code == 1
    assert f"✗ file             {path}: no command that talks has an option modle" in done.out
    write("seed = 2030-01-01\n")
    assert json.loads(moshi_cli("doctor", "--json").out)["config"]["settings"] == {"seed": "2030-01-01"}
    path.unlink()
    done = moshi_cli("doctor")
    assert done.code == 0
    assert f"none; {path} can hold them" in done.out
