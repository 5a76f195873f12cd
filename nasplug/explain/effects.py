"""The effect of each column: partial dependence over a background, in the user's units, one point per word of a category."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nasplug.compact import CompactNetwork
from nasplug.data.encoder import GAP, OTHER, Column, Encoder
from nasplug.explain.background import Array, Background
from nasplug.explain.shapley import FEWEST, PAIRS, shapley
from nasplug.explain.shapley import affordable as affordable_rows
from nasplug.explain.unfolded import Unfolded, columns_of, layer_0, unfold

__all__ = ["Curve", "Effect", "Grid", "affordable", "base", "curves", "effects", "grids"]

FEW = 40  # distinct values: up to here each is a point
POINTS = 61  # of a curve, beyond
TAIL = 0.01  # of the rows at either end that a curve leaves out
MOST = 60  # columns
RATED, LEAST = 64, 4  # rows whose contributions are averaged, at most and at least
DEAR = 2**29  # products that columns may cost to rate, and their curves to draw: some tenths of a second each
FLAT = 1e-6  # of the largest span: what moves less does not move


@dataclass(frozen=True, slots=True)
class Grid:
    """Where a column's effect is looked at: at numbers, and at words (of a category, or for a gap).

    Attributes:
        column: its name.
        kind: of the column, as in `nasplug.data.encoder.Column`.
        numbers: ``(G,)``, rising.
        words: W of them.
        places: of its features among all.
        features: ``(G + W, len(places))``, raw: the column's own.
        seen: the background's own numbers, ``(B,)``; NaN where a word stands instead.
        shares: of each word the weighted share of the background, ``(W,)``.
    """

    column: str
    kind: str
    numbers: Array
    words: tuple[str, ...]
    places: tuple[int, ...]
    features: Array
    seen: Array
    shares: Array


@dataclass(frozen=True, slots=True)
class Curve:
    """What a column adds to the mean output: ``numbers (G, O)`` and ``words (W, O)``."""

    numbers: Array
    words: Array


@dataclass(frozen=True, slots=True)
class Effect:
    """A column's effect on the outputs of a network.

    Attributes:
        grid: where.
        curve: what it adds there.
        importance: the mean over background rows of the absolute contribution (`nasplug.explain.contributions`), summed over
            outputs.
        direction: ``rises``, ``falls``, ``rises and falls``, or ``flat``, of the only output; empty for words, and for several
            outputs.
    """

    grid: Grid
    curve: Curve
    importance: float
    direction: str


def _columns(record: dict[str, Any]) -> list[tuple[Column, list[int]]]:
    """The user's columns and the places of their features; without an encoder each feature is a number."""
    if record.get("encoder"):
        encoder = Encoder.from_plain(record["encoder"])
        found: dict[int, list[int]] = {}
        for place, group in enumerate(encoder.groups):
            found.setdefault(group, []).append(place)
        return [(encoder.columns[group], places) for group, places in sorted(found.items())]
    names = record.get("columns", record["features"])
    at: dict[int, list[int]] = {}
    for place, group in enumerate(record.get("groups", range(len(names)))):
        at.setdefault(group, []).append(place)
    return [(Column(name=str(names[group]), kind="number"), places) for group, places in sorted(at.items())]


def _numbers(observed: Array, weights: Array, knots: Sequence[float]) -> Array:
    """Where a curve over numbers has its points."""
    distinct = np.unique(observed)
    if len(distinct) <= FEW:
        return distinct
    order = np.argsort(observed)
    below = np.cumsum(weights[order]) / weights.sum()
    low, high = observed[order][np.searchsorted(below, [TAIL, 1.0 - TAIL]).clip(max=len(order) - 1)]
    inside = [knot for knot in knots if low < knot < high]
    return np.unique(np.concatenate([np.linspace(low, high, POINTS), inside]))


