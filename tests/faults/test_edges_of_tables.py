"""Edges of tables, tasks and scores: what few people have, and what must be right or refused in plain words all the same."""

from __future__ import annotations

import io
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nasplug import ConfigError, Study
from nasplug.compact import CompactNetwork, compact
from nasplug.config import parse
from nasplug.data.columns import from_frames
from nasplug.data.datasets import from_arrays, table
from nasplug.data.encoder import Encoder
from nasplug.data.kinds import decide
from nasplug.data.resampling import divide
from nasplug.data.validation import Validation, by_values, validation_of
from nasplug.looking import look
from nasplug.plan import build_task, forget_tasks
from nasplug.plan.linear import curvature, parts
from nasplug.plugins import load_plugins
from nasplug.tasks import Described, Facts, Split, Task, scored, unscaled
from nasplug.testing.examples import example_networks


def of(inputs: dict[str, Any] | pd.DataFrame, y: Any, **options: Any) -> Task:
    """A task of columns."""
    return from_frames(pd.DataFrame(inputs), pd.DataFrame({"y": y}), name="t", where="t", source="t", **options)


def written(folder: Path, frame: pd.DataFrame, name: str = "t.csv") -> str:
    path = folder / name
    frame.to_csv(path, index=False) if name.endswith(".csv") else frame.to_parquet(path)
    return str(path)


def spread(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=rows).round(3)


# tasks and their facts


def test_facts_say_what_the_task_says() -> None:
    task = of({"a": spread(40), "b": ["u", "v"] * 20}, spread(40, 1))
    facts = task.facts
    for part in fields(Described):
        mine, theirs = getattr(task, part.name), getattr(facts, part.name)
        assert torch.equal(mine, theirs) if isinstance(mine, torch.Tensor) else mine == theirs, part.name
    again = Facts.from_plain(facts.plain())
    assert again.plain() == facts.plain()


def test_a_resample_without_weights_is_refused(tmp_path: Path) -> None:
    fold = np.arange(60) % 4
    frame = pd.DataFrame({"x": spread(60), "y": spread(60, 1), "fold": fold, "w": 1.0})
    asked: dict[str, Any] = {"target": "y", "weights": "w", "validation": {"use": "column", "by": "fold"}}
    assert table(path=written(tmp_path, frame), **asked).rounds == 3
    frame["w"] = np.where(fold == 0, 0.0, 1.0)
    with pytest.raises(ConfigError, match=r"resample 0 of 3 folds of 'fold' has no sample to validate on"):
        table(path=written(tmp_path, frame), **asked)
    frame["w"] = np.where((fold % 3 == 0) | (np.arange(60) == 2), 1.0, 0.0)  # of resample 0 two rows are left
    frame.loc[1, "w"] = 1.0
    frame.loc[2, "y"] = frame.loc[1, "y"]
    with pytest.raises(ConfigError, match=r"constant on the training samples of resample 0"):
        table(path=written(tmp_path, frame), **asked)


# losses and metrics


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=4))
def test_law_of_r2(seed: int, weighted: bool, units: list[float]) -> None:
    """It is scikit-learn's mean over targets, in any units."""
    draw = np.random.default_rng(seed)
    y, said = draw.normal(size=(len(units), 30)), draw.normal(size=(2, len(units), 30))
    w = draw.uniform(0.1, 2.0, 30) if weighted else None
    unit = np.array(units)[:, None]
    found = load_plugins().build("metric", "r2", {})(
        torch.tensor(said * unit), torch.tensor(y * unit), None if w is None else torch.tensor(w)
    )
    wanted = [sk.r2_score(y.T, one.T, sample_weight=w, multioutput="uniform_average") for one in said]
    assert found.tolist() == pytest.approx(wanted, rel=1e-9)


def test_r2_leaves_out_targets_that_do_not_vary() -> None:
    r2 = load_plugins().build("metric", "r2", {})
    y = torch.stack([torch.arange(6.0), torch.ones(6)])
    said = torch.stack([y, y + 1.0])
    assert r2(said, y).tolist() == pytest.approx([1.0, 1.0 - 6.0 / 17.5])
    assert r2(said[:, 1:], y[1:]).isnan().all()


def test_poisson_is_linear_beyond_thirty() -> None:
    poisson = load_plugins().build("loss", "poisson", {})
    near = torch.linspace(-5.0, 29.9, 50).view(1, 1, -1)
    y = torch.full((1, 50), 3.0)
    torch.testing.assert_close(poisson(near, y), torch.nn.functional.poisson_nll_loss(near, y[None], reduction="none")[:, 0])
    far = torch.tensor([31.0, 89.0, 1e4, 1e20]).view(1, 1, -1).requires_grad_()
    values = poisson(far, torch.full((1, 4), 3.0))
    assert torch.isfinite(values).all()
    assert (values.diff() > 0).all()
    values.sum().backward()
    assert far.grad is not None
    torch.testing.assert_close(far.grad.flatten(), torch.full((4,), 30.0).exp())


