"""Networks as matrices of a `Space`: one row per neuron, columns for weights, biases, activations and masks; lossless."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nasplug.errors import ConfigError
from nasplug.networks import Networks, alive, harden
from nasplug_swat.autoencoder.space import Space, kinds, layout

__all__ = ["Matrices", "arrange", "deepen", "pack", "pad", "reordered", "unpack", "used"]


@dataclass(frozen=True, slots=True)
class Matrices:
    """K networks of one depth as numbers.

    Attributes:
        values: ``(K, T, C)``: weights and biases as they are, activations as points of the simplex, masks in [0, 1];
            0 in the padding.
        depth: L, hidden layers.
        space: which layout; where ends vary, the space at theirs.
    """

    values: Tensor
    depth: int
    space: Space


def pad(nets: Networks, space: Space) -> Networks:
    """The same functions in the skeleton of the space: ``L`` hidden layers of the full width, gates and choices for all.

    Added neurons have gate 0 and weights 0. Edge gates are folded into the weights, candidates are renamed to the space's.

    Raises:
        ConfigError: for networks that do not fit: too wide, too deep, other ends, skip blocks, a stem, foreign activations.
    """
    depth = nets.depth - 1
    hidden = nets.widths[1:-1]
    ends = (nets.widths[0], nets.widths[-1])
    problems = []
    if not space.fits(*ends):
        problems.append(f"it has {nets.widths[0]} inputs and {nets.widths[-1]} outputs")
    if not 1 <= depth <= space.deepest:
        problems.append(f"it has {depth} hidden layers")
    if any(width > space.width for width in hidden):
        problems.append(f"its hidden layers have {list(hidden)} neurons")
    if skips := [edge for edge in nets.blocks if edge[0] - edge[1] > 1]:
        problems.append(f"it has skip blocks {skips}")
    if nets.stem is not None:
        problems.append("it has a stem of convolutions")
    if foreign := [name for name in nets.candidates if name not in space.candidates]:
        problems.append(f"it may use the activations {', '.join(foreign)}")
    if problems:
        raise ConfigError(
            f"a network does not fit: {'; '.join(problems)}; needed: {space.words}, and no skip blocks. Take another network, "
            "or an autoencoder of another space"
        )
    like = next(iter(nets.blocks.values()))
    k = nets.replicas
    widths = (ends[0], *[space.width] * depth, ends[1])
    place = [space.candidates.index(name) for name in nets.candidates]
    blocks, biases, gates, choices = {}, {}, {}, {}
    for layer in range(1, depth + 2):
        block = like.new_zeros(k, widths[layer], widths[layer - 1])
        bias = like.new_zeros(k, widths[layer])
        if (layer, layer - 1) in nets.blocks:
            block[:, : nets.widths[layer], : nets.widths[layer - 1]] = nets.block((layer, layer - 1))
        if layer in nets.biases:
            bias[:, : nets.widths[layer]] = nets.biases[layer]
        blocks[layer, layer - 1], biases[layer] = block, bias
        if layer <= depth:
            gate = like.new_zeros(k, space.width)
            gate[:, : nets.widths[layer]] = nets.gates.get(layer, 1.0)
            choice = like.new_zeros(k, space.width, len(space.candidates))
            choice[:, nets.widths[layer] :, 0] = 1.0
            given = nets.choices.get(layer, like.new_ones(k, 1, 1))
            choice[:, : nets.widths[layer], place] = given.expand(k, nets.widths[layer], -1)
            gates[layer], choices[layer] = gate, choice
    return Networks(widths, blocks, biases, gates, choices=choices, candidates=space.candidates)


def pack(nets: Networks, space: Space) -> Matrices:
    """Networks -> matrices, padded first (see `pad`); `unpack` gives the padded networks back, bit by bit.

    Raises:
        ConfigError: for networks that do not fit the space, or have values that are not finite.
    """
    nets = pad(nets, space)
    space = space.at(nets.widths[0], nets.widths[-1])
    depth = nets.depth - 1
    at = layout(space, depth)
    like = nets.blocks[1, 0]
    values = like.new_zeros(nets.replicas, space.rows, space.columns)
    for layer, height in at.heights.items():
        values[:, :height, at.weights[layer]] = nets.blocks[layer, layer - 1]
        values[:, :height, at.biases[layer]] = nets.biases[layer]
        if layer < at.last:
            values[:, :height, at.choices[layer]] = nets.choices[layer]
            values[:, :height, at.masks[layer]] = nets.gates[layer]
    if like.device.type != "meta" and not bool(torch.isfinite(values).all()):
        broken = (~torch.isfinite(values).flatten(1).all(1)).nonzero().flatten().tolist()
        raise ConfigError(f"networks {broken} have values that are not finite; needed: finite ones. Leave those rows out")
    return Matrices(values, depth, space)


def unpack(matrices: Matrices) -> Networks:
    """Matrices -> networks of the space's full width, gates and choices as they stand in the matrices."""
    values, space, depth = matrices.values, matrices.space, matrices.depth
    at = layout(space, depth)
    return Networks(
        widths=(space.inputs, *[space.width] * depth, space.outputs),
        blocks={(layer, layer - 1): values[:, :height, at.weights[layer]] for layer, height in at.heights.items()},
        biases={layer: values[:, :height, at.biases[layer]] for layer, height in at.heights.items()},
        gates={layer: values[:, : space.width, column] for layer, column in at.masks.items()},
        choices={layer: values[:, : space.width, columns] for layer, columns in at.choices.items()},
        candidates=space.candidates,
    )


