"""`Origin`: which raw data a task was made of, and which of their rows train, validate and test."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from nasplug import Study
from nasplug.data import from_arrays
from nasplug.data.datasets import breast_cancer, iris, table
from nasplug.data.made import addition, xor
from nasplug.data.origins import digest_of_columns, digest_of_frames
from nasplug.data.validation import Validation
from nasplug.plan import build_task, task_facts
from nasplug.tasks import Facts, Origin, Split, Task, scored, traced, unscaled

ROWS = 80


@pytest.fixture
def frame() -> pd.DataFrame:
    random = np.random.default_rng(0)
    made = pd.DataFrame(random.normal(size=(ROWS, 3)), columns=["a", "b", "c"])
    made["colour"] = random.choice(["red", "green", "blue"], ROWS)
    made["y"] = made["a"] - 2 * made["b"] + random.normal(size=ROWS)
    return made


def origin(task: Task) -> Origin:
    assert task.origin is not None
    return task.origin


def written(frame: pd.DataFrame, path: Path) -> str:
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path, index=False)
    return str(path)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_two_encodings_of_a_file_share_rows_and_origin(frame: pd.DataFrame, tmp_path: Path, suffix: str) -> None:
    path = written(frame, tmp_path / f"t{suffix}")
    plain = table(path=path, target="y", validation="holdout")
    other = table(path=path, target="y", validation="holdout", numeric="piecewise", exclude=["colour"], transform="rank")
    assert plain.digest != other.digest
    assert origin(plain) == origin(other)
    assert origin(plain).where == path
    assert origin(plain).rows == ROWS
    assert len(set(origin(plain).splits.values())) == 3


def test_folds_and_a_hold_out_test_on_the_same_rows(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = written(frame, tmp_path / "t.csv")
    held, folded = (origin(table(path=path, target="y", validation=kind)) for kind in ("holdout", "folds"))
    assert held.splits["test"] == folded.splits["test"]
    assert held.splits["train"] != folded.splits["train"]


def test_another_seed_is_other_rows_of_the_same_data(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = written(frame, tmp_path / "t.csv")
    one, two = (origin(table(path=path, target="y", seed=seed)) for seed in (0, 1))
    assert one.digest == two.digest
    assert all(one.splits[part] != two.splits[part] for part in one.splits)


def test_rows_are_told_by_their_place_in_the_raw_data(frame: pd.DataFrame, tmp_path: Path) -> None:
    """A study that drops rows with gaps and one that fills them test on other rows, unless the gaps are in neither."""
    frame.loc[3, "a"] = np.nan
    path = written(frame, tmp_path / "t.csv")
    words = pd.Series(np.where(np.arange(ROWS) < 20, "test", np.where(np.arange(ROWS) < 40, "valid", "train")))
    frame["part"] = words
    path = written(frame, tmp_path / "t.csv")
    by = {"use": "column", "by": "part"}
    dropped, filled = (
        origin(table(path=path, target="y", missing=how, validation=Validation(**by))) for how in ("drop", "median")
    )
    assert dropped.digest == filled.digest
    assert dropped.splits["test"] != filled.splits["test"]  # row 3 is gone
    assert dropped.splits["train"] == filled.splits["train"]


@pytest.mark.parametrize("change", ["value", "name", "row", "order"])
def test_changed_raw_data_have_another_digest(frame: pd.DataFrame, tmp_path: Path, change: str) -> None:
    before = origin(table(path=written(frame, tmp_path / "t.csv"), target="y"))
    if change == "value":
        frame.loc[5, "b"] += 1e-9
    elif change == "name":
        frame = frame.rename(columns={"c": "d"})
    elif change == "row":
        frame = pd.concat([frame, frame.iloc[:1]])
    else:
        frame = frame.iloc[::-1]
    after = origin(table(path=written(frame, tmp_path / "t.csv"), target="y"))
    assert before.digest != after.digest
    assert before.splits["test"] != after.splits["test"]


def test_secrets_do_not_stand_in_it() -> None:
    made = Origin.of_rows("postgresql://me:word@host/table", "0", 3, [np.arange(1)] * 3)
    assert "word" not in made.where


def test_the_origin_is_no_part_of_the_digest_of_a_task() -> None:
    task = iris()
    assert task.digest == replace(task, origin=None).digest
    assert origin(task).where == "iris"
    assert origin(scored(task, None, {})) == origin(task)


def test_facts_carry_it_and_earlier_records_have_none() -> None:
    facts = breast_cancer().facts
    plain = json.loads(json.dumps(facts.plain()))
    assert Facts.from_plain(plain).origin == facts.origin is not None
    plain.pop("origin")
    assert Facts.from_plain(plain).origin is None


def test_made_data_test_on_the_same_samples_whatever_trains() -> None:
    one, two = origin(xor(samples=200)), origin(xor(samples=100))
    assert one.splits["test"] == two.splits["test"]
    assert one.splits["train"] != two.splits["train"]
    assert one.digest != two.digest
    assert origin(addition()).digest == origin(addition()).digest


def test_arrays_do_not_depend_on_scales(frame: pd.DataFrame) -> None:
    x, y = frame[["a", "b"]].to_numpy(), frame["y"].to_numpy()
    one, two = (from_arrays(x, y, kind="regression", standardise=choice) for choice in (True, False))
    assert origin(one) == origin(two)
    assert origin(from_arrays(2 * x, y, kind="regression")).digest != origin(one).digest


def test_a_task_without_an_origin_gets_that_of_its_samples() -> None:
    x, y = torch.randn(2, 30), torch.randn(1, 30)
    task = unscaled("t", Split(x, y).cut(5))
    assert task.origin is None
    found = origin(traced(task))
    assert found.rows == 30
    assert found == origin(traced(unscaled("t", Split(x, y).cut(5))))
    halves = replace(
        task,
        **{part: replace(getattr(task, part), x=getattr(task, part).x / 2) for part in ("train", "valid", "test")},
        input_scale=torch.full((2,), 2.0),
    )
    assert origin(traced(halves)) == found  # in the user's units
    other = Split(torch.cat([x[:, :-1], x[:, -1:] + 1], 1), y).cut(5)
    assert origin(traced(unscaled("t", other))).splits["train"] == found.splits["train"]
    assert origin(traced(unscaled("t", other))).splits["test"] != found.splits["test"]


def test_a_study_s_task_and_facts_have_one() -> None:
    raw = {"study": "s", "task": {"use": "cornn", "function": "Booth", "train": 40, "test": 10}, "method": {"use": "edges"}}
    study = Study.from_dict(raw)
    assert task_facts(study.config, study.plugins).origin == origin(build_task(study.config, study.plugins))


def test_columns_of_every_type_are_told_apart() -> None:
    stamps = pd.Series(pd.to_datetime(["2026-01-01", None, "2026-01-02"]))
    columns = [
        pd.Series([1, 0, 1]),
        pd.Series([True, False, True]),
        pd.Series(["1", "0", "1"]),
        pd.Series([1.0, np.nan, 1.0]),
        pd.Series([2**60, 0, 1]),
        pd.Series([2**60 + 1, 0, 1]),
        pd.Series([1, None, 1], dtype="Int64"),
        pd.Series(["1", None, "1"]),
        pd.Series([1, "0", 1], dtype=object),
        pd.Series(["a", "b", "a"], dtype="category"),
        stamps,
        pd.Series([], dtype=float),
    ]
    found = [digest_of_columns(["c"], [column]) for column in columns]
    assert len(set(found)) == len(columns) - 1  # a gap among whole numbers is one among numbers
    assert found[3] == found[6]
    assert digest_of_frames([pd.DataFrame({"c": [1.0, 0.0, 1.0]})]) == found[0]
    assert digest_of_frames([pd.Series(["a", "b", "a"], name="c")]) == found[9]
