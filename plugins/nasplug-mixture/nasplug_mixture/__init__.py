"""Weight sharing over activation choices, and what can be proven of making them hard."""

from __future__ import annotations

from nasplug.hookspecs import Register, hookimpl
from nasplug_mixture.certificate import Certificate, certificate
from nasplug_mixture.concentration import Concentrations, concentrations
from nasplug_mixture.discretizers import Closest, Least, closest, least
from nasplug_mixture.method import USUAL, Mixture, mixture
from nasplug_mixture.operations import USUAL_OPERATIONS, Operations, operations
from nasplug_mixture.ranking import Ranked, ranked
from nasplug_mixture.readout import joint, read
from nasplug_mixture.sites import Layer, certificates, layers
from nasplug_mixture.tasks import mixture_teacher
from nasplug_mixture.verdict import certify

__all__ = [
    "USUAL",
    "USUAL_OPERATIONS",
    "Certificate",
    "Closest",
    "Concentrations",
    "Layer",
    "Least",
    "Mixture",
    "Operations",
    "Ranked",
    "certificate",
    "certificates",
    "certify",
    "closest",
    "concentrations",
    "joint",
    "layers",
    "least",
    "mixture",
    "mixture_teacher",
    "operations",
    "ranked",
    "read",
]


@hookimpl
def register_search_methods(register: Register) -> None:
    """Choices of activations, and of operations."""
    register("mixture", mixture)
    register("operations", operations)


@hookimpl
def register_regularizers(register: Register) -> None:
    """What keeps its Dirichlet distributions flat."""
    register("concentrations", concentrations)


@hookimpl
def register_discretizers(register: Register) -> None:
    """What makes its mixtures hard."""
    register("closest", closest)
    register("least", least)
    register("ranked", ranked)


@hookimpl
def register_tasks(register: Register) -> None:
    """Data whose best activation is known."""
    register("mixture_teacher", mixture_teacher)
