"""Draws from Dirichlet distributions, one seed per row, with the gradient of a draw in the concentrations (DrNAS)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nasplug.replicas import normal, uniform

__all__ = ["concentrations", "drawn", "whole"]

ROUNDS = 8
"""Proposals per number: each is accepted at 95 % or more, so all are refused once in 10^10 numbers; then it is the mode."""

LEAST = 1e-3
"""Smaller concentrations count as this one: their draws are corners."""


def concentrations(leaf: Tensor) -> Tensor:
    """``elu(leaf) + 1``, > 0, as in DrNAS: 1 at a leaf of 0, where all points of the simplex are alike."""
    return (F.elu(leaf) + 1.0).clamp(min=LEAST)


def whole(leaf: Tensor, left: Tensor | None = None) -> Tensor:
    """The same without `LEAST`, and with digits and a slope however small it is: what a penalty can pull up again.

    ``left``: where it is False, 0.
    """
    found = torch.where(leaf > 0, leaf + 1.0, leaf.clamp(max=0.0).exp())
    return found if left is None else torch.where(left, found, torch.zeros_like(found))


class _Reparametrised(torch.autograd.Function):
    """A gamma draw as a function of its shape: the gradient is implicit, ``-(dF/da) / f`` at the draw."""

    @staticmethod
    def forward(ctx: Any, shape: Tensor, draw: Tensor) -> Tensor:
        ctx.save_for_backward(shape, draw)
        return draw.clone()

    @staticmethod
    def backward(ctx: Any, *given: Any) -> tuple[Tensor, None]:
        shape, draw = ctx.saved_tensors
        return given[0] * torch._standard_gamma_grad(shape, draw), None


def drawn(shape: Tensor, noise: Tensor, name: str, left: Tensor | None = None) -> Tensor:
    """One point of the simplex for each of the concentrations ``(K, ..., A)``, by one seed per row, ``noise (K,)``.

    Gamma draws (Marsaglia and Tsang 2000, at the shape + 1, times ``u^(1 / shape)``) over their sum; in float64. The gradient
    is that of each gamma draw (Figurnov et al. 2018), which torch has. A row's draws depend on its seed and shape alone.
    ``left``: where it is False, the point has 0, and the others are a draw of the distribution of them alone.
    """
    a, each = shape.detach().double(), tuple(shape.shape[1:])
    d = a + 2.0 / 3.0
    c = 1.0 / (9.0 * d).sqrt()
    found, open_ = d.clone(), torch.ones_like(d, dtype=torch.bool)
    for number in range(ROUNDS):
        x = normal(noise, f"{name}/normal {number}", each)
        u = uniform(noise, f"{name}/uniform {number}", each).clamp(min=2.0**-53)
        v = (1.0 + c * x) ** 3
        log_v = v.clamp(min=1e-300).log()
        good = (v > 0.0) & (u.log() < 0.5 * x.square() + d * (1.0 - v + log_v))
        found = torch.where(open_ & good, d * v, found)
        open_ = open_ & ~good
    u = uniform(noise, f"{name}/power", each).clamp(min=2.0**-53)
    gamma = (found.log() + u.log() / a).exp().clamp(min=1e-300)
    draw: Tensor = _Reparametrised.apply(shape.double(), gamma)  # type: ignore[no-untyped-call]
    draw = draw if left is None else torch.where(left, draw, torch.zeros_like(draw))
    return (draw / draw.sum(-1, keepdim=True)).to(shape)
