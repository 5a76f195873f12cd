"""Stages: after given shares of the steps the candidates with the least shares at each site are dropped for good."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from nasplug.contracts import Params
from nasplug.errors import ConfigError

__all__ = ["Stages", "check_stages", "dropped", "mask_of", "masks", "still_open"]

Stages = tuple[tuple[float, int], ...]
"""Pairs: a share of the steps, and how many candidates of each site stay from there on."""


def check_stages(whom: str, stages: Sequence[tuple[float, int]], most: int) -> Stages:
    """Refuse stages that do not come one after the other, or do not drop one of ``most`` candidates each.

    Raises:
        ConfigError: with what is needed.
    """
    shares, stay = [share for share, _ in stages], [keep for _, keep in stages]
    rising = all(0.0 < share < 1.0 for share in shares) and all(a < b for a, b in itertools.pairwise(shares))
    falling = all(a > b for a, b in zip([most, *stay], [*stay, 0], strict=True))
    if not rising or not falling:
        raise ConfigError(
            f"{whom}: stages={[list(stage) for stage in stages]}; needed: pairs of a share of the steps and how many "
            f"candidates stay, such as [[0.5, {max(1, most // 2)}]]: shares above 0 and below 1 that rise, numbers below "
            f"{most} that fall, to 1 at least"
        )
    return tuple((float(share), int(keep)) for share, keep in stages)


def mask_of(name: str) -> str:
    """The leaf that says which candidates of the leaf ``name`` are left: 1, or 0 for one that was dropped."""
    return f"kept {name}"


def masks(params: Params, names: Iterable[str]) -> Params:
    """Such leaves, of ones."""
    return {mask_of(name): torch.ones_like(params[name]) for name in names}


def still_open(params: Mapping[str, Tensor], name: str) -> Tensor | None:
    """Which candidates are left, bool ``(K, ..., A)``; None in a search without stages."""
    mask = params.get(mask_of(name))
    return None if mask is None else mask > 0.5


@torch.no_grad()
def dropped(params: Params, names: Iterable[str], stages: Stages, step: int, steps: int, *, simplex: bool) -> Params:
    """Parameters after ``step`` of ``steps``: where a stage ends there, only the largest leaves of each site are left.

    Leaves rank candidates as their shares do, at any temperature. On a tie the first stays. Leaves that are points of the
    simplex (``simplex``) sum to 1 again.
    """
    ending = [keep for share, keep in stages if max(1, round(share * steps)) == step]
    if not ending:
        return params
    found = dict(params)
    for name in names:
        leaf, before = params[name], params[mask_of(name)] > 0.5
        order = torch.where(before, leaf, -torch.inf).argsort(dim=-1, descending=True, stable=True)
        left = before & (order.argsort(-1) < ending[-1])
        found[mask_of(name)] = left.to(leaf)
        if simplex:
            rest = torch.where(left, leaf, torch.zeros_like(leaf))
            found[name] = rest / rest.sum(-1, keepdim=True)
    return found
