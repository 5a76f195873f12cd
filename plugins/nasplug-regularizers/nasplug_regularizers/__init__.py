"""Penalties on soft networks: on weights, on the count of connections, on neuron gates and on eigenvalues."""

from __future__ import annotations

from nasplug.hookspecs import Register, hookimpl
from nasplug_regularizers.counts import GateCount, WeightCount, soft_count
from nasplug_regularizers.neurons import Compactness, compactness
from nasplug_regularizers.spectrum import Eigenvalue, ProximalEigenvalue, eigenvalue
from nasplug_regularizers.weights import L1, l1

__all__ = [
    "L1",
    "Compactness",
    "Eigenvalue",
    "GateCount",
    "ProximalEigenvalue",
    "WeightCount",
    "compactness",
    "eigenvalue",
    "l1",
    "soft_count",
]


@hookimpl
def register_regularizers(register: Register) -> None:
    """Our four names."""
    register("l1", l1)
    register("soft_count", soft_count)
    register("compactness", compactness)
    register("eigenvalue", eigenvalue)