def test_trivial_scores_of_a_plain_task() -> None:
    """What the constant says of each split, learned from the training split."""
    y = torch.arange(30.0).view(1, -1)
    task = unscaled("t", Split(torch.rand(2, 30), y).cut(8))
    middle = float(task.train.y.mean())
    assert task.trivial["test_error"] == pytest.approx(float((task.test.y - middle).square().mean()))
    weighted = replace(task, train=replace(task.train, weights=(task.train.y[0] == 0).float()))
    assert weighted.trivial["test_error"] == pytest.approx(float(task.test.y.square().mean()))


# columns of a frame


@pytest.mark.parametrize("names", [[" rooms ", "age"], [0, 1], [("a", 1), ("b", 2)], ["self", "where"], [1.5, True]])
def test_codes_are_gaps_whatever_columns_are_called(names: list[Any]) -> None:
    frame = pd.DataFrame({"a": [3.0, 2, 4, 1, -999, 5] * 8, "b": [1.0, 2, 3, 4, 5, -999] * 8}).set_axis(names, axis=1)
    codes = {str(name): [-999] for name in names}
    task = from_frames(frame, pd.DataFrame({0: spread(48)}), name="t", where="t", source="t", missing="indicator", codes=codes)
    assert task.columns == tuple(map(str, names))
    encoder = Encoder.from_plain(task.encoder or {})
    found = encoder.features(frame)
    assert found.shape == (48, 4)
    assert found[:6, 1].tolist() == [0, 0, 0, 0, 1, 0]
    assert (found == encoder.features(frame.replace(-999, np.nan))).all()
    if all(isinstance(name, str) for name in names):
        spaced = frame.set_axis([f"  {name} " for name in names], axis=1)[::-1]
        assert (found[::-1] == encoder.features(spaced.assign(more="x"))).all()


def test_columns_of_one_name_are_refused() -> None:
    frame = pd.DataFrame(np.zeros((30, 2)), columns=pd.Index(["a", "a"]))
    with pytest.raises(ConfigError, match="several feature columns are called 'a'"):
        of(frame, spread(30))
    encoder = Encoder.of_numbers(["a"])
    with pytest.raises(ConfigError, match="several columns are called 'a'"):
        encoder.features(frame)
    with pytest.raises(ConfigError, match="several columns are called 'a'"):
        encoder.features(frame.set_axis([" a", "a "], axis=1))
    assert encoder.features(frame.set_axis([" a", "a"], axis=1)).shape == (30, 1)


def test_rows_are_told_by_their_place() -> None:
    x, y = spread(40), spread(40, 1)
    plain = of({"x": x}, y)
    index = pd.Index([7] * 40)
    inputs, targets = pd.DataFrame({"x": x}, index=index), pd.DataFrame({"y": y})
    assert from_frames(inputs, targets, name="t", where="t", source="t").digest == plain.digest
    with pytest.raises(ConfigError, match="targets of 40 rows for inputs of 39"):
        from_frames(inputs[1:], targets, name="t", where="t", source="t")


# reading


@pytest.mark.parametrize("decimal", [None, ","])
def test_a_point_before_three_digits_is_asked_about(tmp_path: Path, decimal: str | None) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a;b\n" + "1,5;1.200\n2,5;2.500\n3,5;3.700\n" * 8)
    with pytest.raises(ConfigError, match=r"column 'b' \(line 2, 24 rows\): '1.200', '2.500', '3.700': a point before three"):
        table(path=str(path), target="a", decimal=decimal)
    read = table(path=str(path), target="a", decimal=",", thousands=".")
    assert read.input_shift.tolist() == pytest.approx([2466.67], abs=200.0)


@pytest.mark.parametrize(
    ("values", "pandas_has"),
    [
        (["2024-01-01", "2024-01-02", "2024-01-03"], "datetime64[ns]"),
        (["1", "2", "3"], "int64"),
        (["true", "false", "true"], "bool"),
        (["TRUE", "FALSE", "TRUE"], "bool"),
    ],
)
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_words_are_words_whatever_they_look_like(tmp_path: Path, values: list[str], pandas_has: str, form: str) -> None:
    frame = pd.DataFrame({"day": values * 20, "y": spread(60)})
    path = written(tmp_path, frame, f"t.{form}")
    task = table(path=path, target="y", words=["day"])
    assert task.features == tuple(f"day={word}" for word in sorted(set(values)))
    again = frame.assign(day=[value.lower() == "true" for value in frame["day"]] if pandas_has == "bool" else frame["day"])
    found = Encoder.from_plain(task.encoder or {}).features(again.astype({"day": pandas_has}))
    assert (found.sum(1) == 1).all()
    assert table(path=path, target="day", words=["day"]).targets == tuple(sorted(set(values)))


