"""The mixed sites of networks: a layer that mixes as one, or each neuron of a layer that mixes for itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from nasplug.networks import Networks, activation, forward
from nasplug.tasks import Task
from nasplug_mixture.certificate import Certificate, certificate

__all__ = ["Layer", "certificates", "layers", "probe"]

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

    def outputs(self, nets: Networks, x: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs with each candidate alone at each site, ``(K, S, A, O, N)``, and of the networks as they are, ``(K, O, N)``.

        The other sites stay as they are.
        """
        mixture = forward(nets, x)
        if self.linear:
            return mixture[:, None, None] + self._changes(nets, x), mixture
        choice = nets.choices[self.layer]
        k, sites, candidates = choice.shape
        found = mixture.new_empty(k, sites, candidates, *mixture.shape[1:])
        for site in range(sites):
            for c in range(candidates):
                alone = choice.clone()
                alone[:, site] = F.one_hot(torch.tensor(c, device=choice.device), candidates).to(choice)
                found[:, site, c] = forward(replace(nets, choices={**nets.choices, self.layer: alone}), x)
        return found, mixture

    def _changes(self, nets: Networks, x: Tensor) -> Tensor:
        """``V (f_c(z) - sum_k a_k f_k(z))`` of each site, ``(K, S, A, O, N)``: all of what a linear readout makes of them."""
        z = _before(nets, self.layer, x)  # (K, H, N)
        choice = nets.choices[self.layer]
        values = torch.stack([activation(name)(z) for name in nets.candidates], 2)  # (K, H, A, N)
        away = values - (choice.unsqueeze(-1) * values).sum(2, keepdim=True)
        if self.layer in nets.gates:
            away = away * nets.gates[self.layer][..., None, None]
        v = nets.block((nets.depth, self.layer))  # (K, O, H)
        if choice.shape[1] == 1:
            return torch.einsum("koh,khan->kaon", v, away).unsqueeze(1)
        return v.transpose(1, 2)[:, :, None, :, None] * away.unsqueeze(3)


def _before(nets: Networks, layer: int, x: Tensor) -> Tensor:
    """What a hidden layer receives, ``(K, H, N)``: the networks cut off there have it as their output."""
    cut = replace(
        nets,
        widths=nets.widths[: layer + 1],
        blocks={edge: w for edge, w in nets.blocks.items() if edge[0] <= layer},
        edge_gates={edge: g for edge, g in nets.edge_gates.items() if edge[0] <= layer},
        biases={place: b for place, b in nets.biases.items() if place <= layer},
        gates={place: g for place, g in nets.gates.items() if place < layer},
        choices={place: c for place, c in nets.choices.items() if place < layer},
        eigenvalues={},
    )
    return forward(cut, x)


def layers(nets: Networks) -> list[Layer]:
    """Every hidden layer that mixes, first to last."""
    found = []
    for layer, choice in sorted(nets.choices.items()):
        targets = {to for to, source in nets.blocks if source == layer}
        found.append(Layer(layer, choice.shape[1], targets == {nets.depth}))
    return found


def probe(task: Task, linear: bool) -> tuple[Tensor, Tensor | None]:
    """Training inputs ``(I, N)`` or ``(K, I, N)`` and, where the loss is the squared one, targets, in float64.

    All samples for a site before the readout, `PROBED` of them, evenly spread, for another one.
    """
    x, y = task.train.x, task.train.y
    if not linear and x.shape[-1] > PROBED:
        index = torch.linspace(0, x.shape[-1] - 1, PROBED, device=x.device).round().long()
        x, y = x.index_select(-1, index), y.index_select(-1, index)
    return x.double(), y.double() if task.loss == "mse" else None


@torch.no_grad()
def certificates(nets: Networks, task: Task) -> list[tuple[Layer, Certificate]]:
    """Every mixing layer with the `Certificate` of its sites, leading axes ``(K, S)``, in float64.

    The other sites stay as they are. A few networks at a time: rows never meet.
    """
    found = []
    for layer in layers(nets):
        x, y = probe(task, layer.linear)
        wide = max(layer.neurons * nets.widths[-1], nets.widths[layer.layer]) * len(nets.candidates)
        rows = max(1, CHUNK_FLOATS // (wide * x.shape[-1]))
        parts = []
        for first in range(0, nets.replicas, rows):
            part = slice(first, first + rows)
            mine = _exact(nets.map(lambda t, part=part: t[part].double()))  # type: ignore[misc]
            f, mixture = layer.outputs(mine, x[part] if x.dim() == 3 else x)
            targets = y[part].unsqueeze(1) if y is not None and y.dim() == 3 else y
            choice = mine.choices[layer.layer]
            parts.append(certificate(f, choice, targets, mixture.unsqueeze(1)))
        found.append((layer, _joined(parts)))
    return found


def _exact(nets: Networks) -> Networks:
    """Shares that sum to 1 in float64 as well: of one near 1 it is the small rest that counts, and float32 loses it."""
    return replace(nets, choices={layer: c / c.sum(-1, keepdim=True) for layer, c in nets.choices.items()})


def _joined(parts: list[Certificate]) -> Certificate:
    """Certificates of some networks after those of others."""

    def whole(tensors: list[Tensor | None]) -> Tensor | None:
        some = [t for t in tensors if t is not None]
        return torch.cat(some) if some else None

    return Certificate(
        a=torch.cat([p.a for p in parts]),
        q=torch.cat([p.q for p in parts]),
        d=torch.cat([p.d for p in parts]),
        loss=whole([p.loss for p in parts]),
        c=whole([p.c for p in parts]),
        residual=whole([p.residual for p in parts]),
    )
