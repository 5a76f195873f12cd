"""The tasks that come with nasplug: every file here is a real one."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from nasplug import ConfigError, Task
from nasplug.data import datasets
from nasplug.data.columns import AnyKind
from nasplug.data.datasets import (
    arrays,
    breast_cancer,
    diabetes,
    digits,
    iris,
    wine,
)
from nasplug.data.made import addition, xor
from nasplug.plugins import load_plugins

table = partial(datasets.table, validation="holdout")  # what is learned from the training split alone shows best
from_arrays = partial(datasets.from_arrays, validation="holdout")


def frame(rows: int = 60) -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "size": random.normal(50, 10, rows),
            "rooms": random.integers(1, 8, rows),
            "new": random.random(rows) < 0.5,
            "price": random.normal(3e5, 5e4, rows),
        }
    )


def csv(folder: Path, data: pd.DataFrame, name: str = "houses.csv") -> str:
    path = folder / name
    data.to_csv(path, index=False)
    return str(path)


def splits(task: Task) -> list[torch.Tensor]:
    return [task.train.x, task.valid.x, task.test.x]


# table: what comes out


def test_regression_from_csv(tmp_path: Path) -> None:
    task = table(path=csv(tmp_path, frame()), target="price")
    assert (task.name, task.kind, str(task.loss)) == ("houses", "regression", "mse")
    assert task.features == ("size", "rooms", "new")
    assert task.targets == ("price",)
    assert (task.inputs, task.outputs) == (3, 1)
    assert [s.samples for s in (task.train, task.valid, task.test)] == [36, 12, 12]
    assert task.train.x.dtype == task.train.y.dtype == torch.float32
    assert (
        task.input_shift.dtype == task.output_scale.dtype == torch.float64
    )  # what is large beside its spread keeps its digits
    assert task.train.x.is_contiguous()
    assert "houses.csv" in task.source


def test_parquet_equals_csv(tmp_path: Path) -> None:
    data = frame().round(3)
    data.to_parquet(tmp_path / "houses.parquet")
    one = table(path=str(tmp_path / "houses.parquet"), target="price")
    other = table(path=csv(tmp_path, data), target="price")
    assert one.digest == other.digest


def test_raw_values_come_back(tmp_path: Path) -> None:
    data = frame()
    task = table(path=csv(tmp_path, data), target="price")
    x = torch.cat(splits(task), 1)
    y = torch.cat([task.train.y, task.valid.y, task.test.y], 1)
    size = x[0] * task.input_scale[0] + task.input_shift[0]
    price = y[0] * task.output_scale[0] + task.output_shift[0]
    np.testing.assert_allclose(np.sort(size.numpy()), np.sort(data["size"]), rtol=1e-5)
    np.testing.assert_allclose(np.sort(price.numpy()), np.sort(data["price"]), rtol=1e-5)
    # a row stays a row
    by_size = dict(zip(data["size"].round(3), data["price"], strict=True))
    for s, p in zip(size.tolist(), price.tolist(), strict=True):
        assert min(abs(s - k) + abs(p - v) / 1e5 for k, v in by_size.items()) < 1e-2


def test_several_targets(tmp_path: Path) -> None:
    task = table(path=csv(tmp_path, frame()), target=["price", "size"])
    assert task.kind == "regression"
    assert task.targets == ("price", "size")
    assert task.features == ("rooms", "new")
    assert task.outputs == 2
    assert task.output_shift.shape == (2,)


@pytest.mark.parametrize(
    ("values", "kind", "targets"),
    [
        (["yes", "no"], "binary", ("no", "yes")),
        (["b", "c", "a"], "classes", ("a", "b", "c")),
        ([True, False], "binary", ("False", "True")),
        ([1, 0], "binary", ("0", "1")),
        ([3, 1, 2], "classes", ("1", "2", "3")),
        ([10, 9, 2], "classes", ("2", "9", "10")),
        ([0.5, 1.5], "regression", ("y",)),
        (list(range(20)), "classes", tuple(map(str, range(20)))),
        (list(range(21)), "regression", ("y",)),
    ],
)
def test_auto_kind(tmp_path: Path, values: list[Any], kind: str, targets: tuple[str, ...]) -> None:
    n = 210 if len(values) > 9 else 60
    data = pd.DataFrame({"x": np.arange(n) * 0.1, "y": [values[i % len(values)] for i in range(n)]})
    task = table(path=csv(tmp_path, data), target="y")
    assert task.kind == kind
    assert task.targets == targets
    assert str(task.loss) == {"regression": "mse", "binary": "logistic", "classes": "cross_entropy"}[kind]
    if kind == "classes":
        assert task.train.y.dtype == torch.long
        assert task.output_scale.shape == (len(targets),)
    else:
        assert task.train.y.shape[0] == 1
        assert task.output_scale.shape == (1,)


def test_labels_are_the_right_ones(tmp_path: Path) -> None:
    data = pd.DataFrame({"x": np.arange(90) % 3, "y": [("low", "mid", "top")[i % 3] for i in range(90)]})
    task = table(path=csv(tmp_path, data), target="y")
    raw = (task.test.x[0] * task.input_scale[0] + task.input_shift[0]).round().long()
    assert torch.equal(raw, task.test.y)


def test_a_categorical_keeps_its_order(tmp_path: Path) -> None:
    sizes = pd.Categorical(["small", "large", "medium"] * 20, categories=["small", "medium", "large", "huge"])
    pd.DataFrame({"x": np.arange(60.0), "y": sizes}).to_parquet(tmp_path / "t.parquet")
    assert table(path=str(tmp_path / "t.parquet"), target="y").targets == ("small", "medium", "large")


def test_kind_can_be_said(tmp_path: Path) -> None:
    path = csv(tmp_path, frame())
    assert table(path=path, target="rooms").kind == "classes"
    assert table(path=path, target="rooms", kind="regression").kind == "regression"
    assert table(path=path, target="new", kind="classes").outputs == 2


def test_features_can_be_chosen(tmp_path: Path) -> None:
    task = table(path=csv(tmp_path, frame()), target="price", features=["rooms", "size"])
    assert task.features == ("rooms", "size")


def test_a_constant_feature_is_left_out_with_a_note(tmp_path: Path) -> None:
    # 0.1 is not a binary fraction: the standard deviation of a constant 0.1 is not exactly 0
    task = table(path=csv(tmp_path, frame().assign(same=0.1)), target="price")
    assert "same" not in task.features
    assert "'same'" in task.notes["constant"]
    assert task.input_shift.shape == (3,)


def test_a_feature_that_varies_outside_of_training_only_is_left_out_too(tmp_path: Path) -> None:
    data = pd.DataFrame({"x": np.arange(40.0), "rare": [0.0] * 39 + [1.0], "y": np.arange(40) * 0.7})
    path = csv(tmp_path, data)
    widths = {table(path=path, target="y", seed=s).inputs for s in range(20)}
    assert widths == {1, 2}


def test_onehot(tmp_path: Path) -> None:
    data = frame().assign(colour=["red", "blue", "red"] * 20)
    task = table(path=csv(tmp_path, data), target="price")
    assert task.features == ("size", "rooms", "new", "colour=blue", "colour=red")
    raw = torch.cat(splits(task), 1) * task.input_scale[:, None] + task.input_shift[:, None]
    assert torch.allclose(raw[3] + raw[4], torch.ones(60).double(), atol=1e-5)
    assert raw[4].sum().item() == pytest.approx(40, abs=1e-3)


# gaps


def gappy(folder: Path) -> str:
    data = frame()
    data.loc[[3, 5], "size"] = np.nan
    data.loc[[5, 9], "rooms"] = np.nan
    return csv(folder, data)


def test_gaps_are_refused_with_counts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"3 of 60 rows .* 'size' \(2 rows\), 'rooms' \(2 rows\)\. Set missing to 'drop'"):
        table(path=gappy(tmp_path), target="price")


def test_gaps_dropped(tmp_path: Path) -> None:
    task = table(path=gappy(tmp_path), target="price", missing="drop")
    assert sum(x.shape[1] for x in splits(task)) == 57
    assert task.notes["missing"].startswith("3 of 60 rows dropped")


def test_gaps_filled_with_the_training_mean(tmp_path: Path) -> None:
    task = table(path=gappy(tmp_path), target="price", missing="mean")
    assert sum(x.shape[1] for x in splits(task)) == 60
    # the mean of the training split is 0 once scaled; only gaps sit exactly there
    assert sum(int((x[0].abs() < 1e-6).sum()) for x in splits(task)) == 2
    assert "mean of the training split" in task.notes["missing"]


def test_gaps_in_the_target(tmp_path: Path) -> None:
    data = frame().assign(label=([0.0, 1.0, 2.0] * 20))
    data.loc[7, "label"] = np.nan
    path = csv(tmp_path, data)
    for missing in ("refuse", {"size": "mean"}):
        with pytest.raises(ConfigError, match=r"target has missing values: 1 of 60 rows have none, in 'label' \(1 rows\)"):
            table(path=path, target="label", missing=missing)
    task = table(path=path, target="label", missing="drop")
    # the gap made floats of the labels; they are labels all the same
    assert (task.kind, task.targets) == ("classes", ("0", "1", "2"))


def test_a_column_of_gaps(tmp_path: Path) -> None:
    path = csv(tmp_path, frame().assign(empty=np.nan))
    with pytest.raises(ConfigError, match=r"no row is left.*'empty' \(60 rows\)"):
        table(path=path, target="price", missing="drop")
    with pytest.raises(ConfigError, match="'empty' has no value in the training split"):
        table(path=path, target="price", missing="mean")


# refusals: what came, what is accepted, what to do, and which column


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"target": "prise"}, r"target 'prise' is not a column; columns: 'size'.*Did you mean 'price'\?"),
        ({}, {"features": ["sise"]}, r"features 'sise' is not a column.*Did you mean 'size'\?"),
        ({}, {"features": ["size", "price"]}, "'price' is both a feature and a target"),
        ({}, {"features": ["size", "size"]}, "features names 'size' more than once"),
        ({}, {"features": []}, "features is empty"),
        ({}, {"target": []}, "target is empty"),
        ({}, {"target": ["price", "size"], "kind": "classes"}, "with the targets 'price', 'size': 60 rows are no prob"),
        ({}, {"target": "rooms", "kind": "binary"}, "two distinct values; 'rooms' has 7: '1', '2', '3', '4' and 3 more"),
        ({}, {"seed": -1}, "seed=-1; needed"),
        ({}, {"validation": {"use": "holdout", "share": 0.0}}, "validation.share: 0.0; needed: a number > 0 and < 1"),
        ({}, {"validation": {"use": "holdout", "share": 0.6}, "test": 0.4}, "share=0.6, test=0.4; needed: shares"),
        ({}, {"validation": {"use": "holdout", "share": 0.001}}, "60 rows, too few: .* 0 for validation"),
        ({"price": 3.0}, {}, r"target 'price' is constant \(3 in each of 60 rows\)"),
        ({"price": ["a", "b"] * 30}, {"kind": "regression"}, "'price' hold text, which cannot be regressed on"),
        ({"colour": [f"c{i}" for i in range(60)]}, {}, r"'colour' has 36 distinct values in 36 rows.*exclude: \[colour\]"),
        ({"Id": range(60)}, {}, r"'Id' holds 60 different whole numbers.*exclude: \[Id\]"),
        ({}, {"features": ["size"], "exclude": ["rooms"]}, "both 'features' and 'exclude'"),
        ({}, {"exclude": ["room"]}, "exclude 'room' is not a column"),
        ({}, {"missing": {"sise": "mean"}}, r"missing names 'sise', which are not columns in use.*Did you mean 'size'\?"),
        ({}, {"bins": 4}, "bins=4 with numeric 'linear'"),
        ({}, {"bins": 1, "numeric": "piecewise"}, "bins=1; needed"),
        ({"size": [1.0, np.inf] * 30}, {}, r"30 rows have infinite values.* 'size' \(the first in row 2\); correct or remove"),
        ({"price": [1.0, -np.inf, 2.5] * 20}, {}, "20 rows have infinite values.* 'price'"),
        ({"size": [1.0, 1e200] * 30}, {"missing_codes": []}, "too large for float32"),
        ({"size": 1, "rooms": 2, "new": True}, {}, "no feature is left: 'size', 'rooms', 'new' are constant"),
        ({"price": ["a", "b", "c"] * 19 + ["d"] * 3}, {}, "class 'd' has 3 rows, too few"),
    ],
)
def test_refusals(tmp_path: Path, change: dict[str, Any], options: dict[str, Any], message: str) -> None:
    path = csv(tmp_path, frame().assign(**change))
    with pytest.raises(ConfigError, match=message):
        table(path=path, **({"target": "price"} | options))


def test_an_identifier_is_not_a_category(tmp_path: Path) -> None:
    path = csv(tmp_path, frame(200).assign(id=[f"n{i}" for i in range(200)]))
    with pytest.raises(ConfigError, match="'id' has 120 distinct values in 120 rows"):
        table(path=path, target="price")


def test_only_the_target(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no feature is left; at least one column beside the target"):
        table(path=csv(tmp_path, frame()[["price"]]), target="price")


def test_dates_are_numbers_but_no_target(tmp_path: Path) -> None:
    days = frame().assign(day=pd.date_range("2024-01-01", periods=60))
    days.to_parquet(tmp_path / "t.parquet")
    task = table(path=str(tmp_path / "t.parquet"), target="price")
    other = table(path=csv(tmp_path, days), target="price", features=["day"])  # text there
    for made, place in ((task, 3), (other, 0)):
        seconds = torch.cat(splits(made), 1).double()[place] * made.input_scale[place] + made.input_shift[place]
        assert seconds.min().item() == pytest.approx(pd.Timestamp("2024-01-01").timestamp(), abs=1)
    with pytest.raises(ConfigError, match="target 'day' holds datetime64"):
        table(path=str(tmp_path / "t.parquet"), target="day")


def test_file_refusals(tmp_path: Path) -> None:
    path = csv(tmp_path, frame())
    with pytest.raises(ConfigError, match=r"no file .*hauses.csv.* Did you mean 'houses.csv'\?"):
        table(path=path.replace("houses", "hauses"), target="price")
    with pytest.raises(ConfigError, match=r"ends in '.xlsx'; accepted: .csv, .tsv, .txt, .parquet"):
        table(path=path.replace(".csv", ".xlsx"), target="price")
    with pytest.raises(ConfigError, match="ends in 'nothing'"):
        table(path=str(tmp_path), target="price")
    for name, content, message in (
        ("empty.csv", "", "is empty"),
        ("header.csv", "a,b\n", "there are no rows"),
        ("ragged.csv", "a,b\n1,2\n1,2,3\n4,5\n", "line 3: 3 values, where the header names 2 columns"),
        ("text.parquet", "no parquet", "cannot be read as parquet"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(ConfigError, match=message):
            table(path=str(tmp_path / name), target="b")


# laws

columns = st.integers(min_value=12, max_value=80).flatmap(
    lambda n: st.tuples(
        st.lists(
            st.lists(st.floats(-1e6, 1e6, width=32).map(lambda v: round(v, 3)), min_size=n, max_size=n),
            min_size=1,
            max_size=4,
        ),
        st.integers(0, 2**31),
    )
)


@given(columns)
@settings(max_examples=60, deadline=None)
def test_law_of_standardising(drawn: tuple[list[list[float]], int]) -> None:
    """On the training split every input and target has mean 0 and standard deviation 1."""
    values, seed = drawn
    x = np.array(values).T
    y = np.arange(len(x), dtype=np.float64) * 3 + 5
    try:
        task = from_arrays(x, y, kind="regression", seed=seed)
    except ConfigError as error:
        assert "no feature is left" in str(error)  # noqa: PT017
        return
    for tensor in (task.train.x, task.train.y):
        rows = tensor.double()
        assert rows.mean(1).abs().max().item() < 1e-5
        assert (rows.std(1, correction=0) - 1).abs().max().item() < 1e-5
    left_out = x.shape[1] - task.inputs
    assert left_out == ("constant" in task.notes and task.notes["constant"].count("'x"))


@given(
    st.integers(10, 200),
    st.sampled_from(["regression", "binary", "classes"]),
    st.floats(0.1, 0.4),
    st.floats(0.1, 0.4),
    st.integers(0, 2**31),
)
@settings(max_examples=80, deadline=None)
def test_law_of_splits(n: int, kind: Any, valid: float, test: float, seed: int) -> None:
    """Splits are disjoint, cover all rows, hold a row of each class, in proportion; the seed decides them alone."""
    number = np.arange(n, dtype=np.float64)
    classes = {"regression": n, "binary": 2, "classes": 3}[kind]
    y = number % classes
    try:
        held = {"use": "holdout", "share": valid}
        task = from_arrays(number[:, None], y, kind=kind, validation=held, test=test, seed=seed, standardise=False)
    except ConfigError as error:
        assert "too few" in str(error)  # noqa: PT017
        return
    rows = [x[0].long().tolist() for x in splits(task)]
    assert sorted(r for part in rows for r in part) == list(range(n))
    again = from_arrays(number[:, None], y, kind=kind, validation=held, test=test, seed=seed, standardise=False)
    assert again.digest == task.digest
    groups = 1 if kind == "regression" else classes
    for share, part in zip((1 - valid - test, valid, test), rows, strict=True):
        assert abs(len(part) - share * n) <= groups
        if kind != "regression":
            assert {r % classes for r in part} == set(range(classes))
    for split, part in zip((task.train, task.valid, task.test), rows, strict=True):
        assert split.y.reshape(-1).tolist() == [r % classes for r in part]


def test_another_seed_is_another_split(tmp_path: Path) -> None:
    path = csv(tmp_path, frame())
    assert table(path=path, target="price", seed=1).digest != table(path=path, target="price", seed=2).digest


def test_nothing_is_learned_from_valid_and_test(tmp_path: Path) -> None:
    """Changing a row outside of the training split changes neither scales nor the training split."""
    data = frame()
    before = table(path=csv(tmp_path, data), target="price")
    raw = before.test.x[0, 0] * before.input_scale[0] + before.input_shift[0]
    row = int((data["size"] - raw.item()).abs().to_numpy().argmin())
    data.loc[row, ["size", "price"]] = [1e4, 1e7]
    after = table(path=csv(tmp_path, data), target="price")
    for field in ("input_shift", "input_scale", "output_shift", "output_scale"):
        assert torch.equal(getattr(before, field), getattr(after, field))
    assert torch.equal(before.train.x, after.train.x)
    assert not torch.equal(before.test.x, after.test.x)


# arrays


def test_from_tensors_and_arrays_alike() -> None:
    x = np.random.default_rng(0).normal(size=(50, 3))
    y = (x[:, 0] > 0).astype(np.int64)
    one = from_arrays(x, y, kind="auto", features=["a", "b", "c"], targets=["down", "up"])
    other = from_arrays(torch.from_numpy(x), torch.from_numpy(y)[:, None], kind="binary", features=["a", "b", "c"])
    assert one.kind == "binary"
    assert one.targets == ("down", "up")
    assert other.targets == ("0", "1")
    assert torch.equal(one.train.x, other.train.x)
    assert torch.equal(one.train.y, other.train.y)


def test_from_arrays_unscaled_keeps_constant_columns() -> None:
    x = np.random.default_rng(0).integers(0, 16, (60, 64)).astype(np.float32)
    x[:, 0] = 0
    task = from_arrays(x, np.arange(60) % 3, kind="classes", standardise=False)
    assert task.inputs == 64
    assert torch.equal(task.input_scale, torch.ones(64).double())
    assert torch.cat(splits(task), 1).max().item() == x.max()


def test_from_arrays_text_labels_and_several_outputs() -> None:
    x = np.random.default_rng(0).normal(size=(50, 3))
    assert from_arrays(x, np.array(["b", "a"] * 25), kind="auto").targets == ("a", "b")
    task = from_arrays(x, x[:, :2] * 2, kind="regression", targets=["u", "v"])
    assert task.targets == ("u", "v")
    assert from_arrays(torch.from_numpy(x).bfloat16(), x[:, 0], kind="auto").kind == "regression"


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (np.ones((5, 2, 2)), np.ones(5), {}, r"x \(5, 2, 2\), y \(5,\); needed"),
        (np.ones((5, 2)), np.ones(4), {}, "needed: x"),
        (np.ones((5, 2)), np.ones((5, 0)), {}, "needed: x"),
        (np.array(1.0), np.array(1.0), {}, "needed: x"),
        (np.ones((0, 2)), np.ones(0), {}, "there are no rows"),
        (np.ones((5, 0)), np.arange(5), {}, "no feature is left"),
        (np.array([["a"]] * 5), np.ones(5), {}, "x holds <U1; needed: numbers"),
        (np.ones((5, 2), dtype=complex), np.ones(5), {}, "needed: numbers"),
        (np.eye(6), np.eye(6), {"kind": "classes"}, r"takes one column of labels .*argmax"),
        (np.eye(6), np.arange(6), {"features": ["a"]}, "features names 'a'; needed: 6 distinct names"),
        (np.eye(60), np.arange(60) % 3, {"kind": "classes", "targets": ["a"]}, "needed: 3 distinct names, for '0', '1', '2'"),
        (np.eye(60), np.arange(60) % 3, {"kind": "regression", "targets": ["a", "b"]}, "needed: 1 distinct names"),
        (np.full((9, 1), np.nan), np.arange(9), {}, "9 of 9 rows have missing values, in 'x0'"),
    ],
)
def test_from_arrays_refusals(x: Any, y: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_arrays(x, y, **({"kind": "auto"} | options))


def test_arrays_from_files(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    y = (np.arange(50) % 4).astype(np.int64)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    save_file({"x": torch.from_numpy(x), "y": torch.from_numpy(y)}, tmp_path / "a.safetensors")
    one, other = arrays(path=str(tmp_path / "a.npz")), arrays(path=str(tmp_path / "a.safetensors"))
    assert one.kind == "classes"
    assert one.outputs == 4
    assert one.digest == other.digest
    assert arrays(path=str(tmp_path / "a.npz"), standardise=False).input_scale.tolist() == [1, 1, 1]


def test_arrays_refusals(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones(3), labels=np.ones(3))
    with pytest.raises(ConfigError, match=r"holds no array 'y'; needed: x and y\. It holds 'labels', 'x'"):
        arrays(path=str(tmp_path / "a.npz"))
    np.savez(tmp_path / "pickled.npz", x=np.array([{}], dtype=object), y=np.ones(1))
    with pytest.raises(ConfigError, match=r"cannot be read as npz: .*allow_pickle"):
        arrays(path=str(tmp_path / "pickled.npz"))
    for suffix in ("npz", "safetensors"):
        (tmp_path / f"broken.{suffix}").write_bytes(b"PK\x03\x04 no archive at all")
        with pytest.raises(ConfigError, match=f"cannot be read as {suffix}"):
            arrays(path=str(tmp_path / f"broken.{suffix}"))
    with pytest.raises(ConfigError, match=r"accepted: .npz, .safetensors"):
        arrays(path="a.csv")


# scikit-learn's sets


@pytest.mark.parametrize(
    ("task", "kind", "inputs", "outputs", "rows", "first_feature", "first_target"),
    [
        (breast_cancer, "binary", 30, 1, 569, "mean radius", "malignant"),
        (iris, "classes", 4, 3, 150, "sepal length (cm)", "setosa"),
        (wine, "classes", 13, 3, 178, "alcohol", "class_0"),
        (diabetes, "regression", 10, 1, 442, "age", "progression"),
    ],
)
def test_bundled(task: Any, kind: str, inputs: int, outputs: int, rows: int, first_feature: str, first_target: str) -> None:
    made = task()
    assert (made.name, made.kind, made.inputs, made.outputs) == (task.__name__, kind, inputs, outputs)
    assert sum(s.samples for s in (made.train, made.valid, made.test)) == rows
    assert (made.features[0], made.targets[0]) == (first_feature, first_target)
    assert "scikit-learn" in made.source
    assert task(seed=1).digest != made.digest == task().digest


def test_digits() -> None:
    task = digits()
    assert task.outputs == 10
    assert 58 <= task.inputs <= 62
    assert "'pixel_0_0'" in task.notes["constant"]


def test_breast_cancer_labels() -> None:
    """357 of 569 are benign, in each split by the same share."""
    task = breast_cancer()
    assert task.targets == ("malignant", "benign")
    for split in (task.train, task.valid, task.test):
        assert split.y.mean().item() == pytest.approx(357 / 569, abs=0.01)


def test_diabetes_comes_raw() -> None:
    """Ages in years: scikit-learn's default set is already scaled, by all rows."""
    task = diabetes()
    assert 40 < task.input_shift[0].item() < 60