def test_codes_of_typed_columns_of_parquet(tmp_path: Path) -> None:
    days = pd.to_datetime(["2024-01-01", "1900-01-01", "2024-01-03", "2024-02-01"] * 12)
    frame = pd.DataFrame(
        {
            "n": pd.array([1, 2, -999, 4] * 12, dtype="Int64"),
            "f": [0.5, -999.0, 1.5, 2.5] * 12,
            "c": pd.Categorical([7, 8, 9, -999] * 12),
            "d": days,
            "y": spread(48),
        }
    )
    path = written(tmp_path, frame, "t.parquet")
    codes: list[str | int | float] = ["-999", "1900-01-01"]
    task = table(path=path, target="y", missing="indicator", missing_codes=codes)
    assert {"n missing", "f missing", "c=missing", "d missing"} <= set(task.features)
    found = Encoder.from_plain(task.encoder or {}).features(frame)
    assert found[:, [task.features.index(f"{name} missing") for name in "nfd"]].sum() == 36


def test_a_typed_column_of_parquet_without_a_name(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    y = spread(30)
    made = pa.Table.from_arrays([pa.array(y + 1), pa.array(y), pa.array(y + 2)], names=["a", "", "y"])
    parquet.write_table(made, tmp_path / "t.parquet")
    with pytest.raises(ConfigError, match=r"column 'column 2': it has no name\. Give it one, or leave it out: exclude"):
        table(path=str(tmp_path / "t.parquet"), target="y")
    assert table(path=str(tmp_path / "t.parquet"), target="y", exclude=["column 2"]).features == ("a",)
    made = pa.Table.from_arrays([pa.array(range(30)), pa.array(y), pa.array(y + 2)], names=["", "a", "y"])
    parquet.write_table(made, tmp_path / "t.parquet")
    assert table(path=str(tmp_path / "t.parquet"), target="y").features == ("a",)


# columns that say little, labels and folds


@pytest.mark.parametrize("missing", ["median", "category", "indicator"])
@pytest.mark.parametrize("values", [["u", "v"], [1.5, 2.5]])
def test_a_column_without_a_value_in_the_training_rows(tmp_path: Path, missing: Any, values: list[Any]) -> None:
    part = np.array(["train"] * 30 + ["valid", "test"] * 10)
    frame = pd.DataFrame({"a": [None] * 30 + values * 10, "x": spread(50), "y": spread(50, 1), "part": part})
    asked: dict[str, Any] = {"target": "y", "validation": {"use": "column", "by": "part"}, "missing": missing}
    if missing == "category" and isinstance(values[0], float):
        asked["missing"] = "mean"
    with pytest.raises(ConfigError, match=r"feature 'a' has no value in the training split.*exclude: \[a\]"):
        table(path=written(tmp_path, frame), **asked)


def test_labels_that_differ_in_spaces_are_one() -> None:
    task = of({"x": spread(40)}, [" no", "no", "yes", "yes "] * 10)
    assert (task.kind, task.targets) == ("binary", ("no", "yes"))
    assert task.notes["reading: kind"] == "binary: 2 different labels"
    assert decide(np.array(["a", "a ", "b", ""], dtype=object), labels=True).why == "2 different labels"
    with pytest.raises(ConfigError, match="constant"):
        of({"x": spread(40)}, ["no", " no"] * 20)


def test_folds_by_their_numbers() -> None:
    def folds(words: list[Any]) -> Task:
        values = pd.Series(words * 10, name="fold", dtype=object)
        return of({"x": spread(len(values))}, spread(len(values), 1), validation={"use": "column", "by": "fold"}, by=values)

    task = folds(["1", "01", 1.0, "2", "3", "test"])
    assert (task.rounds, task.test.samples) == (3, 10)
    assert task.resamples is not None
    assert task.resamples.valid.sum(1).tolist() == [30, 10, 10]
    for odd in ("²", "1²", "-1", "1.5", "9" * 5000):
        with pytest.raises(ConfigError, match="numbers of folds"):
            folds(["1", "2", odd])


@pytest.mark.parametrize("use", ["groups", "column"])
def test_one_long_word_costs_no_memory_in_other_rows(use: str) -> None:
    rows = 20_000
    words = [str(i % 5) for i in range(rows)]
    words[0] = "0" if use == "column" else "w" * 10**6
    validation = validation_of({"use": use, "by": "g"})
    tracemalloc.start()
    by = by_values("t", validation, pd.Series(words, name="g"))
    divide("t", validation, spread(rows), (), test=0.2, seed=0, by=by)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**25


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 40), st.integers(2, 5), st.integers(1, 2))
def test_law_of_folds_of_groups(seed: int, groups: int, folds: int, repeats: int) -> None:
    """Groups stay together, and each goes to the fold with the fewest rows, as the plain loop has it."""
    draw = np.random.default_rng(seed)
    by = draw.integers(0, groups, 200).astype(str).astype(object)
    if len(set(by)) <= folds:
        return
    validation = validation_of({"use": "groups", "by": "g", "folds": folds, "repeats": repeats})
    made = divide("t", validation, draw.normal(size=200), (), test=0.2, seed=seed, by=by)
    assert made.resamples is not None
    held, words = made.resamples.valid.numpy() > 0, by[made.learned]
    assert not set(by[made.test]) & set(words)
    for repeat in np.split(held, repeats):
        assert (repeat.sum(0) == 1).all()
        assert all(len(set(repeat[:, words == one].argmax(0))) == 1 for one in set(words))
        largest = max(int((words == one).sum()) for one in set(words))
        assert repeat.sum(1).max() - repeat.sum(1).min() <= largest