def _grid(column: Column, places: list[int], background: Background) -> Grid:
    x, weights = background.features[:, places], background.weights
    at = tuple(places)
    if column.kind in ("category", "boolean"):
        if column.kind == "boolean":
            words, blocks = ["false", "true"], np.zeros((2, len(places)))
            blocks[1, 0] = 1.0
            coded = [x[:, 0] <= 0.5, x[:, 0] > 0.5]
        else:
            words = [*column.words, *([OTHER] if column.other else []), *([GAP] if column.gap else [])]
            blocks, coded = np.eye(len(places)), [x[:, at] > 0.5 for at in range(len(places))]
        if column.kind == "boolean" and column.gap:
            gaps = x[:, -1] > 0.5
            words, coded = [*words, GAP], [*(code & ~gaps for code in coded), gaps]
            blocks = np.vstack([blocks, [column.fill or 0.0, 1.0]])
        shares = np.array([weights[code].sum() for code in coded])
        return Grid(column.name, column.kind, np.empty(0), tuple(words), at, blocks, np.full(len(x), np.nan), shares)
    if len(places) != column.width:  # features that are not ours
        none = np.empty((0, len(at)))
        return Grid(column.name, column.kind, np.empty(0), (), at, none, np.full(len(x), np.nan), np.empty(0))
    gaps = x[:, -1] > 0.5 if column.gap else np.zeros(len(x), dtype=bool)
    seen = np.where(gaps, np.nan, x[:, 0])
    numbers = _numbers(x[~gaps, 0], weights[~gaps], column.knots) if (~gaps).any() else np.empty(0)
    values = np.append(numbers, [column.fill or 0.0] * column.gap)
    features = np.zeros((len(values), len(at)))
    features[:, 0] = values
    for place, (low, high) in enumerate(zip(column.knots, column.knots[1:], strict=False), start=1):
        features[:, place] = np.clip((values - low) / (high - low), 0.0, 1.0)
    if column.gap:
        features[-1, -1] = 1.0
    gap = (GAP,) if column.gap else ()
    return Grid(column.name, column.kind, numbers, gap, at, features, seen, np.array([weights[gaps].sum()] * column.gap))


def grids(network: CompactNetwork, background: Background) -> list[Grid]:
    """One per column that the network reads, in the order of the table.

    Numbers: each of at most 40 distinct ones of the background, else 61 from its 1 % to its 99 % quantile, and the ends of
    ramps between. Words: each that has a feature, and the gap where a feature says so. A column of several features that no
    encoder explains has neither.
    """
    background.check(network)
    read = {name for name, _ in columns_of(network)}
    return [_grid(column, places, background) for column, places in _columns(network.record) if column.name in read]


@torch.no_grad()
def base(network: CompactNetwork, background: Background) -> Array:
    """The mean output over the background, ``(O,)``, on the scale of contributions.

    Where no two columns meet (`nasplug.explain.meeting`; always in an additive network) the curves are the model: an output is
    this and each column's curve at its value, exactly.
    """
    background.check(network)
    outputs = unfold(network).outputs(layer_0(network, torch.from_numpy(background.features)))
    found: Array = (torch.from_numpy(background.weights) @ outputs).numpy()
    return found


@torch.no_grad()
def curves(network: CompactNetwork, background: Background, on: Sequence[Grid]) -> list[Curve]:
    """Partial dependence (Friedman 2001, Annals of Statistics 29:1189) on grids, less the mean output of the background.

    ``c(v) = sum_b w_b z(column = v, the rest of row b) - sum_b w_b z(row b)``, on the scale of contributions
    (`nasplug.explain.scale_words`). Where the network is a sum over columns, it is exactly the column's contribution at v. It
    also looks at rows that no data have, if columns are correlated; accumulated local effects (Apley and Zhu 2020, JRSS B
    82:1059) do not, but have no order of words, and do not sum to the output. A network that does not read the column has a
    curve of zeros.
    """
    background.check(network)
    plain = unfold(network)
    others, weights = layer_0(network, torch.from_numpy(background.features)), torch.from_numpy(background.weights)
    supports, found = plain.supports, []
    for grid in on:
        split, outputs = len(grid.numbers), len(plain.shift)
        values = np.zeros((len(grid.features), outputs))
        if grid.column in plain.columns:
            features = torch.zeros(len(grid.features), len(background.names), dtype=torch.float64)
            features[:, list(grid.places)] = torch.from_numpy(grid.features)
            values = _alone(
                plain, layer_0(network, features), others, weights, plain.columns.index(grid.column), supports
            ).numpy()
        found.append(Curve(values[:split], values[split:]))
    return found


