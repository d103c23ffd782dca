"""The machine: chip, memory, system, as the system's own programs tell them; MLX is not imported."""

import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# GB/s by the makers' data sheets. Where a chip is sold in several widths: GPU cores (at least) -> GB/s.
APPLE_BANDWIDTH: dict[str, float | dict[int, float]] = {
    "M1": 68, "M1 Pro": 200, "M1 Max": 400, "M1 Ultra": 800,
    "M2": 100, "M2 Pro": 200, "M2 Max": 400, "M2 Ultra": 800,
    "M3": 100, "M3 Pro": 150, "M3 Max": {0: 300, 40: 400}, "M3 Ultra": 819,
    "M4": 120, "M4 Pro": 273, "M4 Max": {0: 410, 40: 546},
    "M5": 153, "M5 Pro": 307, "M5 Max": {0: 460, 40: 614},
}  # fmt: skip
NVIDIA_BANDWIDTH: dict[str, float] = {
    "NVIDIA H200": 4800, "NVIDIA H100 80GB HBM3": 3350, "NVIDIA A100-SXM4-80GB": 2039, "NVIDIA L4": 300,
    "NVIDIA GeForce RTX 3090": 936, "NVIDIA GeForce RTX 4090": 1008, "NVIDIA GeForce RTX 5090": 1792,
}  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """Hardware and system. Memory is in bytes."""

    system: str  # "macOS", "Linux"
    system_version: str
    chip: str  # "Apple M2 Pro", "AMD EPYC"; "unknown"
    cores: int
    memory: int
    architecture: str  # of this Python: "arm64", "x86_64"
    python: str
    gpu: str | None = None  # an NVIDIA card's name
    gpu_cores: int | None = None  # Apple silicon
    gpu_memory: int | None = None  # of an NVIDIA card; elsewhere memory is shared or there is none
    rosetta: bool = False  # an Intel Python on Apple silicon: there is no MLX for it

    @property
    def apple_silicon(self) -> bool:
        """Whether the chip is Apple's own, also where this Python is an Intel program."""
        return self.system == "macOS" and (self.rosetta or self.architecture == "arm64")

    def bandwidth(self, cuda: bool = False) -> float | None:
        """GB/s of the memory that MLX reads weights from, the card's with CUDA; None if it is not known here."""
        return bandwidth(self.gpu or "") if cuda else bandwidth(self.chip, self.gpu_cores)

    def memory_for_models(self, cuda: bool = False) -> int:
        """Bytes of memory that MLX can use, the card's with CUDA."""
        return (cuda and self.gpu_memory) or self.memory


def this_machine() -> Machine:
    """Describe the machine this runs on."""
    common = {
        "cores": os.cpu_count() or 1,
        "architecture": platform.machine(),
        "python": platform.python_version(),
    }
    return _mac(common) if sys.platform == "darwin" else _other(common)


def is_running(process: int) -> bool:
    """Return whether there is a process of this number, anybody's."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def memory_for(need: int) -> int:
    """Return the bytes of memory that something of `need` bytes can be in: this machine's, or a card's with more.

    Quicker than `this_machine`: a card is asked only about what the machine itself cannot hold.
    """
    own = _physical_memory()
    if need <= own:
        return own
    mebibytes = _card().rpartition(",")[2].strip()
    return max(own, int(mebibytes) * 2**20 if mebibytes.isdigit() else 0)


def cache_folder() -> Path:
    """Return the folder for what this package can make again: in $XDG_CACHE_HOME, else in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moshi-mlx"


def bandwidth(name: str, gpu_cores: int | None = None) -> float | None:
    """Return the memory bandwidth of a chip or card in GB/s, None if it is not known here.

    Without gpu_cores, the narrowest of what is sold under the name: better to promise too little.
    """
    widths = NVIDIA_BANDWIDTH.get(name) or APPLE_BANDWIDTH.get(name.removeprefix("Apple "))
    if not isinstance(widths, dict):
        return widths
    return widths[max(cores for cores in widths if cores <= (gpu_cores or 0))]


def _mac(common: dict) -> Machine:
    arm = _sysctl("hw.optional.arm64") == "1"
    cores = re.search(r'"gpu-core-count"\s*=\s*(\d+)', _output("ioreg", "-r", "-c", "AGXAccelerator", "-d", "1"))
    chip = _sysctl("machdep.cpu.brand_string")
    return Machine(
        **common,
        system="macOS",
        # platform.mac_ver() is told a compatible version by newer systems if Python was built for an older one
        system_version=_output("sw_vers", "-productVersion") or platform.mac_ver()[0],
        # Rosetta answers "VirtualApple @ 2.50GHz processor"; a program of the machine's own kind is told the truth
        chip=_output("arch", "-arm64", "sysctl", "-n", "machdep.cpu.brand_string")
        if "VirtualApple" in chip
        else chip or "unknown",
        memory=int(_sysctl("hw.memsize") or 0),
        gpu_cores=int(cores[1]) if cores else None,
        rosetta=arm and common["architecture"] == "x86_64",
    )


def _other(common: dict) -> Machine:
    names = re.findall(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    release = re.search(r'^PRETTY_NAME="?([^"\n]+)', _read("/etc/os-release"), re.MULTILINE)
    name, _, mebibytes = _card().rpartition(",")
    return Machine(
        **common,
        system=platform.system(),
        system_version=release[1] if release else platform.release(),
        chip=names[0] if names else platform.processor() or "unknown",
        memory=_physical_memory(),
        gpu=name.strip() or None,
        gpu_memory=int(mebibytes) * 2**20 if mebibytes.strip().isdigit() else None,
    )


def _physical_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _card() -> str:
    """Return "name, MiB" of the first NVIDIA card, "" without one."""
    found = _output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
    return found.partition("\n")[0]


def _sysctl(key: str) -> str:
    return _output("sysctl", "-n", key)


def _output(*command: str) -> str:
    """Return what a program prints, "" if it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
