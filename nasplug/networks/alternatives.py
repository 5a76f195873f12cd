"""Ways from one layer to another of which one stays: their shares are gates, and together they are 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nasplug.networks.record import Networks

__all__ = ["decided", "shares"]


def shares(nets: Networks) -> list[Tensor]:
    """The shares of each of `Networks.alternatives`, ``(K, A)``: of a way the largest of its gates, of None what is left of 1.

    Neurons and edges that were cut in the meantime do not change them.
    """
    found = []
    for ways in nets.alternatives:
        each = [
            None
            if way is None
            else (nets.gates[way] if isinstance(way, int) else nets.edge_gates[way]).flatten(1).amax(1)  # (K,)
            for way in ways
        ]
        rest = 1.0 - torch.stack([share for share in each if share is not None]).sum(0)
        found.append(torch.stack([rest.clamp(min=0.0) if share is None else share for share in each], 1))
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