def test_many_groups_are_shared_out_in_linear_time() -> None:
    def seconds(groups: int) -> float:
        by = np.arange(groups).astype(str).astype(object)
        validation = validation_of({"use": "groups", "by": "g"})
        started = time.process_time()
        divide("t", validation, spread(groups), (), test=0.2, seed=0, by=by)
        return time.process_time() - started

    seconds(1000)
    assert seconds(40_000) < 100 * max(seconds(2_000), 0.005)  # 400 times as much in quadratic time


# how often, and how much, is read


OPENED: list[str] = []


def opened(path: str) -> int:
    """How often a file was opened since this was asked for the first time."""
    if not OPENED:
        OPENED.append("")
        sys.addaudithook(lambda event, given: OPENED.append(str(given[0])) if event == "open" else None)
    return OPENED.count(path)


def test_look_reads_its_file_once(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": range(100), "x": spread(100), "c": ["u", "v"] * 50, "y": spread(100, 1)})
    path = written(tmp_path, frame)
    before = opened(path)
    found = look(path, ["y"])
    assert opened(path) == before + 1
    assert found.task is not None
    assert found.study["task"]["exclude"] == ["id"]
    options = {key: value for key, value in found.study["task"].items() if key != "use"}
    assert load_plugins().build("task", "table", options).digest == found.task.digest


def test_a_sweep_over_losses_reads_its_file_once(tmp_path: Path) -> None:
    path = written(tmp_path, pd.DataFrame({"x": spread(100), "y": spread(100, 1)}))
    plugins = load_plugins()
    raw: dict[str, Any] = {
        "study": "s",
        "task": {"use": "table", "path": path, "target": "y"},
        "method": {"use": "edges", "hidden": [2]},
        "train": {"steps": 10, "batch": 16, "lr": 0.01},
    }
    forget_tasks()
    before = opened(path)
    tasks = [build_task(parse(raw | {"loss": {"use": "huber", "delta": delta}}), plugins) for delta in (0.5, 1.0, 2.0)]
    assert opened(path) == before + 1
    assert len({task.digest for task in tasks}) == 3
    forget_tasks()
    build_task(parse(raw), plugins)
    assert opened(path) == before + 2


def test_a_parquet_file_is_not_decoded_before_its_size_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "t.parquet"

    def refused(made: pa.Table, message: str) -> None:
        parquet.write_table(made, path, store_schema=False)  # so that words that are in the file once are text
        assert path.stat().st_size < 2**21
        before = pa.default_memory_pool().max_memory()
        with pytest.raises(ConfigError, match=message):
            table(path=str(path), target="y")
        assert pa.default_memory_pool().max_memory() - before < 2**25

    word = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2500, dtype=np.int32)), pa.array(["w" * 2**20]))
    refused(pa.table({"a": word, "y": np.arange(2500.0)}), "its text has more than 2,147,483,648 bytes when it is decoded")
    monkeypatch.setattr("nasplug.data.parquet.MOST_BYTES", 2**18)
    refused(pa.table({"a": word[:5], "y": np.arange(5.0)}), "has 1,0.* bytes without compression; needed: 262,144 at most")


@pytest.mark.parametrize("kind", ["list", "binary", "fixed", "struct"])
def test_what_holds_no_words_and_numbers_is_a_problem_only_where_it_is_used(tmp_path: Path, kind: str) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    odd = {
        "list": pa.array([[1, 2]] * 30),
        "binary": pa.array([b"ab"] * 30),
        "fixed": pa.array([b"ab"] * 30, pa.binary(2)),
        "struct": pa.array([{"c": 1}] * 30),
    }[kind]
    path, name = str(tmp_path / "t.parquet"), "b" if kind == "struct" else "odd"  # Arrow calls parts of b so: b.c
    parquet.write_table(pa.table({"a": spread(30), name: odd, "b.c": spread(30, 1), "y": spread(30, 2)}), path)
    with pytest.raises(ConfigError, match=rf"column '{name}': it holds .* values\. Make numbers or text of it"):
        table(path=path, target="y")
    task = table(path=path, target="y", exclude=[name])
    assert task.features == ("a", "b.c")
    assert float(task.input_shift[1]) == pytest.approx(float(spread(30, 1).mean()), abs=0.5)


# dates


