"""Operations on several edges into the output, decided together: they are one site, and the closest tuple is its closest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nasplug.networks import Networks, decided, forward
from nasplug.tasks import SquaredError, Task
from nasplug_mixture.certificate import Certificate, certificate
from nasplug_mixture.readout import MOST_TUPLES, joint
from nasplug_mixture.sites import CHUNK_FLOATS, Ways, in_double, probe, ways

__all__ = ["Tuples", "tuples"]


@dataclass(frozen=True, slots=True)
class Tuples:
    """The edges into the output as one site.

    Attributes:
        edges: which, two at least.
        chosen: of each the operation in the closest tuple, long ``(K, S)``; what was hard before stays.
        proven: whether no tuple has less loss, bool ``(K,)``: the squared loss, all other edges as they are, each operation
            with the weights that it has.
        certificate: of the tuples, leading axis ``(K,)``.
    """

    edges: tuple[Ways, ...]
    chosen: Tensor
    proven: Tensor
    certificate: Certificate


@torch.no_grad()
def tuples(nets: Networks, task: Task) -> Tuples | None:
    """The closest tuple of operations, by `nasplug_mixture.joint`.

    None where fewer than two edges into the output have a choice, or there are more than `MOST_TUPLES` tuples.
    """
    edges = tuple(way for way in ways(nets) if way.linear and len(nets.alternatives[way.group]) > 1)
    counts = [len(nets.alternatives[way.group]) for way in edges]
    if len(edges) < 2 or math.prod(counts) > MOST_TUPLES:
        return None
    split = probe(task, linear=True)
    labelled = isinstance(task.loss, SquaredError)
    rows = max(1, CHUNK_FLOATS // (2 * math.prod(counts) * nets.widths[-1] * split.samples))
    parts, allowed = [], []
    for first in range(0, nets.replicas, rows):
        mine = in_double(nets, slice(first, first + rows))
        data = split.rows(first, first + rows)
        nothing = _with(mine, edges, [None] * len(edges))
        past = forward(nothing, data.x)  # (K, O, N)
        adds = []
        for at, count in enumerate(counts):
            each = [[place if other == at else None for other in range(len(edges))] for place in range(count)]
            adds.append(torch.stack([forward(_with(mine, edges, one), data.x) - past for one in each], 1))  # (K, A, O, N)
        shares = [way.shares(mine).squeeze(1) for way in edges]
        f, a = joint(adds, shares, past)
        left = [way.left(mine).squeeze(1) for way in edges]
        parts.append(certificate(f, a, data.y if labelled else None, None, data.weights, _tuples_of(left)))
        hard = [share.amax(1, keepdim=True) == 1.0 for share in shares]
        allowed.append(_tuples_of([(~h & some) | (share == 1.0) for h, some, share in zip(hard, left, shares, strict=True)]))
    found, may = Certificate.joined(parts), torch.cat(allowed)
    q = torch.where(may, torch.nan_to_num(found.q, nan=torch.inf), torch.inf)
    least = q.amin(1, keepdim=True)
    index = torch.where(q <= least + 2.0 * found.relative * least, found.a, -1.0).argmax(1)  # on a tie the larger share
    whole = found.finite
    index = torch.where(whole, index, found.largest)
    proven = torch.zeros_like(whole) if found.sure is None else found.sure & whole & (index == found.closest)
    return Tuples(edges, torch.stack(torch.unravel_index(index, tuple(counts)), 1), proven, found)


def _tuples_of(free: Sequence[Tensor]) -> Tensor:
    """Tuples all of whose operations are among these, bool ``(K, A_1 ... A_S)``; ``free``: of each site bool ``(K, A_s)``."""
    each = [one.double() for one in free]
    return joint([one[..., None, None] for one in each], each)[1] > 0


def _with(nets: Networks, edges: tuple[Ways, ...], places: list[int | None]) -> Networks:
    """The networks with one operation on each of these edges, or nothing (None)."""
    device = next(iter(nets.blocks.values())).device
    chosen: list[Tensor | None] = [None] * len(nets.alternatives)
    for way, place in zip(edges, places, strict=True):
        chosen[way.group] = torch.full((nets.replicas,), -1 if place is None else place, device=device)
    return decided(nets, chosen)