def used(matrices: Matrices) -> Tensor:
    """Which entries mean something, bool ``(K, T, C)``: not padding, not of a masked neuron, not a weight from one.

    A neuron's own mask always means something. Of masks between 0 and 1 those from 1/2 on are open.
    """
    values, space = matrices.values, matrices.space
    at = layout(space, matrices.depth)
    found = (kinds(space, matrices.depth) > 0).to(values.device).expand(values.shape).clone()
    for layer, height in at.heights.items():
        if layer < at.last:
            on = values[:, : space.width, at.masks[layer]] >= 0.5  # (K, H)
            found[:, : space.width, at.weights[layer]] &= on.unsqueeze(-1)
            found[:, : space.width, at.biases[layer]] &= on
            found[:, : space.width, at.choices[layer]] &= on.unsqueeze(-1)
        if layer > 1:
            on = values[:, : space.width, at.masks[layer - 1]] >= 0.5
            found[:, :height, at.weights[layer]] &= on.unsqueeze(1)
    return found


def arrange(nets: Networks, space: Space) -> Networks:
    """One writing for each function's neurons: padded, dead ones off, the others first in the order of their biases.

    What cannot be told from the function does not change the result: the order of neurons in a layer, and neurons that
    no input reaches or that reach no output (constants are folded into biases downstream). Neurons of one layer with equal
    biases are ordered by the sums of squares of their incoming and outgoing weights, and stay where those agree too.
    """
    nets = pad(alive(harden(pad(nets, space))), space)
    for layer in range(1, nets.depth):
        on = nets.gates[layer].unsqueeze(-1) > 0
        neutral = torch.zeros_like(nets.choices[layer])
        neutral[..., 0] = 1.0
        nets = replace(nets, choices={**nets.choices, layer: torch.where(on, nets.choices[layer], neutral)})
        order = torch.arange(space.width, device=on.device).expand(nets.replicas, -1)
        out, into = nets.blocks[layer + 1, layer].square().sum(1), nets.blocks[layer, layer - 1].square().sum(2)
        for key in (out, into, -nets.biases[layer], -nets.gates[layer]):  # the last one counts most: each sort is stable
            order = order.gather(1, key.gather(1, order).argsort(dim=1, stable=True))
        nets = reordered(nets, layer, order)
    return nets


def reordered(nets: Networks, layer: int, order: Tensor) -> Networks:
    """The same functions with the neurons of one hidden layer reordered: ``order`` long ``(K, H)``, one permutation per row.

    For networks as `pad` makes them: without skip blocks, with gates and choices for all.
    """
    into, out = (layer, layer - 1), (layer + 1, layer)
    w, v, choice = nets.blocks[into], nets.blocks[out], nets.choices[layer]
    moved = {into: w.gather(1, order.unsqueeze(-1).expand_as(w)), out: v.gather(2, order.unsqueeze(1).expand_as(v))}
    return replace(
        nets,
        blocks={**nets.blocks, **moved},
        biases={**nets.biases, layer: nets.biases[layer].gather(1, order)},
        gates={**nets.gates, layer: nets.gates[layer].gather(1, order)},
        choices={**nets.choices, layer: choice.gather(1, order.unsqueeze(-1).expand_as(choice))},
    )


def _identity(candidates: tuple[str, ...]) -> tuple[str, float]:
    """A candidate f with ``(f(x) - f(-x)) / c = x`` for all x, and c.

    Raises:
        ConfigError: where there is none.
    """
    for name, c in (("identity", 2.0), ("relu", 1.0), ("leaky_relu", 1.01)):
        if name in candidates:
            return name, c
    raise ConfigError(
        f"candidates {', '.join(candidates)}: none passes its input on exactly; needed: identity, relu or leaky_relu"
    )


def deepen(nets: Networks, depth: int, space: Space) -> Networks:
    """The same functions with ``depth`` hidden layers: identity layers come first, ``x = (f(x) - f(-x)) / c``. Exact.

    Raises:
        ConfigError: where that cannot be: no candidate is its own identity, or a layer has no room for two neurons per input.
    """
    nets = pad(nets, space)
    space.check_depth(depth)
    if depth < nets.depth - 1:
        raise ConfigError(
            f"depth={depth}; the networks have {nets.depth - 1} hidden layers: a network cannot be made shallower"
        )
    name, c = _identity(space.candidates)
    i = nets.widths[0]
    if depth > nets.depth - 1 and 2 * i > space.width:
        raise ConfigError(f"width {space.width}; needed: {2 * i} neurons, two per input, to pass {i} inputs through a layer")
    while nets.depth - 1 < depth:
        first = nets.blocks[1, 0]
        k = nets.replicas
        eye = torch.eye(i, dtype=first.dtype, device=first.device)
        through = first.new_zeros(k, space.width, i)
        through[:, : 2 * i] = torch.cat((eye, -eye))
        onward = first.new_zeros(k, space.width, space.width)
        onward[:, :, : 2 * i] = torch.cat((first, -first), -1) / c
        gate = first.new_zeros(k, space.width)
        gate[:, : 2 * i] = 1.0
        choice = first.new_zeros(k, space.width, len(space.candidates))
        choice[:, : 2 * i, space.candidates.index(name)] = 1.0
        choice[:, 2 * i :, 0] = 1.0
        later = range(2, nets.depth + 1)
        nets = replace(
            nets,
            widths=(i, space.width, *nets.widths[1:]),
            blocks={(1, 0): through, (2, 1): onward} | {(n + 1, n): nets.blocks[n, n - 1] for n in later},
            biases={1: first.new_zeros(k, space.width)} | {n + 1: b for n, b in nets.biases.items()},
            gates={1: gate} | {n + 1: g for n, g in nets.gates.items()},
            choices={1: choice} | {n + 1: t for n, t in nets.choices.items()},
        )
    return nets