# made data


def test_xor() -> None:
    task = xor()
    assert (task.kind, str(task.loss), task.inputs, task.outputs) == ("binary", "mse", 2, 1)
    assert [s.samples for s in (task.train, task.valid, task.test)] == [200, 200, 1000]
    assert set(task.train.y[0].tolist()) == {0.0, 1.0}
    assert torch.equal(task.input_shift, torch.zeros(2).double())
    assert torch.equal(task.input_scale, torch.ones(2).double())
    clean = task.test.x.round()
    assert torch.equal((clean[0] != clean[1]).float(), task.test.y[0])
    assert (task.test.x - clean).std().item() == pytest.approx(0.1, abs=0.01)


def test_xor_is_exact_with_six_edges() -> None:
    task = xor(noise=0.0)
    a, b = task.test.x
    assert torch.equal(torch.relu(a - b) + torch.relu(b - a), task.test.y[0])


def test_xor_corners() -> None:
    for balanced in (True, False):
        x = xor(noise=0.0, balanced=balanced, samples=202).train.x
        counts = Counter(map(tuple, x.T.tolist())).values()
        assert (max(counts) - min(counts) <= 1) == balanced
    assert str(xor(loss="logistic").loss) == "logistic"


def test_addition() -> None:
    task = addition()
    assert (task.kind, str(task.loss), task.inputs, task.outputs) == ("regression", "mse", 2, 1)
    assert torch.allclose(task.test.x.sum(0, keepdim=True), task.test.y, atol=1e-6)
    assert task.test.x.std().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(task.output_scale, torch.ones(1).double())
    between = addition(values="uniform")
    assert torch.allclose(between.test.x.sum(0, keepdim=True), between.test.y, atol=1e-6)
    assert 0.0 <= between.test.x.min().item() < 0.01 < 0.99 < between.test.x.max().item() <= 1.0


