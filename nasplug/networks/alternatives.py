"""Ways from one layer to another of which one stays: their shares are gates, and together they are 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nasplug.networks.record import Edge, Networks, Way

__all__ = ["decided", "ends", "inside", "operation", "shares", "sized"]


def operation(nets: Networks, way: Way) -> str:
    """What a way is called: ``none``, ``linear`` (a block), ``residual`` (a layer that passes on), ``gated``, ``rank_R``."""
    if isinstance(way, int):
        if any(to == way for to, _ in nets.constants):
            return "gated"
        return "residual" if way in nets.passes else f"rank_{nets.widths[way]}"
    return "none" if way is None else "linear"


def inside(nets: Networks) -> frozenset[int]:
    """Hidden layers that belong to operations."""
    ways = {way for ways in nets.alternatives for way in ways if isinstance(way, int)}
    return frozenset(ways | {source for to, source in nets.constants if to in ways})


def ends(nets: Networks, ways: Sequence[Way]) -> Edge:
    """The layers, to and from, that the ways of one group join, counted without those that belong to operations."""
    way, skipped = next(way for way in ways if way is not None), inside(nets)
    if isinstance(way, int):
        to = next(to for to, source in nets.blocks if source == way)
        source = way
        while source in skipped:
            source = next(before for layer, before in nets.blocks if layer == source)
    else:
        to, source = way
    return to - sum(layer < to for layer in skipped), source - sum(layer < source for layer in skipped)


def sized(nets: Networks) -> Networks:
    """Of each layer of the stem that chooses a size the kernel with the largest share stays, on a tie the smallest."""
    if not nets.kernel_shares:
        return nets
    kernels = dict(nets.kernels)
    for number, share in nets.kernel_shares.items():
        rows = torch.arange(len(share), device=share.device)
        kernels[number] = nets.kernel_parts[number][rows, share.argmax(1)]
    return replace(nets, kernels=kernels, kernel_shares={}, kernel_parts={})


def shares(nets: Networks) -> list[Tensor]:
    """The shares of each of `Networks.alternatives`, ``(K, A)``: of a way the largest of its gates, of None what is left of 1.

    Neurons and edges that were cut in the meantime do not change them. Ways that a search dropped (`Networks.kept`) have 0.
    """
    found = []
    for group, ways in enumerate(nets.alternatives):
        each = [
            None
            if way is None
            else (nets.gates[way] if isinstance(way, int) else nets.edge_gates[way]).flatten(1).amax(1)  # (K,)
            for way in ways
        ]
        rest = 1.0 - torch.stack([share for share in each if share is not None]).sum(0)
        share = torch.stack([rest.clamp(min=0.0) if share is None else share for share in each], 1)
        found.append(torch.where(nets.kept[group] > 0, share, torch.zeros_like(share)) if group in nets.kept else share)
    return found


def decided(nets: Networks, chosen: Sequence[Tensor | None] | None = None) -> Networks:
    """Of each of `Networks.alternatives` one way stays: its gates become 1, but for those that were cut, and the others' 0.

    Cut is what is 0 in a way that has other gates, or in a group without any share. A way with a share of 0 is whole.

    ``chosen``: of each its place, long ``(K,)``, or None, which leaves them as they are. Without ``chosen`` the largest share
    stays, on a tie the first.
    """
    if not nets.alternatives:
        return nets
    found = shares(nets)
    picked = [share.argmax(1) for share in found] if chosen is None else chosen
    gates, edge_gates = dict(nets.gates), dict(nets.edge_gates)
    for ways, index, share in zip(nets.alternatives, picked, found, strict=True):
        dropped = (share == 0) & (share > 0).any(1, keepdim=True)  # (K, A)
        for place, way in enumerate(ways):
            if index is None or way is None:
                continue
            here, whole = index == place, dropped[:, place]  # (K,)
            if isinstance(way, int):
                gates[way] = (here.unsqueeze(1) & ((gates[way] > 0) | whole.unsqueeze(1))).to(gates[way])
            else:
                edge_gates[way] = (here[:, None, None] & ((edge_gates[way] > 0) | whole[:, None, None])).to(edge_gates[way])
    return replace(nets, gates=gates, edge_gates=edge_gates)