def test_dates_beyond_2262(tmp_path: Path) -> None:
    days = [f"{2000 + i}-12-31" for i in range(0, 1000, 25)]
    frame = pd.DataFrame({"d": days, "y": spread(40)})
    for form in ("csv", "parquet"):
        task = table(path=written(tmp_path, frame, f"t.{form}"), target="y")
        found = Encoder.from_plain(task.encoder or {}).features(frame)[:, 0]
        assert found.tolist() == [np.datetime64(day, "s").astype(int) for day in days]
    for values in (pd.to_datetime(frame["d"]).astype("datetime64[s]"), [date.fromisoformat(day) for day in days]):
        assert (of({"d": values}, frame["y"]).input_shift == task.input_shift).all()


@pytest.mark.parametrize("form", ["csv", "parquet", "typed", "date32"])
def test_a_date_that_means_none_is_asked_about(tmp_path: Path, form: str) -> None:
    frame = pd.DataFrame({"until": ["2024-01-31", "2024-02-29", "9999-12-31", "2024-03-31"] * 10, "y": spread(40)})
    if form == "typed":
        frame["until"] = pd.to_datetime(frame["until"])
    if form == "date32":
        frame["until"] = [date.fromisoformat(day) for day in frame["until"]]
    path = written(tmp_path, frame, "t.csv" if form == "csv" else "t.parquet")
    with pytest.raises(
        ConfigError, match=r"'until' \((line 4|row 3), 10 rows\): '9999-12-31' far outside of all other.*9999-12-31"
    ):
        table(path=path, target="y")
    task = table(path=path, target="y", missing="indicator", missing_codes=["9999-12-31"])
    assert task.features == ("until", "until missing")
    found = Encoder.from_plain(task.encoder or {}).features(frame)
    assert found[:4, 1].tolist() == [0, 0, 1, 0]
    assert table(path=path, target="y", missing_codes={"until": []}).features == ("until",)


# columns of any type, in training and when a network is served

DAYS = pd.date_range("2024-01-01", periods=40, tz="Europe/Berlin").as_unit("us")
PLAIN = pd.DataFrame({"a": spread(40), "c": ["u", "v"] * 20, "d": DAYS, "b": [True, False] * 20})


@pytest.fixture(scope="module")
def network() -> CompactNetwork:
    task = of(PLAIN, spread(40, 1))
    return compact(example_networks(0, 1, (5, 4, 1), {"biases"}, skips=False), 0, task)


def again(frame: pd.DataFrame, form: str) -> pd.DataFrame:
    """The same rows as another program has them."""
    if form == "csv":
        return pd.read_csv(io.StringIO(frame.to_csv(index=False)))
    if form == "json":
        return pd.read_json(io.StringIO(frame.to_json(date_format="iso", orient="records")))
    return pd.read_parquet(io.BytesIO(frame.to_parquet()))


FORMS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "objects": lambda frame: frame.astype(object),
    "text": lambda frame: frame.astype(str),
    "nullable": lambda frame: frame.convert_dtypes(),
    "pyarrow": lambda frame: frame.convert_dtypes(dtype_backend="pyarrow"),
    "categories": lambda frame: frame.astype("category"),
    "unused categories": lambda frame: frame.assign(c=pd.Categorical(frame["c"], categories=["w", "v", "u"])),
    "names with spaces": lambda frame: frame.rename(columns=lambda name: f" {name}\t"),
    "one index": lambda frame: frame.set_axis([0] * 40, axis=0),
    "an index of pairs": lambda frame: frame.set_axis(pd.MultiIndex.from_product([[1, 2], range(20)]), axis=0),
    "another zone": lambda frame: frame.assign(d=frame["d"].dt.tz_convert("Asia/Tokyo")),
    "naive in UTC": lambda frame: frame.assign(d=frame["d"].dt.tz_convert("UTC").dt.tz_localize(None)),
    "datetimes": lambda frame: frame.assign(d=[at.to_pydatetime() for at in frame["d"]]),
    "nanoseconds": lambda frame: frame.assign(d=frame["d"].astype("datetime64[ns, UTC]")),
    "0 and 1": lambda frame: frame.assign(b=frame["b"].astype(int)),
    "truth in capitals": lambda frame: frame.assign(b=frame["b"].map({True: "TRUE ", False: "False"})),
    "another order": lambda frame: frame[["d", "b", "c", "a"]].assign(more=object()),
    **{form: lambda frame, form=form: again(frame, form) for form in ("csv", "json", "parquet")},
}


