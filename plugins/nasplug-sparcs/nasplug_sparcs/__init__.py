"""Spectral architecture search: eigenvalues decide which neurons and layers a network needs."""

from __future__ import annotations

from nasplug.hookspecs import Register, hookimpl
from nasplug_sparcs.method import Spectral, chosen_form, materialised, recursive, sparcs

__all__ = ["Spectral", "chosen_form", "materialised", "recursive", "sparcs"]


@hookimpl
def register_search_methods(register: Register) -> None:
    """One name."""
    register("sparcs", sparcs)
