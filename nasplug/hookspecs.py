"""All hooks of nasplug. A plugin is a module (or object) in the entry-point group ``nasplug`` with any of these hooks.

Registration hooks get a function ``register(name, factory)`` that belongs to their plugin. So nasplug knows the owner of each
name, and names both owners when a name is taken twice. A factory's keyword-only parameters, with their annotations and
defaults, are the component's options in a config.

Observer hooks (from `study_started` on) are called on the driver, in the observer's own thread, in the order of events. They
are called from the log ``events.jsonl`` in the study's folder. An observer that raises is named, and is told no more of that
run. A slow observer delays nothing but may miss reports. The end of a study waits for it at most a minute (its attribute
``patience_seconds``). A hook takes any of the arguments below, by name, and returns nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pluggy

__all__ = ["Counts", "Factory", "Progress", "Register", "hookimpl"]

hookspec = pluggy.HookspecMarker("nasplug")
hookimpl = pluggy.HookimplMarker("nasplug")

Factory = Callable[..., object]
"""Makes a component; its keyword-only parameters are the options of the component in a config."""

Register = Callable[[str, Factory], None]


@hookspec
def register_search_methods(register: Register) -> None:
    """Offer search methods: factories of `nasplug.contracts.SearchMethod`."""


@hookspec
def register_regularizers(register: Register) -> None:
    """Offer penalties: factories of `nasplug.contracts.Regularizer`."""


@hookspec
def register_discretizers(register: Register) -> None:
    """Offer ways to discretize soft networks: factories of `nasplug.contracts.Discretizer`."""


@hookspec
def register_schedules(register: Register) -> None:
    """Offer schedules: factories of `nasplug.contracts.Schedule`."""


@hookspec
def register_activations(register: Register) -> None:
    """Offer activations: factories without parameters; each returns an elementwise function ``Tensor -> Tensor``."""


@hookspec
def register_tasks(register: Register) -> None:
    """Offer tasks: factories of `nasplug.tasks.Task`."""


@hookspec
def register_losses(register: Register) -> None:
    """Offer losses: factories of `nasplug.tasks.Loss`."""


@hookspec
def register_metrics(register: Register) -> None:
    """Offer metrics: factories of `nasplug.tasks.Metric`."""


@hookspec
def register_samplers(register: Register) -> None:
    """Offer samplers of configurations: factories of `nasplug.sampling.Drawing`."""


@hookspec
def register_commands(register: Register) -> None:
    """Offer commands of ``nasplug``: factories without parameters that return a `click.Command` or a group."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How large a study is, and how much of it earlier runs have finished.

    Attributes:
        packs: packs of the whole study; an estimate if a sampler draws one generation after another.
        networks: networks in these packs.
        packs_done: packs that earlier runs have finished; they are not run again.
        networks_done: networks in the packs done.
    """

    packs: int
    networks: int
    packs_done: int = 0
    networks_done: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a pack has been trained.

    Attributes:
        progress: share of its steps, in [0, 1]; where rows are stopped at rungs, of all rows' steps, as many as are expected.
        step: steps done.
        steps: steps in all.
        networks: rows of the pack.
        diverged: rows whose parameters are not finite any more.
        best_valid_error: the smallest validation error of its soft networks at this step; NaN where none is finite, and of
            networks that are trained on all development samples.
        seconds: since training began or was last resumed.
        network_steps_per_second: rows times steps per second, since that time.
    """

    progress: float
    step: int
    steps: int
    networks: int
    diverged: int
    best_valid_error: float
    seconds: float
    network_steps_per_second: float


@hookspec
def study_started(study: Mapping[str, Any], folder: Path, counts: Counts) -> None:
    """A run of a study begins. ``study`` is its config as plain data, without secrets; ``counts`` says how much is to do."""


@hookspec
def pack_reported(pack: str, progress: Progress) -> None:
    """A pack has trained for a while. Reports that follow each other too quickly are left out."""


@hookspec
def pack_finished(pack: str, folder: Path) -> None:
    """A pack has ended; ``folder`` holds its ``replicas.parquet`` and ``networks.safetensors``."""


@hookspec
def pack_failed(pack: str, reason: str) -> None:
    """A pack has failed for good; ``reason`` is one line. The other packs go on."""


@hookspec
def study_finished(study: Mapping[str, Any], folder: Path) -> None:
    """A study has ended; ``folder`` holds ``replicas.parquet``, the report and the chosen network."""


@hookspec
def study_stopped(study: Mapping[str, Any], folder: Path, reason: str) -> None:
    """A run has ended before its study: no network finished, or the run was stopped. The next run continues the study."""
