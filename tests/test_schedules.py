"""Schedules at their ends, through their windows, and in their tables."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nasplug import schedules
from nasplug.contracts import Schedule
from nasplug.errors import ConfigError
from nasplug.schedules import constant, cosine, geometric, linear, plateau, step, tabulate, track

few = settings(max_examples=25, deadline=None)
share = st.floats(0.0, 1.0)
positive = st.floats(1e-6, 1e6)
WINDOWED: dict[str, Callable[..., Schedule]] = {"linear": linear, "cosine": cosine, "geometric": geometric}


@few
@given(use=st.sampled_from(sorted(WINDOWED)), start=positive, end=positive, window=st.tuples(share, share), at=share)
def test_window(use: str, start: float, end: float, window: tuple[float, float], at: float) -> None:
    since, until = sorted(window)
    value = WINDOWED[use](start=start, end=end, since=since, until=until)
    if at >= until:
        assert value(at) == pytest.approx(end, rel=1e-9)
    elif at <= since:
        assert value(at) == pytest.approx(start, rel=1e-9)
    else:
        p = (at - since) / (until - since)
        wanted = {
            "linear": start + p * (end - start),
            "cosine": end + (start - end) * math.cos(math.pi * p / 2) ** 2,
            "geometric": math.exp((1 - p) * math.log(start) + p * math.log(end)),
        }
        assert value(at) == pytest.approx(wanted[use], rel=1e-6, abs=1e-9 * max(start, end))


@few
@given(use=st.sampled_from(sorted(WINDOWED)), ends=st.tuples(positive, positive), window=st.tuples(share, share))
def test_monotonic_and_between_its_ends(use: str, ends: tuple[float, float], window: tuple[float, float]) -> None:
    since, until = sorted(window)
    value = WINDOWED[use](start=ends[0], end=ends[1], since=since, until=until)
    values = [value(i / 64) for i in range(65)]
    slack = 1e-9 * max(ends)
    assert all(min(ends) - slack <= v <= max(ends) + slack for v in values)
    signs = [(b - a) * (ends[1] - ends[0]) for a, b in itertools.pairwise(values)]
    assert all(s >= -slack * abs(ends[1] - ends[0]) for s in signs)


@pytest.mark.parametrize("use", sorted(WINDOWED))
@pytest.mark.parametrize("edge", [0.0, 0.5, 1.0])
def test_a_window_of_no_width_is_a_step(use: str, edge: float) -> None:
    value = WINDOWED[use](start=2.0, end=3.0, since=edge, until=edge)
    assert [value(p) for p in (0.0, 0.49, 0.5, 1.0)] == [2.0 if p < edge else 3.0 for p in (0.0, 0.49, 0.5, 1.0)]


def test_exact_ends() -> None:
    for make in WINDOWED.values():
        assert (make(start=0.3, end=0.7)(0.0), make(start=0.3, end=0.7)(1.0)) == pytest.approx((0.3, 0.7), rel=1e-15)
    assert (linear()(0.0), linear()(0.25), linear()(1.0)) == (0.0, 0.25, 1.0)
    assert (cosine()(0.0), cosine()(0.5), cosine()(1.0)) == pytest.approx((1.0, 0.5, 0.0), abs=1e-15)
    assert cosine()(1.0) == 0.0
    assert constant(value=-2.5)(0.3) == -2.5
    assert [step(at=0.5, before=1.0, after=4.0)(p) for p in (0.0, 0.49, 0.5, 1.0)] == [1.0, 1.0, 4.0, 4.0]
    assert step(at=0.0)(0.0) == 1.0


def test_a_plateau_rises_stays_and_ends() -> None:
    assert [plateau(rise=0.4, fall=0.75)(p) for p in (0.0, 0.2, 0.4, 0.74, 0.75, 1.0)] == [0.0, 0.5, 1.0, 1.0, 0.0, 0.0]
    with pytest.raises(ConfigError, match="schedule 'plateau'"):
        plateau(rise=0.8, fall=0.5)
    assert linear(start=-3.0, end=-1.0)(0.5) == -2.0


@pytest.mark.parametrize("use", sorted(WINDOWED))
@pytest.mark.parametrize(
    ("since", "until"), [(-0.1, 1.0), (0.0, 1.1), (0.6, 0.5), (math.nan, 1.0), (0.0, math.nan), (0.0, math.inf)]
)
def test_windows_outside_the_steps_are_refused(use: str, since: float, until: float) -> None:
    with pytest.raises(ConfigError, match=f"schedule '{use}': since={since}, until={until}; needed: 0 <= since <= until <= 1"):
        WINDOWED[use](since=since, until=until)


@pytest.mark.parametrize("at", [-0.1, 1.5, math.nan])
def test_a_step_outside_the_steps_is_refused(at: float) -> None:
    with pytest.raises(ConfigError, match="schedule 'step'"):
        step(at=at)


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (1.0, -2.0), (math.nan, 1.0)])
def test_a_geometric_schedule_never_reaches_zero(start: float, end: float) -> None:
    with pytest.raises(ConfigError, match="both must be > 0"):
        geometric(start=start, end=end)


def test_they_are_registered_under_their_names() -> None:
    found: dict[str, Any] = {}
    schedules.register_schedules(found.__setitem__)
    assert found == {
        "constant": constant,
        "linear": linear,
        "cosine": cosine,
        "geometric": geometric,
        "plateau": plateau,
        "step": step,
    }


# Tables and tracks.


def test_the_table_starts_at_progress_0_and_ends_at_1() -> None:
    table = tabulate([linear(), constant(value=3.0)], 5)
    assert table.dtype == torch.float64
    assert table.tolist() == [[0.0, 3.0], [0.25, 3.0], [0.5, 3.0], [0.75, 3.0], [1.0, 3.0]]
    assert tabulate([linear(start=7.0)], 1).tolist() == [[7.0]]
    assert tabulate([linear()], 0).shape == (0, 1)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, None, "much", [1.0], 1j])
def test_values_that_are_not_finite_numbers_are_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"not finite|not a number"):
        tabulate([constant(), lambda progress: wrong if progress > 0.5 else 1.0], 4)


def test_an_overflowing_schedule_is_refused() -> None:
    with pytest.raises(ConfigError, match="not finite"):
        tabulate([geometric(start=1e-300, end=1e300)], 4)


@few
@given(data=st.data(), steps=st.integers(1, 12), rows=st.integers(1, 6))
def test_a_track_is_the_full_table(data: st.DataObject, steps: int, rows: int) -> None:
    every: list[Schedule] = [linear(), cosine(), geometric(), step(), constant(value=2.0)]
    distinct = every[: data.draw(st.integers(1, 5))]
    index = data.draw(st.lists(st.integers(0, len(distinct) - 1), min_size=rows, max_size=rows))
    scale = data.draw(st.lists(st.floats(-10, 10), min_size=rows, max_size=rows))
    followed = track(distinct, index, scale, steps)
    full = torch.tensor(
        [[distinct[i](t / max(steps - 1, 1)) * s for i, s in zip(index, scale, strict=True)] for t in range(steps)]
    )
    for t in range(steps):
        assert torch.allclose(followed.at(t), full[t].double(), rtol=1e-6, atol=1e-6)
        assert followed.at(t).tolist() == [distinct[i](t / max(steps - 1, 1)) * s for i, s in zip(index, scale, strict=True)]
    some = torch.tensor(data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=4)))
    assert torch.equal(followed.take(some).at(steps - 1), followed.at(steps - 1)[some])
    narrow = followed.to("cpu", torch.float32)
    assert narrow.at(0).dtype == torch.float32
    assert torch.allclose(narrow.at(0).double(), followed.at(0), rtol=1e-6, atol=1e-6)
