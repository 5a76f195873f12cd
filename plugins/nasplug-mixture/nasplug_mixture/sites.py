"""The mixed sites of networks: a layer or each of its neurons, that mix activations, or an edge that mixes operations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from nasplug.networks import Networks, decided, ends, forward, inside, operation, shares, sums
from nasplug.tasks import Split, SquaredError, Task
from nasplug_mixture.certificate import Certificate, certificate
from nasplug_mixture.readout import read

__all__ = ["Layer", "Site", "Ways", "certificates", "in_double", "layers", "losses", "probe", "sites", "ways"]

CHUNK_FLOATS = 2_000_000
"""Numbers held at once while candidates are compared."""

PROBED = 1024
"""Training samples that a site before another nonlinearity is looked at with: there nothing is proven that asks for all."""


@dataclass(frozen=True, slots=True)
class Layer:
    """The sites of one hidden layer, of all networks.

    Attributes:
        layer: which.
        neurons: S, how many sites: its neurons, or 1 where the layer mixes as one.
        linear: it feeds the output alone, so that ``f_a = sum_k a_k f_k``.
    """

    layer: int
    neurons: int
    linear: bool

    def names(self, nets: Networks) -> tuple[str, ...]:
        """Of the candidates."""
        return nets.candidates

    def shares(self, nets: Networks) -> Tensor:
        """``(K, S, A)``."""
        return nets.choices[self.layer]

    def left(self, nets: Networks) -> Tensor:
        """Which candidates may still be chosen, bool ``(K, S, A)``."""
        return _left(nets, self.layer, self.shares(nets))

    def where(self, site: int) -> dict[str, int]:
        """Of which site a certificate speaks."""
        return {"layer": self.layer, **({"neuron": site} if self.neurons > 1 else {})}

    def wide(self, nets: Networks) -> int:
        """Numbers per sample and network that `outputs` holds at once."""
        return max(self.neurons * nets.widths[-1], nets.widths[self.layer]) * len(nets.candidates)

    def outputs(self, nets: Networks, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Outputs with each candidate alone at each site, ``(K, S, A, O, N)``, and of the networks as they are, ``(K, O, N)``.

        The other sites stay as they are. None where the latter are the shares' sum of the former.
        """
        if self.linear:
            return self._read(nets, x), None
        mixture = forward(nets, x)
        choice = nets.choices[self.layer]
        k, sites, candidates = choice.shape
        found = mixture.new_empty(k, sites, candidates, *mixture.shape[1:])
        for site in range(sites):
            for c in range(candidates):
                alone = choice.clone()
                alone[:, site] = F.one_hot(torch.tensor(c, device=choice.device), candidates).to(choice)
                found[:, site, c] = forward(replace(nets, choices={**nets.choices, self.layer: alone}), x)
        return found, mixture

    def _read(self, nets: Networks, x: Tensor) -> Tensor:
        """What a linear readout makes of each candidate alone at each site, ``(K, S, A, O, N)``.

        No candidate's output is computed from the mixture's, so a large candidate leaves the digits of a small one alone.
        """
        z = sums(nets, x, self.layer)  # (K, H, N)
        values = torch.stack([nets.function(name)(z) for name in nets.candidates], 2)  # (K, H, A, N)
        if self.layer in nets.gates:
            values = values * nets.gates[self.layer][..., None, None]
        readout = (nets.depth, self.layer)
        v = nets.block(readout)  # (K, O, H)
        past = forward(replace(nets, blocks={edge: w for edge, w in nets.blocks.items() if edge != readout}), x)  # (K, O, N)
        choice = nets.choices[self.layer]
        if choice.shape[1] == 1:
            return read(values.transpose(1, 2), v, past).unsqueeze(1)
        alone = v.transpose(1, 2)[:, :, None, :, None] * values.unsqueeze(3)  # (K, H, A, O, N)
        mixed = (choice[..., None, None] * alone).sum(2)  # (K, H, O, N)
        none = torch.zeros_like(mixed[:, :1])
        before = torch.cat([none, mixed[:, :-1].cumsum(1)], 1)  # of the neurons before each one, and after it
        after = torch.cat([mixed[:, 1:].flip(1).cumsum(1).flip(1), none], 1)
        return alone + (past.unsqueeze(1) + before + after).unsqueeze(2)


