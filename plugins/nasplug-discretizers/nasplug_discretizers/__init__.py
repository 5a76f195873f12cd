"""Ways of making soft networks hard: cut edges, choose activations, switch neurons off."""

from __future__ import annotations

from nasplug.hookspecs import Register, hookimpl
from nasplug_discretizers.choices import Argmax, argmax
from nasplug_discretizers.edges import MagnitudeCut, ToleratedCut, threshold
from nasplug_discretizers.neurons import NeuronMask, SpectralCut, neuron_mask, spectral

__all__ = [
    "Argmax",
    "MagnitudeCut",
    "NeuronMask",
    "SpectralCut",
    "ToleratedCut",
    "argmax",
    "neuron_mask",
    "spectral",
    "threshold",
]


@hookimpl
def register_discretizers(register: Register) -> None:
    """Our four names."""
    register("threshold", threshold)
    register("argmax", argmax)
    register("neuron_mask", neuron_mask)
    register("spectral", spectral)
