"""Searches judged by a table of everything that they could have found: regret, rank, Kendall's tau, with 90 % bounds.

With test errors ``t_as`` and validation errors ``v_as`` of architecture a and seed s of the table:

- **best**: the mean over s of ``t_as`` of the architecture with the least mean of ``v`` over the *other* seeds. It is chosen by
  validation and judged on test samples by a network that had no part in the choice: the least of many errors, each with the
  luck of its seed and samples, would be lower than any architecture deserves.
- **regret** of a search: ``mean_s t_as`` of what its runs chose, on average over runs, less **best**. Below 0: the search
  chose better than the whole table would have by validation.
- **behind**: the same less the least ``mean_s t_as`` of the table. Never below 0, and too large: that least one was picked by
  the test samples.
- **tau**: Kendall's tau-b between the order of a search and ``-mean_s t_as``, the mean over runs, over the architectures of its
  widths. Orders are the shares of its mixtures (the chance of an architecture if each site is drawn by its shares), and its
  shared weights (the validation loss of each architecture with the weights of the search).

Bounds are the 5th and 95th percentile of a bootstrap that draws the runs of the search and the seeds of the table, with
replacement, each by itself. Networks are drawn, samples are not: the bounds are for this data set and its split.
A draw has fewer distinct seeds than the table, so means with more noise: bounds of tau and regret lie too low, the more so the
larger the noise of a seed, and a tau may be above its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nasplug.spaces.table import Array, Table

__all__ = ["Bounded", "Found", "Scored", "baselines", "scored"]

DRAWS = 1_000
DRAWS_OF_ORDERS = 300  # each sorts all architectures
BOUNDS = (5.0, 95.0)
Index = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bounded:
    """A mean with its 90 % bounds."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Found:
    """What the runs of a search found.

    Attributes:
        name: of the search.
        chosen: the place in the table of what each run chose.
        orders: name -> of each run, its value of each architecture (more is better), NaN where it has none; ``(runs, N)``.
        networks: that were trained in all.
        words: what is not as in the table.
    """

    name: str
    chosen: Sequence[int]
    orders: Mapping[str, Array]
    networks: int
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scored:
    """A search, judged. ``tau`` by the name of the order; ``rank``: mean over runs; ``architectures``: what was chosen."""

    name: str
    runs: int
    networks: int
    regret: Bounded
    behind: float
    rank: float
    tau: Mapping[str, Bounded]
    architectures: Mapping[str, int]
    words: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def _picked(valid: Array, loss: Array) -> int:
    """The least mean validation error; of equal ones the least loss. What did not finish is never picked."""
    error = np.where(np.isfinite(valid), valid, np.inf)
    return int(np.lexsort((np.where(np.isfinite(loss), loss, np.inf), error))[0])


def _best(table: Table, counts: Array) -> float:
    """**best**, where seed s of the table counts ``counts[s]`` times."""
    valid, loss, test = (table.scores[name] for name in ("valid_error", "valid_loss", "test_error"))
    there = np.flatnonzero(counts)
    if len(there) == 1:
        return float(test[_picked(valid[:, there[0]], loss[:, there[0]]), there[0]])
    total = 0.0
    for seed in there:
        others = counts.copy()
        others[seed] = 0.0
        total += counts[seed] * test[_picked(valid @ others, loss @ others), seed]
    return float(total / counts.sum())


def _counts(seeds: int, draw: np.random.Generator) -> Array:
    return np.bincount(draw.integers(seeds, size=seeds), minlength=seeds).astype(float)


def _bounded(value: Callable[[Array, Index], float], seeds: int, runs: int, draws: int) -> Bounded:
    """A value of how often each seed counts and which runs, with its bootstrap; without what is not finite."""
    draw = np.random.default_rng(0)
    found = np.array([value(_counts(seeds, draw), draw.integers(runs, size=runs)) for _ in range(draws)])
    found = found[np.isfinite(found)]
    low, high = np.percentile(found, BOUNDS) if len(found) else (math.nan, math.nan)
    return Bounded(value(np.ones(seeds), np.arange(runs)), float(low), float(high))


def _tau(one: Array, other: Array) -> float:
    """Kendall's tau-b of those that have both values (-inf is the last of an order); 0 where one of them orders nothing."""
    from scipy.stats import kendalltau

    there = ~np.isnan(one) & np.isfinite(other)
    if there.sum() < 2:
        return math.nan
    found = float(kendalltau(one[there], other[there]).statistic)
    return 0.0 if math.isnan(found) else found


