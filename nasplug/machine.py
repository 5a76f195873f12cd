"""The machine that packs run on: its devices, threads, memory and CPUs, and the versions of what is installed there."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from nasplug.errors import ConfigError

__all__ = [
    "arithmetic",
    "cpus_here",
    "device_name",
    "environment",
    "give_back",
    "held_memory",
    "memory_of",
    "out_of_memory",
    "pick_device",
    "version_of",
]


QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of CPU in a period, or max

PACKAGES = ("nasplug", "torch", "numpy", "pyarrow", "pandas", "scikit-learn", "ray", "mlflow", "optuna")
GIT_SECONDS = 5.0


def cpus_here() -> int:
    """The CPUs that this process may use: in a container that has a quota, the quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if QUOTA.exists():
        share, period = QUOTA.read_text().split()
        if share != "max":
            return max(1, min(allowed, int(share) // int(period)))
    return allowed


def pick_device(device: str, gpus: float) -> str:
    """The device: ``auto`` is the trial's GPU if it has one, else the CPU.

    Raises:
        ConfigError: for a device that is not there.
    """
    if device == "cpu" or (device == "auto" and gpus == 0):
        return "cpu"
    chosen = "cuda" if device == "auto" else device
    have = torch.cuda.device_count()
    if have <= (torch.device(chosen).index or 0):
        asked = f"gpus: {gpus:g}" if device == "auto" else f"device: {device}"
        raise ConfigError(
            f"resources.{asked}; here are {have} GPUs that torch {torch.__version__} can use. Write gpus: 0 and device: auto "
            "to train on the CPU, or run where there is a GPU"
        )
    return chosen


def device_name(device: str, threads: int = 1) -> str:
    """What a device is called: of a GPU its maker's name, of the CPU the processor's with its instructions and ``threads``."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device) if torch.cuda.is_available() else "a GPU that is not here"
    return f"{_cpu() or platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {threads} thread{'s' * (threads > 1)}"


def memory_of(device: str) -> int | None:
    """Bytes of a GPU that is here; None of the CPU, and where there is no GPU."""
    if not device.startswith("cuda") or not torch.cuda.is_available():
        return None
    return int(torch.cuda.get_device_properties(device).total_memory)


REFUSED = ("DefaultCPUAllocator: can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocator refused: of a GPU, of the CPU, or Python's own."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in str(error) for words in REFUSED)


def give_back(device: str) -> None:
    """Give memory that nothing holds any more back to the device."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


@contextmanager
def held_memory() -> Iterator[None]:
    """What a step lets go stays with the process as long as somebody holds it: the next step, or pack, asks no kernel for it.

    By default glibc maps tensors of more than some megabytes anew at each step, and the kernel clears every page: measured,
    eager steps of large packs are 1.5 to 3.5 times faster without.
    """
    with _HOLDING:
        _HOLDERS.append(True)
        _hold_memory(True)
    try:
        yield
    finally:
        with _HOLDING:
            _HOLDERS.pop()
            if not _HOLDERS:
                _hold_memory(False)


_HOLDING, _HOLDERS = threading.Lock(), list[bool]()  # of the process, as the allocator is


def _hold_memory(hold: bool) -> None:
    """Of glibc alone; elsewhere nothing is done."""
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return
    top_pad, mmap_max, trim_threshold = -2, -4, -1  # names of malloc.h, with its defaults as what is put back
    libc.mallopt(mmap_max, 0 if hold else 65536)
    libc.mallopt(trim_threshold, 2**31 - 1 if hold else 128 * 1024)
    libc.mallopt(top_pad, 64 * 2**20 if hold else 128 * 1024)
    if not hold:
        libc.malloc_trim(0)


@contextmanager
def _on_gpu(device: str, share: float, *, tf32: bool) -> Iterator[None]:
    """How packs compute on a GPU: with all digits unless ``tf32``, and with no more of its memory than their ``share``."""
    place = torch.device(device)
    index = torch.cuda.current_device() if place.index is None else place.index
    matmul, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32  # of convolutions, where torch allows it by default
    torch.cuda.set_per_process_memory_fraction(share, index)  # Ray counts shares of a GPU, and holds nobody to them
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, index)
        torch.backends.cudnn.allow_tf32 = cudnn
        torch.set_float32_matmul_precision(matmul)


@contextmanager
def arithmetic(threads: int, device: str = "cpu", *, share: float = 1.0, tf32: bool = False) -> Iterator[None]:
    """How packs compute: on ``threads`` threads, with numbers below 1e-38 as zero, in memory that is kept between steps.

    A second thread makes small steps slower, and weights that decay to 1e-40 cost a hundredfold. On a GPU a pack has a
    ``share`` of the memory, and products have the 10 bits of TF32 where ``tf32`` allows it. The process's own settings are put
    back afterwards: a notebook that runs a study keeps the arithmetic it had.
    """
    flushed = bool(torch.full((), 1e-40) * 1.0 == 0.0)
    before = torch.get_num_threads()
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    try:
        with held_memory(), _on_gpu(device, share, tf32=tf32) if device.startswith("cuda") else nullcontext():
            yield
    finally:
        torch.set_flush_denormal(flushed)
        torch.set_num_threads(before)


# -- what is told of it ------------------------------------------------------------------------------------------------


def environment(device: str = "cpu") -> dict[str, Any]:
    """What a network was trained on: Python, packages, CPU, threads, device, and the commit of the working folder.

    No environment variables and no host name: nothing that is not needed to train it again.
    """
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.version.cuda,
        "tf32": device.startswith("cuda") and torch.get_float32_matmul_precision() != "highest",
        "packages": {package: version_of(package) for package in PACKAGES},
        "git": _commit(os.getcwd()),
    }


@lru_cache(maxsize=64)
def version_of(package: str) -> str:
    """Of an installed package; in words where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


@lru_cache(maxsize=1)
def _cpu() -> str:
    """The name of the processor; empty where the system has none for it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor()


@lru_cache(maxsize=8)
def _commit(folder: str) -> dict[str, Any] | None:
    """The commit that a folder is at, and whether files that git knows differ from it; None where there is no repository."""

    def git(*command: str) -> str:
        asked = ["git", "-C", folder, *command]
        quiet = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
        return subprocess.run(
            asked, check=True, capture_output=True, text=True, errors="replace", timeout=GIT_SECONDS, env=quiet
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None
