"""How much can go before the validation loss says no: a bisection of all rows at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from nasplug.contracts import Score
from nasplug.errors import ConfigError
from nasplug.networks import Networks

__all__ = ["FLOOR", "check_tolerance", "limits", "most", "ranks"]

FLOOR = 1e-3
"""Losses below this share of a trivial network's loss count as equally good; see `limits`."""


def check_tolerance(use: str, tolerance: float) -> None:
    """Refuse a tolerance that is no number >= 0.

    Raises:
        ConfigError: saying which.
    """
    if not (math.isfinite(tolerance) and tolerance >= 0.0):
        raise ConfigError(
            f"{use}: tolerance={tolerance}; needed: a finite number >= 0, the share by which the validation loss may rise "
            "(0.02 is 2 %)"
        )


def limits(nets: Networks, score: Score, tolerance: float) -> Tensor:
    """The largest loss each row may have after cutting, ``(K,)``; not finite where the row's own loss is not.

    ``loss + tolerance * max(loss, FLOOR * trivial)``, where ``trivial`` is the smaller of two losses: of the network
    without edges (its biases alone), and of the network that puts out 0. Why the floor: at a loss of 1e-9 a rise of
    2 % is rounding noise, and without it the best networks would be the ones that cannot be cut. Why the smaller one: a
    row's own biases, or targets far from 0, can make either of them large, and neither may loosen the rule.
    """
    loss = score(nets)  # (K,)
    without_edges = replace(nets, blocks={edge: torch.zeros_like(w) for edge, w in nets.blocks.items()})
    zero = replace(without_edges, biases={layer: torch.zeros_like(b) for layer, b in nets.biases.items()})
    trivial = torch.minimum(score(without_edges), score(zero))
    limit = loss + tolerance * torch.maximum(loss, FLOOR * trivial)
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
