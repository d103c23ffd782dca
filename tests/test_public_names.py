"""What `moshi_mlx` offers, and that what it lists is there."""

import subprocess
import sys

import pytest

import moshi_mlx


@pytest.mark.parametrize("name", moshi_mlx.__all__)
def test_every_listed_name_exists(name: str) -> None:
    assert getattr(moshi_mlx, name) is not None


def test_microphone_and_speaker_are_public() -> None:
    from moshi_mlx.audio.duplex import Duplex

    assert moshi_mlx.Duplex is Duplex
    assert "Duplex" in moshi_mlx.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        moshi_mlx.nonsense  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, moshi_mlx; print(*sorted({'mlx', 'numpy', 'sounddevice'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_client_of_a_server_needs_no_mlx() -> None:
    code = "import sys, moshi_mlx.client; print('mlx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