def scored(table: Table, found: Found) -> Scored:
    """A search, judged by the table."""
    test, seeds = table.scores["test_error"], len(table.seeds)
    chosen = np.asarray(found.chosen)

    def regret(counts: Array, runs: Index) -> float:
        return float((test[chosen[runs]] @ counts).mean() / counts.sum()) - _best(table, counts)

    def tau_of(order: Array) -> Callable[[Array, Index], float]:
        def tau(counts: Array, runs: Index) -> float:
            truth = -(test @ counts) / counts.sum()
            each = {run: _tau(order[run], truth) for run in set(runs.tolist())}
            return float(np.mean([each[run] for run in runs.tolist()]))

        return tau

    texts = ["x".join(map(str, widths)) + " " + text for widths, text in (table.keys[at] for at in found.chosen)]
    return Scored(
        found.name,
        len(chosen),
        found.networks,
        _bounded(regret, seeds, len(chosen), DRAWS),
        float(table.test[chosen].mean() - table.test.min()),
        float(table.rank[chosen].mean()),
        {name: _bounded(tau_of(order), seeds, len(order), DRAWS_OF_ORDERS) for name, order in found.orders.items()},
        {text: texts.count(text) for text in sorted(set(texts), key=lambda text: (-texts.count(text), text))},
        found.words,
    )


def baselines(table: Table, drawn: Sequence[int] = (1, 2, 5, 10)) -> list[Scored]:
    """What the table says of drawing architectures at random and keeping the best by validation; the last draws all of them.

    Each is trained once, with the seed s, and stands for its mean test error over the other seeds (of one seed over that). It
    is the expected value over all draws, exactly: of N architectures in the order of ``v_as`` the j-th (from 0) is the best of
    k with the probability ``C(N - 1 - j, k - 1) / C(N, k)``. The tau of all is that of ``-v_as``.
    """
    valid, loss, test = (table.scores[name] for name in ("valid_error", "valid_loss", "test_error"))
    architectures, seeds = valid.shape
    valid = np.where(np.isfinite(test).all(axis=1, keepdims=True), valid, np.inf)  # what did not finish is never the best
    lists = [k for k in drawn if k < architectures]
    orders = [np.lexsort((_finite(loss[:, s]), _finite(valid[:, s]))) for s in range(seeds)]

    def truth(counts: Array, seed: int) -> Array:
        others = counts.copy()
        others[seed] = 0.0
        return test[:, seed] if not others.any() else (test @ others) / others.sum()

    def expected(k: int) -> Callable[[Array, Index], float]:
        chance = _chances(architectures, k)

        def regret(counts: Array, _: Index) -> float:
            best, total = _best(table, counts), 0.0
            for seed in np.flatnonzero(counts):
                total += counts[seed] * _mean(truth(counts, int(seed)), [orders[seed]], chance)
            return float(total / counts.sum()) - best

        return regret

    def tau(counts: Array, _: Index) -> float:
        there = np.flatnonzero(counts)
        order = -np.where(np.isfinite(valid), valid, np.nan)
        each = [counts[s] * _tau(order[:, s], -truth(counts, int(s))) for s in there]
        return float(np.sum(each) / counts.sum())

    rank = table.rank.astype(float)
    made = []
    for k in [*lists, architectures]:
        chance, all_of_them = _chances(architectures, k), k == architectures
        name = f"best of all {k:,}" if all_of_them else f"best of {k} at random" if k > 1 else "one at random"
        taus = {"validation": _bounded(tau, seeds, 1, DRAWS_OF_ORDERS)} if all_of_them and seeds > 1 else {}
        behind = _mean(table.test, orders, chance) - float(table.test.min())
        made.append(Scored(name, 0, k, _bounded(expected(k), seeds, 1, DRAWS), behind, _mean(rank, orders, chance), taus, {}))
    return made


def _mean(values: Array, orders: Sequence[Index], chance: Array) -> float:
    """Of what is drawn, over all seeds; without what is not finite."""
    there = [chance * np.isfinite(values[order]) for order in orders]
    each = [(w * np.nan_to_num(values[order], posinf=0.0)).sum() / w.sum() for w, order in zip(there, orders, strict=True)]
    return float(np.mean(each))


def _finite(values: Array) -> Array:
    return np.where(np.isfinite(values), values, np.inf)


def _chances(architectures: int, k: int) -> Array:
    """Of each place in the order, that it is the best of ``k`` drawn without replacement."""
    whole = math.comb(architectures, k)
    return np.array([math.comb(architectures - 1 - j, k - 1) / whole for j in range(architectures)])
