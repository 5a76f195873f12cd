"""Inputs that were made of one column of a user's table count as one: values over inputs gathered by column.

``groups``: of each input the place of its column, as in `nasplug.tasks.Task`; ``values (..., I)`` become ``(..., C)``.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["gathered", "norms", "shares", "spread"]

NONE_LEFT = 1e-30  # the logarithm of a share of 0


@lru_cache(maxsize=64)
def _index(groups: tuple[int, ...], device: torch.device) -> Tensor:
    """Made once: a step on a GPU copies nothing from the host. What is kept is used with gradients, whoever asked first."""
    if torch.compiler.is_compiling():
        return torch.tensor(groups, dtype=torch.long, device=device)
    with torch.inference_mode(mode=False):
        return torch.tensor(groups, dtype=torch.long, device=device)


def gathered(values: Tensor, groups: tuple[int, ...]) -> Tensor:
    """Sums over each column's inputs."""
    found = values.new_zeros(*values.shape[:-1], 1 + max(groups))
    return found.index_add(-1, _index(groups, values.device), values)


def spread(values: Tensor, groups: tuple[int, ...]) -> Tensor:
    """Each input gets the value of its column: ``(..., C)`` -> ``(..., I)``."""
    return values.index_select(-1, _index(groups, values.device))


def norms(values: Tensor, groups: tuple[int, ...]) -> Tensor:
    """Euclidean norms of each column's inputs; the gradient of a norm of 0 is 0."""
    squares = gathered(values.square(), groups)
    some = squares > 0
    # The root is taken of 1 where the sum is 0: its own slope there is infinite and would turn 0 into NaN.
    return torch.where(some, torch.where(some, squares, torch.ones_like(squares)).sqrt(), torch.zeros_like(squares))


def shares(gates: Tensor, groups: tuple[int, ...]) -> Tensor:
    """How far each column is kept, for gates in [0, 1]: ``1 - prod (1 - g)``, the chance that one of its inputs is."""
    return 1.0 - gathered((1.0 - gates).clamp(min=NONE_LEFT).log(), groups).exp()