@pytest.mark.parametrize("form", list(FORMS))
def test_a_network_takes_rows_in_any_form(network: CompactNetwork, form: str) -> None:
    """And the same columns make the same task."""
    changed = FORMS[form](PLAIN)
    answers = network.predict(changed)
    assert answers.index.equals(changed.index)
    np.testing.assert_allclose(answers.to_numpy(), network.predict(PLAIN).to_numpy(), rtol=1e-12)
    assert network.predict(changed[:1]).shape == (1, 1)
    assert network.predict(changed[:0]).shape == (0, 1)


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "int64[pyarrow]", "double[pyarrow]", "object", "float32"])
def test_gaps_of_any_type_of_number(dtype: str) -> None:
    values = pd.Series([None if i % 5 == 0 else float(i % 7) for i in range(40)])
    plain = of({"a": values, "x": spread(40)}, spread(40, 1), missing="indicator")
    task = of({"a": values.astype(dtype), "x": spread(40)}, spread(40, 1), missing="indicator")
    assert task.features == ("a", "a missing", "x")
    torch.testing.assert_close(task.train.x, plain.train.x)


@pytest.mark.parametrize("dtype", ["object", "string", "string[pyarrow]", "category"])
def test_blank_words_are_gaps(dtype: str) -> None:
    """In a target a blank word was the label -1."""
    words = pd.Series(["u", "v", "", " "] * 10).astype(dtype)
    with pytest.raises(ConfigError, match="target has missing values: 20 of 40 rows"):
        of({"x": spread(40)}, words)
    task = of({"x": spread(40)}, words, missing="drop")
    assert (task.kind, sum(split.samples for split in task.splits)) == ("binary", 20)
    with pytest.raises(ConfigError, match="20 of 40 rows have missing values, in 'c'"):
        of({"x": spread(40), "c": words}, spread(40, 1))
    assert of({"x": spread(40), "c": words}, spread(40, 1), missing="indicator").features[1:] == ("c=u", "c=v", "c=missing")


@pytest.mark.parametrize(
    ("trained", "served"),
    [
        ([True, False], ["TRUE", "false"]),
        (["true", "false"], [True, False]),
        (pd.to_datetime(["2024-01-01", "2024-01-02"]), ["2024-01-01", "2024-01-02T00:00"]),
        (pd.to_datetime(["2024-01-01", "2024-01-02"]), [date(2024, 1, 1), date(2024, 1, 2)]),
        (["2024-01-01", "2024-01-02"], pd.to_datetime(["2024-01-01", "2024-01-02"]).tz_localize("UTC")),
        ([1, 2], [1.0, "2.0"]),
        ([1, 2], [Decimal("1.0"), Decimal(2)]),
        ([0.5, 1e20], ["0.50", "1e20"]),
        (["01", "02"], [1, 2]),
        (["a", "b"], [b"a", " b "]),
    ],
)
def test_words_as_another_program_has_them(trained: Any, served: Any) -> None:
    task = of({"c": pd.Categorical(list(trained) * 20)}, spread(40))
    encoder = Encoder.from_plain(task.encoder or {})
    found = encoder.features(pd.DataFrame({"c": pd.Series(list(served), dtype=object)}))
    assert (found == encoder.features(pd.DataFrame({"c": pd.Series(list(trained), dtype=object)}))).all()
    assert (found.sum(1) == 1).all()


