"""Search in the latent space of a network autoencoder: SWAT-NN, its autoencoder's training, and its controls.

Three rooms, imported in this order and never back: ``autoencoder`` (networks as matrices, the model, its training), ``search``
(the method, its penalty and discretizer), ``compression`` (deep networks made shallower); ``commands`` stands on all three.
"""

from __future__ import annotations

from nasplug.hookspecs import Register, hookimpl
from nasplug_swat.autoencoder import gather, load, read, scores
from nasplug_swat.commands import commands
from nasplug_swat.compression import swat_piece
from nasplug_swat.search import admm, swat, swat_levels

__all__ = ["admm", "commands", "gather", "load", "read", "scores", "swat", "swat_levels", "swat_piece"]


@hookimpl
def register_search_methods(register: Register) -> None:
    """One name, with its controls as options."""
    register("swat", swat)


@hookimpl
def register_tasks(register: Register) -> None:
    """A piece of a saved network, as data."""
    register("swat_piece", swat_piece)


@hookimpl
def register_discretizers(register: Register) -> None:
    """The paper's baseline."""
    register("admm", admm)


@hookimpl
def register_regularizers(register: Register) -> None:
    """The paper's penalties with their three levels."""
    register("swat_levels", swat_levels)


@hookimpl
def register_commands(register: Register) -> None:
    """``nasplug swat ...``."""
    register("swat", commands)
