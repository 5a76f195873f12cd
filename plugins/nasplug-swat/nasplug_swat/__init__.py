"""Search in the latent space of a network autoencoder: SWAT-NN, its autoencoder's training, and its controls."""

from __future__ import annotations

from nasplug.hookspecs import Register, hookimpl
from nasplug_swat.admm import Admm, admm
from nasplug_swat.autoencoder import SIZES, Autoencoder, Size, decode, encode, fresh, load, networks_of, read, save, shipped
from nasplug_swat.commands import commands
from nasplug_swat.levels import Levels, swat_levels
from nasplug_swat.pieces import cut_out, joined, networks_in, swat_piece
from nasplug_swat.pool import Pool, Trained, gather
from nasplug_swat.representation import PAPER, Matrices, Space, arrange, deepen, pack, pad, unpack
from nasplug_swat.sampling import Sampling, draw
from nasplug_swat.search import Swat, swat
from nasplug_swat.training import Training, functional_error, scores, train

__all__ = [
    "PAPER",
    "SIZES",
    "Admm",
    "Autoencoder",
    "Levels",
    "Matrices",
    "Pool",
    "Sampling",
    "Size",
    "Space",
    "Swat",
    "Trained",
    "Training",
    "admm",
    "arrange",
    "commands",
    "cut_out",
    "decode",
    "deepen",
    "draw",
    "encode",
    "fresh",
    "functional_error",
    "gather",
    "joined",
    "load",
    "networks_in",
    "networks_of",
    "pack",
    "pad",
    "read",
    "save",
    "scores",
    "shipped",
    "swat",
    "swat_levels",
    "swat_piece",
    "train",
    "unpack",
]


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