@pytest.mark.parametrize("make", [xor, addition])
def test_made_data_are_held_out_and_repeatable(make: Any) -> None:
    task = make(samples=200, samples_valid=200)
    assert not torch.equal(task.train.x, task.valid.x)
    assert torch.equal(task.train.x, make(samples_test=7).train.x)
    assert task.digest == make().digest != make(seed=1).digest
    for options in ({"samples": 1}, {"samples_valid": 0}, {"samples_test": 0}, {"seed": -1}):
        with pytest.raises(ConfigError, match="needed"):
            make(**options)


def test_xor_noise() -> None:
    with pytest.raises(ConfigError, match=r"noise=-0.1; needed: a standard deviation >= 0"):
        xor(noise=-0.1)


# the plugin surface


def test_they_are_offered_by_name(tmp_path: Path) -> None:
    plugins = load_plugins()
    ours = {name for name, offer in plugins.offers("task").items() if offer.plugin == "nasplug.data.datasets"}
    assert ours == {
        *("table", "arrays", "breast_cancer", "iris", "wine", "digits", "diabetes", "xor", "addition", "cornn"),
    }
    task = plugins.build(
        "task", "table", {"path": csv(tmp_path, frame()), "target": ["price"], "validation": {"use": "holdout", "share": 0.25}}
    )
    assert task.valid.samples == 15
    with pytest.raises(ConfigError, match=r"unknown key; accepted here: path, target.*Did you mean 'target'\?"):
        plugins.build("task", "table", {"path": "a.csv", "target": "y", "targets": "y"})
    with pytest.raises(ConfigError, match="kind"):
        plugins.build("task", "table", {"path": "a.csv", "target": "y", "kind": "number"})
    assert set(get_args(AnyKind)) == {"auto", "regression", "binary", "classes"}


def test_importing_is_cheap() -> None:
    """Pandas and scikit-learn are imported by the tasks that need them, not by `import nasplug.data.datasets`."""
    code = "import sys, nasplug.data.datasets; print([m for m in ('pandas', 'sklearn', 'safetensors') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