def test_words_that_mean_the_same_are_told_apart_by_their_letters() -> None:
    task = of({"c": pd.Categorical(["1", "01", "x", "01"] * 10)}, spread(40))
    encoder = Encoder.from_plain(task.encoder or {})
    assert encoder.features(pd.DataFrame({"c": ["1", "01", "x", "001", "2"]})).tolist() == [
        [0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("c", [["u"], ["v"]], "column 'c' holds lists or the like"),
        ("a", [[1], 2], r"column 'a', row 1: '\[1\]' is not a number"),
        ("a", ["1.5", "two"], "column 'a', row 2: 'two' is not a number"),
        ("a", [1.5, np.inf], "column 'a', row 2: an infinite value"),
        ("a", [10**400, 1], "column 'a', row 1"),
        ("b", [True, 7], "column 'b', row 2: 7 is not true or false"),
        ("b", ["yes", "no"], "column 'b', row 1: 'yes' is not true or false"),
        ("d", [1704067200, 1704067201], "column 'd', row 1: '1704067200' is not a date"),
        ("d", ["2024-01-01", "31.12.2024"], r"column 'd', row 2: '31.12.2024' is not a date"),
        ("d", [None, None], "column 'd' has 2 missing value"),
    ],
)
def test_values_that_a_network_cannot_read(network: CompactNetwork, column: str, values: list[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        network.predict(PLAIN[:2].assign(**{column: pd.Series(values, dtype=object)}))


def test_a_typographic_minus_is_a_minus(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": spread(40), "n": np.arange(40) - 20, "y": spread(40, 1)})
    plain = table(path=written(tmp_path, frame), target="y")
    (tmp_path / "t.csv").write_text((tmp_path / "t.csv").read_text().replace("-", "\u2212"))
    task = table(path=str(tmp_path / "t.csv"), target="y")
    assert task.digest == plain.digest
    encoder = Encoder.from_plain(task.encoder or {})
    assert encoder.features(pd.read_csv(tmp_path / "t.csv")).tolist() == frame[["a", "n"]].to_numpy().tolist()


def test_very_long_words_are_prose() -> None:
    with pytest.raises(ConfigError, match="'c' has words of 2,000 characters, more like prose"):
        of({"x": spread(40), "c": ["u", "v" * 2000] * 20}, spread(40))


def test_masked_values_of_arrays_are_missing() -> None:
    x = np.ma.masked_array(np.arange(80.0).reshape(40, 2), np.arange(80).reshape(40, 2) % 8 == 0)
    with pytest.raises(ConfigError, match="10 of 40 rows have missing values, in 'x0'"):
        from_arrays(x, spread(40), kind="auto")
    with pytest.raises(ConfigError, match="10 of 40 rows have missing values, in 'x0'"):
        from_arrays(x.astype(int), spread(40), kind="auto")


@pytest.mark.parametrize("rows", [0, 1, 2, 3])
def test_tables_of_few_rows_are_refused_in_words(rows: int) -> None:
    with pytest.raises(ConfigError, match=r"no rows|constant|too few|folds"):
        of({"x": spread(rows)}, spread(rows, 1))


# several targets


def test_each_target_has_an_error_of_its_own() -> None:
    names = ["price", "the rent", "a.b", "a b", "x_se"]
    y = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 5)) * [1, 10, 100, 1, 1], columns=pd.Index(names))
    task = from_frames(pd.DataFrame({"x": spread(60)}), y, name="t", where="t", source="t")
    each = ["error_price", "error_the_rent", "error_a_b_3", "error_a_b_4", "error_x_se_5"]
    assert task.each_error == each
    outputs = torch.rand(3, 5, task.test.samples)
    found = task.metrics(outputs, *task.test.batch[1:])
    torch.testing.assert_close(torch.stack([found[name] for name in each]).mean(0), found["error"])
    torch.testing.assert_close(found["error_a_b_4"], (outputs[:, 3] - task.test.y[3]).square().mean(-1))
    assert set(task.metrics(outputs, *task.test.batch[1:], final=False)) == {"loss", "error"}
    assert {f"test_{name}" for name in each} < set(task.facts.trivial)
    quantiles = scored(task, load_plugins().build("loss", "quantiles", {"levels": [0.1, 0.5]}), {})
    assert quantiles.each_error == each
    found = quantiles.metrics(torch.rand(3, 10, task.test.samples), *task.test.batch[1:])
    torch.testing.assert_close(torch.stack([found[name] for name in each]).mean(0), found["error"])
    assert of({"x": spread(40)}, spread(40, 1)).each_error == []


def test_errors_of_targets_are_columns_and_choose(tmp_path: Path) -> None:
    x = spread(80)
    path = written(tmp_path, pd.DataFrame({"x": x, "price": 2 * x, "rent": spread(80, 1)}))
    raw: dict[str, Any] = {
        "study": "s",
        "store": str(tmp_path),
        "task": {"use": "table", "path": path, "target": ["price", "rent"], "validation": {"use": "folds", "folds": 2}},
        "method": {"use": "edges", "mode": "l1", "hidden": [2]},
        "train": {"steps": 20, "lr": 0.05, "reports": 1},
        "choose": {"by": "error_price", "rule": "best"},
        "linear": False,
        "reach": None,
        "mlflow": None,
    }
    study = Study(parse(raw)).run("serial")
    frame = study.frame
    for part in ("train", "valid", "test", "cut_valid"):
        both = frame[[f"{part}_error_price", f"{part}_error_rent"]]
        np.testing.assert_allclose(both.mean(axis=1), frame[f"{part}_error"], rtol=1e-5)
    assert "valid_error_price_se" in frame
    assert study.best()["valid_error_price"] == study.front()["valid_error_price"].min()
    with pytest.raises(ConfigError, match=r"choose.by: 'error_rant' is no score.*error_price, error_rent"):
        Study(parse(raw | {"study": "t", "choose": {"by": "error_rant"}})).check()


# arrays


def test_arrays_and_frames_take_the_options_of_tables(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(200, 3)), np.exp(spread(200, 1))
    options: dict[str, Any] = {"numeric": "piecewise", "bins": 3, "transform": "log"}
    np.savez(tmp_path / "t.npz", x=x, y=y)
    build = load_plugins().build
    packed = build("task", "arrays", {"path": str(tmp_path / "t.npz"), "exclude": ["x1"], **options})
    plain = from_arrays(x, y, kind="auto", name="t", exclude=["x1"], **options)
    assert packed.digest == plain.digest
    assert (plain.columns, plain.inputs) == (("x0", "x2"), 8)
    assert plain.transform == {"use": "log"}
    frame = pd.DataFrame({"x0": x[:, 0], "x1": x[:, 1], "x2": x[:, 2], "y0": y})
    path = written(tmp_path, frame, "t.parquet")
    read = build("task", "table", {"path": path, "target": "y0", "exclude": ["x1"], **options})
    assert torch.equal(read.train.x, plain.train.x)
    with pytest.raises(ConfigError, match="exclude 'x7' is not a column; columns: 'x0', 'x1', 'x2'"):
        from_arrays(x, y, kind="auto", exclude=["x7"])
    with pytest.raises(ConfigError, match="bins=3 with numeric 'linear'"):
        from_arrays(x, y, kind="auto", bins=3)


