"""Dividing a table: every kind of validation keeps its law, whatever the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nasplug.data import from_arrays
from nasplug.data.columns import from_frames
from nasplug.data.datasets import arrays, diabetes, iris, table
from nasplug.data.resampling import Division, divide
from nasplug.data.validation import Validation, validation_of
from nasplug.errors import ConfigError

seeds = st.integers(0, 10**6)


def weights(found: Division) -> tuple[np.ndarray, np.ndarray]:
    assert found.resamples is not None
    return found.resamples.train.numpy(), found.resamples.valid.numpy()


def whole(found: Division, rows: int) -> np.ndarray:
    """Development rows, in the order of the weights; with the test rows they are all rows, once."""
    development = np.concatenate([found.train, found.valid])
    assert sorted([*development, *found.test]) == list(range(rows))
    held = weights(found)[1][-1] > 0
    assert (found.valid == development[held]).all()
    return development


def labels(rows: int, classes: int, seed: int) -> np.ndarray:
    """Each class five times at least."""
    drawn = np.random.default_rng(seed).integers(0, classes, rows)
    drawn[: 5 * classes] = np.arange(5 * classes) % classes
    return drawn


@given(rows=st.integers(20, 200), classes=st.integers(0, 4), folds=st.integers(2, 7), repeats=st.integers(1, 3), seed=seeds)
@settings(deadline=None)
def test_each_sample_is_held_out_once_per_repeat(rows: int, classes: int, folds: int, repeats: int, seed: int) -> None:
    y = labels(rows, classes, seed) if classes > 1 else np.arange(rows, dtype=np.float64)
    names = [str(c) for c in range(classes)] if classes > 1 else []
    asked = Validation(use="folds", folds=folds, repeats=repeats)
    found = divide("here", asked, y, names, test=0.2, seed=seed)
    development = whole(found, rows)
    train, valid = weights(found)
    assert ((train == 0) | (train == 1)).all()
    assert (train + valid == 1).all()
    for repeat in range(repeats):
        held = valid[repeat * folds : (repeat + 1) * folds]
        assert (held.sum(0) == 1).all()
        assert np.ptp(held.sum(1)) <= 1
        for code in range(len(names)):  # stratified within one sample
            assert np.ptp(held[:, y[development] == code].sum(1)) <= 1
    again = divide("here", asked, y, names, test=0.2, seed=seed)
    assert (again.train == found.train).all()
    assert (weights(again)[0] == train).all()
    if repeats > 1:
        assert (valid[:folds] != valid[folds : 2 * folds]).any()


@given(rows=st.integers(20, 200), classes=st.integers(0, 4), seed=seeds)
@settings(deadline=None, max_examples=30)
def test_the_test_rows_are_those_of_a_hold_out(rows: int, classes: int, seed: int) -> None:
    y = labels(rows, classes, seed) if classes > 1 else np.arange(rows, dtype=np.float64)
    names = [str(c) for c in range(classes)] if classes > 1 else []
    tests = [
        sorted(divide("here", validation_of(use), y, names, test=0.2, seed=seed).test)
        for use in ("holdout", "folds", "bootstrap")
    ]
    assert tests[0] == tests[1] == tests[2]


@given(rows=st.integers(20, 200), classes=st.integers(0, 4), repeats=st.integers(2, 5), seed=seeds)
@settings(deadline=None)
def test_a_bootstrap_counts_as_many_as_there_are(rows: int, classes: int, repeats: int, seed: int) -> None:
    y = labels(rows, classes, seed) if classes > 1 else np.arange(rows, dtype=np.float64)
    names = [str(c) for c in range(classes)] if classes > 1 else []
    found = divide("here", Validation(use="bootstrap", repeats=repeats), y, names, test=0.2, seed=seed)
    development = whole(found, rows)
    train, valid = weights(found)
    assert (train.sum(1) == len(development)).all()
    assert ((train > 0) != (valid > 0)).all()
    assert set(np.unique(valid)) <= {0, 1}
    for code in range(len(names)):  # every class is in every draw, as often as it comes
        mine = y[development] == code
        assert (train[:, mine].sum(1) == mine.sum()).all()


@given(groups=st.integers(8, 40), folds=st.integers(2, 6), repeats=st.integers(1, 2), test=st.floats(0.05, 0.5), seed=seeds)
@settings(deadline=None)
def test_groups_stay_whole(groups: int, folds: int, repeats: int, test: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    by = np.concatenate([np.arange(groups), random.integers(0, groups, 3 * groups)])
    y = np.arange(len(by), dtype=np.float64)
    asked = Validation(use="groups", by="who", folds=folds, repeats=repeats)
    found = divide("here", asked, y, [], test=test, seed=seed, by=by.astype(str))
    development = whole(found, len(by))
    assert not set(by[development]) & set(by[found.test])
    train, valid = weights(found)
    assert (train + valid == 1).all()
    for repeat in range(repeats):
        assert (valid[repeat * folds : (repeat + 1) * folds].sum(0) == 1).all()
    for one in set(by[development]):
        mine = valid[:, by[development] == one]
        assert (mine == mine[:, :1]).all()


@given(rows=st.integers(20, 150), distinct=st.integers(14, 150), folds=st.integers(2, 6), test=st.floats(0.1, 0.4), seed=seeds)
@settings(deadline=None)
def test_time_is_not_turned_back(rows: int, distinct: int, folds: int, test: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    by = random.integers(0, distinct, rows).astype(np.float64)
    y = random.standard_normal(rows)
    asked = Validation(use="time", by="when", folds=folds)
    if len(set(by)) < 4 * folds:  # equal times stay together: too few to be divided, often
        return
    try:
        found = divide("here", asked, y, [], test=test, seed=seed, by=by)
    except ConfigError:
        return
    development = whole(found, rows)
    assert by[development].max() < by[found.test].min()
    train, valid = weights(found)
    assert len(train) == folds
    for mine, held in zip(train > 0, valid > 0, strict=True):
        assert by[development][mine].max() < by[development][held].min()
    assert (np.diff((train > 0).astype(int), axis=0) >= 0).all()  # the window expands
    assert ((train[-1] > 0) | (valid[-1] > 0)).all()


def test_time_without_a_column_is_the_order_of_the_rows() -> None:
    found = divide("here", Validation(use="time", folds=4), np.arange(60.0), [], test=0.2, seed=3)
    assert found.test.tolist() == list(range(48, 60))
    train, valid = weights(found)
    assert train.sum(1).tolist() == [10, 19, 29, 38]
    assert valid.sum(1).tolist() == [9, 10, 9, 10]


def test_a_column_of_folds_and_of_parts() -> None:
    y = np.arange(12.0)
    numbers = np.array(["0", "1", "2", "test"] * 3)
    found = divide("here", Validation(use="column", by="fold"), y, [], test=0.2, seed=0, by=numbers)
    assert found.test.tolist() == [3, 7, 11]
    assert weights(found)[1].sum(1).tolist() == [3, 3, 3]
    largest = divide("here", Validation(use="column", by="fold"), y, [], test=0.2, seed=0, by=np.array(["0", "1.0", "2"] * 4))
    assert largest.test.tolist() == [2, 5, 8, 11]
    parts = divide(
        "here", Validation(use="column", by="part"), y, [], test=0.2, seed=0, by=np.array(["Train", "val", "test"] * 4)
    )
    assert parts.resamples is None
    assert parts.train.tolist() == [0, 3, 6, 9]
    assert parts.valid.tolist() == [1, 4, 7, 10]
    assert parts.test.tolist() == [2, 5, 8, 11]


@pytest.mark.parametrize(
    ("by", "said"),
    [
        (["train", "test"] * 6, "has no row that says valid"),
        (["0", "train", "test"] * 4, "numbers of folds"),
        (["a", "b", "c"] * 4, "holds 'a', 'b', 'c'; needed: train, valid and test, or numbers"),
        (["0", "test"] * 6, "has 1 fold"),
    ],
)
def test_a_column_that_says_something_else(by: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        divide("here", Validation(use="column", by="part"), np.arange(12.0), [], test=0.2, seed=0, by=np.array(by))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("fold", "needed: .*'auto', 'holdout', 'folds'"),
        ({"use": "holdout", "folds": 5}, r"folds: 5 is not read by validation 'holdout' \(it takes share\)"),
        ({"use": "groups"}, "needed: by: COLUMN"),
        ({"use": "folds", "folds": 1}, "needed: a whole number >= 2"),
        ({"use": "folds", "fold": 3}, "unknown key; accepted here: use, share, folds, repeats, by"),
        ({"use": "folds", "folds": 500, "repeats": 500}, "needed: 1000 resamples at most"),
        ({"use": "time", "repeats": 2}, "repeats: 2 is not read"),
        ({"use": "holdout", "share": 1.5}, "> 0 and < 1"),
        ({"folds": 5}, "use: is missing"),
    ],
)
def test_options_that_cannot_be(given: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        validation_of(given)


def test_auto_is_folds_for_small_tables() -> None:
    assert validation_of("auto").of_rows(1999) == Validation(use="folds")
    assert validation_of("auto").of_rows(2000) == Validation(use="holdout")
    assert validation_of("bootstrap").of_rows(10) == Validation(use="bootstrap")


@pytest.mark.parametrize(
    ("given", "rows", "said"),
    [
        ({"use": "folds", "folds": 9}, 10, "9 folds of 8 development samples; take fewer folds"),
        ({"use": "folds", "folds": 2}, 5, "leave one to train|no rows"),
        ({"use": "time", "folds": 5}, 5, "too few for 5 folds"),
        ({"use": "groups", "by": "a", "folds": 3}, 9, "has 3 distinct values; needed: 4 at least"),
    ],
)
def test_tables_that_are_too_small(given: Any, rows: int, said: str) -> None:
    by = np.array([str(i % 3) for i in range(rows)]) if "by" in given else None
    y = np.arange(rows, dtype=np.float64)
    if rows == 5 and given["use"] == "folds":
        y = np.arange(3.0)
    with pytest.raises(ConfigError, match=said):
        divide("here", validation_of(given), y, [], test=0.2, seed=0, by=by)


def test_a_fold_without_a_second_label_is_named() -> None:
    by = np.array([str(i % 4) for i in range(40)])
    y = (np.arange(40) % 4 == 0).astype(np.float64)  # each group has one label
    with pytest.raises(ConfigError, match="training samples, with one and the same target"):
        divide("here", Validation(use="column", by="fold"), y[by != "3"], ["no", "yes"], test=0.2, seed=0, by=by[by != "3"])


# -- tasks -------------------------------------------------------------------------------------------------------------


def test_a_task_has_its_resamples() -> None:
    task, held = iris(validation=Validation(use="folds", folds=4, repeats=2)), iris(validation="holdout")
    assert held.resamples is None
    assert task.resamples is not None
    assert task.resamples.count == 8
    assert task.resamples.words == "4 folds x 2 repeats"
    assert task.resamples.train.shape == (8, task.train.samples + task.valid.samples)
    assert task.facts.resamples == 8
    assert held.facts.resamples == 0
    raw = [t.test.x * t.input_scale[:, None] + t.input_shift[:, None] for t in (task, held)]
    assert torch.allclose(*(r.sort().values for r in raw), atol=1e-5)
    development = torch.cat([task.train.x, task.valid.x], 1)  # scaled over all of them
    assert development.mean(1).abs().max() < 1e-5
    assert (development.std(1, correction=0) - 1).abs().max() < 1e-5


def test_the_digest_covers_the_resamples() -> None:
    digests = {
        iris(validation=Validation(use="folds", folds=folds, repeats=repeats), seed=seed).digest
        for folds in (4, 5)
        for repeats in (1, 2)
        for seed in (0, 1)
    }
    assert len(digests) == 8
    assert iris(validation="folds").digest == iris(validation=Validation(use="folds", folds=5)).digest


def test_a_label_without_a_training_row_is_told() -> None:
    rows = pd.DataFrame({"x": np.arange(30.0)})
    parts = pd.Series(["train"] * 20 + ["valid"] * 5 + ["test"] * 5)
    labels = pd.DataFrame({"y": [*"abc" * 9, *"abz"]})
    task = from_frames(rows, labels, name="n", where="n", source="", validation={"use": "column", "by": "part"}, by=parts)
    assert "'z': without training rows" in task.notes["reading: classes"]


def test_the_column_it_goes_by_is_no_feature(tmp_path: Path) -> None:
    rows = 60
    frame = pd.DataFrame(
        {
            "a": np.arange(rows) * 1.0,
            "who": [f"p{i % 12}" for i in range(rows)],
            "when": pd.date_range("2026-01-01", periods=rows).strftime("%Y-%m-%d"),
            "y": np.arange(rows) % 7 * 0.5,
        }
    )
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    options: dict[str, Any] = {"path": str(path), "target": "y", "features": ["a"]}
    task = table(**options, validation=Validation(use="groups", by="who", folds=3))
    assert task.features == ("a",)
    timed = table(path=str(path), target="y", validation=Validation(use="time", by="when", folds=3))
    assert "when" not in timed.features
    assert timed.test.samples == 12
    with pytest.raises(ConfigError, match=r"validation: by 'whom' is not a column.*Did you mean 'who'"):
        table(**options, validation=Validation(use="groups", by="whom"))
    with pytest.raises(ConfigError, match="by 'a' is also a feature"):
        table(**options, validation=Validation(use="groups", by="a"))
    with pytest.raises(ConfigError, match="by 'y' is also a target"):
        table(**options, validation=Validation(use="groups", by="y"))
    with pytest.raises(ConfigError, match="holds 'p0', say; needed: numbers, or dates as 2026-11-29"):
        table(**options, validation=Validation(use="time", by="who"))
    frame.loc[3, "who"] = None
    frame.to_csv(path, index=False)
    with pytest.raises(ConfigError, match="'who' is missing in 1 of 60 rows"):
        table(**options, validation=Validation(use="groups", by="who"))


def test_numbers_of_folds_beside_the_word_test(tmp_path: Path) -> None:
    part = [*"012"] * 15 + ["test"] * 15
    pd.DataFrame({"a": np.arange(60) * 1.0, "part": part, "y": np.arange(60) % 7 * 0.5}).to_csv(tmp_path / "t.csv", index=False)
    found = table(path=str(tmp_path / "t.csv"), target="y", validation=Validation(use="column", by="part"))
    assert (found.rounds, found.test.samples) == (3, 15)


def test_arrays_go_by_a_further_array(tmp_path: Path) -> None:
    x, who = np.arange(40.0).reshape(20, 2), np.arange(20) % 6
    np.savez(tmp_path / "a.npz", x=x, y=x[:, 0], who=who)
    found = arrays(path=str(tmp_path / "a.npz"), validation=Validation(use="groups", by="who", folds=3))
    same = from_arrays(
        x, x[:, 0], kind="auto", name="a", validation={"use": "groups", "by": "who", "folds": 3}, by=who, source="a.npz"
    )
    assert found.digest == same.digest
    with pytest.raises(ConfigError, match="holds no array 'whom'; needed: x and y, and whom to validate by"):
        arrays(path=str(tmp_path / "a.npz"), validation=Validation(use="groups", by="whom"))
    with pytest.raises(ConfigError, match="by has 3 values for 20 rows"):
        from_arrays(x, x[:, 0], kind="auto", validation={"use": "groups", "by": "who"}, by=[1, 2, 3])
    with pytest.raises(ConfigError, match="needs the values of 'who', which did not come"):
        from_arrays(x, x[:, 0], kind="auto", validation={"use": "groups", "by": "who"})


def test_a_bundled_set_goes_by_a_column_of_its_own() -> None:
    grouped = diabetes(validation=Validation(use="groups", by="age", folds=3))
    assert "age" not in grouped.features
    with pytest.raises(ConfigError, match="validation: by 'ages' is not a column"):
        diabetes(validation=Validation(use="groups", by="ages"))
