"""`l1`: the sum of absolute effective weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nasplug.contracts import Regularizer
from nasplug.networks import Networks

__all__ = ["L1", "l1"]


@dataclass(frozen=True, slots=True)
class L1:
    """See `l1`."""

    needs: ClassVar[frozenset[str]] = frozenset({"blocks"})

    def __call__(self, nets: Networks) -> Tensor:
        """``(K,)``."""
        blocks = [nets.block(edge).abs().sum((1, 2)) for edge in nets.blocks]  # each (K,)
        return torch.stack(blocks).sum(0)


def l1() -> Regularizer:
    """The sum of absolute weights of a network, edge gates included.

    ``sum over blocks (l, m) and their entries of |blocks * edge_gates|``, shape ``(K,)``, range [0, inf); the gradient at
    a weight of exactly 0 is 0. Biases are not penalised: they cost no connection.

    Fails when weights can be small without being unimportant: a scale that moves from one layer to the next (ReLU) changes
    the penalty and not the function. It shrinks what it keeps: finish without it.

    Source: Structure-Aware Backpropagation, ``task + lambda * sum |w|``. We differ: the paper's subgradient
    ``lambda sign(w)`` is the same; effective weights instead of raw ones, so that gates and weights share one penalty.
    """
    return L1()
