"""`structure`: hidden neurons in blocks, one per column or pair of columns, without a weight from one block to another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from nasplug.contracts import Params
from nasplug.errors import ConfigError
from nasplug.networks import Edge, Networks, check_hidden
from nasplug.replicas import uniform
from nasplug.tasks import Task
from nasplug_edges.screening import screened
from nasplug_edges.skeleton import Draw, Skeleton

__all__ = ["MOST_PAIRS", "MOST_SCREENED", "Structure", "Terms"]

Structure = Literal["additive", "pairs"]

MOST_PAIRS = 15
"""Pairs that get a small network unless told otherwise: all of 6 columns."""
MOST_SCREENED = 300
"""Columns whose pairs are compared: 44,850 pairs."""
READS = ("reads columns", "reads pairs")
"""Leaves ``(K, C, I)`` and ``(K, P, I)``: 1 where a term reads an input, else -1. They have no gradient, so they stay."""


@dataclass(frozen=True, slots=True)
class Terms(Skeleton):
    """A skeleton of T small networks with the widths ``hidden`` each, side by side in every layer.

    The first C read one column each, the others a pair; which pair is a row's own, as its training samples are.
    """

    structure: Structure = "additive"
    pairs: int = MOST_PAIRS

    def count(self, task: Task) -> tuple[int, int]:
        """How many columns and pairs have a term."""
        columns = len(task.columns)
        return columns, min(self.pairs, columns * (columns - 1) // 2) if self.structure == "pairs" else 0

    def accept(self, task: Task) -> None:
        """Refuse a task with too few or too many columns.

        Raises:
            ConfigError: with their number.
        """
        columns, pairs = self.count(task)
        if self.structure == "pairs" and columns < 2:
            raise ConfigError("edges: structure 'pairs' for a task of one column; needed: two at least. Take 'additive'")
        if pairs and pairs < columns * (columns - 1) // 2 and columns > MOST_SCREENED:
            raise ConfigError(
                f"edges: structure 'pairs' for {columns:,} columns; needed: {MOST_SCREENED} at most, as each pair is looked "
                "at. Take 'additive', or fewer columns"
            )
        count = columns + pairs
        check_hidden(f"edges: structure {self.structure!r} with {count:,} terms", [count * width for width in self.hidden])

    def draw(self, task: Task, seeds: Tensor, rule: Callable[[Edge], Draw], *, biased: bool) -> Params:
        """Fresh float64 leaves as of a plain skeleton, 0 where no weight may be; each term starts as a network of its own.

        Biases that do not start at 0 are as large as its mean number of incoming weights allows.
        """
        columns, pairs = self.count(task)
        reads, last = self._reads(task, seeds, columns, pairs), len(self.hidden) + 1
        terms = columns + pairs
        widths = (task.inputs, *(terms * width for width in self.hidden), task.outputs)
        params: Params = {}
        for to, source in self.edges:
            name = f"block {to} {source}"
            start, stream = rule((to, source)), f"edges/{name}"
            if to == last:
                params[name] = start(seeds, stream, widths[to], widths[source])
                continue
            w = torch.zeros(len(seeds), widths[to], widths[source], dtype=torch.float64, device=seeds.device)
            high, wide = self.hidden[to - 1], self.hidden[source - 1] if source else 0
            for term in range(terms):
                mine = slice(term * high, (term + 1) * high)
                if source:
                    w[:, mine, term * wide : (term + 1) * wide] = start(seeds, f"{stream}/{term}", high, wide)
                    continue
                for pattern, rows in _alike(reads[:, term]):
                    at, up = pattern.nonzero().flatten(), torch.arange(high, device=rows.device) + term * high
                    w[rows[:, None, None], up[:, None], at] = start(seeds[rows], f"{stream}/{term}", high, len(at))
            params[name] = w
        fans = (task.inputs / columns, *self.hidden[:-1], widths[-2])
        for layer in range(1, len(widths)) if self.bias else ():
            bound = fans[layer - 1] ** -0.5 if biased else 0.0
            params[f"bias {layer}"] = uniform(seeds, f"edges/bias {layer}", (widths[layer],), -bound, bound)
        signs = torch.where(reads, 1.0, -1.0).double()
        leaves = zip(READS, signs.split_with_sizes([columns, pairs], 1), strict=True)
        return params | {name: leaf for name, leaf in leaves if leaf.shape[1]}

    def _reads(self, task: Task, seeds: Tensor, columns: int, pairs: int) -> Tensor:
        """Which inputs each term of each row reads, bool ``(K, T, I)``."""
        groups = torch.tensor(task.groups, device=seeds.device)
        own = groups == torch.arange(columns, device=seeds.device).unsqueeze(1)  # (C, I)
        singles = own.expand(len(seeds), -1, -1)
        if not pairs:
            return singles.clone()
        if pairs == columns * (columns - 1) // 2:
            every = torch.tensor(list(combinations(range(columns), 2)), device=seeds.device)
            found = every.expand(len(seeds), -1, -1)
        else:
            found = screened(task, len(seeds), pairs).to(seeds.device)
        return torch.cat([singles, own[found].any(2)], 1)

    def masks(self, params: Params) -> Mapping[Edge, Tensor]:
        """Where a weight may be, bool: ``(K, H, I)`` or ``(H_to, H_from)``; the block into the outputs has none."""
        reads = torch.cat([params[name] for name in READS if name in params], 1) > 0  # (K, T, I); NaN reads nothing
        same = torch.eye(reads.shape[1], dtype=torch.bool, device=reads.device)
        found: dict[Edge, Tensor] = {}
        for to, source in self.edges:
            if to <= len(self.hidden):
                mask = same.repeat_interleave(self.hidden[source - 1], 1) if source else reads
                found[to, source] = mask.repeat_interleave(self.hidden[to - 1], -2)
        return found

    def networks(self, params: Params) -> Networks:
        """Plain weights as a record, 0 where none may be."""
        terms = tuple(most for most, name in enumerate(READS, 1) if name in params for _ in range(params[name].shape[1]))
        blocks = {(to, source): params[f"block {to} {source}"] for to, source in self.edges}
        masks = self.masks(params)
        depth = len(self.hidden) + 1
        blocks = {e: torch.where(masks[e], w, torch.zeros_like(w)) if e in masks else w for e, w in blocks.items()}
        return Networks(
            widths=(blocks[1, 0].shape[2], *(len(terms) * width for width in self.hidden), blocks[depth, depth - 1].shape[1]),
            blocks=blocks,
            biases={layer: params[f"bias {layer}"] for layer in range(1, depth + 1)} if self.bias else {},
            candidates=(self.activation,),
            terms=terms,
        )


def _alike(reads: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Distinct rows of ``reads (K, I)``, and where each of them is."""
    if not len(reads):  # shapes alone are asked for
        return []
    patterns, which = torch.unique(reads, dim=0, return_inverse=True)
    return [(pattern, (which == number).nonzero().flatten()) for number, pattern in enumerate(patterns)]
