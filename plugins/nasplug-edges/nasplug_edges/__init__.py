"""Structure-aware backpropagation: which edges a small network needs, learned together with its weights."""

from __future__ import annotations

from nasplug.hookspecs import Register, hookimpl
from nasplug_edges.fold import Fold, fold
from nasplug_edges.methods import Annealed, Gated, Plain, Snapped, edges

__all__ = ["Annealed", "Fold", "Gated", "Plain", "Snapped", "edges", "fold"]


@hookimpl
def register_search_methods(register: Register) -> None:
    """One name, four modes."""
    register("edges", edges)


@hookimpl
def register_discretizers(register: Register) -> None:
    """What can still go when every small weight is gone."""
    register("fold", fold)
