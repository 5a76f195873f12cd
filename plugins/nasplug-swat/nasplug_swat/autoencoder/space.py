"""A `Space` is what fits: the largest width and depth, the sizes of both ends, the candidate activations; and where it stands.

A network of L hidden layers becomes ``(T, C)`` numbers, row i holding everything that belongs to neuron i of each layer. Its
layers stand in the last L of the space's D slots, so that the layers next to the output share their columns across depths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)
from torch import Tensor

from nasplug.activations import function_of
from nasplug.errors import ConfigError

__all__ = ["PAPER", "Layout", "Space", "kinds", "layout"]

MOST_NUMBERS = 10**6
"""Of the matrix of one network; the paper's has 392."""


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
                function_of(name)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        if len(set(names)) < len(names):
            raise ValueError(f"{list(names)}: a candidate comes twice; list each once")
        return names

    @model_validator(mode="after")
    def _small(self) -> Space:
        if self.rows * self.columns > MOST_NUMBERS:
            raise ValueError(
                f"networks of {self.rows} x {self.columns} numbers; needed: {MOST_NUMBERS:,} numbers at most. Take fewer "
                "neurons, layers, inputs or outputs"
            )
        return self

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
        """T: tokens, one per neuron."""
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
    weights, biases, choices, masks = {}, {}, {}, {}
    end = space.deepest * each
    for layer in range(1, depth + 1):
        slot = space.deepest - depth + layer - 1
        first = slot * each
        weights[layer] = slice(first, first + (space.inputs if layer == 1 else space.width))
        biases[layer] = first + space.sources
        choices[layer] = slice(first + space.sources + 1, first + each)
        masks[layer] = end + space.width + 1 + slot
    weights[depth + 1], biases[depth + 1] = slice(end, end + space.width), end + space.width
    heights = dict.fromkeys(range(1, depth + 1), space.width) | {depth + 1: space.outputs}
    return Layout(weights, biases, choices, masks, heights)


@lru_cache(maxsize=256)
def kinds(space: Space, depth: int) -> Tensor:
    """What each entry is, long ``(T, C)``: 0 padding, 1 weight, 2 bias, 3 activation, 4 mask."""
    at = layout(space, depth)
    found = torch.zeros(space.rows, space.columns, dtype=torch.long)
    for layer, height in at.heights.items():
        found[:height, at.weights[layer]] = 1
        found[:height, at.biases[layer]] = 2
        if layer < at.last:
            found[:height, at.choices[layer]] = 3
            found[:height, at.masks[layer]] = 4
    return found
