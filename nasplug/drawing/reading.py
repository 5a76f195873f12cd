"""What a network does with its features, in names and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasplug.compact import CompactNetwork
from nasplug.drawing.style import Array

__all__ = ["Edge", "Strength", "blocks_of", "hidden_kinds", "output_names", "shorten", "strengths"]

Edge = tuple[int, int]  # (to, from), positions in the compact network
MONOTONE = frozenset({"identity", "relu", "leaky_relu", "tanh", "sigmoid", "elu", "softplus"})


@dataclass(frozen=True, slots=True)
class Strength:
    """How much an input matters.

    Attributes:
        place: its position among the inputs that survived.
        feature: its name.
        value: the sum, over all paths from it to an output, of the product of the path's |weights|, on standardised inputs.
        sign: ``+`` when every path's product is positive (the output never falls as the feature grows), ``-`` when every one
            is negative, ``±`` otherwise and where an activation is not monotone; empty with more than one output.
    """

    place: int
    feature: str
    value: float
    sign: str


def blocks_of(network: CompactNetwork) -> dict[Edge, Array]:
    """Its weights, ``(H_to, H_from)`` each."""
    state = network.state_dict()
    return {(to, source): state[f"weight_{to}_{source}"].double().numpy() for to, source in network.edges}


def hidden_kinds(record: Mapping[str, Any]) -> list[list[str]]:
    """The activation of each neuron of each hidden layer."""
    return [[name for name, count in layer for _ in range(count)] for layer in record["activations"]]


def output_names(record: Mapping[str, Any]) -> list[str]:
    """What each output is called: a target, or the probability or score of a label."""
    targets, width = [str(t) for t in record["targets"]], int(record["widths"][-1])
    if width == 1 and len(targets) == 2:
        return [f"P({targets[1]})" if record["link"] == "sigmoid" else f"score of {targets[1]}"]
    return [f"P({t})" for t in targets] if record["link"] == "softmax" else targets


def _path_sums(blocks: Mapping[Edge, Array], widths: Sequence[int]) -> Array:
    """``(O, I)``: over all paths, the sum of the product of their weights."""
    total: list[Array] = [np.eye(widths[0])]
    for layer in range(1, len(widths)):
        here = np.zeros((widths[layer], widths[0]))
        for (to, source), w in blocks.items():
            if to == layer:
                here += w @ total[source]
        total.append(here)
    return total[-1]


def strengths(network: CompactNetwork) -> list[Strength]:
    """Every feature that survived, strongest first."""
    widths, blocks = network.widths, blocks_of(network)
    signed = _path_sums(blocks, widths).sum(0)
    strength = _path_sums({edge: np.abs(w) for edge, w in blocks.items()}, widths).sum(0)
    monotone = all(name in MONOTONE for layer in hidden_kinds(network.record) for name in layer)

    def sign(i: int) -> str:
        if widths[-1] > 1:
            return ""
        if not monotone or abs(signed[i]) < strength[i] * (1 - 1e-9):
            return "±"
        return "+" if signed[i] > 0 else "-"

    found = [Strength(i, name, float(strength[i]), sign(i)) for i, name in enumerate(network.first_names)]
    return sorted(found, key=lambda s: -s.value)


def shorten(text: str, most: int) -> str:
    """At most ``most`` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"
