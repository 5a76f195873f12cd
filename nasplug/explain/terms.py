"""What a formula is made of: the numbers that a network reads, in the user's columns, and its sums over them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from nasplug.explain.unfolded import Unfolded

__all__ = ["DAY", "Atom", "Sum", "Terms"]

DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Atom:
    """One number that the network reads: ``(x - centre) / unit``, ``clip((x - low) / (high - low), 0, 1)``, or 0 or 1.

    Attributes:
        column: its name.
        kind: ``number``; ``date``, of which days since the centre count; ``ramp``; ``word``; ``gap``.
        place: of its feature.
        centre: what is taken off a number, in the column's units (of a date seconds).
        low, high: ends of a ramp.
        number: of a ramp the place of the feature that is its column's value.
        word: of a category.
    """

    column: str
    kind: Literal["number", "date", "ramp", "word", "gap"]
    place: int
    centre: float = 0.0
    low: float = 0.0
    high: float = 1.0
    word: str = ""
    number: int = -1

    @property
    def unit(self) -> float:
        """What one step of it is in the feature's own."""
        return DAY if self.kind == "date" else 1.0


@dataclass(frozen=True, slots=True)
class Sum:
    """A constant and terms: a coefficient with an atom, or with the place of a neuron (else -1)."""

    constant: float
    terms: list[tuple[float, Atom | None, int]]


@dataclass(frozen=True, slots=True)
class Terms:
    """The numbers of a formula.

    Attributes:
        atoms: what is read, I' of them.
        plain: weights and biases over atoms, rounded.
        digits: significant digits of each.
        record: of the network: targets, link, transform, names of outputs; of rates shift and scale (which is in the sums).
    """

    atoms: tuple[Atom, ...]
    plain: Unfolded
    digits: int
    record: dict[str, Any] = field(repr=False)

    @property
    def sums(self) -> tuple[list[Sum], list[Sum]]:
        """Neurons, in order, and outputs."""
        plain = self.plain

        def of(atoms: Tensor, neurons: Tensor, constant: float) -> Sum:
            terms: list[tuple[float, Atom | None, int]] = []
            terms += [(w, self.atoms[i], -1) for i, w in enumerate(atoms.tolist()) if w != 0]
            terms += [(w, None, m) for m, w in enumerate(neurons.tolist()) if w != 0]
            return Sum(constant, terms)

        neurons = [of(*row) for row in zip(plain.first, plain.later, plain.bias.tolist(), strict=True)]
        return neurons, [of(*row) for row in zip(plain.straight, plain.out, plain.shift.tolist(), strict=True)]

    @property
    def activations(self) -> list[str]:
        """One name per neuron."""
        return [name for begin, end, _, name in self.plain.stages for _ in range(begin, end)]

    @property
    def shared(self) -> set[int]:
        """Neurons that are read more than once."""
        uses = [m for part in self.sums for one in part for _, _, m in one.terms]
        return {m for m in uses if m >= 0 and uses.count(m) > 1}
