"""`admm`: pruning by the alternating direction method of multipliers, SWAT-NN's baseline."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from nasplug.contracts import Discretizer, Score
from nasplug.errors import ConfigError
from nasplug.networks import Edge, Networks, forward, harden

__all__ = ["Admm", "admm"]


def _settled(nets: Networks) -> Tensor:
    """Rows that were cut before (gates say exactly which weights are 0, and some are), and broken ones; bool ``(K,)``."""
    weights = torch.cat([w.flatten(1) for w in nets.blocks.values()], 1)
    broken = ~torch.isfinite(weights).all(1)
    if set(nets.edge_gates) != set(nets.blocks):
        return broken
    gates = torch.cat([nets.edge_gates[edge].flatten(1) for edge in nets.blocks], 1)
    return broken | ((gates == (weights != 0).to(gates.dtype)).all(1) & (gates == 0).any(1))


@dataclass(frozen=True, slots=True)
class Admm:
    """See `admm`."""

    rho: float
    threshold: float
    rounds: int
    steps: int
    lr: float
    needs: ClassVar[frozenset[str]] = frozenset({"blocks"})

    def __call__(self, nets: Networks, score: Score) -> Networks:
        """Edge gates 0 or 1, weights 0 where they are 0; other gates and choices are rounded."""
        settled = _settled(nets)
        weights = {edge: nets.block(edge) for edge in nets.blocks}
        hard = harden(replace(nets, blocks=weights, edge_gates={}))
        blocks, biases = self._optimised(hard, score)
        made = {}
        for edge, w in blocks.items():
            kept = (w.abs() >= self.threshold) & (weights[edge] != 0)
            cut = torch.where(kept, w, torch.zeros_like(w))
            made[edge] = torch.where(settled.view(-1, 1, 1), weights[edge], cut)
        tuned = {layer: torch.where(settled.view(-1, 1), nets.biases[layer], b) for layer, b in biases.items()}
        gates = {edge: (w != 0).to(w.dtype) for edge, w in made.items()}
        return replace(hard, blocks=made, biases=tuned, edge_gates=gates)

    def _optimised(self, nets: Networks, score: Score) -> tuple[dict[Edge, Tensor], dict[int, Tensor]]:
        """The weights and biases of all rows after the rounds, each row by itself."""
        train = score.task.train
        like = next(iter(nets.blocks.values()))
        x = train.x.to(like)
        y = train.y.to(like) if train.y.is_floating_point() else train.y
        zero = {edge: w == 0 for edge, w in nets.blocks.items()}
        blocks = {edge: w.detach().clone().requires_grad_() for edge, w in nets.blocks.items()}
        biases = {layer: b.detach().clone().requires_grad_() for layer, b in nets.biases.items()}
        target = {edge: self._cut(w.detach()) for edge, w in blocks.items()}  # Z
        dual = {edge: torch.zeros_like(w) for edge, w in target.items()}  # U
        with torch.enable_grad():
            optimizer = torch.optim.Adam([*blocks.values(), *biases.values()], self.lr)
            for _ in range(self.rounds):
                for _ in range(self.steps):
                    loss = score.task.losses(forward(replace(nets, blocks=blocks, biases=biases), x), y)
                    for edge, w in blocks.items():
                        loss = loss + self.rho / 2.0 * (w - target[edge] + dual[edge]).square().sum((1, 2))
                    slopes = torch.autograd.grad(loss.sum(), [*blocks.values(), *biases.values()])
                    for (edge, w), slope in zip(blocks.items(), slopes[: len(blocks)], strict=True):
                        w.grad = torch.where(zero[edge], 0.0, slope)  # what is not there is not brought back
                    for b, slope in zip(biases.values(), slopes[len(blocks) :], strict=True):
                        b.grad = slope
                    optimizer.step()
                for edge, w in blocks.items():
                    target[edge] = self._cut(w.detach() + dual[edge])
                    dual[edge] = dual[edge] + w.detach() - target[edge]
        return {edge: w.detach() for edge, w in blocks.items()}, {layer: b.detach() for layer, b in biases.items()}

    def _cut(self, w: Tensor) -> Tensor:
        return torch.where(w.abs() >= self.threshold, w, torch.zeros_like(w))


def admm(*, rho: float = 2.0, threshold: float = 0.1, rounds: int = 10, steps: int = 50, lr: float = 0.01) -> Discretizer:
    """Prune weights while training on: alternate between a fit that stays near a sparse copy and the copy itself.

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
