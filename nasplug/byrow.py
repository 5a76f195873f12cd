"""Discretizers that differ in their numbers, each for its own rows of a pack.

Rows are independent (the row law), so a discretizer may see any of them: an option that is a number varies inside a pack, as a
penalty's level does, and need not make a pack for each of its values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nasplug.contracts import Discretizer
from nasplug.networks import Networks, join, take

__all__ = ["ByRow", "together"]


@dataclass(frozen=True, slots=True)
class ByRow:
    """One place of a study's discretizers, with options that differ between rows.

    Attributes:
        each: the distinct discretizers.
        rows: of each row of the pack, which of them.
    """

    each: tuple[Discretizer, ...]
    rows: tuple[int, ...]

    def take(self, index: Tensor) -> ByRow:
        """For the rows at ``index`` alone."""
        return replace(self, rows=tuple(self.rows[at] for at in index.tolist()))

    def parts(self) -> list[tuple[Discretizer, Tensor]]:
        """Each discretizer and its rows, long."""
        found: list[list[int]] = [[] for _ in self.each]
        for row, at in enumerate(self.rows):
            found[at].append(row)
        return [(one, torch.tensor(rows)) for one, rows in zip(self.each, found, strict=True) if rows]


def together(
    parts: Sequence[tuple[Tensor, Networks, Sequence[Mapping[str, Any]]]],
) -> tuple[Networks, Sequence[Mapping[str, Any]]]:
    """Networks and certificates of some rows each -> those of all rows, in the order of the rows.

    Args:
        parts: rows (long), their networks, and a certificate for each, or none.

    Raises:
        ContractError: where the parts' networks do not have one skeleton, or differ in more than their gates and biases.
    """
    order = torch.cat([rows for rows, _, _ in parts]).argsort()
    nets = join(_alike([nets for _, nets, _ in parts]))
    certificates = [one for _, _, some in parts for one in some]
    return take(nets, order.to(next(iter(nets.blocks.values())).device)), [
        certificates[at] for at in order
    ] if certificates else []


def _alike(records: Sequence[Networks]) -> list[Networks]:
    """The same functions with the same gates and biases: one that cuts nothing may leave out gates that another sets."""
    layers = {layer for nets in records for layer in nets.gates}
    edges = {edge for nets in records for edge in nets.edge_gates}
    biased = {layer for nets in records for layer in nets.biases}
    found = []
    for nets in records:
        one = next(iter(nets.blocks.values()))
        found.append(
            replace(
                nets,
                gates={layer: one.new_ones(nets.replicas, nets.widths[layer]) for layer in layers} | dict(nets.gates),
                edge_gates={edge: torch.ones_like(w) for edge, w in nets.blocks.items() if edge in edges}
                | dict(nets.edge_gates),
                biases={layer: one.new_zeros(nets.replicas, nets.widths[layer]) for layer in biased} | dict(nets.biases),
            )
        )
    return found
