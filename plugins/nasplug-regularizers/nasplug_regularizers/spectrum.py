"""`eigenvalue`: a penalty on the eigenvalues of hidden layers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from nasplug.contracts import Proximal, Regularizer
from nasplug.errors import ConfigError, ContractError
from nasplug.networks import Networks
from nasplug.replicas import total

__all__ = ["Eigenvalue", "ProximalEigenvalue", "eigenvalue"]


@dataclass(frozen=True, slots=True)
class Eigenvalue(Regularizer):
    """See `eigenvalue`."""

    order: int
    weights: tuple[float, ...] | None
    needs: ClassVar[frozenset[str]] = frozenset({"eigenvalues"})

    def __call__(self, nets: Networks) -> Tensor:
        """``(K,)``.

        Raises:
            ContractError: for networks without hidden eigenvalues.
        """
        layers = []
        for layer in range(1, nets.depth):
            if layer in nets.eigenvalues:
                # vector_norm has the subgradient 0 at 0; a hand-written sqrt(sum of squares) has NaN there.
                norm = torch.linalg.vector_norm(nets.eigenvalues[layer], self.order, dim=1)  # (K,)
                layers.append(norm if self.weights is None else self.weights[layer - 1] * norm)
        if not layers:
            raise ContractError("eigenvalue got networks without eigenvalues of a hidden layer; it needs a spectral method")
        return total(layers)

    def accept(self, nets: Networks) -> None:
        """Refuse another number of weights than there are hidden layers.

        Raises:
            ConfigError: with both.
        """
        if self.weights is not None and len(self.weights) != nets.depth - 1:
            raise ConfigError(
                f"eigenvalue has {len(self.weights)} weights for {nets.depth - 1} hidden layers (widths {nets.widths}); "
                "give one weight per hidden layer, first to last"
            )


@dataclass(frozen=True, slots=True)
class ProximalEigenvalue(Eigenvalue, Proximal):
    """The same value, minimised by its proximal map; see `eigenvalue`."""

    def shrink(self, nets: Networks, amount: Tensor) -> Networks:
        """``amount (K,)``: l1 ``sign(v) max(|v| - amount w_l, 0)``, l2 ``v max(1 - amount w_l / ||v||, 0)``."""
        moved = dict(nets.eigenvalues)
        for layer in range(1, nets.depth):
            if layer in moved:
                v = moved[layer]
                cut = (amount if self.weights is None else amount * self.weights[layer - 1]).unsqueeze(1)  # (K, 1)
                size = v.abs() if self.order == 1 else torch.linalg.vector_norm(v, 2, dim=1, keepdim=True)
                share = 1.0 - cut / size.clamp(min=torch.finfo(v.dtype).tiny)
                moved[layer] = torch.where(size > cut, v * share, torch.zeros_like(v))
        return replace(nets, eigenvalues=moved)


def eigenvalue(*, norm: Literal["l1", "l2"] = "l2", weights: list[float] | None = None, proximal: bool = False) -> Regularizer:
    """The norms of the hidden layers' eigenvalues, summed over layers.

    ``sum over hidden layers l of w_l ||L_l||``, with ``||.||`` the sum of absolute values (l1) or the square root of the
    sum of squares (l2, not squared: a group lasso that can switch a whole layer off). ``weights``: one ``w_l >= 0`` per
    hidden layer, first to last (default 1 each). The input's eigenvalues (layer 0) and the output's (layer D) are never
    read. Shape ``(K,)``, range [0, inf); the gradient of a layer whose eigenvalues are all exactly 0 is 0.

    ``proximal``: instead of following the gradient, each step ends with the penalty's proximal map at learning rate times
    level (`nasplug.contracts.Proximal`): l1 moves every eigenvalue towards 0 by ``lr level w_l`` and stops there, l2 the
    whole layer's norm. Eigenvalues become exactly 0. Adam's steps are about ``lr`` long, so a level of 1 keeps every
    eigenvalue at 0 that the data do not push steadily: levels are near 1, not near 0.001.

    Fails with equal weights on deep networks: they never switch the first hidden layer off; larger weights on the earlier
    layers do. A neuron with eigenvalue 0 may still carry signal through the next layer's eigenvalues: judge by function.

    Raises:
        ConfigError: for weights that are empty, negative, not finite or all zero.

    Source: Spectral Architecture Search, equation 4.4, ``rho Omega``; l2 as its code has it (unsquared), l1 as an option.
    We differ: weights by layer, the proximal map.
    """
    if weights is not None and (
        not weights or not all(math.isfinite(w) and w >= 0.0 for w in weights) or not any(w > 0.0 for w in weights)
    ):
        raise ConfigError(
            f"eigenvalue: weights={weights}; needed: one finite number >= 0 per hidden layer, first to last, one of them > 0"
        )
    kind = ProximalEigenvalue if proximal else Eigenvalue
    return kind(1 if norm == "l1" else 2, None if weights is None else tuple(weights))
