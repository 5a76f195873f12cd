"""Pairs of columns that interact: which can, by the network's structure, and how much they do."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nasplug.compact import CompactNetwork
from nasplug.explain.background import Background
from nasplug.explain.unfolded import layer_0, unfold

__all__ = ["Pair", "meeting", "pairs"]

ROWS, LEAST = 80, 16  # of the background, on both sides, and where each pair costs much
MOST, FEWEST = 100, 20  # pairs that are measured, and how many of them where each costs much
DEAR = 2**28  # products
NONE = 1e-12  # of a variance: nothing to divide by


@dataclass(frozen=True, slots=True)
class Pair:
    """Two columns that meet in a neuron with a nonlinear activation.

    Attributes:
        first, second: their names, in the order of the table.
        strength: the standard deviation of their pure interaction over that of the output: 0.1 means that a tenth of the spread
            is theirs together and of neither alone.
        h: the H-statistic (Friedman and Popescu 2008, Annals of Applied Statistics 2:916, equation 44), in [0, 1] but for
            sampling: the same interaction over the spread of what the two do at all. It is large, too, where they do little.
    """

    first: str
    second: str
    strength: float
    h: float


def meeting(network: CompactNetwork) -> list[tuple[str, str]]:
    """Pairs of columns that reach one neuron with a nonlinear activation; all others cannot interact.

    Without such a neuron the output (before its link) is a sum of a function of the one and a function of the other.

    Raises:
        ConfigError: for a network that cannot be explained.
    """
    plain = unfold(network)
    return [(plain.columns[a], plain.columns[b]) for a, b in _meeting(plain.supports)]


def _meeting(supports: Sequence[frozenset[int]]) -> list[tuple[int, int]]:
    return sorted({pair for support in supports for pair in itertools.combinations(sorted(support), 2)})


@torch.no_grad()
def pairs(network: CompactNetwork, background: Background, most: int = MOST) -> list[Pair]:
    """Those that can interact, strongest first; of more than ``most`` those of the columns with the largest weights (of a large
    dense network fewer, 20 at least).

    ``I(x_a, x_b) = v(a, b) - v(a) - v(b) + v()`` with ``v(S)`` the mean output over the background where the columns S are
    those of a row (partial dependence). ``strength = sd(I) / sd(z)`` and ``h = sd(I) / sd(v(a, b))``, over at most 80 rows of
    the background (of a large dense network 16 at least). Several outputs are pooled. The scale is that of contributions.

    Raises:
        ConfigError: for a network that cannot be explained, or a background of other features.
    """
    background.check(network)
    plain = unfold(network)
    h = layer_0(network, torch.from_numpy(background.features))
    each = 4 * max(1, plain.work(range(len(plain.bias))))  # products of a pair, per row and row of the background
    rows = min(ROWS, max(LEAST, math.isqrt(DEAR // (FEWEST * each))), len(h))
    index = torch.linspace(0, len(h) - 1, rows).round().long()
    h, weights = h[index], torch.from_numpy(background.weights)[index]
    if not float(weights.sum()) > 0:
        weights = torch.ones_like(weights)
    weights = weights / weights.sum()
    found = _meeting(plain.supports)
    most = min(most, max(FEWEST, DEAR // (len(h) ** 2 * each)))
    if len(found) > most:
        sizes = [float(plain.first[:, list(at)].square().sum()) for at in plain.places]
        found = sorted(found, key=lambda pair: -sizes[pair[0]] * sizes[pair[1]])[:most]
    outputs = plain.outputs(h)
    spread = float((weights @ (outputs - weights @ outputs).square()).sum())
    told = []
    supports = plain.supports
    read = torch.nonzero((plain.out != 0).any(0)).flatten().tolist()
    for a, b in found:
        neurons = [m for m in read if {a, b} & supports[m]]
        out = plain.out[:, neurons].T
        none = plain.moved(h[:1], h, weights, [], neurons) @ out  # (1, O)
        first, second, joint = (plain.moved(h, h, weights, these, neurons) @ out for these in ([a], [b], [a, b]))  # (R, O)
        pure = joint - first - second + none
        at = [*plain.places[a], *plain.places[b]]
        both = joint - none + (h - weights @ h)[:, at] @ plain.straight[:, at].T
        both = both - weights @ both
        centred = pure - weights @ pure
        squares = [float((weights @ part.square()).sum()) for part in (centred, both)]
        strength = (squares[0] / spread) ** 0.5 if spread > NONE else 0.0
        ratio = (squares[0] / squares[1]) ** 0.5 if squares[1] > NONE * max(spread, NONE) else 0.0
        told.append(Pair(plain.columns[a], plain.columns[b], strength, ratio))
    return sorted(told, key=lambda pair: -pair.strength)
