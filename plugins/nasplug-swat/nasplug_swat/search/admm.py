"""`admm`: pruning by the alternating direction method of multipliers, SWAT-NN's baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from nasplug.contracts import Discretizer, Regularizer, Score
from nasplug.cuts import edges_cut
from nasplug.errors import ConfigError
from nasplug.finetune import fits
from nasplug.networks import Edge, Networks, harden
from nasplug.replicas import finite

__all__ = ["Admm", "admm"]


@dataclass(frozen=True, slots=True)
class _Near(Regularizer):
    """``rho / 2 |W - aim|^2`` over effective weights, ``(K,)``."""

    rho: float
    aim: Mapping[Edge, Tensor]
    needs: ClassVar[frozenset[str]] = frozenset({"blocks"})

    def __call__(self, nets: Networks) -> Tensor:
        """How far the weights are from what they should be."""
        apart = [(nets.block(edge) - self.aim[edge]).square().sum((1, 2)) for edge in nets.blocks]
        return self.rho / 2.0 * torch.stack(apart).sum(0)


@dataclass(frozen=True, slots=True)
class Admm(Discretizer):
    """See `admm`."""

    rho: float
    threshold: float
    rounds: int
    steps: int
    lr: float
    needs: ClassVar[frozenset[str]] = frozenset({"blocks"})

    def __call__(self, nets: Networks, score: Score) -> Networks:
        """Edge gates 0 or 1, weights 0 where they are 0; other gates and choices are rounded."""
        weights = {edge: nets.block(edge) for edge in nets.blocks}
        settled = edges_cut(nets) | ~finite({str(edge): w for edge, w in weights.items()})
        hard = harden(replace(nets, blocks=weights, edge_gates={}))
        tuned = self._optimised(hard, score)
        made = {}
        for edge, w in tuned.blocks.items():
            kept = (w.abs() >= self.threshold) & (weights[edge] != 0)
            cut = torch.where(kept, w, torch.zeros_like(w))
            made[edge] = torch.where(settled.view(-1, 1, 1), weights[edge], cut)
        biases = {layer: torch.where(settled.view(-1, 1), nets.biases[layer], b) for layer, b in tuned.biases.items()}
        gates = {edge: (w != 0).to(w.dtype) for edge, w in made.items()}
        return replace(hard, blocks=made, biases=biases, edge_gates=gates)

    def _optimised(self, nets: Networks, score: Score) -> Networks:
        """The networks after the rounds, each row by itself."""
        sparse = {edge: self._cut(w) for edge, w in nets.blocks.items()}  # Z
        dual = {edge: torch.zeros_like(w) for edge, w in nets.blocks.items()}  # U
        aim = dict(sparse)  # Z - U, which the penalty reads
        near = _Near(self.rho, aim)
        steps = self.rounds * self.steps
        found = nets
        for found in fits(score.task, nets, steps, self.lr, every=self.steps, schedule=_steady, penalties=[near]):
            for edge, w in found.blocks.items():
                sparse[edge] = self._cut(w + dual[edge])
                dual[edge] = dual[edge] + w - sparse[edge]
                aim[edge] = sparse[edge] - dual[edge]
        return found

    def _cut(self, w: Tensor) -> Tensor:
        return torch.where(w.abs() >= self.threshold, w, torch.zeros_like(w))


def _steady(progress: float) -> float:
    return 1.0


def admm(*, rho: float = 2.0, threshold: float = 0.1, rounds: int = 10, steps: int = 50, lr: float = 0.01) -> Discretizer:
    """Prune weights while training further: alternate between a fit that stays near a sparse copy and the copy itself.

    ``rounds`` times: ``steps`` of Adam (learning rate ``lr``, fresh moments once, all training samples) on
    ``loss + rho / 2 |W - Z + U|^2``; then ``Z = cut(W + U)``, ``U = U + W - Z``; ``cut`` puts ``|w| < threshold`` to 0, which W
    gets in the end too. Gates and choices are rounded first and stay; biases are trained and not pruned; weights that are 0
    stay 0. A row whose edge gates are 0 or 1 and equal to ``w != 0``, one of them 0, was cut before and is left as it is, as
    is one with a weight that is not finite. Fine-tuning on the fixed support (``train.finetune``) follows well.

    Fails where weights can trade scale between layers: the threshold is in units of a weight.

    Raises:
        ConfigError: for numbers out of range.

    Source: Zhang et al. 2018 (systematic ADMM pruning), as SWAT-NN's baseline: rho 2, threshold 0.1. We differ: the sparse set
    is given by the threshold and not by a count, and all rows go at once.
    """
    for name, value in (("rho", rho), ("threshold", threshold), ("lr", lr)):
        if not (math.isfinite(value) and value > 0.0):
            raise ConfigError(f"admm: {name}={value}; needed: a finite number > 0")
    if rounds < 1 or steps < 1:
        raise ConfigError(f"admm: rounds={rounds}, steps={steps}; needed: whole numbers >= 1")
    return Admm(rho, threshold, rounds, steps, lr)
