"""Soft networks to hard ones, networks without what is on no path, and how large they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from nasplug.activations import Function
from nasplug.groups import gathered
from nasplug.networks.alternatives import decided, sized
from nasplug.networks.batchnorm import folded
from nasplug.networks.passing import mixed
from nasplug.networks.record import Edge, Networks
from nasplug.stems import NORMS

__all__ = ["SIZES", "alive", "harden", "sizes"]

SIZES = ("edges", "neurons", "layers", "inputs", "parameters", "macs")
"""Columns of `sizes`."""


def alive(nets: Networks) -> Networks:
    """The same functions without what is on no path from input to output; gates and edge gates become 0 or 1.

    Soft edge gates are folded into the weights, soft neuron gates into the outgoing weights (exact). A neuron that no input
    reaches is a constant: its value is folded into the biases downstream (exact, also where ``f(0) != 0``). A neuron
    that reaches no output is dropped, and so is a channel of the stem. Alternatives are gone, as
    their shares are in the weights. Idempotent, row by row.
    """
    d = nets.depth
    weights: dict[Edge, Tensor] = {}
    for to, source in nets.blocks:
        w = nets.block((to, source))  # (K, H_to, H_from)
        if source in nets.gates:
            w = w * nets.gates[source].unsqueeze(1)
        weights[to, source] = w
    first = next(iter(weights.values()))
    biases = {
        layer: nets.biases[layer].clone() if layer in nets.biases else first.new_zeros(nets.replicas, nets.widths[layer])
        for layer in range(1, d + 1)
    }
    reached = {0: torch.ones(nets.replicas, nets.widths[0], dtype=torch.bool, device=first.device)}  # (K, H)
    for layer in range(1, d):
        hit = torch.zeros_like(biases[layer], dtype=torch.bool)
        for (to, source), w in weights.items():
            if to == layer:
                hit |= ((w != 0) & reached[source].unsqueeze(1)).any(-1)
        reached[layer] = hit
        constant = mixed(nets, layer, biases[layer].unsqueeze(-1)).squeeze(-1)
        constant = torch.where(hit, torch.zeros_like(constant), constant)  # (K, H)
        for (to, source), w in weights.items():
            if source == layer:
                share = torch.where(hit.unsqueeze(1), torch.zeros_like(w), w)
                biases[to] = biases[to] + (share @ constant.unsqueeze(-1)).squeeze(-1)
    useful = {d: torch.ones_like(biases[d], dtype=torch.bool)}
    for layer in range(d - 1, -1, -1):
        hit = torch.zeros_like(reached[layer])
        for (to, source), w in weights.items():
            if source == layer:
                hit |= ((w != 0) & useful[to].unsqueeze(-1)).any(1)
        useful[layer] = hit & reached[layer]
    edge_gates = {
        (to, source): ((w != 0) & useful[to].unsqueeze(-1) & useful[source].unsqueeze(1)).to(w.dtype)
        for (to, source), w in weights.items()
    }
    gates = {layer: useful[layer].to(first.dtype) for layer in range(1, d)}
    # Which layers have biases is read from the skeleton and not from the numbers: a row must not get one from its pack.
    offset = any(_shifts(nets.function(name)) for name in nets.candidates)  # f(0) != 0
    biased = set(nets.biases)
    for to, source in sorted(weights):
        if source > 0 and (offset or source in biased):
            biased.add(to)
    kept_biases = {layer: biases[layer] * gates[layer] if layer < d else biases[layer] for layer in sorted(biased)}
    found = replace(
        nets,
        blocks={edge: torch.where(edge_gates[edge] > 0, w, torch.zeros_like(w)) for edge, w in weights.items()},
        biases=kept_biases,
        gates=gates,
        edge_gates=edge_gates,
        alternatives=(),
        kept={} if nets.alternatives else nets.kept,
    )
    return _with_used_channels(found, useful[0])


def _with_used_channels(nets: Networks, read: Tensor) -> Networks:
    """Zeros in the channels of the stem that reach no feature that is ``read``, bool ``(K, F)``."""
    if nets.stem is None:
        return nets
    used = nets.stem.used(nets.kernels, read)

    def cut(tensors: Mapping[int, Tensor]) -> dict[int, Tensor]:
        masks = {n: used[n].reshape(*used[n].shape, *[1] * (t.dim() - 2)) for n, t in tensors.items()}
        return {n: torch.where(masks[n], t, torch.zeros_like(t)) for n, t in tensors.items()}

    parts: dict[str, Any] = {part: cut(getattr(nets, part)) for part in ("kernels", "kernel_biases", *NORMS)}
    return replace(nets, **parts)


def harden(nets: Networks) -> Networks:
    """Round what is still soft, gates at 1/2; of alternatives, choices and sizes of kernels the largest share stays.

    On a tie the first.
    """
    nets = sized(decided(nets))
    return replace(
        nets,
        gates={layer: (g >= 0.5).to(g.dtype) for layer, g in nets.gates.items()},
        edge_gates={edge: (g >= 0.5).to(g.dtype) for edge, g in nets.edge_gates.items()},
        choices={layer: torch.zeros_like(c).scatter_(-1, c.argmax(-1, keepdim=True), 1.0) for layer, c in nets.choices.items()},
    )


def sizes(nets: Networks) -> dict[str, Tensor]:
    """What is on paths from input to output, long ``(K,)``, by the names in `SIZES`.

    ``inputs`` are columns of the user's table, and what goes from one of them to a neuron is one edge, also where the column
    became several numbers: words or ramps (`Networks.groups`). ``neurons`` and ``layers`` are hidden ones, with a neuron.
    ``parameters`` counts numbers: weights, the non-zero biases of kept neurons and of outputs, and the non-zero kernels and
    biases of a stem's used channels, norms folded in. ``macs`` counts multiplications by a number that is not 0, per sample:
    each weight once, each number of a kernel at every place of its layer. A neuron that is passed on (`Networks.passes`) is an
    edge and no more. With a stem ``inputs`` is the whole image, unless no feature is used.
    """
    hard = folded(alive(nets))
    none = torch.zeros(nets.replicas, dtype=torch.long, device=next(iter(nets.blocks.values())).device)
    edges, neurons, layers, biases = none.clone(), none.clone(), none.clone(), none.clone()
    weights, columns = none.clone(), 1 + max(nets.groups) if nets.groups else nets.widths[0]
    inputs = torch.zeros(nets.replicas, columns, dtype=torch.bool, device=none.device)
    for (to, source), gate in hard.edge_gates.items():
        if source not in nets.passes and to not in nets.passes:
            weights += gate.sum((1, 2)).long()
        if source == 0:
            gate = gathered(gate, nets.groups) if nets.groups else gate
            inputs |= (gate > 0).any(1)
        if to not in nets.passes:
            edges += (gate > 0).sum((1, 2))
    for layer, gate in hard.gates.items():
        if layer in nets.passes:
            continue
        neurons += gate.sum(1).long()
        layers += (gate > 0).any(1)
    for bias in hard.biases.values():
        biases += (bias != 0).sum(1)
    reads = inputs.sum(1) if nets.stem is None else nets.inputs * inputs.any(1).long()
    parameters = weights + biases
    for tensor in (*hard.kernels.values(), *hard.kernel_biases.values()):
        parameters = parameters + (tensor != 0).flatten(1).sum(1)
    macs = weights.clone()
    for number, kernels in hard.kernels.items():
        macs += (kernels != 0).flatten(1).sum(1) * (nets.stem.places[number - 1] if nets.stem else 1)
    return dict(zip(SIZES, (edges, neurons, layers, reads, parameters, macs), strict=True))


@lru_cache(maxsize=256)
def _shifts(function: Function) -> bool:
    """Whether f(0) is not 0: asked once, and on the host, so that training on a GPU does not wait for it."""
    return bool(function(torch.zeros(())) != 0)
