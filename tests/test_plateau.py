"""A sweep ends when its front no longer moves: its volume, the rule, and that it does not matter which pack finished first."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasplug import results
from nasplug.config import Plateau
from nasplug.errors import ConfigError
from nasplug.life import standing
from nasplug.packs.ranking import hypervolume
from nasplug.results.volume import LARGEST
from nasplug.study import Study
from nasplug.study.plateau import SURPLUS, Judge

SMALL: dict[str, Any] = {
    "study": "small",
    "task": {"use": "xor", "samples": 20},
    "method": {"use": "edges", "mode": "gated", "hidden": [3]},
    "penalties": [{"use": "l1", "level": {"choice": [0.001, 0.01]}}],
    "discretizers": [{"use": "threshold", "tolerance": 0.02}],
    "train": {"steps": 40, "lr": 0.05, "batch": 7, "reports": 2},
    "seeds": 12,
    "resources": {"pack": 2},
    "linear": False,
    "reach": None,
    "mlflow": None,
}
RULE = {"tolerance": 0.01, "patience": 3}
FOLDS: dict[str, Any] = {
    "task": {"use": "wine", "validation": {"use": "folds", "folds": 3}},
    "penalties": [{"use": "l1", "level": {"log": [0.01, 0.1], "points": 10}}],
    "seeds": 1,
    "resources": {"pack": 4},
}

POINTS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=12)


def study(store: Path, **changes: Any) -> Study:
    return Study.from_dict({**SMALL, "store": str(store), **changes})


def by_name(study: Study) -> pd.DataFrame:
    return results.read(study.folder, histories=True).set_index("replica").sort_index()


def same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(one, other, check_exact=True, check_like=True)


def area(points: list[tuple[int, int]], corner: tuple[float, float] = (10.0, 10.0)) -> float:
    return hypervolume(np.array(points, dtype=float).reshape(-1, 2), corner)


# -- hypervolume -------------------------------------------------------------------------------------------------------


@given(POINTS)
def test_it_counts_the_cells_that_are_dominated(points: list[tuple[int, int]]) -> None:
    cells = sum(any(a <= x and b <= y for a, b in points) for x in range(10) for y in range(10))
    assert area(points) == cells


@given(POINTS, st.randoms())
def test_order_repeats_and_dominated_points_do_not_matter(points: list[tuple[int, int]], random: Any) -> None:
    others = [*points, *points, *((a + 1, b) for a, b in points)]
    random.shuffle(others)
    assert area(others) == area(points)
    assert area([(b, a) for a, b in points]) == area(points)


@given(POINTS, st.tuples(st.integers(0, 12), st.integers(0, 12)))
def test_a_point_more_never_takes_away(points: list[tuple[int, int]], more: tuple[int, int]) -> None:
    before, after = area(points), area([*points, more])
    new = not any(a <= more[0] and b <= more[1] for a, b in points) and max(more) < 10
    assert (after > before) if new else (after == before)


@given(POINTS, st.floats(0.01, 100.0))
def test_it_scales_with_its_units(points: list[tuple[int, int]], unit: float) -> None:
    values = np.array(points, dtype=float).reshape(-1, 2) * [unit, 1.0]
    assert hypervolume(values, (10.0 * unit, 10.0)) == pytest.approx(unit * area(points), rel=1e-9)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.sampled_from("ab"), st.booleans()), min_size=1))
def test_what_leads_has_the_volume_of_all(rows: list[tuple[int, int, str, bool]]) -> None:
    """Also when others come later; of a front few rows stay."""
    errors, edges, places, finished = zip(*rows, strict=True)
    frame = pd.DataFrame({"valid_error": np.array(errors) / 5, "edges": edges, "place": places})
    frame["status"] = ["finished" if each else "diverged" for each in finished]
    frame.loc[frame["valid_error"] == 0.2, "valid_error"] = np.nan
    frame["replica"] = [f"p0000/{row:04d}" for row in range(len(frame))]
    facts = SimpleNamespace(trivial={"valid_error": 1.0}, resamples=0)
    for by in ([], ["place"]):
        kept = frame.iloc[:0]
        for row in range(len(frame)):
            both = pd.concat([kept, frame.iloc[row : row + 1]])
            kept = results.leading(both, by, lambda _: facts, lambda _: False)  # type: ignore[arg-type,return-value]
        whole, few = (results.volume(each, by, lambda _: facts) for each in (frame, kept))  # type: ignore[arg-type,return-value]
        assert few == pytest.approx(whole, abs=1e-12)
        assert len(kept) <= 7 * (1 + len(by))


@settings(max_examples=12)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 1), st.integers(0, 6), st.integers(0, 6), st.booleans()),
        min_size=8,
        max_size=16,
    ),
    st.integers(3, 6),
)
def test_on_folds_what_leads_has_the_volume_of_all(rows: list[tuple[int, int, int, int, bool]], unit: int) -> None:
    """After each unit, whatever rows of a configuration come when; at the end the front's configurations are left."""
    configurations, folds, errors, edges, finished = zip(*rows, strict=True)
    frame = pd.DataFrame({"configuration": configurations, "fold": folds, "valid_error": np.array(errors) / 5, "edges": edges})
    frame["place"] = [["a", "b"][number % 2] for number in configurations]
    frame["status"] = ["finished" if each else "diverged" for each in finished]
    frame["replica"] = [f"p0000/{row:04d}" for row in range(len(frame))]
    facts: Any = SimpleNamespace(trivial={"valid_error": 1.0}, resamples=2)
    for by in ([], ["place"]):
        kept = frame.iloc[:0]
        for at in range(0, len(frame), unit):
            later = set(configurations[at + unit :])
            kept = results.leading(pd.concat([kept, frame.iloc[at : at + unit]]), by, lambda _: facts, later.__contains__)
            whole, few = (results.volume(each, by, lambda _: facts) for each in (frame.iloc[: at + unit], kept))
            assert few == pytest.approx(whole, abs=1e-12)
        points = frame[frame["status"] == "finished"].groupby("configuration")["fold"].nunique() == 2
        assert set(kept["configuration"]) <= set(points.index[points])