@dataclass(frozen=True, slots=True)
class Ways:
    """The site of one of `nasplug.networks.Networks.alternatives`: the operations on an edge.

    Attributes:
        group: which.
        to, source: the layers it joins, counted without those that belong to operations.
        linear: it enters the output, so that ``f_a = sum_k a_k f_k``.
        neurons: 1, as an edge is one site.
    """

    group: int
    to: int
    source: int
    linear: bool
    neurons: int = 1

    def names(self, nets: Networks) -> tuple[str, ...]:
        """Of the operations."""
        return tuple(operation(nets, way) for way in nets.alternatives[self.group])

    def shares(self, nets: Networks) -> Tensor:
        """``(K, 1, A)``."""
        share = shares(nets)[self.group].unsqueeze(1)
        return share / share.sum(-1, keepdim=True)

    def left(self, nets: Networks) -> Tensor:
        """Which operations may still be chosen, bool ``(K, 1, A)``."""
        return _left(nets, self.group, self.shares(nets))

    def where(self, site: int) -> dict[str, int]:
        """Of which site a certificate speaks."""
        return {"layer": self.to, "from": self.source}

    def wide(self, nets: Networks) -> int:
        """Numbers per sample and network that `outputs` holds at once."""
        return max(sum(nets.widths), nets.widths[-1] * len(nets.alternatives[self.group]))

    def outputs(self, nets: Networks, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Outputs with each operation alone, ``(K, 1, A, O, N)``, and of the networks as they are, ``(K, O, N)``, or None.

        The other edges stay as they are. None where the latter are the shares' sum of the former.
        """
        found = [forward(self.alone(nets, place), x) for place in range(len(nets.alternatives[self.group]))]
        return torch.stack(found, 1).unsqueeze(1), None if self.linear else forward(nets, x)

    def alone(self, nets: Networks, place: int) -> Networks:
        """The networks with one of the operations."""
        chosen: list[Tensor | None] = [None] * len(nets.alternatives)
        like = next(iter(nets.blocks.values()))
        chosen[self.group] = torch.full((nets.replicas,), place, device=like.device)
        return decided(nets, chosen)


Site = Layer | Ways


def _left(nets: Networks, key: int, share: Tensor) -> Tensor:
    """What was not dropped of the candidates of these shares, ``(K, S, A)``."""
    kept = nets.kept.get(key)
    return torch.ones_like(share, dtype=torch.bool) if kept is None else (kept > 0).view_as(share)


def layers(nets: Networks) -> list[Layer]:
    """Every hidden layer that mixes, first to last."""
    found = []
    for layer, choice in sorted(nets.choices.items()):
        targets = {to for to, source in nets.blocks if source == layer}
        found.append(Layer(layer, choice.shape[1], targets == {nets.depth}))
    return found


def ways(nets: Networks) -> list[Ways]:
    """Every edge that mixes operations."""
    last = nets.depth - len(inside(nets))
    joined = [ends(nets, some) for some in nets.alternatives]
    return [Ways(group, to, source, to == last) for group, (to, source) in enumerate(joined)]


def sites(nets: Networks) -> list[Site]:
    """What there is to choose: operations where there are some, else activations."""
    return [*ways(nets)] if nets.alternatives else [*layers(nets)]


def probe(task: Task, linear: bool) -> Split:
    """Training inputs ``(I, N)`` or ``(K, I, N)`` with their targets or labels and weights, numbers in float64.

    All samples for a site before the readout, `PROBED` of them, evenly spread, for another one.
    """
    split, device = task.train, task.train.x.device
    if not linear and split.samples > PROBED:
        split = split.columns(torch.linspace(0, split.samples - 1, PROBED, device=device).round().long())
    return split.to(device, torch.float64)


def _looks(nets: Networks, task: Task, site: Site) -> Iterator[tuple[Networks, Tensor, Tensor | None, Split]]:
    """A few networks at a time, as rows never meet: themselves, the site's outputs and data, in float64."""
    split = probe(task, site.linear)
    rows = max(1, CHUNK_FLOATS // (site.wide(nets) * split.samples))
    for first in range(0, nets.replicas, rows):
        mine = in_double(nets, slice(first, first + rows))
        data = split.rows(first, first + rows)
        yield mine, *site.outputs(mine, data.x), data


@torch.no_grad()
def certificates(nets: Networks, task: Task) -> list[tuple[Site, Certificate]]:
    """Every mixed site with its `Certificate`, leading axes ``(K, S)``; targets are read for the squared loss.

    The other sites stay as they are.
    """
    found = []
    for site in sites(nets):
        parts = []
        for mine, f, mixture, data in _looks(nets, task, site):
            y, w = data.y, data.weights
            targets = None if not isinstance(task.loss, SquaredError) else y.unsqueeze(1) if y.dim() == 3 else y
            weights = None if w is None else w.unsqueeze(1) if w.dim() == 2 else w
            whole = None if mixture is None else mixture.unsqueeze(1)
            parts.append(certificate(f, site.shares(mine), targets, whole, weights, site.left(mine)))
        found.append((site, Certificate.joined(parts)))
    return found


@torch.no_grad()
def losses(nets: Networks, task: Task) -> list[tuple[Site, Tensor]]:
    """Every mixed site with the task's own loss with each candidate alone, ``(K, S, A)``, float64.

    The other sites stay as they are; training samples, as many as the certificates see.
    """
    return [
        (
            site,
            torch.cat(
                [
                    torch.stack(
                        [torch.stack([task.losses(f, *data.batch[1:]) for f in one.unbind(1)], 1) for one in each.unbind(1)],
                        1,
                    )
                    for _, each, _, data in _looks(nets, task, site)
                ]
            ),
        )
        for site in sites(nets)
    ]


def in_double(nets: Networks, rows: slice) -> Networks:
    """Some rows in float64, with shares that sum to 1 there as well.

    Of one near 1 it is the small rest that counts, and float32 loses it.
    """
    nets = nets.map(lambda t: t[rows].double())
    return replace(nets, choices={layer: c / c.sum(-1, keepdim=True) for layer, c in nets.choices.items()})
