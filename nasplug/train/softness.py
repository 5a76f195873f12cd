"""How far soft networks are from hard ones: the connections that would be left, and how undecided choices are."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from nasplug.networks import Networks, decided, harden, shares, sizes
from nasplug.train.search import Search

__all__ = ["SMALL", "entropy", "remaining", "softness"]

SMALL = 0.01
"""Weights below it count as no connection: Structure-Aware Backpropagation's rule, and the default of `threshold`."""

CHUNK_FLOATS = 4_000_000  # weights looked at at once: a copy of all weights of a large pack may not fit


@torch.no_grad()
def softness(search: Search, nets: Networks) -> dict[str, Tensor]:
    """`remaining` as ``edges``, and where there is something to choose `entropy`, of what `relax` made: ``(K,)`` each."""
    weights = sum(w[0].numel() for w in nets.blocks.values())
    rows = max(1, CHUNK_FLOATS // weights)
    parts = [
        remaining(search.direct(nets.map(lambda t, at=at: t[at : at + rows])))  # type: ignore[misc]
        for at in range(0, nets.replicas, rows)
    ]
    found, undecided = {"edges": torch.cat(parts)}, entropy(nets)
    return found if undecided is None else found | {"entropy": undecided}


def entropy(nets: Networks) -> Tensor | None:
    """How undecided choices are: ``mean of -sum_c p_c ln p_c / ln A`` over a network's choices; None without any.

    ``(K,)`` in [0, 1]: 0 where each is one-hot, 1 where all A candidates have the same share. A choice is a neuron's, or that
    of a layer whose neurons share it. Neurons count alike, also those that a gate shuts. Where there are alternatives, they are
    the choices.
    """
    if mixed := [share for share in shares(nets) if share.shape[1] > 1]:
        return torch.stack([torch.special.entr(p.clamp(min=0.0)).sum(1) / math.log(p.shape[1]) for p in mixed], 1).mean(1)
    if not nets.choices or len(nets.candidates) < 2:
        return None
    each = [torch.special.entr(choice.clamp(min=0.0)).sum(-1) for choice in nets.choices.values()]  # (K, H or 1)
    return torch.cat(each, 1).mean(1) / math.log(len(nets.candidates))


def remaining(nets: Networks) -> Tensor:
    """The edges of networks in direct space, ``(K,)``, if those below `SMALL` were cut now; of type float, NaN if not finite.

    An edge counts if its weight times its gate is at least `SMALL`, and if it lies on a path from an input to an output through
    neurons whose gates are at least 1/2; counted as in `nasplug.networks.sizes`.
    """
    nets = decided(nets)
    weights = {edge: nets.block(edge) for edge in nets.blocks}
    kept = {edge: (w.abs() >= SMALL).to(w.dtype) for edge, w in weights.items()}
    count = sizes(harden(replace(nets, blocks=weights, edge_gates=kept, monotone=(), alternatives=())))["edges"]
    whole = torch.stack([torch.isfinite(w).flatten(1).all(1) for w in weights.values()]).all(0)
    return torch.where(whole, count.to(next(iter(weights.values())).dtype), torch.nan)