def test_a_configuration_that_comes_again_counts_with_all_of_its_rows(tmp_path: Path) -> None:
    """New seeds of a configuration that was behind the front: its mean is over all that it has, in the end as all at once."""
    mine = study(tmp_path, **{**FOLDS, "penalties": [{"use": "l1", "level": {"log": [0.01, 0.1], "points": 4}}], "seeds": 2})
    mine.run("serial", report=False)
    packs = [pack for pack in mine.plan() if not pack.linear]
    assert set(packs[0].configurations) & set(packs[1].configurations)
    never = Plateau(tolerance=1e-9, patience=1000)
    whole = Judge(never, mine.folder, [], mine.facts_of)
    whole.follow(packs, together=False)
    parts = Judge(never, mine.folder, [], mine.facts_of)
    for some in (packs[::3], packs[1::3], packs[2::3]):
        parts.follow(some, together=False)
        parts.ended([])
    whole.ended([])
    assert len(whole.volumes) == len(parts.volumes) == len(packs)
    assert parts.volumes[-1] == pytest.approx(whole.volumes[-1], abs=1e-12)


def test_what_is_not_finite_adds_nothing() -> None:
    broken = np.array([[np.nan, 1.0], [1.0, np.inf], [-np.inf, 2.0], [4.0, 4.0]])
    assert hypervolume(broken, (10.0, 10.0)) == 36.0
    assert hypervolume(np.empty((0, 2)), (1.0, 1.0)) == 0.0


# -- the rule ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study(tmp_path_factory.mktemp("full")).run("serial", report=False)


def volumes(full: Study, packs: list[str]) -> list[float]:
    """After each pack, from the whole table and by another way."""
    frame = full.frame
    error = frame["valid_error"] / full.facts_of(str(frame["replica"].iloc[0])).trivial["valid_error"]
    size = np.log(1 + frame["edges"]) / np.log(1 + LARGEST)
    found, grid = [], (np.arange(2000) + 0.5) / 2000
    for count in range(1, len(packs) + 1):
        here = frame["replica"].str[:5].isin(packs[:count])
        lowest = np.array([min([1.0, *size[here & (error <= at)]]) for at in grid])
        found.append(float((1.0 - lowest).mean()))
    return found


def test_the_sweep_ends_where_the_front_stood_still(full: Study, tmp_path: Path) -> None:
    packs = [f"p{n:04d}" for n in range(12)]
    wanted = volumes(full, packs)
    last = next(i for i in range(3, 12) if wanted[i] - wanted[i - 3] < RULE["tolerance"])
    assert last < 10
    mine = study(tmp_path, plateau=RULE).run("serial", report=False)
    found, whole = by_name(mine), by_name(full)
    assert sorted({name[:5] for name in found.index}) == packs[: last + 1]
    same(found, whole.loc[found.index])
    ending = results.ending_of(mine.folder)
    assert ending is not None
    assert (ending.by, ending.networks, ending.untrained) == ("plateau", 24, 24 - 2 * (last + 1))
    assert ending.words.startswith("The front no longer moved (over the last 3 packs its volume rose by ")
    assert standing(mine.folder).why == ending.words
    judge = Judge(Plateau(**RULE), mine.folder, [], mine.facts_of)
    judge.follow(mine.plan(), together=False)
    assert judge.ended([])
    assert judge.volumes == pytest.approx(wanted[: last + 1], abs=2e-3)

    on = study(tmp_path, plateau=None).run("serial", report=False)  # the same command without it
    same(by_name(on), whole)
    trained = {path: path.stat().st_mtime_ns for path in on.folder.glob("packs/*/pack.json")}
    late = study(tmp_path, plateau=RULE).run("serial", report=False)  # as if the others had been under way, and faster
    same(by_name(late), found)
    aside = results.ending_of(late.folder)
    assert aside is not None
    assert f"{packs[last + 1]}, " in aside.words
    assert "had finished, and are kept aside" in aside.words
    assert len(list(late.folder.glob(f"packs/*/{SURPLUS}"))) == 12 - (last + 1)
    back = study(tmp_path).run("serial", report=False)
    same(by_name(back), whole)
    assert trained == {path: path.stat().st_mtime_ns for path in back.folder.glob("packs/*/pack.json")}


