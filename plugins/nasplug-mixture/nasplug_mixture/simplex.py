"""Leaves as points of the simplex: softmax of logits or the points themselves, as they are or drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from nasplug.errors import ConfigError
from nasplug.replicas import column, uniform
from nasplug.stems import Stem
from nasplug_mixture.dirichlet import concentrations, drawn, whole
from nasplug_mixture.stages import still_open

__all__ = ["Parametrisation", "Sampling", "check_sampling", "flat", "points", "start_of", "starts"]

SMALLEST = 1e-4
"""Lower temperatures count as this one, where a mixture is one-hot to float32 unless two logits are within 2e-3."""

FLOOR = 1e-30
"""Smaller shares have the logarithm of this one: that of 0 has no slope."""

Sampling = Literal["none", "straight_through", "gumbel", "dirichlet"]
Parametrisation = Literal["softmax", "simplex"]


def check_sampling(whom: str, parametrisation: Parametrisation, sampling: Sampling) -> None:
    """Refuse draws from Dirichlet distributions over leaves that are points themselves.

    Raises:
        ConfigError: saying so.
    """
    if sampling == "dirichlet" and parametrisation == "simplex":
        raise ConfigError(
            f"{whom}: sampling: dirichlet draws by concentrations, which are no points of the simplex; remove parametrisation"
        )


def start_of(parametrisation: Parametrisation, count: int) -> float:
    """What each number of a leaf starts at, so that all ``count`` candidates have equal shares."""
    return 1.0 / count if parametrisation == "simplex" else 0.0


def starts(stem: Stem | None, parametrisation: Parametrisation, seeds: Tensor) -> dict[str, Tensor]:
    """The leaves ``(K, S)`` of the sizes that a stem's layers choose from: equal shares; float64."""
    sizes = stem.choosing if stem else {}
    like = torch.zeros(len(seeds), dtype=torch.float64, device=seeds.device)
    return {name: like.new_full((len(seeds), count), start_of(parametrisation, count)) for name, count in sizes.items()}


def flat(params: Mapping[str, Tensor], architecture: frozenset[str]) -> dict[int, Tensor]:
    """The concentrations of all leaves of the architecture, in their order."""
    names = [name for name in params if name in architecture]
    return {number: whole(params[name], still_open(params, name)) for number, name in enumerate(names)}


def _whole(share: Tensor) -> Tensor:
    return share / share.sum(-1, keepdim=True)


def points(
    leaf: Tensor,
    name: str,
    tau: Tensor,
    noise: Tensor | None,
    parametrisation: Parametrisation,
    sampling: Sampling,
    left: Tensor | None = None,
) -> Tensor:
    """A leaf ``(K, ..., A)`` as points of the simplex at temperature ``tau (K,)``; with ``noise (K,)`` one draw of each.

    ``name`` tells the noise of one leaf from that of another. ``left``: which candidates are, bool ``(K, ..., A)``; the shares
    of the others are exactly 0, and the rest as if there were no others.
    """
    if sampling == "dirichlet":
        shape = concentrations(leaf)
        if noise is not None:
            return drawn(shape, noise, name, left)
        return _whole(shape if left is None else torch.where(left, shape, torch.zeros_like(shape)))
    heat = column(tau, leaf).clamp(min=SMALLEST)
    if parametrisation == "simplex" and (noise is None or sampling == "none"):
        return leaf if left is None else _whole(torch.where(left, leaf, torch.zeros_like(leaf)))
    logits = torch.log(leaf.clamp(min=FLOOR)) if parametrisation == "simplex" else leaf
    logits = logits if left is None else torch.where(left, logits, -torch.inf)
    if noise is None or sampling == "none":
        return torch.softmax(logits / heat, -1)
    unit = uniform(noise, name, tuple(leaf.shape[1:])).clamp(min=2.0**-53)
    gumbel = -torch.log(-torch.log(unit))  # in float64, where unit < 1
    soft = torch.softmax((logits + gumbel.to(leaf)) / heat, -1)
    if sampling == "gumbel":
        return soft
    hard = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
    return hard + (soft - soft.detach())  # the bracket is exactly 0, and has the gradient
