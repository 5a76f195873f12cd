"""The mixed sites of networks: a layer that mixes as one, or each neuron of a layer that mixes for itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from nasplug.networks import Networks, forward, sums
from nasplug.tasks import Split, SquaredError, Task
from nasplug_mixture.certificate import Certificate, certificate
from nasplug_mixture.readout import read

__all__ = ["Layer", "certificates", "layers", "losses", "probe"]

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


def layers(nets: Networks) -> list[Layer]:
    """Every hidden layer that mixes, first to last."""
    found = []
    for layer, choice in sorted(nets.choices.items()):
        targets = {to for to, source in nets.blocks if source == layer}
        found.append(Layer(layer, choice.shape[1], targets == {nets.depth}))
    return found


def probe(task: Task, linear: bool) -> Split:
    """Training inputs ``(I, N)`` or ``(K, I, N)`` with their targets or labels and weights, numbers in float64.

    All samples for a site before the readout, `PROBED` of them, evenly spread, for another one.
    """
    split, device = task.train, task.train.x.device
    if not linear and split.samples > PROBED:
        split = split.columns(torch.linspace(0, split.samples - 1, PROBED, device=device).round().long())
    return split.to(device, torch.float64)


def _looks(nets: Networks, task: Task, layer: Layer) -> Iterator[tuple[Tensor, Tensor, Tensor | None, Split]]:
    """A few networks at a time, as rows never meet: their shares, `Layer.outputs` and data, in float64."""
    split = probe(task, layer.linear)
    wide = max(layer.neurons * nets.widths[-1], nets.widths[layer.layer]) * len(nets.candidates)
    rows = max(1, CHUNK_FLOATS // (wide * split.samples))
    for first in range(0, nets.replicas, rows):
        part = slice(first, first + rows)
        mine = _exact(nets.map(lambda t, part=part: t[part].double()))  # type: ignore[misc]
        data = split.rows(first, first + rows)
        yield mine.choices[layer.layer], *layer.outputs(mine, data.x), data


@torch.no_grad()
def certificates(nets: Networks, task: Task) -> list[tuple[Layer, Certificate]]:
    """Every mixing layer with the `Certificate` of its sites, leading axes ``(K, S)``; targets are read for the squared loss.

    The other sites stay as they are.
    """
    found = []
    for layer in layers(nets):
        parts = []
        for choice, f, mixture, data in _looks(nets, task, layer):
            y, w = data.y, data.weights
            targets = None if not isinstance(task.loss, SquaredError) else y.unsqueeze(1) if y.dim() == 3 else y
            weights = None if w is None else w.unsqueeze(1) if w.dim() == 2 else w
            parts.append(certificate(f, choice, targets, None if mixture is None else mixture.unsqueeze(1), weights))
        found.append((layer, Certificate.joined(parts)))
    return found


@torch.no_grad()
def losses(nets: Networks, task: Task) -> dict[int, Tensor]:
    """The task's own loss with each candidate alone at each site: mixing layer -> ``(K, S, A)``, float64.

    The other sites stay as they are; training samples, as many as the certificates see.
    """
    return {
        layer.layer: torch.cat(
            [
                torch.stack(
                    [torch.stack([task.losses(f, *data.batch[1:]) for f in site.unbind(1)], 1) for site in sites.unbind(1)],
                    1,
                )
                for _, sites, _, data in _looks(nets, task, layer)
            ]
        )
        for layer in layers(nets)
    }


def _exact(nets: Networks) -> Networks:
    """Shares that sum to 1 in float64 as well: of one near 1 it is the small rest that counts, and float32 loses it."""
    return replace(nets, choices={layer: c / c.sum(-1, keepdim=True) for layer, c in nets.choices.items()})
