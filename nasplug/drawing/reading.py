"""What a network does with its features, in names and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasplug.compact import CompactNetwork
from nasplug.console import padded
from nasplug.drawing.style import Array

__all__ = ["Edge", "Strength", "blocks_of", "drawn_blocks", "ends_of", "hidden_kinds", "short", "shorten", "strengths"]

Edge = tuple[int, int]  # (to, from), positions in the compact network
MONOTONE = frozenset({"identity", "relu", "leaky_relu", "tanh", "sigmoid", "elu", "softplus"})


@dataclass(frozen=True, slots=True)
class Strength:
    """How much an input matters; several numbers that were made of one column of the table are one input.

    Attributes:
        place: its position among the inputs that survived (`nasplug.compact.CompactNetwork.columns`).
        feature: its name.
        value: the sum, over all paths from it (any of its numbers) to an output, of the product of the path's |weights|, on
            standardised inputs.
        sign: ``+`` when every path's product is positive (the output never falls as the feature grows), ``-`` when every one
            is negative, ``±`` otherwise and where an activation is not monotone; empty with more than one output.
    """

    place: int
    feature: str
    value: float
    sign: str


def blocks_of(network: CompactNetwork) -> dict[Edge, Array]:
    """Its weights, ``(H_to, H_from)`` each."""
    return {(to, source): network.weight(to, source).detach().double().numpy() for to, source in network.edges}


def drawn_blocks(network: CompactNetwork) -> dict[Edge, Array]:
    """`blocks_of` with one input per column: of several numbers the norm, with the sign of their sum."""
    columns, found = [at for _, at in network.columns], blocks_of(network)
    for (to, source), w in found.items():
        if source == 0:
            parts = [w[:, at] for at in columns]
            joined = [p[:, 0] if p.shape[1] == 1 else np.copysign(np.linalg.norm(p, axis=1), p.sum(1)) for p in parts]
            found[to, source] = np.stack(joined, axis=1)
    return found


def _categories(network: CompactNetwork) -> set[str]:
    """Columns of words: of several words none is more than another."""
    columns = network.record.get("encoder", {}).get("columns", [])
    return {str(column["name"]) for column in columns if column["kind"] == "category"}


def hidden_kinds(record: Mapping[str, Any]) -> list[list[str]]:
    """The activation of each neuron of each hidden layer."""
    return [[name for name, count in layer for _ in range(count)] for layer in record["activations"]]


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

    words = _categories(network)

    def sign(name: str, at: Sequence[int]) -> str:
        if widths[-1] > 1:
            return ""
        ways = set(np.sign(signed[at]))
        definite = bool((np.abs(signed[at]) >= strength[at] * (1 - 1e-9)).all())
        if not monotone or not definite or len(ways) > 1 or (len(at) > 1 and name in words):
            return "±"
        return "+" if ways == {1.0} else "-"

    found = [
        Strength(place, name, float(strength[at].sum()), sign(name, at)) for place, (name, at) in enumerate(network.columns)
    ]
    return sorted(found, key=lambda s: -s.value)


def shorten(text: str, most: int) -> str:
    """At most ``most`` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def short(text: str, cells: int) -> str:
    """At most so many cells of a terminal's line: wide characters count twice, here as on paper."""
    return padded(text, cells).rstrip()


def ends_of(text: str, cells: int) -> str:
    """The same, cut in the middle: words of one column often begin alike."""
    if short(text, cells) == text.strip():
        return text.strip()
    tail = ""
    for character in reversed(text.strip()):
        if len(short(character + tail, cells)) <= len(tail) or padded(character + tail, cells // 2).endswith("…"):
            break
        tail = character + tail
    return short(text, cells - cells // 2).removesuffix("…") + "…" + tail
