"""Architectures of operations on edges: each once, as what they compute, and how probable each is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from nasplug.plan import Edges

__all__ = ["Wirings", "combinations_of", "constant", "wirings"]

NONE = "none"
MOST = 500_000
"""Combinations of operations that are looked at."""


@dataclass(frozen=True, slots=True)
class Wirings:
    """Architectures, and the combinations of operations that come to each of them.

    Attributes:
        texts: of each architecture, as `nasplug.plan.named` writes it.
        combinations: of each combination the place of each edge's operation, ``(R, edges)``.
        comes_to: of each combination the architecture that it comes to, ``(R,)``.
    """

    texts: tuple[str, ...]
    combinations: npt.NDArray[np.int64]
    comes_to: npt.NDArray[np.int64]

    def chances(self, shares: Sequence[Sequence[float]]) -> npt.NDArray[np.float64]:
        """The logarithm of each architecture's chance, ``(N,)``, where each edge's operation is drawn by its shares."""
        each = np.ones(len(self.combinations))
        for edge, share in enumerate(shares):
            each *= np.asarray(share, dtype=float)[self.combinations[:, edge]]
        whole = np.bincount(self.comes_to, weights=each, minlength=len(self.texts))
        return np.log(np.maximum(whole, 1e-300))


def combinations_of(edges: Edges) -> int:
    """How many combinations of operations there are."""
    return math.prod(len(names) for _, names in edges)


def constant(text: str) -> bool:
    """Whether this wiring reads nothing."""
    return {name for layer in text.split("/") for name in layer.split(",")} == {NONE}


@lru_cache(maxsize=16)
def wirings(edges: Edges) -> Wirings:
    """Every architecture of these edges once.

    An edge on no path from the input to the output computes nothing, so its operation counts as ``none``, where it may have
    that. ``none`` of all edges is an architecture as well: the constant.
    """
    counts = [len(names) for _, names in edges]
    every = np.stack([part.ravel() for part in np.indices(counts)], 1).astype(np.int64)  # (R, edges)
    absent = [names.index(NONE) if NONE in names else -1 for _, names in edges]
    there = every != np.array(absent)
    last = max(to for (to, _), _ in edges)
    reached = np.zeros((len(every), last + 1), dtype=bool)
    useful = np.zeros_like(reached)
    reached[:, 0] = useful[:, last] = True
    order = sorted(range(len(edges)), key=lambda at: edges[at][0])
    for at in order:
        to, source = edges[at][0]
        reached[:, to] |= there[:, at] & reached[:, source]
    for at in reversed(order):
        to, source = edges[at][0]
        useful[:, source] |= there[:, at] & useful[:, to]
    computed = every.copy()
    for at, ((to, source), _) in enumerate(edges):
        if absent[at] >= 0:
            computed[~(reached[:, source] & useful[:, to]), at] = absent[at]
    found, comes_to = np.unique(computed, axis=0, return_inverse=True)
    return Wirings(tuple(_text(edges, row) for row in found.tolist()), every, comes_to.ravel().astype(np.int64))


def _text(edges: Edges, row: Sequence[int]) -> str:
    chosen = [(to, names[place]) for ((to, _), names), place in zip(edges, row, strict=True)]
    return "/".join(",".join(name for _, name in layer) for _, layer in itertools.groupby(chosen, key=lambda one: one[0]))
