"""`concentrations`: a penalty that keeps Dirichlet distributions near the flat one (DrNAS)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nasplug.contracts import Regularizer
from nasplug.networks import Networks

__all__ = ["Concentrations", "concentrations"]

TINY = 1e-30
"""Smaller concentrations are as far from 1 as this one."""


@dataclass(frozen=True, slots=True)
class Concentrations(Regularizer):
    """See `concentrations`."""

    needs: ClassVar[frozenset[str]] = frozenset({"concentrations"})

    def __call__(self, nets: Networks) -> Tensor:
        """``(K,)``, >= 0."""
        return torch.stack([_away(b).square().flatten(1).sum(1) for b in nets.concentrations.values()]).sum(0) / 2.0


def _away(b: Tensor) -> Tensor:
    """The leaf that makes each concentration, 0 at 1: ``b - 1`` above 1, ``ln b`` below; 0 where a candidate was dropped."""
    return torch.where(b > 0, torch.where(b > 1, b - 1.0, b.clamp(TINY, 1.0).log()), torch.zeros_like(b))


def concentrations() -> Regularizer:
    """Keeps the concentrations of Dirichlet draws near 1, so that shares neither collapse to corners nor to the middle.

    ``sum_s sum_c d_sc^2 / 2`` over sites s and candidates c, ``d = b - 1`` for a concentration b above 1, ``ln b`` below: the
    squared L2 distance of the leaves from 0, where b = 1 and all points of the simplex are alike. Dropped candidates do not
    count. Level: 1.0e-3 is DrNAS's, beside losses of order 1; it is a sum, so a search with more sites needs a smaller one.

    Fails: without Dirichlet draws there are no concentrations, and the study is refused when it is planned.

    Source: ``d(beta, 1)`` of DrNAS (Chen et al. 2021), in the form of its authors' code, which gives the architecture's Adam a
    weight decay of 1e-3: the same gradient. We differ: the paper leaves d open, and their code also has the Kullback-Leibler
    divergence, which we do not.
    """
    return Concentrations()
