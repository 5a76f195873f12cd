"""The whole extension surface. A plugin is a module (or object) in the entry-point group ``nasplug`` with any of these hooks.

Registration hooks get a ``register(name, factory)`` bound to the plugin that receives it: every name knows its owner,
and a clash names both. A factory's keyword-only parameters, with their annotations and defaults, are the config schema.
Observers run on the driver. No hook returns a value, wraps another or relies on order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from nasplug.contracts import Factory

__all__ = ["hookimpl"]

hookspec = pluggy.HookspecMarker("nasplug")
hookimpl = pluggy.HookimplMarker("nasplug")

Register = Callable[[str, "Factory"], None]


@hookspec
def register_search_methods(register: Register) -> None:
    """Offer search methods: factories of `nasplug.contracts.SearchMethod`."""


@hookspec
def register_regularizers(register: Register) -> None:
    """Offer penalties: factories of `nasplug.contracts.Regularizer`."""


@hookspec
def register_discretizers(register: Register) -> None:
    """Offer ways of making soft networks hard: factories of `nasplug.contracts.Discretizer`."""


@hookspec
def register_schedules(register: Register) -> None:
    """Offer schedules: factories of `nasplug.contracts.Schedule`."""


@hookspec
def register_activations(register: Register) -> None:
    """Offer activations: factories without parameters of elementwise functions ``Tensor -> Tensor`` of the same shape."""


@hookspec
def register_tasks(register: Register) -> None:
    """Offer tasks: factories of `nasplug.tasks.Task`."""


@hookspec
def register_commands(register: Register) -> None:
    """Offer commands of ``nasplug``: factories without parameters that return a `click.Command` or a group."""


@hookspec
def study_started(study: Mapping[str, Any], folder: Path) -> None:
    """A study begins: its config as plain data, and its folder. Packs that are already done are not run again."""


@hookspec
def pack_reported(pack: str, metrics: Mapping[str, float]) -> None:
    """A pack reports an interval: progress in [0, 1], steps, networks, best validation error so far, ..."""


@hookspec
def pack_finished(pack: str, folder: Path) -> None:
    """A pack has ended; ``folder`` holds its ``replicas.parquet`` and ``networks.safetensors``."""


@hookspec
def study_finished(study: Mapping[str, Any], folder: Path) -> None:
    """A study has ended; ``folder`` holds ``replicas.parquet``, the report and the chosen network."""
