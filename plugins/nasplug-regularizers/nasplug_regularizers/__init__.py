"""Penalties on soft networks: on weights, whole inputs and neurons, counts of connections, gates and eigenvalues."""

from __future__ import annotations

from nasplug.hookspecs import Register, hookimpl
from nasplug_regularizers.counts import GateCount, WeightCount, soft_count
from nasplug_regularizers.gates import Compactness, compactness
from nasplug_regularizers.groups import Inputs, Neurons, ProximalInputs, ProximalNeurons, inputs, neurons
from nasplug_regularizers.spectrum import Eigenvalue, ProximalEigenvalue, eigenvalue
from nasplug_regularizers.terms import ProximalTerms, Terms, terms
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
    "ProximalTerms",
    "Terms",
    "WeightCount",
    "compactness",
    "eigenvalue",
    "inputs",
    "l1",
    "neurons",
    "soft_count",
    "terms",
]


@hookimpl
def register_regularizers(register: Register) -> None:
    """Our seven names."""
    register("l1", l1)
    register("inputs", inputs)
    register("neurons", neurons)
    register("terms", terms)
    register("soft_count", soft_count)
    register("compactness", compactness)
    register("eigenvalue", eigenvalue)
