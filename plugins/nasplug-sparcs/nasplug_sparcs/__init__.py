"""Spectral architecture search: eigenvalues decide which neurons and layers a network needs."""

from __future__ import annotations

from nasplug.hookspecs import Register, hookimpl
from nasplug_sparcs.method import Spectral, chosen_form, materialised, recursive, sparcs
from nasplug_sparcs.obs import Obs, obs
from nasplug_sparcs.paths import gamma, gamma_by_neuron
from nasplug_sparcs.pictures import curve, fits, heads, orders, paths, spectrum, transition
from nasplug_sparcs.tasks import sparcs_teacher, sparcs_transition

__all__ = [
    "Obs",
    "Spectral",
    "chosen_form",
    "curve",
    "fits",
    "gamma",
    "gamma_by_neuron",
    "heads",
    "materialised",
    "obs",
    "orders",
    "paths",
    "recursive",
    "sparcs",
    "sparcs_teacher",
    "sparcs_transition",
    "spectrum",
    "transition",
]


@hookimpl
def register_search_methods(register: Register) -> None:
    """One name."""
    register("sparcs", sparcs)


@hookimpl
def register_discretizers(register: Register) -> None:
    """What it finds, in direct space."""
    register("obs", obs)


@hookimpl
def register_tasks(register: Register) -> None:
    """The paper's data."""
    register("sparcs_teacher", sparcs_teacher)
    register("sparcs_transition", sparcs_transition)
