"""Weight sharing over activation choices, and what can be proven of making them hard."""

from __future__ import annotations

from nasplug.hookspecs import Register, hookimpl
from nasplug_mixture.method import USUAL, Mixture, mixture

__all__ = ["USUAL", "Mixture", "mixture"]


@hookimpl
def register_search_methods(register: Register) -> None:
    """One name."""
    register("mixture", mixture)
