"""Additive networks: one small network per column, or per pair of columns, and the proof that a network is a sum of them.

The hidden neurons are divided into terms (`nasplug.networks.Networks.terms`), each of which reads one column or two; no weight
goes from one term to another, and the outputs sum the terms. The proof reads the weights alone: where at most one column
reaches each hidden neuron, each output (before its link) is a constant and one function per column; where at most two do, one
function per pair.

Source: generalised additive models (Hastie and Tibshirani 1986), of networks as in Agarwal et al. 2021, with pairs as in Lou
et al. 2013. We differ: the terms are blocks of one network, which is searched, cut and exported as any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nasplug.groups import gathered
from nasplug.networks import Edge, Networks

__all__ = ["STRUCTURES", "certified", "holds", "reached", "room", "structure_of"]

STRUCTURES: Mapping[str, int] = {"additive": 1, "pairs": 2}
"""A structure's name -> how many columns may reach a hidden neuron."""


def structure_of(terms: Sequence[int]) -> str:
    """What networks with these terms are called; empty without terms, where any neuron may read any column."""
    return next((name for name, most in STRUCTURES.items() if most == max(terms, default=0)), "")


def room(nets: Networks, edge: Edge) -> float:
    """The share of a block's weights that may be other than 0: 1 without terms, else in the mean over columns."""
    to, source = edge
    if not nets.terms or to == nets.depth:
        return 1.0
    if source:
        return 1.0 / len(nets.terms)
    columns = 1 + max(nets.groups) if nets.groups else nets.widths[0]
    return sum(nets.terms) / len(nets.terms) / columns


def reached(weights: Mapping[Edge, Tensor], widths: Sequence[int], groups: tuple[int, ...] = ()) -> dict[int, Tensor]:
    """Which columns reach each neuron: layer -> bool ``(K, H, C)``, of all layers but the first.

    ``weights``: blocks ``(K, H_to, H_from)``; one that is not finite is a weight. ``groups`` as in
    `nasplug.networks.Networks.groups`: empty where each input is a column.
    """
    found: dict[int, Tensor] = {}
    first = next(iter(weights.values()))
    for layer in range(1, len(widths)):
        here = first.new_zeros(first.shape[0], widths[layer], 1 + max(groups) if groups else widths[0])
        for (to, source), w in weights.items():
            if to == layer:
                some = (w != 0).to(here)
                below = found[source].to(here) if source else None
                here = here + (some @ below if below is not None else gathered(some, groups) if groups else some)
        found[layer] = here > 0
    return found


def certified(weights: Mapping[Edge, Tensor], widths: Sequence[int], groups: tuple[int, ...], most: int) -> Tensor:
    """Rows in which at most ``most`` columns reach any hidden neuron, bool ``(K,)``; arguments as in `reached`.

    A sufficient condition: straight neurons (activation "identity") count as all others do.
    """
    found = reached(weights, widths, groups)
    some = next(iter(weights.values()))
    proven = torch.ones(some.shape[0], dtype=torch.bool, device=some.device)
    for layer in range(1, len(widths) - 1):
        proven &= (found[layer].sum(2) <= most).all(1)
    return proven


def holds(nets: Networks) -> Tensor:
    """Rows whose weights prove that they are a sum over their terms, bool ``(K,)``; all rows where there are no terms.

    It reads the weights that are not gated off, not by which rule they were made.
    """
    weights = {}
    for (to, source), w in nets.blocks.items():
        w = w * nets.edge_gates[to, source] if (to, source) in nets.edge_gates else w
        w = w * nets.gates[to].unsqueeze(2) if to in nets.gates else w
        weights[to, source] = w * nets.gates[source].unsqueeze(1) if source in nets.gates else w
    most = max(nets.terms, default=nets.widths[0])
    return certified(weights, nets.widths, nets.groups, most)
