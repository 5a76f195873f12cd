"""`sparcs`: networks of any depth in spectral space, and their two forward forms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from nasplug.contracts import Params, SearchMethod, Traits
from nasplug.errors import ConfigError
from nasplug.networks import Edge, Networks, check_hidden, features, forward, mixed, product
from nasplug.replicas import uniform
from nasplug.stems import Stem, drawn, entrance, parts
from nasplug.tasks import Task

__all__ = ["Form", "Spectral", "chosen_form", "materialised", "recursive", "sparcs"]

Form = Literal["auto", "recursive", "materialised"]

PASS = 12
"""What one pass over an activation costs, in multiply-adds: measured, a pass is bound by memory."""


def neighbour(nets: Networks, layer: int) -> Tensor:
    """``W_{l,l-1} = phi_l L_{l-1} - L_l phi_l`` (4.3), ``(K, H_l, H_{l-1})``; the input's eigenvalues are zero."""
    phi, own = nets.blocks[layer, layer - 1], nets.eigenvalues[layer].unsqueeze(2)
    if layer == 1:
        return -own * phi
    return phi * (nets.eigenvalues[layer - 1].unsqueeze(1) - own)


def recursive(nets: Networks, x: Tensor) -> Tensor:
    """The networks' outputs in a time linear in depth: ``x (I, B)`` or ``(K, I, B)`` -> ``(K, O, B)``. Exact.

    ``s_0 = a_0``; for l = 1..D: ``u = phi_l s_{l-1}``, ``a_l = f(W_{l,l-1} s_{l-1})``, ``s_l = a_l - u`` (no f at the output).
    ``s`` carries what all skip blocks together bring: they are never made. The first layer's ``W s`` is ``-L_1 u``.
    """
    u = product(nets.blocks[1, 0], features(nets, x))  # (K, H_1, B)
    if 1 in nets.biases:
        u = u + nets.biases[1].unsqueeze(-1)
    z = -nets.eigenvalues[1].unsqueeze(-1) * u
    for layer in range(2, nets.depth + 1):
        s = mixed(nets, layer - 1, z) - u  # (K, H, B)
        z = product(neighbour(nets, layer), s)
        if layer < nets.depth:
            u = product(nets.blocks[layer, layer - 1], s)
    return z


def materialised(nets: Networks) -> Networks:
    """The same functions with plain weights: ``W_{l,j} = (-1)^{l-1-j} W_{l,l-1} phi_{l-1} ... phi_{j+1}`` (4.3).

    Every pair of layers gets a block. A constant input becomes the biases of all layers. Eigenvalues stay, as information.
    """
    first = nets.blocks[1, 0]
    if 1 in nets.biases:
        first = torch.cat((first, nets.biases[1].unsqueeze(-1)), -1)  # (K, H_1, I + 1)
    blocks: dict[Edge, Tensor] = {}
    biases: dict[int, Tensor] = {}
    for layer in range(1, nets.depth + 1):
        w = neighbour(nets, layer) if layer > 1 else -nets.eigenvalues[1].unsqueeze(2) * first
        for source in range(layer - 1, -1, -1):
            if source < layer - 1:
                w = -w @ (nets.blocks[source + 1, source] if source else first)
            blocks[layer, source] = w
        if 1 in nets.biases:
            blocks[layer, 0], biases[layer] = w[..., :-1], w[..., -1]
    return replace(nets, blocks=blocks, biases=biases)


def chosen_form(widths: Sequence[int], samples: int) -> Form:
    """The form with fewer multiply-adds (a pass over activations counts `PASS`): a function of sizes alone."""
    d = len(widths) - 1
    links = [widths[m] * widths[m - 1] for m in range(1, d + 1)]
    hidden = sum(widths[1:-1])
    recurring = samples * (links[0] + 2 * sum(links[1:-1]) + links[-1] + 3 * PASS * hidden)
    pairs = [(i, j) for i in range(1, d + 1) for j in range(i)]
    making = sum(widths[i] * widths[j + 1] * widths[j] for i, j in pairs if i - j > 1)
    using = samples * sum(widths[i] * widths[j] + PASS * widths[i] * (j > 0) for i, j in pairs)
    return "recursive" if recurring <= making + using + samples * PASS * hidden else "materialised"


