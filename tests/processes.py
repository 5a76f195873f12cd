"""Other processes, looked at while they start and end: one that ends meanwhile is none that lives, and no error."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress

import psutil

PATIENCE = 120.0
"""Seconds that something may take on a machine that others use too, where it takes a moment on one that is idle."""


def lives(process: int | psutil.Process) -> bool:
    """Whether it is there and has not ended; a zombie has, whoever should have asked for its status."""
    with suppress(psutil.NoSuchProcess):
        found = psutil.Process(process) if isinstance(process, int) else process
        return found.is_running() and found.status() != psutil.STATUS_ZOMBIE
    return False


def descendants(pid: int, *named: str) -> dict[psutil.Process, str]:
    """What a process has started, directly or not, and that lives: each with its command line.

    Args:
        pid: of the process.
        named: words of which a command line has at least one; without any, all are given.
    """
    found: dict[psutil.Process, str] = {}
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # also a zombie, which has no command line
                line = " ".join(process.cmdline())
                if lives(process) and (not named or any(word in line for word in named)):
                    found[process] = line
    return found


def end(*pids: int) -> None:
    """Kill processes and all that they have started."""
    for process in [each for pid in pids for each in descendants(pid)] + [*map(_found, pids)]:
        if process is not None:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _found(pid: int) -> psutil.Process | None:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid)
    return None


def outliving(processes: Iterable[int | psutil.Process], seconds: float = PATIENCE) -> list[int | psutil.Process]:
    """Those that have not ended after so many seconds; returns at once when none is left."""
    until = time.monotonic() + seconds
    left = list(processes)
    while left := [each for each in left if lives(each)]:
        if time.monotonic() > until:
            break
        time.sleep(0.05)
    return left
