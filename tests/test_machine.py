"""What machine this is, from what its system's programs answer."""

import platform
import sys

import pytest

from moshi_mlx import machine
from moshi_mlx.machine import bandwidth, this_machine

IOREG = """+-o AGXAcceleratorG14X  <class AGXAcceleratorG14X, id 0x100000456, registered>
    {
      "gpu-core-count" = 38
      "model" = "Apple M2 Max"
    }"""


def mac(monkeypatch: pytest.MonkeyPatch, architecture: str, answers: dict[str, str]) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: architecture)
    monkeypatch.setattr(machine, "_output", lambda *command: answers.get(" ".join(command), ""))


def test_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "sysctl -n machdep.cpu.brand_string": "Apple M2 Max",
        "sysctl -n hw.memsize": str(32 * 2**30),
        "sysctl -n hw.optional.arm64": "1",
        "sw_vers -productVersion": "15.6.1",
        "ioreg -r -c AGXAccelerator -d 1": IOREG,
    }
    mac(monkeypatch, "arm64", answers)
    found = this_machine()
    assert (found.system, found.system_version, found.chip) == ("macOS", "15.6.1", "Apple M2 Max")
    assert (found.memory, found.gpu_cores) == (32 * 2**30, 38)
    assert found.apple_silicon
    assert not found.rosetta
    assert bandwidth(found.chip, found.gpu_cores) == 400


def test_an_intel_python_on_apple_silicon_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "sysctl -n machdep.cpu.brand_string": "VirtualApple @ 2.50GHz processor",
        "arch -arm64 sysctl -n machdep.cpu.brand_string": "Apple M1",
        "sysctl -n hw.optional.arm64": "1",
    }
    mac(monkeypatch, "x86_64", answers)
    found = this_machine()
    assert found.rosetta
    assert found.chip == "Apple M1"
    assert found.apple_silicon


def test_an_intel_mac_is_not_rosetta(monkeypatch: pytest.MonkeyPatch) -> None:
    mac(monkeypatch, "x86_64", {"sysctl -n machdep.cpu.brand_string": "Intel(R) Core(TM) i7", "sysctl": ""})
    assert not this_machine().rosetta
    assert not this_machine().apple_silicon


def test_linux_with_and_without_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/cpuinfo": "processor\t: 0\nmodel name\t: AMD EPYC 9554\n\nmodel name\t: AMD EPYC 9554\n",
        "/etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    }
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(machine, "_read", files.get)
    monkeypatch.setattr(machine, "_output", lambda *command: "NVIDIA H200, 143771\nNVIDIA H200, 143771")
    found = this_machine()
    assert (found.chip, found.system_version) == ("AMD EPYC 9554", "Debian GNU/Linux 12 (bookworm)")
    assert (found.gpu, found.gpu_memory) == ("NVIDIA H200", 143_771 * 2**20)
    monkeypatch.setattr(machine, "_output", lambda *command: "")
    assert (this_machine().gpu, this_machine().gpu_memory) == (None, None)


def test_a_program_that_is_missing_or_fails_says_nothing() -> None:
    assert machine._output("no-such-program-here") == ""
    assert machine._output(sys.executable, "-c", "print('half'); raise SystemExit(3)") == ""
    assert machine._output(sys.executable, "-c", "print('whole')") == "whole"


@pytest.mark.parametrize(
    ("chip", "gpu_cores", "expected"),
    [
        ("Apple M1", 8, 68),
        ("Apple M3 Pro", None, 150),
        ("Apple M3 Max", 30, 300),
        ("Apple M3 Max", 40, 400),
        ("Apple M4 Max", None, 410),
        ("Apple M4 Max", 40, 546),
        ("NVIDIA H200", None, 4800),
        ("Apple M9 Giga", 99, None),
        ("Intel(R) Core(TM) i7", None, None),
        ("unknown", None, None),
    ],
)
def test_bandwidth_is_that_of_the_data_sheet_and_unknown_otherwise(
    chip: str, gpu_cores: int | None, expected: float | None
) -> None:
    assert bandwidth(chip, gpu_cores) == expected