@dataclass(frozen=True, slots=True)
class Spectral(SearchMethod):
    """See `sparcs`."""

    hidden: tuple[int, ...]
    activation: str
    bias_input: bool
    form: Form
    stem: Stem | None
    traits = Traits(architecture=frozenset({"eigenvalues"}), holds=frozenset({"eigenvalues"}))

    def init(self, task: Task, seeds: Tensor) -> Params:
        """``phi <l>`` (K, H_l, H_{l-1}), ``constant`` (K, H_1), ``eigenvalues`` (K, all hidden), ``output eigenvalues`` (K, O).

        Eigenvectors are Xavier-uniform, ``U[-1, 1] sqrt(6 / (H_l + H_{l-1}))``; hidden eigenvalues 0, output ones 1. A stem's
        leaves are those of `nasplug.stems.drawn`.
        """
        widths = (entrance(self.stem, task), *self.hidden, task.outputs)
        params: Params = drawn(self.stem, seeds)
        for layer in range(1, len(widths)):
            source = widths[layer - 1] + (self.bias_input and layer == 1)
            bound = math.sqrt(6.0 / (widths[layer] + source))
            phi = uniform(seeds, f"sparcs/phi {layer}", (widths[layer], source), -bound, bound)
            if self.bias_input and layer == 1:
                phi, params["constant"] = phi[..., :-1].contiguous(), phi[..., -1].contiguous()
            params[f"phi {layer}"] = phi
        k, device = len(seeds), seeds.device
        params["eigenvalues"] = torch.zeros(k, sum(self.hidden), dtype=torch.float64, device=device)
        params["output eigenvalues"] = torch.ones(k, task.outputs, dtype=torch.float64, device=device)
        return params

    def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
        """Spectral space: ``blocks[l, l-1]`` are eigenvectors, ``biases[1]`` those of the constant input; tau is not read."""
        depth = len(self.hidden) + 1
        last = params["output eigenvalues"]
        hidden = params["eigenvalues"].split_with_sizes(list(self.hidden), 1)
        return Networks(
            widths=(params["phi 1"].shape[2], *self.hidden, last.shape[1]),
            blocks={(layer, layer - 1): params[f"phi {layer}"] for layer in range(1, depth + 1)},
            biases={1: params["constant"]} if self.bias_input else {},
            eigenvalues=dict(enumerate((*hidden, last), start=1)),
            candidates=(self.activation,),
            **parts(self.stem, params),
        )

    def hold(self, nets: Networks) -> Params:
        """The leaves of all eigenvalues, hidden ones side by side."""
        hidden = [nets.eigenvalues[layer] for layer in range(1, nets.depth)]
        return {"eigenvalues": torch.cat(hidden, 1), "output eigenvalues": nets.eigenvalues[nets.depth]}

    def forward(self, nets: Networks, x: Tensor) -> Tensor:
        """The outputs of networks in spectral space, in the chosen form."""
        form = chosen_form(nets.widths, x.shape[-1]) if self.form == "auto" else self.form
        return recursive(nets, x) if form == "recursive" else forward(materialised(nets), x)

    def direct(self, nets: Networks) -> Networks:
        """Plain weights, all skip blocks; see `materialised`."""
        return materialised(nets)


def sparcs(
    *,
    hidden: Sequence[int] = (32,),
    activation: str = "relu",
    bias_input: bool = False,
    form: Form = "auto",
    stem: Stem | None = None,
) -> SearchMethod:
    """Spectral architecture search: eigenvalues decide which neurons and layers a network needs.

    The layers' adjacency matrix is ``A = Phi Lambda Phi^-1``, Phi unit lower triangular with blocks ``phi_l (K, H_l, H_{l-1})``
    below the diagonal, Lambda diagonal with ``L_l (K, H_l)``. In direct space ``a_l = f(sum_{j<l} W_{lj} a_j)``, no f at the
    output, with ``W_{l,l-1} = phi_l L_{l-1} - L_l phi_l`` and ``W_{lj} = (-1)^{l-1-j} W_{l,l-1} phi_{l-1} ... phi_{j+1}``.
    Layer 0 is the input. Hidden eigenvalues start at 0 and the output's at 1: a perceptron, which grows where that pays.
    The penalty on hidden eigenvalues is the study's (``eigenvalue``), and so is the cut.

    Parameters per network: ``sum_l H_l H_{l-1} + sum_{l>=1} H_l``, plus ``H_1`` with ``bias_input``, a constant 1 beside the
    inputs, whose weights are the biases of all layers in direct space. ``form``: ``recursive`` never makes a skip block and
    is linear in depth, ``materialised`` makes them all; both are exact, ``auto`` takes the one that costs less at the size.

    ``stem``: convolutions in front (`nasplug.stems.Stem`), trained along; layer 0 is then what they put out. Their kernels are
    plain weights: no eigenvalues, no penalty.

    Fails: with a ReLU the first layers grow last (at 0 its slope is 0; the output's neighbour must leave 0 first). Equal
    penalties on all layers may keep the wrong one: raise them for earlier layers. One eigenvalue at 0 does not
    switch a neuron off: the next layer's eigenvalues still let it pass.

    Raises:
        ConfigError: for hidden layers that are missing or empty, or a stem that does not fit its image.

    Source: Spectral Architecture Search, equations 4.1-4.5. We differ: the input's eigenvalues are fixed at 0 (a constant
    added to all eigenvalues changes no weight); the recursive form is ours.
    """
    check_hidden("sparcs", hidden)
    if not hidden or min(hidden) < 1:
        raise ConfigError(
            f"sparcs: hidden={list(hidden)}; needed: at least one hidden layer of at least one neuron, for example [32]"
        )
    if stem is not None:
        stem.check_shapes()
    return Spectral(tuple(hidden), activation, bias_input, form, stem)
