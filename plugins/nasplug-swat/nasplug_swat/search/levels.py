"""`swat_levels`: SWAT-NN's penalties together, at the three levels of its Table 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from nasplug.contracts import Regularizer
from nasplug.errors import ContractError
from nasplug.groups import shares
from nasplug.networks import Networks
from nasplug.replicas import total

__all__ = ["Levels", "swat_levels"]

MAGNITUDE, COUNT = 0.1, 0.01  # mu_1 and mu_c
TABLE = {"small": (1e-5, 0.1, 1e-4), "medium": (1e-4, 0.4, 1e-3), "large": (1e-3, 0.4, 0.1)}  # lambda_s, alpha, beta


@dataclass(frozen=True, slots=True)
class Levels(Regularizer):
    """See `swat_levels`."""

    sparsity: float
    spread: float
    mean: float
    needs: ClassVar[frozenset[str]] = frozenset({"blocks", "edge_gates", "gates"})

    def __call__(self, nets: Networks) -> Tensor:
        """``(K,)``.

        Raises:
            ContractError: for networks without gates on neurons and edges.
        """
        if not (nets.gates and nets.edge_gates):
            raise ContractError("swat_levels got networks without gates; it needs gates on neurons and on edges")
        weights = total(nets.block(edge).abs().sum((1, 2)) for edge in nets.blocks)
        gates = [shares(g, nets.groups) if nets.groups and edge[1] == 0 else g for edge, g in nets.edge_gates.items()]
        count = total(gate.sum((1, 2)) for gate in gates)  # what was made of one column of a table is one edge
        layers = []
        for gate in nets.gates.values():
            variance = gate.var(1, correction=0)
            varies = variance > 0  # the root's slope at 0 is infinite and would turn 0 into NaN
            spread = torch.where(varies, torch.where(varies, variance, torch.ones_like(variance)).sqrt(), 0.0)
            layers.append(self.mean * gate.mean(1) + self.spread * (0.5 - spread).clamp(min=0.0))
        return self.sparsity * (MAGNITUDE * weights + COUNT * count) + total(layers) / len(layers)


def swat_levels(*, size: Literal["small", "medium", "large"] = "medium") -> Regularizer:
    """SWAT-NN's sparsity and compactness together, at the levels of its Table 1; ``level: 1`` is the paper's.

    ``lambda (0.1 sum |W g| + 0.01 sum g) + mean over layers of (beta mean(m) + alpha (1/2 - std(m)))``: W weights with edge
    gates g, m neuron gates, std of the population. (lambda, alpha, beta): ``small`` (1e-5, 0.1, 1e-4), ``medium`` (1e-4, 0.4,
    1e-3), ``large`` (1e-3, 0.4, 0.1). The same as `l1`, `soft_count` and `compactness` at these levels; here they are one
    component because the three vary together. Shape ``(K,)``, range [0, inf).

    Fails as its parts do: alpha is least with half of the neurons open, whatever the task needs.

    Source: SWAT-NN, equations 6-10 and Table 1. We differ: edges are counted by their gates, ``sigmoid(200 (|W| - t))``, where
    the paper counts ``sigmoid(20 (|W| - t))``; padding is not counted; a constant keeps the value above 0.
    """
    return Levels(*TABLE[size])
