"""Finding and loading what is installed: our own names, then the plugins of the entry-point group ``nasplug``."""

from __future__ import annotations

import importlib
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import lru_cache
from importlib import metadata
from typing import Any

from nasplug.errors import PluginError, cause, did_you_mean
from nasplug.plugins.defects import ONLY, SKIP, BrokenPluginError, Owner
from nasplug.plugins.listing import describe
from nasplug.plugins.memory import recall, remember
from nasplug.plugins.registration import OURS
from nasplug.plugins.registry import Plugins

__all__ = ["BUILT_IN", "listing", "load_plugins"]

BUILT_IN = (
    "nasplug.activations",
    "nasplug.schedules",
    "nasplug.tasks",
    "nasplug.data.datasets",
    "nasplug.data.images",
    "nasplug.linear",
    "nasplug.sampling.samplers",
)
GROUP = "nasplug"


@lru_cache(maxsize=1)
def load_plugins() -> Plugins:
    """Our own names, then every installed plugin of the entry-point group ``nasplug``; broken ones are remembered as such.

    The environment variables ``NASPLUG_LOAD_PLUGINS`` and ``NASPLUG_SKIP_PLUGINS`` name distributions, by comma: those to load
    (empty: none), and those to leave out.

    Raises:
        PluginError: for a distribution in one of these variables that is not installed.
    """
    began = time.time_ns()
    plugins = Plugins()
    version = metadata.version(OURS)
    for module in BUILT_IN:
        plugins.add(importlib.import_module(module), module, OURS, version)
    found = _installed()
    plugins.left_out = [owner for _, owner, wanted in found if not wanted]
    with redirect_stdout(sys.stderr):  # what a plugin prints is no part of a command's answer
        for entry, owner, wanted in found:
            if wanted:
                try:
                    plugins.add(_imported(entry, owner), owner.plugin, owner.distribution, owner.version)
                except BrokenPluginError as error:
                    plugins.broken.append(error.broken)
    if not plugins.broken:
        packages = [entry.value.partition(":")[0].partition(".")[0] for entry, _, wanted in found if wanted]
        remember(describe(plugins), [owner for _, owner, _ in found], packages, began)
    return plugins


def listing() -> dict[str, Any]:
    """Everything that is installed as plain data, see `describe`; without importing it, where nothing has changed.

    Raises:
        PluginError: as `load_plugins`.
    """
    return recall([owner for _, owner, _ in _installed()]) or describe(load_plugins())


def _installed() -> list[tuple[metadata.EntryPoint, Owner, bool]]:
    """Every plugin that is installed, in the order of its name, and whether it is to be loaded.

    Raises:
        PluginError: for a distribution in ``NASPLUG_LOAD_PLUGINS`` or ``NASPLUG_SKIP_PLUGINS`` that is not installed.
    """
    found = sorted(_entries(), key=lambda pair: pair[1])
    known = {_canonical(owner.distribution) for _, owner in found}
    only, skip = _listed(ONLY, known | {OURS}), _listed(SKIP, known)
    return [
        (entry, owner, (only is None or name in only) and name not in (skip or ()))
        for entry, owner in found
        for name in [_canonical(owner.distribution)]
    ]


def _entries() -> Iterator[tuple[metadata.EntryPoint, Owner]]:
    """Entry points with their owners. A distribution whose files are garbled has none, and does not hide the others'."""
    seen: set[str] = set()
    for distribution in metadata.distributions():
        try:
            name, version = str(distribution.name or "?"), str(distribution.version or "?")
            entries = [entry for entry in distribution.entry_points if entry.group == GROUP]
        except Exception:  # noqa: BLE001 - whatever a library makes of a file that is not one of ours
            continue
        if _canonical(name) not in seen:  # the first on the path is the one that is imported
            seen.add(_canonical(name))
            yield from ((entry, Owner(entry.name, name, version)) for entry in entries)


def _imported(entry: metadata.EntryPoint, owner: Owner) -> object:
    try:
        return entry.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # panics of Rust, skips of pytest and cancellations are no Exception
        raise BrokenPluginError(owner, f"failed to import {entry.value}: {cause(error)}") from error


def _canonical(distribution: str) -> str:
    """Names of distributions are equal up to case and ``-_.``."""
    return re.sub(r"[-_.]+", "-", distribution.strip()).lower()


def _listed(variable: str, known: set[str]) -> list[str] | None:
    """The distributions that a variable names; None where it is not set."""
    text = os.environ.get(variable)
    if text is None:
        return None
    names = [_canonical(part) for part in text.split(",") if part.strip()]
    for name in names:
        if name not in known:
            raise PluginError(
                f"{variable} names {name!r}, which is not installed; installed: {', '.join(sorted(known)) or 'none'}."
                + did_you_mean(name, known)
            )
    return names
