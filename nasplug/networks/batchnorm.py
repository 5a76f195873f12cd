"""Batch normalisation of a stem's channels: by the batch while training, by running statistics everywhere else.

``y_c = s_c (a_c - m_c) / sqrt(v_c + 1e-5) + b_c``, for each channel c of each network by itself: a row's statistics are of its
own channels. While training m and v are the mean and variance over the batch's samples and places, each sample with its
weight to the row, so that samples that a row may not train on (other folds) do not reach it. After each step the running
statistics move by a tenth of their distance to them (the variance n / (n - 1) times, n samples and places). Scoring, hard
networks and exports use the running ones, which are folded into kernels and biases.

Source: Ioffe and Szegedy 2015, with the numbers of `torch.nn.BatchNorm2d`. We differ in the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from nasplug.networks.record import Networks
from nasplug.stems import NORMS

__all__ = ["PACE", "folded", "observing"]

EPS = 1e-5
PACE = 0.1
"""Of the distance to a batch's statistics, by which the running ones move after a step."""


def folded(nets: Networks) -> Networks:
    """The same functions without norms: ``kernel * s / sqrt(v + eps)`` and ``bias - m s / sqrt(v + eps)``."""
    if nets.stem is None or not nets.kernel_scales:
        return nets
    kernels, biases = dict(nets.kernels), dict(nets.kernel_biases)
    for number, scale in nets.kernel_scales.items():
        rate = scale / (nets.kernel_variances[number] + EPS).sqrt()  # (K, C_out)
        kernels[number] = kernels[number] * rate[..., None, None, None]
        biases[number] = biases[number] - nets.kernel_means[number] * rate
    none: dict[str, Any] = {part: {} for part in NORMS}
    return replace(nets, stem=nets.stem.plain(), kernels=kernels, kernel_biases=biases, **none)


def observing(
    forward: Callable[[Networks, Tensor], Tensor], nets: Networks, x: Tensor, weights: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Outputs ``(K, O, B)`` while training, and what was observed: leaves of statistics, each ``(K, C_out)``.

    A row to whom the batch has less than two numbers of weight observes what it has: they have no variance.

    Args:
        forward: of networks, whose layer 0 may be given as ``(K, F, B)``.
        nets: soft networks.
        x: a batch, ``(I, B)`` or ``(K, I, B)``.
        weights: of its samples, ``(B,)`` or a row's own, ``(K, B)``, >= 0; None: all the same.
    """
    if nets.stem is None or not nets.kernel_scales:
        return forward(nets, x), {}
    seen: dict[str, Tensor] = {}

    def between(number: int, a: Tensor) -> Tensor:
        scale, bias = nets.kernel_scales[number], nets.kernel_biases[number]
        made, mean, variance, some = _normalised(a, scale, bias, weights)
        for part, value in (("kernel_means", mean), ("kernel_variances", variance)):
            before = getattr(nets, part)[number]
            seen[f"{NORMS[part]} {number}"] = torch.where(some, value, before).detach()
        return made

    features = nets.stem(nets.kernels, nets.kernel_biases, x, nets.functions, between)
    none: dict[str, Any] = {part: {} for part in ("kernels", "kernel_biases", *NORMS)}
    return forward(replace(nets, stem=None, **none), features), seen


def _normalised(a: Tensor, scale: Tensor, bias: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``a (B, K C, H, W)`` normalised; mean and variance, ``(K, C)``; which rows have any, ``(K, 1)``."""
    k, channels = scale.shape
    each = a.reshape(len(a), k, channels, -1)  # (B, K, C, P)
    places = each.shape[-1]
    if weights is None:
        count = scale.new_full((k, 1), float(len(a) * places))
        mean = each.mean((0, 3))
        centred = each - mean.unsqueeze(-1)
        variance = centred.square().mean((0, 3))
    else:
        own = weights.expand(k, -1)  # (K, B)
        count = (own > 0).sum(1, keepdim=True, dtype=own.dtype) * places
        share = own / own.sum(1, keepdim=True).clamp(min=torch.finfo(own.dtype).tiny) / places
        share = share.T[:, :, None, None]  # (B, K, 1, 1)
        mean = (each * share).sum((0, 3))
        centred = each - mean.unsqueeze(-1)
        variance = (centred.square() * share).sum((0, 3))
    made = centred * (scale / (variance + EPS).sqrt()).unsqueeze(-1) + bias.unsqueeze(-1)
    return made.reshape(a.shape), mean, variance * (count / (count - 1).clamp(min=1)), count > 1
