"""Networks as matrices: a row a neuron, columns for weights, biases, activations and masks; lossless and packed.

A `Space` is what fits: the largest width and depth, the sizes of both ends, the candidate activations. A network of L hidden
layers becomes ``(T, C)`` numbers, row i holding everything that belongs to neuron i of each layer. Its layers stand in the
last L of the space's D slots, so that the layers next to the output share their columns across depths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, field_validator, model_serializer
from torch import Tensor

from nasplug.errors import ConfigError
from nasplug.networks import Networks, activation, alive, harden

__all__ = ["PAPER", "Layout", "Matrices", "Space", "arrange", "deepen", "layout", "pack", "pad", "reordered", "unpack", "used"]


class Space(BaseModel):
    """Which networks fit. The defaults are the paper's: 7 neurons, 1 to 4 hidden layers, 2 inputs, 1 output, 3 activations.

    With ``vary`` networks with fewer inputs and outputs fit too; each is of the space `at` its own ends, whose matrices have
    the same shape.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(7, ge=1, description="neurons of each hidden layer, at most")
    deepest: int = Field(4, ge=1, description="hidden layers, at most")
    inputs: int = Field(2, ge=1)
    outputs: int = Field(1, ge=1)
    candidates: tuple[str, ...] = Field(("sigmoid", "tanh", "leaky_relu"), min_length=1)
    vary: bool = Field(False, description="whether networks with fewer inputs and outputs fit too")

    @model_serializer(mode="wrap")
    def _plain(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = handler(self)
        if not self.vary:  # files and digests of spaces that do not vary are what they were before spaces could
            plain.pop("vary")
        return plain

    @field_validator("candidates")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            try:
                activation(name)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        if len(set(names)) < len(names):
            raise ValueError(f"{list(names)}: a candidate comes twice; list each once")
        return names

    @property
    def room(self) -> tuple[int, int]:
        """Inputs and outputs that the matrix has room for."""
        return self.inputs, self.outputs

    @property
    def ends(self) -> tuple[int, int]:
        """Inputs and outputs, where they do not vary; the most of them, where they do."""
        return self.inputs, self.outputs

    def fits(self, inputs: int, outputs: int) -> bool:
        """Whether networks may have these ends."""
        if self.vary:
            return 1 <= inputs <= self.inputs and 1 <= outputs <= self.outputs
        return (inputs, outputs) == self.ends

    def at(self, inputs: int, outputs: int) -> Space:
        """The networks of this space that have these ends; their matrices are as large as those of the whole space.

        Raises:
            ConfigError: for ends that the space does not have.
        """
        if not self.fits(inputs, outputs):
            raise ConfigError(f"{inputs} inputs and {outputs} outputs; needed: {self.words}")
        if not self.vary:
            return self
        kept = {name: getattr(self, name) for name in ("width", "deepest", "candidates")}
        return Slice(inputs=inputs, outputs=outputs, whole=self.room, **kept)

    @property
    def rows(self) -> int:
        """T: tokens, a neuron each."""
        return max(self.width, self.room[1])

    @property
    def sources(self) -> int:
        """Incoming weights of a hidden neuron, at most."""
        return max(self.width, self.room[0])

    @property
    def columns(self) -> int:
        """C: ``D (sources + 1 + A)`` for the slots, ``width + 1`` for the output, D masks. 56 for the paper's."""
        return self.deepest * (self.sources + 1 + len(self.candidates)) + self.width + 1 + self.deepest

    @property
    def words(self) -> str:
        """As a person says it."""
        ends = [f"1 to {n}" if self.vary and n > 1 else str(n) for n in self.ends]
        return (
            f"{ends[0]} inputs, 1 to {self.deepest} hidden layers of {self.width} neurons of {', '.join(self.candidates)}, "
            f"{ends[1]} outputs"
        )

    def check_depth(self, depth: int) -> None:
        """Refuse a number of hidden layers that the space does not have.

        Raises:
            ConfigError: naming it.
        """
        if not 1 <= depth <= self.deepest:
            raise ConfigError(f"depth={depth}; needed: 1 to {self.deepest} hidden layers, which this space has")


class Slice(Space):
    """The networks with certain ends of a space in which ends vary. See `Space.at`."""

    whole: tuple[int, int]

    @property
    def room(self) -> tuple[int, int]:
        """Inputs and outputs of the whole space."""
        return self.whole


PAPER = Space()
"""SWAT-NN's own."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things stand in a matrix of one depth. Slices of columns by layer (1..L hidden, L + 1 the output)."""

    weights: Mapping[int, slice]
    biases: Mapping[int, int]
    choices: Mapping[int, slice]
    masks: Mapping[int, int]
    sources: Mapping[int, int]
    heights: Mapping[int, int]

    @property
    def last(self) -> int:
        """The output layer, L + 1."""
        return len(self.choices) + 1


def layout(space: Space, depth: int) -> Layout:
    """The columns of a network with ``depth`` hidden layers.

    Raises:
        ConfigError: for a depth that the space does not have.
    """
    space.check_depth(depth)
    each = space.sources + 1 + len(space.candidates)
    weights, biases, choices, masks, sources = {}, {}, {}, {}, {}
    end = space.deepest * each
    for layer in range(1, depth + 1):
        slot = space.deepest - depth + layer - 1
        first = slot * each
        sources[layer] = space.inputs if layer == 1 else space.width
        weights[layer] = slice(first, first + sources[layer])
        biases[layer] = first + space.sources
        choices[layer] = slice(first + space.sources + 1, first + each)
        masks[layer] = end + space.width + 1 + slot
    weights[depth + 1], biases[depth + 1], sources[depth + 1] = slice(end, end + space.width), end + space.width, space.width
    heights = dict.fromkeys(range(1, depth + 1), space.width) | {depth + 1: space.outputs}
    return Layout(weights, biases, choices, masks, sources, heights)


@lru_cache(maxsize=256)
def kinds(space: Space, depth: int) -> Tensor:
    """What each entry is, long ``(T, C)``: 0 nothing (padding), 1 a weight, 2 a bias, 3 an activation, 4 a mask."""
    at = layout(space, depth)
    found = torch.zeros(space.rows, space.columns, dtype=torch.long)
    for layer, height in at.heights.items():
        found[:height, at.weights[layer]] = 1
        found[:height, at.biases[layer]] = 2
        if layer < at.last:
            found[:height, at.choices[layer]] = 3
            found[:height, at.masks[layer]] = 4
    return found


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
    """The same functions with the neurons of one hidden layer in another order: ``order`` long ``(K, H)``, a permutation a row.

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
        ConfigError: where that cannot be: no candidate is its own identity, or a layer has no room for two neurons an input.
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
        raise ConfigError(f"width {space.width}; needed: {2 * i} neurons, two an input, to pass {i} inputs through a layer")
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
