"""Which configurations are tried, and that a resumed study tries the same ones."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nasplug.config import Sampler, Sweep
from nasplug.errors import ConfigError
from nasplug.plan import Axis, grid
from nasplug.sampling import Generations, Outcome

few = settings(max_examples=25, deadline=None)
DRAWING = ["random", "tpe", "nsga2"]
AXES = [
    Axis("train.lr", Sweep(log=(1e-4, 1e-1)), True),
    Axis("penalties.0.level", Sweep(uniform=(-1.0, 3.0)), True),
    Axis("method.act", Sweep(choice=["relu", "tanh", None, [1, 2]]), False),
]
CROSSED = Axis("method.hidden", Sweep(grid=[4, 8, 16]), False)


def sampler(use: str, **options: Any) -> Sampler:
    if use == "random":
        options.pop("generation", None)
    return Sampler(use=use, **options)  # type: ignore[arg-type]


def bowl(values: dict[str, Any]) -> tuple[float, float]:
    """Two objectives that pull against each other."""
    return abs(math.log10(values["train.lr"]) + 2.5), 10.0 - 3.0 * values["penalties.0.level"]


def played(
    generations: Generations,
    score: Callable[[dict[str, Any]], tuple[float, float]] = bowl,
    lost: Callable[[int], bool] = lambda number: False,
) -> list[list[dict[str, Any]]]:
    """Every generation, each told before the next, as `nasplug.study` does; ``lost`` configurations never finish."""
    shown: list[list[dict[str, Any]]] = []
    outcome: dict[int, tuple[float, float]] = {}
    first = 0
    for configurations in generations:
        shown.append(configurations)
        for number, values in enumerate(configurations, start=first):
            if not lost(number):
                outcome[number] = score(values)
        generations.tell(outcome, first)
        first += len(configurations)
    return shown


# Grids.


@few
@given(lists=st.lists(st.lists(st.integers(), min_size=1, max_size=4, unique=True), max_size=4))
def test_a_grid_is_every_combination_the_last_axis_fastest(lists: list[list[int]]) -> None:
    found = [Axis(f"axis {n}", Sweep(choice=values), True) for n, values in enumerate(lists)]
    (only,) = played(Generations(Sampler(), found), score=lambda values: (0.0, 0.0))
    assert [tuple(row[axis.path] for axis in found) for row in only] == list(itertools.product(*lists))
    assert only == grid(found)
    assert Generations(Sampler(), found).sizes == [len(only)] == [math.prod(map(len, lists))]


def test_a_grid_over_a_range_needs_points() -> None:
    with pytest.raises(ConfigError, match=r"train.lr: .* in a grid; needed: points: N"):
        next(iter(Generations(Sampler(), [AXES[0]])))
    found = [Axis("train.lr", Sweep(log=(1e-3, 1e-1), points=3), True), Axis("tau", Sweep(uniform=(0.0, 1.0), points=2), True)]
    (only,) = Generations(Sampler(), found)
    assert [row["train.lr"] for row in only] == pytest.approx([1e-3, 1e-3, 1e-2, 1e-2, 1e-1, 1e-1])
    assert [row["tau"] for row in only] == [0.0, 1.0] * 3


def test_nothing_swept_is_one_configuration() -> None:
    for use in ("grid", *DRAWING):
        assert list(Generations(sampler(use), [])) == [[{}]]


# Draws.


@pytest.mark.parametrize("use", DRAWING)
def test_draws_respect_their_bounds(use: str) -> None:
    shown = played(Generations(sampler(use, trials=40, generation=10), AXES))
    flat = [values for generation in shown for values in generation]
    assert len(flat) == 40
    for values in flat:
        assert set(values) == {axis.path for axis in AXES}
        assert 1e-4 <= values["train.lr"] <= 1e-1
        assert -1.0 <= values["penalties.0.level"] <= 3.0
        assert values["method.act"] in ["relu", "tanh", None, [1, 2]]
    assert len({values["train.lr"] for values in flat}) > 20
    assert len({str(values["method.act"]) for values in flat}) == 4
    assert sum(values["train.lr"] < 10**-2.5 for values in flat) in range(8, 33)  # log: half of the draws below the middle


@pytest.mark.parametrize("use", DRAWING)
@pytest.mark.parametrize("trials", [1, 10, 23])
@pytest.mark.parametrize("crossed", [False, True])
def test_sizes_are_what_comes(use: str, trials: int, crossed: bool) -> None:
    found = [*AXES, CROSSED] if crossed else AXES
    generations = Generations(sampler(use, trials=trials, generation=10), found)
    shown = played(generations)
    assert [len(generation) for generation in shown] == generations.sizes
    assert sum(generations.sizes) == trials * (3 if crossed else 1)
    assert len(shown) == (1 if use == "random" else math.ceil(trials / 10))


@pytest.mark.parametrize("use", DRAWING)
def test_a_grid_axis_is_crossed_with_every_draw(use: str) -> None:
    shown = played(Generations(sampler(use, trials=12, generation=6), [*AXES, CROSSED]))
    flat = [values for generation in shown for values in generation]
    for first in range(0, len(flat), 3):
        same = flat[first : first + 3]
        assert [values["method.hidden"] for values in same] == [4, 8, 16]
        assert len({values["train.lr"] for values in same}) == 1


@pytest.mark.parametrize("use", DRAWING)
def test_the_same_seed_and_outcomes_give_the_same_configurations(use: str) -> None:
    """So does a study that was stopped between two generations, or lost the same configurations."""
    found = [*AXES, CROSSED]

    def afresh(seed: int = 5) -> Generations:
        return Generations(sampler(use, trials=24, generation=6, seed=seed), found)

    def lost(number: int) -> bool:
        return number % 5 == 0 or 18 <= number < 24

    optuna.create_study(sampler=optuna.samplers.RandomSampler()).ask().suggest_float("elsewhere", 0, 1)
    assert played(afresh()) == played(afresh())
    assert played(afresh(), lost=lost) == played(afresh(), lost=lost)
    assert played(afresh())[0] != played(afresh(6))[0]


@pytest.mark.parametrize("use", ["tpe", "nsga2"])
def test_outcomes_matter(use: str) -> None:
    def away(values: dict[str, Any]) -> tuple[float, float]:
        return -bowl(values)[0], bowl(values)[1]

    one = played(Generations(sampler(use, trials=60, generation=15), AXES))
    other = played(Generations(sampler(use, trials=60, generation=15), AXES), score=away)
    assert one[0] == other[0]
    assert one[-1] != other[-1]


@pytest.mark.parametrize("use", ["tpe", "nsga2"])
def test_later_generations_are_better(use: str) -> None:
    def near(values: dict[str, Any]) -> tuple[float, float]:
        distance = abs(math.log10(values["train.lr"]) + 2.0) + abs(values["penalties.0.level"] - 1.0)
        return distance, distance

    shown = played(Generations(sampler(use, trials=120, generation=20), AXES), score=near)
    means = [sum(near(values)[0] for values in generation) / len(generation) for generation in shown]
    assert means[-1] < 0.7 * means[0]


# What is told.


def trials_of(generations: Generations) -> list[optuna.trial.FrozenTrial]:
    assert generations._study is not None
    return generations._study.get_trials()


@pytest.mark.parametrize("use", DRAWING)
def test_what_did_not_finish_is_told_as_failed(use: str) -> None:
    generations = Generations(sampler(use, trials=8, generation=8), AXES)
    played(generations, lost=lambda number: number % 2 == 0)
    states = [trial.state for trial in trials_of(generations)]
    assert states == [optuna.trial.TrialState.FAIL, optuna.trial.TrialState.COMPLETE] * 4


def test_a_generation_that_is_lost_as_a_whole_does_not_stop_the_study() -> None:
    for use in ("tpe", "nsga2"):
        shown = played(Generations(sampler(use, trials=18, generation=6), AXES), lost=lambda number: number < 12)
        assert [len(generation) for generation in shown] == [6, 6, 6]


def test_crossed_configurations_are_averaged_over_those_that_finished() -> None:
    generations = Generations(sampler("tpe", trials=2, generation=2), [*AXES, CROSSED])
    next(iter(generations))
    outcome: Outcome = {10: (1.0, 4.0), 12: (3.0, 8.0), 3: (99.0, 99.0)}
    generations.tell(outcome, 10)  # configurations 10, 11, 12 are the first draw, 13, 14, 15 the second
    first, second = trials_of(generations)
    assert first.values == [2.0, 6.0]
    assert second.state == optuna.trial.TrialState.FAIL


def test_telling_a_grid_does_nothing() -> None:
    generations = Generations(Sampler(), [CROSSED])
    generations.tell({0: (1.0, 1.0)}, 0)
    assert generations._study is None


def test_a_population_of_one_cannot_breed() -> None:
    with pytest.raises(ValidationError, match="nsga2"):
        Sampler(use="nsga2", generation=1)
    assert len(played(Generations(Sampler(use="tpe", generation=1, trials=3), AXES))) == 3