def _alone(
    plain: Unfolded, rows: Tensor, others: Tensor, weights: Tensor, column: int, supports: Sequence[frozenset[int]]
) -> Tensor:
    """What the column adds to the mean output: ``(R, O)``."""
    at = list(plain.places[column])
    found = (rows - weights @ others)[:, at] @ plain.straight[:, at].T
    neurons = [m for m in torch.nonzero((plain.out != 0).any(0)).flatten().tolist() if column in supports[m]]
    if neurons:
        none = plain.moved(rows[:1], others, weights, [], neurons)  # the same for all rows
        found = found + (plain.moved(rows, others, weights, [column], neurons) - none) @ plain.out[:, neurons].T
    return found


def _direction(found: Array, span: float) -> str:
    """How the only output goes over rising numbers."""
    steps = np.diff(found[:, 0])
    moves = steps[np.abs(steps) > FLAT * span]
    if len(moves) == 0:
        return "flat"
    return "rises" if (moves > 0).all() else "falls" if (moves < 0).all() else "rises and falls"


def affordable(network: CompactNetwork, background: Background) -> Background:
    """The background, or as many of its rows, evenly, as effects of a large dense network can be told over in seconds.

    ``B`` rows cost, for each column, ``points x B`` values of the neurons that it reaches; 16 rows stay, whatever they cost.
    """
    plain = unfold(network)
    supports, read = plain.supports, torch.nonzero((plain.out != 0).any(0)).flatten().tolist()
    each = POINTS * sum(plain.work([m for m in read if c in supports[m]]) for c in range(len(plain.columns)))
    return background.few(max(FEWEST, DEAR // max(1, each)))


def _ratings(plain: Unfolded, others: Tensor, weights: Tensor) -> dict[str, float]:
    """The importance of each column: the mean of its absolute contribution to some of the rows, compared with some.

    Columns x rows x rows of the background are bounded by `DEAR`: first there are fewer rows, then fewer of the background.
    """
    rated = min(RATED, len(others))
    while rated > LEAST and affordable_rows(plain, len(others), DEAR, rated) != (len(others), PAIRS):
        rated = max(LEAST, rated // 2)
    against, walked = affordable_rows(plain, len(others), DEAR, rated)
    index, compared = (torch.linspace(0, len(others) - 1, count).round().long() for count in (rated, against))
    shares, theirs = (part if float(part.sum()) > 0 else torch.ones_like(part) for part in (weights[index], weights[compared]))
    values, _, _ = shapley(plain, others[index], others[compared], theirs / theirs.sum(), walked)
    return dict(zip(plain.columns, (shares / shares.sum() @ values.abs().sum(2)).tolist(), strict=True))


@torch.no_grad()
def effects(network: CompactNetwork, background: Background, most: int = MOST) -> list[Effect]:
    """The effect of the ``most`` important columns that the network reads, the most important first.

    Raises:
        ConfigError: for a network that cannot be explained, or a background of other features.
    """
    background.check(network)
    plain = unfold(network)
    others, weights = layer_0(network, torch.from_numpy(background.features)), torch.from_numpy(background.weights)
    importance = _ratings(plain, others, weights)
    on = sorted(grids(network, background), key=lambda grid: -importance[grid.column])[:most]
    found = curves(network, background, on)
    span = max((float(np.ptp(part)) for one in found for part in (one.numbers, one.words) if part.size), default=0.0)
    single = len(plain.shift) == 1
    return [
        Effect(grid, one, importance[grid.column], _direction(one.numbers, span) if single and len(one.numbers) > 1 else "")
        for grid, one in zip(on, found, strict=True)
    ]
