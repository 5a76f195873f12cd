"""A task that lies in this process: what `fit` was given, under the digest of its content, for as long as `fit` runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import version
from sys import modules
from typing import Any

from nasplug.errors import ConfigError
from nasplug.hookspecs import Register, hookimpl
from nasplug.plugins import Plugins, load_plugins
from nasplug.tasks import Task

__all__ = ["beside", "held", "register_tasks"]

NAME = "memory"
_HELD: dict[str, list[Task]] = {}  # several fits of one process may hold the same
_LOCK = threading.Lock()


@contextmanager
def held(task: Task) -> Iterator[dict[str, Any]]:
    """The task, to be had by its digest; the section ``task:`` of a study that asks for it."""
    with _LOCK:
        _HELD.setdefault(task.digest, []).append(task)
    try:
        yield {"use": NAME, "digest": task.digest}
    finally:
        with _LOCK:
            _HELD[task.digest].pop()
            if not _HELD[task.digest]:
                del _HELD[task.digest]


def memory(*, digest: str) -> Task:
    """What an estimator's `fit` was given, while it runs.

    Raises:
        ConfigError: when it does not run any more, or runs in another process.
    """
    with _LOCK:
        if digest in _HELD:
            return _HELD[digest][-1]
    raise ConfigError(
        f"the data of an estimator's fit ({digest[:12]}) are not in this process any more; fit the estimator again, or make "
        "a study of a file"
    )


@hookimpl
def register_tasks(register: Register) -> None:
    """Offer `memory`."""
    register(NAME, memory)


def beside() -> Plugins:
    """All plugins that are installed, and this module."""
    return _beside(load_plugins())


@lru_cache(maxsize=1)
def _beside(loaded: Plugins) -> Plugins:
    made = Plugins()
    for owner, plugin in loaded.members.items():
        made.add(plugin, owner.plugin, owner.distribution, owner.version)
    made.broken, made.left_out = list(loaded.broken), list(loaded.left_out)
    made.add(modules[__name__], __name__, "nasplug", version("nasplug"))
    return made
