"""What discretizers share: how much a loss may rise, how many things a row can lose, and which rows were cut before."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from nasplug.contracts import Score
from nasplug.errors import ConfigError
from nasplug.networks import Networks

__all__ = ["FLOOR", "check_tolerance", "edges_cut", "limits", "most", "neurons_cut", "ranks", "trivial_loss"]

FLOOR = 1e-3
"""Losses below this share of a trivial network's loss count as equally good; see `limits`."""


def check_tolerance(use: str, tolerance: float) -> None:
    """Refuse a tolerance that is no number >= 0; ``use`` is the discretizer's name.

    Raises:
        ConfigError: saying which.
    """
    if not (math.isfinite(tolerance) and tolerance >= 0.0):
        raise ConfigError(
            f"{use}: tolerance={tolerance}; needed: a finite number >= 0, a share of a loss (0.02 is 2 %) that cutting may cost"
        )


def trivial_loss(nets: Networks, score: Score) -> Tensor:
    """Loss of a trivial network, ``(K,)``: the smaller of two, the row's biases without edges and the output 0.

    Why the smaller one: a row's own biases, or targets far from 0, can make either of them large, and neither may loosen a
    rule.
    """
    without_edges = replace(nets, blocks={edge: torch.zeros_like(w) for edge, w in nets.blocks.items()})
    zero = replace(without_edges, biases={layer: torch.zeros_like(b) for layer, b in nets.biases.items()})
    return torch.minimum(score(without_edges), score(zero))


def limits(nets: Networks, score: Score, tolerance: float) -> Tensor:
    """The largest loss each row may have after cutting, ``(K,)``; NaN where the row's own loss is not finite.

    ``loss + tolerance * max(loss, FLOOR * trivial_loss)``. Why the floor: at a loss of 1e-9 a rise of 2 % is rounding noise,
    and without it the best networks would be the ones that cannot be cut.
    """
    loss = score(nets)  # (K,)
    limit = loss + tolerance * torch.maximum(loss, FLOOR * trivial_loss(nets, score))
    return torch.where(torch.isfinite(loss), limit, torch.full_like(limit, torch.nan))


def ranks(magnitudes: Tensor) -> Tensor:
    """Place of each entry in its row from small to large, ties by position, NaN last: ``(K, N)`` -> long ``(K, N)``."""
    return magnitudes.argsort(dim=1, stable=True).argsort(dim=1)


def most(cut: Callable[[Tensor], Networks], count: int, score: Score, limit: Tensor) -> Tensor:
    """How many of ``count`` things each row can lose: long ``(K,)``, ``cut(n)`` being the networks without the n[k] smallest.

    ``ceil(log2(count + 1))`` calls of ``score``, each with all rows. The answer n is within the limit and n + 1 is not;
    it is the largest such n when the loss rises with n, and one of several when it does not.
    """
    low = torch.zeros(limit.shape, dtype=torch.long, device=limit.device)  # losing nothing is always allowed
    high = torch.full_like(low, count + 1)  # one more than there is never is
    for _ in range(count.bit_length()):
        middle = (low + high) // 2
        within = score(cut(middle)) <= limit  # False where either is NaN
        low = torch.where(within, middle, low)
        high = torch.where(within, high, middle)
    return low


def edges_cut(nets: Networks) -> Tensor:
    """Rows whose edges were cut before: edge gates say exactly which weights are 0, and some are; bool ``(K,)``.

    Without it a discretizer with a tolerance would spend that again each time it runs.
    """
    if set(nets.edge_gates) != set(nets.blocks):
        return _none(nets)
    exact = [(nets.edge_gates[edge] == (w != 0).to(w.dtype)).flatten(1).all(1) for edge, w in nets.blocks.items()]
    return torch.stack(exact).all(0) & torch.stack([(g == 0).flatten(1).any(1) for g in nets.edge_gates.values()]).any(0)


def neurons_cut(nets: Networks) -> Tensor:
    """Rows whose neurons were cut before: every gate is 0 or 1, and one of them 0; bool ``(K,)``."""
    if not nets.gates:
        return _none(nets)
    gates = torch.cat(list(nets.gates.values()), 1)  # (K, N)
    return ((gates == 0) | (gates == 1)).all(1) & (gates == 0).any(1)


def _none(nets: Networks) -> Tensor:
    return torch.zeros(nets.replicas, dtype=torch.bool, device=next(iter(nets.blocks.values())).device)