def test_a_frame_keeps_its_names_and_types() -> None:
    x = PLAIN.set_axis([9] * 40, axis=0)
    task = from_arrays(x, pd.Series(spread(40, 1), name="price"), kind="auto")
    assert task.features == ("a", "c=u", "c=v", "d", "b")
    assert task.targets == ("price",)
    assert torch.equal(task.train.x, of(PLAIN, spread(40, 1)).train.x)
    several = from_arrays(x, pd.DataFrame({"p": spread(40), "q": spread(40, 1)}), kind="auto", features=["k", "l", "m", "n"])
    assert (several.columns, several.targets) == (("k", "l", "m", "n"), ("p", "q"))
    with pytest.raises(ConfigError, match="give a data frame"):
        from_arrays(np.array([["u"]] * 40), spread(40), kind="auto")


# wide tables


def test_a_wide_table_takes_little_memory() -> None:
    """Folds share one matrix of inputs, and making it takes a few times its size in float64."""
    columns, rows = 1000, 200
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(rows, columns)))
    targets = pd.DataFrame({"y": spread(rows)})
    tracemalloc.start()
    task = from_frames(frame, targets, name="t", where="t", source="t", numeric="piecewise")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert task.inputs == 5 * columns
    assert peak < 8 * 8 * 5 * columns * rows
    folds = task.resampled([0, 1, 2, 3, 4])
    assert folds.train.x.shape == (5 * columns, folds.train.samples)
    assert folds.train.x.dtype == torch.float32
    assert folds.train.x.data_ptr() == folds.valid.x.data_ptr()


def test_ramps_of_columns_with_gaps_are_those_of_the_columns_alone() -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(200, 3)), columns=pd.Index(list("abc")))
    frame.loc[::7, "b"] = np.nan
    options: dict[str, Any] = {"numeric": "piecewise", "missing": "median"}
    whole = of(frame, spread(200), **options).encoder or {}
    for place, name in enumerate(frame):
        alone = of(frame[[name]], spread(200), **options).encoder or {}
        assert alone["columns"] == [whole["columns"][place]]


def test_curvature_is_the_same_from_products_of_samples() -> None:
    for inputs in (5, 60):
        task = from_arrays(np.random.default_rng(0).normal(size=(40, inputs)), spread(40), kind="regression")
        x, _, each = parts(task)
        whole = torch.cat([x, torch.ones_like(x[:1])])
        largest = [float(torch.linalg.eigvalsh((whole * (w / w.sum())) @ whole.T)[-1]) for w in each]
        assert curvature(task, x, each) == pytest.approx(2.0 * max(largest), rel=0.1)


def test_rows_that_are_copies_of_others_are_told(tmp_path: Path) -> None:
    r = np.random.default_rng(0)
    once = pd.DataFrame({"a": r.normal(size=40), "word": list("xy") * 20, "y": r.normal(size=40)})

    def told(data: pd.DataFrame, **options: Any) -> str:
        data.to_csv(tmp_path / "t.csv", index=False)
        return str(table(path=str(tmp_path / "t.csv"), target="y", **options).notes.get("reading: copies", ""))

    twice = pd.concat([once, once[:7]])
    assert told(twice).startswith("7 of 47 rows are copies of others")
    twice["who"] = np.arange(47) % 40
    assert not told(twice, validation=Validation(use="groups", by="who", folds=3))  # its copies stay together
    assert not told(once)
    assert not told(pd.concat([once, once[:7].assign(y=0.5)]))  # the same inputs with another target
    assert not told(pd.DataFrame({"a": [1, 2, 3, 4] * 20, "word": list("xyxy") * 20, "y": [0.5, 1.5] * 40}))  # by chance


@pytest.mark.parametrize("base", [2**53, 10**17, 10**25])
@pytest.mark.parametrize("target", ["a", "y"])
def test_whole_numbers_that_become_the_same_are_refused(tmp_path: Path, base: int, target: str) -> None:
    data = pd.DataFrame({"a": np.random.default_rng(0).normal(size=60), "y": [base + i for i in range(60)]})
    data.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ConfigError, match=r"'y'.* 60 different whole numbers, of which \d+ differ in the 16 digits"):
        table(path=str(tmp_path / "t.csv"), target=target)
    data["y"] = [base + i * base // 1000 for i in range(60)]
    data.to_csv(tmp_path / "t.csv", index=False)
    assert table(path=str(tmp_path / "t.csv"), target=target).kind == "regression"
