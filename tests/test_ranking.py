"""Fronts and crowding distances against their definitions, taken literally."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasplug.packs import ranking
from nasplug.packs.ranking import crowding, fittest, fronts

few_values = st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0, math.nan, math.inf])
tables = st.integers(1, 3).flatmap(
    lambda m: st.lists(st.lists(few_values, min_size=m, max_size=m), min_size=1, max_size=12).map(np.array)
)


def dominates(one: Any, other: Any) -> bool:
    sound = bool(np.isfinite(one).all()), bool(np.isfinite(other).all())
    if not all(sound):
        return sound == (True, False)
    return bool((one <= other).all() and (one < other).any())


def literal_fronts(values: Any) -> list[int]:
    found, left, front = [-1] * len(values), set(range(len(values))), 0
    while left:
        here = {i for i in left if not any(dominates(values[j], values[i]) for j in left)}
        for i in here:
            found[i] = front
        left -= here
        front += 1
    return found


def literal_crowding(values: Any) -> list[float]:
    """Of finite numbers."""
    total = [0.0] * len(values)
    for column in values.T:
        order = sorted(range(len(values)), key=lambda i: (column[i], i))
        width = column[order[-1]] - column[order[0]]
        if width == 0:
            continue
        total[order[0]] = total[order[-1]] = math.inf
        for before, here, after in zip(order, order[1:], order[2:], strict=False):
            total[here] += (column[after] - column[before]) / width
    return total


@settings(max_examples=200, deadline=None)
@given(values=tables)
def test_fronts_are_what_nothing_left_dominates(values: Any) -> None:
    assert fronts(values).tolist() == literal_fronts(values)


def test_many_candidates_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 9, (60, 3)).astype(float)
    wanted = fronts(values).tolist()
    monkeypatch.setattr(ranking, "BLOCK", 7)
    assert fronts(values).tolist() == wanted == literal_fronts(values)


@settings(max_examples=200, deadline=None)
@given(values=tables)
def test_crowding_is_the_distance_of_the_neighbours(values: Any) -> None:
    values = np.nan_to_num(values, nan=4.0, posinf=5.0)
    assert crowding(values).tolist() == pytest.approx(literal_crowding(values))


@settings(max_examples=200, deadline=None)
@given(values=tables, data=st.data())
def test_the_fittest_are_whole_fronts_and_of_the_last_the_least_crowded(values: Any, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(values)))
    kept = fittest(values, count).tolist()
    assert kept == sorted(set(kept))
    assert len(kept) == count
    rank = literal_fronts(values)
    gone = set(range(len(values))) - set(kept)
    for i in kept:
        for j in gone:
            assert rank[i] <= rank[j]
            if rank[i] == rank[j] and np.isfinite(values[i]).all():
                here = [n for n, front in enumerate(rank) if front == rank[i]]
                each = dict(zip(here, literal_crowding(values[here]), strict=True))
                assert (-each[i], i) < (-each[j], j)


def test_nothing_is_kept_of_nothing() -> None:
    assert fittest(np.empty((0, 2)), 0).tolist() == []
