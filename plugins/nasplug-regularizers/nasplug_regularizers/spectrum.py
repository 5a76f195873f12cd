"""`eigenvalue`: a penalty on the eigenvalues of hidden layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from nasplug.contracts import Regularizer
from nasplug.errors import ConfigError, ContractError
from nasplug.networks import Networks

__all__ = ["Eigenvalue", "eigenvalue"]


@dataclass(frozen=True, slots=True)
class Eigenvalue:
    """See `eigenvalue`."""

    order: int
    weights: tuple[float, ...] | None
    needs: ClassVar[frozenset[str]] = frozenset({"eigenvalues"})

    def __call__(self, nets: Networks) -> Tensor:
        """``(K,)``.

        Raises:
            ConfigError: for another number of hidden layers than weights; a study meets it when it is planned.
            ContractError: for networks without hidden eigenvalues.
        """
        hidden = range(1, nets.depth)
        if self.weights is not None and len(self.weights) != len(hidden):
            raise ConfigError(
                f"eigenvalue has {len(self.weights)} weights for {len(hidden)} hidden layers (widths {nets.widths}); "
                "give one weight a hidden layer, first to last"
            )
        layers = []
        for layer in hidden:
            if layer in nets.eigenvalues:
                # vector_norm has the subgradient 0 at 0; a hand-written sqrt(sum of squares) has NaN there.
                norm = torch.linalg.vector_norm(nets.eigenvalues[layer], self.order, dim=1)  # (K,)
                layers.append(norm if self.weights is None else self.weights[layer - 1] * norm)
        if not layers:
            raise ContractError("eigenvalue got networks without eigenvalues of a hidden layer; it needs a spectral method")
        return torch.stack(layers).sum(0)


def eigenvalue(*, norm: Literal["l1", "l2"] = "l2", weights: list[float] | None = None) -> Regularizer:
    """The norms of the hidden layers' eigenvalues, summed over layers.

    ``sum over hidden layers l of w_l ||L_l||``, with ``||.||`` the sum of absolute values (l1) or the square root of the
    sum of squares (l2, not squared: a group lasso that can switch a whole layer off). ``weights``: one ``w_l >= 0`` a
    hidden layer, first to last (default 1 each). The input's eigenvalues (layer 0) and the output's (layer D) are never
    read. Shape ``(K,)``, range [0, inf); the gradient of a layer whose eigenvalues are all exactly 0 is 0.

    Fails with equal weights on deep networks: they never switch the first hidden layer off; larger weights on the earlier
    layers do. A neuron with eigenvalue 0 may still carry signal through the next layer's eigenvalues: judge by function.

    Raises:
        ConfigError: for weights that are empty, negative, not finite or all zero.

    Source: Spectral Architecture Search, equation 4.4, ``rho Omega``; l2 as its code has it (unsquared), l1 as an option.
    We differ: weights by layer.
    """
    if weights is not None and (
        not weights or not all(math.isfinite(w) and w >= 0.0 for w in weights) or not any(w > 0.0 for w in weights)
    ):
        raise ConfigError(
            f"eigenvalue: weights={weights}; needed: one finite number >= 0 a hidden layer, first to last, one of them > 0"
        )
    return Eigenvalue(1 if norm == "l1" else 2, None if weights is None else tuple(weights))
