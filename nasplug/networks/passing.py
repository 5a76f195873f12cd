"""The forward pass of K networks: their features, the values and sums of every layer, the outputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nasplug.networks.batchnorm import folded
from nasplug.networks.record import Networks

__all__ = ["features", "forward", "mixed", "product", "sums", "values"]


def product(weights: Tensor, a: Tensor) -> Tensor:
    """``weights (K, H_to, H_from) @ a``, with ``a`` shared ``(H_from, B)`` or a replica's own ``(K, H_from, B)``.

    A shared batch is ONE matrix product for all K networks; a single output is a multiply-and-sum, which is
    cheaper than K products of one row.
    """
    k, to, source = weights.shape
    if a.dim() == 2:
        return (weights.reshape(k * to, source) @ a).view(k, to, a.shape[-1])
    if to == 1:
        return (weights.transpose(1, 2) * a).sum(1, keepdim=True)
    return torch.bmm(weights, a)


def mixed(nets: Networks, layer: int, z: Tensor) -> Tensor:
    """``sum_c choice_c f_c(z)``: the values of a hidden layer for its sums ``z (K, H, B)``, before gates."""
    candidates, choice = nets.candidates, nets.choices.get(layer)  # (K, H or 1, A), or None for the only candidate
    if choice is None:
        return nets.function(candidates[0])(z)
    if candidates == ("relu", "identity"):
        # A leaky slope s in [0, 1]. Eager torch compares slowly: lerp is 14 times faster here than max(z, s z) or prelu.
        return torch.lerp(torch.relu(z), z, choice[..., 1:])
    total = choice[..., 0:1] * nets.function(candidates[0])(z)
    for c, name in enumerate(candidates[1:], start=1):
        total = total + choice[..., c : c + 1] * nets.function(name)(z)
    return total


def features(nets: Networks, x: Tensor) -> Tensor:
    """Layer 0: ``x`` itself, shared ``(I, B)`` or ``(K, I, B)``; with a stem its features, ``(K, F, B)``."""
    if nets.stem is None:
        return x
    nets = folded(nets)
    return nets.stem(nets.kernels, nets.kernel_biases, x, nets.functions) if nets.stem is not None else x


def values(nets: Networks, x: Tensor, last: int | None = None) -> list[Tensor]:
    """The values of layers 0 to ``last`` (None: the output), each ``(K, H, B)``; layer 0 is `features`.

    ``x (I, B)`` shared or ``(K, I, B)``. Dense and skip blocks are summed.
    """
    incoming: list[list[int]] = [[] for _ in nets.widths]
    for to, source in nets.blocks:
        incoming[to].append(source)
    found: list[Tensor] = [features(nets, x)]
    for layer in range(1, (nets.depth if last is None else last) + 1):
        z = _sum(nets, layer, incoming[layer], found)
        if layer < nets.depth:
            z = mixed(nets, layer, z)
            if layer in nets.gates:
                z = z * nets.gates[layer].unsqueeze(-1)
        found.append(z)
    return found


def sums(nets: Networks, x: Tensor, layer: int) -> Tensor:
    """The sums of a layer, before its activation: ``(K, H, B)``; for the last layer the outputs."""
    sources = [source for to, source in nets.blocks if to == layer]
    return _sum(nets, layer, sources, values(nets, x, layer - 1))


def _sum(nets: Networks, layer: int, sources: Sequence[int], found: Sequence[Tensor]) -> Tensor:
    """The bias and what comes from ``sources``, of which ``found`` has the values."""
    z: Tensor | None = None
    for source in sources:
        term = product(nets.block((layer, source)), found[source])
        z = term if z is None else z + term
    if z is None:
        z = found[0].new_zeros(nets.replicas, nets.widths[layer], found[0].shape[-1])
    return z + nets.biases[layer].unsqueeze(-1) if layer in nets.biases else z


def forward(nets: Networks, x: Tensor) -> Tensor:
    """The canonical forward: ``x (I, B)`` shared or ``(K, I, B)`` -> ``(K, O, B)``."""
    return values(nets, x)[-1]
