"""Penalties on soft networks: on weights, whole inputs and neurons, counts of connections, gates and eigenvalues."""

from __future__ import annotations

from nasplug.hookspecs import Register, hookimpl
from nasplug_regularizers.counts import GateCount, WeightCount, soft_count
from nasplug_regularizers.gates import Compactness, compactness
from nasplug_regularizers.groups import Inputs, Neurons, ProximalInputs, ProximalNeurons, inputs, neurons
from nasplug_regularizers.spectrum import Eigenvalue, ProximalEigenvalue, eigenvalue
from nasplug_regularizers.weights import L1, l1

__all__ = [
    "L1",
    "Compactness",
    "Eigenvalue",
    "GateCount",
    "Inputs",
    "Neurons",
    "ProximalEigenvalue",
    "ProximalInputs",
    "ProximalNeurons",
    "WeightCount",
    "compactness",
    "eigenvalue",
    "inputs",
    "l1",
    "neurons",
    "soft_count",
]


@hookimpl
def register_regularizers(register: Register) -> None:
    """Our six names."""
    register("l1", l1)
    register("inputs", inputs)
    register("neurons", neurons)
    register("soft_count", soft_count)
    register("compactness", compactness)
    register("eigenvalue", eigenvalue)