@pytest.mark.slow
def test_a_sampler_that_learns_is_judged_by_its_generations(tmp_path: Path) -> None:
    mine = study(
        tmp_path,
        penalties=[{"use": "l1", "level": {"log": [0.05, 0.1]}}],
        sampler={"use": "tpe", "trials": 12, "generation": 2, "startup": 4},
        plateau={"tolerance": 0.5, "patience": 1},
        seeds=2,
    ).run("serial", report=False)
    assert len(mine.frame) == 8  # two generations of two configurations
    ending = results.ending_of(mine.folder)
    assert ending is not None
    assert (ending.networks, ending.untrained) == (24, 16)
    assert "over the last generation " in ending.words


@pytest.mark.slow
def test_folds_are_judged_by_whole_configurations_and_refitted(tmp_path: Path) -> None:
    mine = study(tmp_path, **FOLDS, plateau={"tolerance": 0.05, "patience": 2}).run("serial", report=False)
    frame = mine.frame
    assert results.ending_of(mine.folder) is not None
    assert (frame["fold"] >= 0).sum() < 30
    assert mine.best()["fold"] == -1


@pytest.mark.slow
def test_refits_of_what_was_set_aside_are_no_candidates(tmp_path: Path) -> None:
    study(tmp_path, **FOLDS).run("serial", report=False)
    mine = study(tmp_path, **FOLDS, plateau={"tolerance": 0.9, "patience": 1}).run("serial")
    frame = mine.frame
    assert list(mine.folder.glob(f"packs/*/{SURPLUS}"))
    there = set(frame.loc[frame["fold"] >= 0, "configuration"])
    assert not set(frame.loc[frame["fold"] == -1, "configuration"]) <= there
    own = frame[frame["replica"].isin(mine.front()["replica"])]
    assert len(own) > 0
    assert set(own["configuration"]) <= there


def test_a_generation_without_new_packs_is_not_judged(full: Study) -> None:
    judge = Judge(Plateau(tolerance=0.5, patience=1), full.folder, [], full.facts_of)
    first, second, *_ = full.plan()
    judge.follow([first], together=True)
    judge.follow([], together=True)
    assert not judge.ended([])
    judge.follow([second], together=True)
    assert [len(unit) for unit in judge.units] == [1, 1]


@pytest.mark.slow
def test_refits_of_an_earlier_version_are_no_part_of_the_sweep(tmp_path: Path) -> None:
    levels = [0.01, 0.1, 0.2, 0.3]
    changes: dict[str, Any] = {**FOLDS, "resources": {"pack": 3}}  # one configuration
    changes["penalties"] = [{"use": "l1", "level": {"choice": levels[:2]}}]
    study(tmp_path, **changes).run("serial", report=False)
    changes["penalties"] = [{"use": "l1", "level": {"choice": levels}}]
    changes["plateau"] = {"tolerance": 0.9, "patience": 1}
    mine = study(tmp_path, **changes).run("serial", report=False, extend=True)
    assert not list(mine.folder.glob(f"packs/*/{SURPLUS}"))
    assert mine.best()["fold"] == -1


@pytest.mark.slow
def test_on_ray_the_same_networks_are_left(full: Study, tmp_path: Path) -> None:
    serial = study(tmp_path / "serial", plateau=RULE).run("serial", report=False)
    ray = study(tmp_path / "ray", plateau=RULE).run("ray", report=False)
    same(by_name(ray), by_name(serial))
    ending = results.ending_of(ray.folder)
    assert ending is not None
    assert ending.by == "plateau"
    same(by_name(study(tmp_path / "ray").run("ray", report=False)), by_name(full))


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"tolerance": 0}, "plateau.tolerance: 0; needed: a number > 0 and < 1"),
        ({"patience": 0}, "plateau.patience: 0; needed: a whole number >= 1"),
        ({"packs": 3}, "plateau.packs: unknown key"),
        (3, "plateau: 3; needed: a mapping of tolerance"),
    ],
)
def test_what_cannot_be_is_refused(rule: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        study(tmp_path, plateau=rule)
