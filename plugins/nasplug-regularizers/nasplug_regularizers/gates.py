"""`compactness`: few neurons, and decided ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nasplug.contracts import Regularizer
from nasplug.errors import ConfigError, ContractError
from nasplug.networks import Networks
from nasplug.replicas import total

__all__ = ["Compactness", "compactness"]


def _spread(gates: Tensor) -> Tensor:
    """Population standard deviation, ``(K, H)`` -> ``(K,)``, with gradient 0 (not infinite) where all gates are equal."""
    variance = gates.var(1, correction=0)
    varies = variance > 0
    # The root is taken of 1 where the variance is 0: its own slope there is infinite and would turn 0 into NaN.
    return torch.where(varies, torch.where(varies, variance, torch.ones_like(variance)).sqrt(), torch.zeros_like(variance))


@dataclass(frozen=True, slots=True)
class Compactness(Regularizer):
    """See `compactness`."""

    share: float
    needs: ClassVar[frozenset[str]] = frozenset({"gates"})

    def __call__(self, nets: Networks) -> Tensor:
        """``(K,)``.

        Raises:
            ContractError: for networks without gates.
        """
        if not nets.gates:
            raise ContractError("compactness got networks without neuron gates; it needs a hidden layer that has them")
        layers = []
        for gates in nets.gates.values():
            undecided = (0.5 - _spread(gates)).clamp(min=0.0)  # below 0 by rounding only
            layers.append((1.0 - self.share) * gates.mean(1) + self.share * undecided)
        return total(layers) / len(layers)


def compactness(*, share: float = 0.8) -> Regularizer:
    """Few open neuron gates, and gates that are far from one another: open or shut, not half.

    ``mean over gated layers of (1 - share) mean(g) + share (1/2 - std(g))``, gates ``g (K, H)`` in [0, 1], ``std`` of the
    population (divided by H, so at most 1/2, and defined for one neuron). Shape ``(K,)``, range [0, 1]; the gradient of
    ``std`` where all gates of a layer are equal is 0. ``share`` in [0, 1] is the part of the spread.

    Fails for ``share`` near 1: the spread is best with half of the neurons open, whatever the task needs. A layer
    whose gates are all equal gets no push from the spread until the task tells its neurons apart.

    Raises:
        ConfigError: for a ``share`` outside [0, 1].

    Source: SWAT-NN, equations 6-10, ``- alpha mean_l std(M_l) + beta mean_l mean(M_l)``. We differ by a constant and by
    names, not in the gradient: with ``level = alpha + beta`` and ``share = alpha / (alpha + beta)``,
    ``level * value = paper's + alpha / 2``, so that it cannot fall below 0. The paper's levels are (level, share) =
    small (0.1001, 0.999), medium (0.401, 0.9975), large (0.5, 0.8). We take the population's standard deviation.
    """
    if not 0.0 <= share <= 1.0:
        raise ConfigError(f"compactness: share={share}; needed: 0 <= share <= 1 (alpha / (alpha + beta) of SWAT-NN)")
    return Compactness(share)
