"""`threshold`: small weights become no weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from nasplug.contracts import Discretizer, Score
from nasplug.cuts import check_tolerance, edges_cut, limits, most, ranks
from nasplug.errors import ConfigError
from nasplug.networks import Edge, Networks

__all__ = ["MagnitudeCut", "ToleratedCut", "threshold"]


def _flat(tensors: dict[Edge, Tensor]) -> Tensor:
    """All entries of a row side by side, ``(K, E)``, in the order of the blocks."""
    return torch.cat([t.flatten(1) for t in tensors.values()], 1)


def _keep(nets: Networks, weights: dict[Edge, Tensor], kept: Tensor) -> Networks:
    """Networks with ``weights`` where ``kept`` (bool ``(K, E)``) and the weight is not 0, and nothing elsewhere."""
    parts = kept.split_with_sizes([w[0].numel() for w in weights.values()], 1)
    gates = {edge: part.view_as(w) & (w != 0) for part, (edge, w) in zip(parts, weights.items(), strict=True)}
    return replace(
        nets,
        blocks={edge: torch.where(gates[edge], w, torch.zeros_like(w)) for edge, w in weights.items()},
        edge_gates={edge: gates[edge].to(w.dtype) for edge, w in weights.items()},
    )


@dataclass(frozen=True, slots=True)
class MagnitudeCut(Discretizer):
    """Cut below a fixed magnitude; see `threshold`."""

    eps: float
    needs: ClassVar[frozenset[str]] = frozenset({"blocks"})

    def __call__(self, nets: Networks, score: Score) -> Networks:
        """Edge gates 0 or 1, weights 0 where they are 0; ``score`` is not asked."""
        weights = {edge: nets.block(edge) for edge in nets.blocks}
        flat = _flat(weights)  # (K, E)
        broken = ~torch.isfinite(flat).all(1, keepdim=True)  # (K, 1)
        return _keep(nets, weights, (flat.abs() >= self.eps) | broken)


@dataclass(frozen=True, slots=True)
class ToleratedCut(Discretizer):
    """Cut as much as the validation loss allows; see `threshold`."""

    tolerance: float
    needs: ClassVar[frozenset[str]] = frozenset({"blocks"})

    def __call__(self, nets: Networks, score: Score) -> Networks:
        """Edge gates 0 or 1, weights 0 where they are 0."""
        weights = {edge: nets.block(edge) for edge in nets.blocks}
        flat = _flat(weights)  # (K, E)
        rank = ranks(flat.abs())  # (K, E)

        def cut(dropped: Tensor) -> Networks:
            return _keep(nets, weights, rank >= dropped.unsqueeze(1))

        dropped = most(cut, flat.shape[1], score, limits(nets, score, self.tolerance))  # (K,)
        settled = edges_cut(nets) | ~torch.isfinite(flat).all(1)
        return cut(torch.where(settled, torch.zeros_like(dropped), dropped))


def threshold(*, eps: float | None = None, tolerance: float | None = None) -> Discretizer:
    """Cut the smallest weights: below a fixed magnitude, or as many as the validation loss allows.

    With effective weights ``w = blocks * edge_gates``; give one of the two, none means ``eps=0.01``:

    - ``eps``: every ``|w| < eps`` goes; in units of a weight. ``eps=0`` drops exact zeros only.
    - ``tolerance``: each row loses its n smallest weights (over all blocks), n found by bisection of all rows at once,
      ``3 + log2(E)`` scorings: with n gone the validation loss is at most
      ``loss + tolerance * max(loss, 0.001 * trivial)``, with n + 1 gone it is more. ``trivial`` is the loss of the better of
      the bias-only and the zero network, so that a nearly exact network can still be cut.

    Afterwards ``edge_gates`` are 0 or 1 and present, soft ones are folded into the weights that stay, and a weight is 0
    exactly where its gate is. That is also how ``tolerance`` knows a row that was cut before, and leaves it as it is
    (else each run would spend the tolerance again): a row with all edges gated, gates equal to ``w != 0`` and one 0 at
    least. To cut such a row again, give it without ``edge_gates``; ``eps`` and then ``tolerance`` cuts by ``eps`` alone.
    A row with a weight that is not finite, or (``tolerance``) such a loss, loses nothing but its exact zeros.

    Fails where magnitude is not importance: weights before and after a ReLU can trade scale. Where the loss does not
    rise with n the bisection finds one of the counts at which it crosses the limit, not always the largest.

    Raises:
        ConfigError: when both are given, or one is negative or not finite.

    Source: ``eps`` is Structure-Aware Backpropagation's rule, ``|w| < 0.01`` is inactive. ``tolerance`` is ours.
    """
    if eps is not None and tolerance is not None:
        raise ConfigError(f"threshold: both eps={eps} and tolerance={tolerance} were given; give one of them")
    if tolerance is not None:
        check_tolerance("threshold", tolerance)
        return ToleratedCut(tolerance)
    magnitude = 0.01 if eps is None else eps
    if not (math.isfinite(magnitude) and magnitude >= 0.0):
        raise ConfigError(f"threshold: eps={eps}; needed: a finite number >= 0 (weights smaller than it are cut)")
    return MagnitudeCut(magnitude)
