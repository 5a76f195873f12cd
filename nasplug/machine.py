"""The machine that packs run on: its devices, threads, memory and CPUs."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from nasplug.errors import ConfigError

__all__ = ["arithmetic", "cpus_here", "pick_device"]


QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of CPU in a period, or max


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


def _hold_memory(hold: bool) -> None:
    """Whether what a step lets go stays with the process; glibc alone, elsewhere nothing is done.

    By default glibc maps tensors of more than some megabytes anew at each step, and the kernel clears every page: measured,
    eager steps of large packs are 1.5 to 3.5 times faster without.
    """
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return
    top_pad, mmap_max, trim_threshold = -2, -4, -1  # names of malloc.h, with its defaults as what is put back
    libc.mallopt(mmap_max, 0 if hold else 65536)
    libc.mallopt(trim_threshold, 2**31 - 1 if hold else 128 * 1024)
    libc.mallopt(top_pad, 64 * 2**20 if hold else 128 * 1024)
    if not hold:
        libc.malloc_trim(0)


@contextmanager
def arithmetic(threads: int) -> Iterator[None]:
    """How packs compute: on ``threads`` threads, with numbers below 1e-38 as zero, in memory that is kept between steps.

    A second thread makes small steps slower, and weights that decay to 1e-40 cost a hundredfold. The process's own settings
    are put back afterwards: a notebook that runs a study keeps the arithmetic it had.
    """
    flushed = bool(torch.full((), 1e-40) * 1.0 == 0.0)
    before = torch.get_num_threads()
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    _hold_memory(True)
    try:
        yield
    finally:
        _hold_memory(False)
        torch.set_flush_denormal(flushed)
        torch.set_num_threads(before)
