"""Which of many candidates are the fittest, by several numbers at once: non-dominated fronts and crowding distance."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["crowding", "fittest", "fronts", "hypervolume"]

Values = NDArray[np.floating[Any]]
BLOCK = 256  # candidates that are compared with all others at once


def _worst_where_broken(values: Values) -> Values:
    broken = ~np.isfinite(values).all(1, keepdims=True)
    return np.where(broken, np.inf, values)


def _beaten(some: Values, others: Values) -> NDArray[np.int64]:
    """By how many of ``some (S, M)`` each of ``others (N, M)`` is dominated: ``(N,)``."""
    found = np.zeros(len(others), dtype=np.int64)
    for at in range(0, len(some), BLOCK):
        part = some[at : at + BLOCK]
        no_worse = np.ones((len(part), len(others)), dtype=bool)
        better = np.zeros_like(no_worse)
        for one, other in zip(part.T, others.T, strict=True):
            no_worse &= one[:, None] <= other
            better |= one[:, None] < other
        found += (no_worse & better).sum(0)
    return found


def fronts(values: Values) -> NDArray[np.int64]:
    """The front of each candidate, from 0: front n is what nothing dominates once the fronts before it are gone.

    A candidate dominates another if it is worse in no number and better in one; less is better. One with a number that is not
    finite is dominated by all others that have none.

    Source: fast non-dominated sorting (Deb et al. 2002).

    Args:
        values: ``(N, M)``.

    Returns:
        ``(N,)``.
    """
    values = _worst_where_broken(values)
    if values.shape[1] <= 2:
        return _fronts_in_plane(values[:, 0], values[:, -1])
    found = np.full(len(values), -1, dtype=np.int64)
    beaten = _beaten(values, values)
    front = 0
    while len(here := np.flatnonzero((found < 0) & (beaten == 0))):
        found[here] = front
        beaten -= _beaten(values[here], values)
        front += 1
    return found


def _fronts_in_plane(first: Values, second: Values) -> NDArray[np.int64]:
    """`fronts` of two numbers in N log N steps: all candidates of a generation are compared, and may be many.

    In ascending order of the first number and then the second, a front dominates what comes if its last one does, and of the
    fronts so far the last ones' second numbers ascend (Jensen 2003).
    """
    found = np.zeros(len(first), dtype=np.int64)
    lasts: list[float] = []
    before: tuple[float, float] | None = None
    front = 0
    for at in np.lexsort((second, first)).tolist():
        here = float(first[at]), float(second[at])
        if here != before:  # equal ones do not dominate each other
            front = bisect_right(lasts, here[1])
            lasts[front : front + 1] = [here[1]]
            before = here
        found[at] = front
    return found


def crowding(values: Values) -> Values:
    """Crowding distance of the candidates of one front: how far apart its neighbours are, summed over the numbers.

    ``sum_m (next_m - previous_m) / (max_m - min_m)``; infinite at both ends of a number, 0 for one that all share (Deb et al.
    2002). Of candidates with equal numbers the order decides which are neighbours.

    Args:
        values: ``(N, M)``.

    Returns:
        ``(N,)``, >= 0.
    """
    values = _worst_where_broken(values)
    found = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        if not len(order) or not np.isfinite(ordered[-1]) or ordered[0] == ordered[-1]:
            continue
        found[order[[0, -1]]] = np.inf
        found[order[1:-1]] += (ordered[2:] - ordered[:-2]) / (ordered[-1] - ordered[0])
    return found


def fittest(values: Values, count: int) -> NDArray[np.int64]:
    """The ``count`` candidates that NSGA-II keeps, in ascending order: whole fronts, of the last one the least crowded.

    Ties are settled by position.
    """
    rank = fronts(values)
    kept: list[int] = []
    for front in range(int(rank.max(initial=-1)) + 1):
        here = np.flatnonzero(rank == front)
        room = count - len(kept)
        if len(here) > room:
            here = here[np.argsort(-crowding(values[here]), kind="stable")[:room]]
        kept += here.tolist()
    return np.sort(np.asarray(kept, dtype=np.int64))


def hypervolume(values: Values, reference: tuple[float, float]) -> float:
    """The area that candidates dominate, up to a reference point: how far a front of two numbers has come.

    ``|union_n [a_n, r_a] x [b_n, r_b]|``, >= 0; less of each number is better. A candidate that is not below the reference in
    both, or has a number that is not finite, adds nothing (Zitzler and Thiele 1998). Optuna's own is not public.

    Args:
        values: ``(N, 2)``.
        reference: the corner that nothing good is beyond.
    """
    inside = values[np.isfinite(values).all(1) & (values < reference).all(1)].astype(np.float64)
    inside = inside[np.lexsort(inside.T[::-1])]  # by the first number, ties by the second
    lowest = np.minimum.accumulate(np.concatenate([[reference[1]], inside[:, 1]]))
    return float(((reference[0] - inside[:, 0]) * (lowest[:-1] - lowest[1:])).sum())
