"""The encoder: what it learns from training rows, does again when served, and refuses."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasplug.data.columns import from_frames
from nasplug.data.encoder import Column, Encoder, kind_of
from nasplug.data.fitting import fit, kinds_of, rare_below
from nasplug.errors import ConfigError

ROWS = 120


def frame() -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "age": random.integers(18, 90, ROWS),
            "income": random.lognormal(8, 1, ROWS),
            "city": random.choice(["Rome", "Oslo", "Lima"], ROWS),
            "member": random.random(ROWS) < 0.4,
            "since": pd.date_range("2020-01-01", periods=ROWS, freq="36h"),
        }
    )


def fitted(data: pd.DataFrame, rows: Any = None, **options: Any) -> tuple[Encoder, dict[str, str]]:
    notes: dict[str, str] = {}
    train = np.arange(len(data)) if rows is None else np.asarray(rows)
    return fit("here", data, train, kinds_of("here", data), notes=notes, **options), notes


def test_kinds_names_and_groups() -> None:
    encoder, notes = fitted(frame())
    assert [column.kind for column in encoder.columns] == ["number", "number", "category", "boolean", "date"]
    assert encoder.names == ["age", "income", "city=Lima", "city=Oslo", "city=Rome", "member", "since"]
    assert encoder.groups == (0, 1, 2, 2, 2, 3, 4)
    assert notes == {}
    x = encoder.features(frame())
    assert x.dtype == np.float64
    np.testing.assert_array_equal(x[:, 0], frame()["age"])
    np.testing.assert_array_equal(x[:, 2:5].sum(1), 1.0)
    assert x[0, 6] == pd.Timestamp("2020-01-01").timestamp()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["2024-01-31", "2024-02-01"], "date"),
        (["2024-01-31 10:00", None], "date"),
        (["2024-01-31T10:00:00.5Z", "2024-01-31T10:00:00+02:00"], "date"),
        (["31/12/2024", "01/01/2025"], "category"),
        (["2024-01-31", "soon"], "category"),
        ([True, None], "boolean"),
        ([1, None], "number"),
        ([None, None], "number"),
        (pd.Categorical([1, 2]), "category"),
        ([1, "a"], None),
        ([(1, 2), (3, 4)], None),
    ],
)
def test_kinds(values: Any, kind: str | None) -> None:
    assert kind_of(pd.Series(values)) == kind


# what is learned, and done again


@given(st.permutations(list(frame().columns)), st.sampled_from(["linear", "piecewise"]))
@settings(max_examples=20)
def test_columns_in_any_order_beside_others_as_any_numbers(order: list[str], numeric: Any) -> None:
    encoder, _ = fitted(frame(), numeric=numeric)
    served = frame().assign(more="x", age=frame()["age"].astype(float))[[*order, "more"]]
    np.testing.assert_array_equal(encoder.features(served), encoder.features(frame()))
    text = served.assign(since=served["since"].astype(str), member=served["member"].map(str))
    np.testing.assert_array_equal(encoder.features(text), encoder.features(frame()))


@given(st.data())
@settings(max_examples=40)
def test_law_of_plain_data(data: Any) -> None:
    """Read back it is the same, and makes the same features of any rows."""
    how = data.draw(st.sampled_from(["mean", "median", "indicator", {"age": "indicator", "city": "category"}]))
    gappy = frame().astype({"age": float})
    gappy.loc[[3, 5], "age"] = np.nan
    gappy.loc[[5, 9], "city"] = None
    rows = data.draw(st.lists(st.integers(0, ROWS - 1), min_size=60, max_size=ROWS, unique=True))
    encoder, _ = fitted(gappy, rows, missing=how, numeric=data.draw(st.sampled_from(["linear", "piecewise"])))
    again = Encoder.from_plain(json.loads(json.dumps(encoder.plain())))
    assert again == encoder
    served = gappy.iloc[np.setdiff1d(np.arange(ROWS), [] if isinstance(how, str) else [3, 5, 9])]
    np.testing.assert_array_equal(again.features(served), encoder.features(served))
    assert np.isfinite(encoder.features(served)).all()
    assert encoder.features(served).shape == (len(served), len(encoder.names)) == (len(served), len(encoder.groups))


def test_nothing_is_learned_from_other_rows() -> None:
    train = np.arange(0, ROWS, 2)
    other = frame().astype({"age": float})
    other.loc[1::2, "age"] = 1e6
    other.loc[1::2, "city"] = "Atlantis"
    options: dict[str, Any] = {"missing": "mean", "numeric": "piecewise"}
    assert fitted(frame().astype({"age": float}), train, **options)[0] == fitted(other, train, **options)[0]


# words


def test_rare_and_unknown_words_are_one() -> None:
    assert [rare_below(n) for n in (40, 100, 200, 1000, 5000)] == [2, 5, 10, 10, 50]
    data = pd.DataFrame({"town": ["Rome"] * 60 + ["Oslo"] * 56 + ["Lima", "Bonn", "Bern", "Nice"]})
    encoder, notes = fitted(data)
    assert encoder.names == ["town=Oslo", "town=Rome", "town=other"]
    assert "'town' (4 words)" in notes["rare"]
    served = pd.DataFrame({"town": [" Rome ", "Bern", "Atlantis"]})
    assert encoder.features(served).tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 1]]


def test_an_unknown_word_is_zero_where_no_word_was_rare() -> None:
    encoder, _ = fitted(frame()[["city"]])
    assert encoder.features(pd.DataFrame({"city": ["Atlantis", "Oslo"]})).tolist() == [[0, 0, 0], [0, 1, 0]]


def test_names_do_not_clash() -> None:
    data = pd.DataFrame({"a": ["b", "c"] * 30, "a=b": np.arange(60.0)})
    encoder, _ = fitted(data)
    assert encoder.names == ["a=b", "a=c", "a=b'"]
    assert encoder.groups == (0, 0, 1)


def test_numbers_as_categories_keep_their_order() -> None:
    data = pd.DataFrame({"rooms": pd.Categorical([10, 9, 2] * 20, categories=[2, 9, 10])})
    encoder, _ = fitted(data)
    assert encoder.names == ["rooms=2", "rooms=9", "rooms=10"]
    assert encoder.features(pd.DataFrame({"rooms": [9.0, 2.0]})).tolist() == [[0, 1, 0], [1, 0, 0]]


# ramps


def test_ramps_are_those_of_the_formula() -> None:
    data = pd.DataFrame({"x": np.arange(101.0)})
    encoder, _ = fitted(data, numeric="piecewise", bins=4)
    assert encoder.names == ["x", "x 0 to 25", "x 25 to 50", "x 50 to 75", "x 75 to 100"]
    assert encoder.groups == (0,) * 5
    served = encoder.features(pd.DataFrame({"x": [-10, 30, 200]}))
    np.testing.assert_allclose(served, [[-10, 0, 0, 0, 0], [30, 1, 0.2, 0, 0], [200, 1, 1, 1, 1]])


def test_a_ramp_counts_twice_for_a_penalty_on_weights() -> None:
    """Features have deviation 1, ramps 1/2."""
    noise = np.random.default_rng(0).normal(size=(200, 2))
    inputs, targets = pd.DataFrame({"x": noise[:, 0]}), pd.DataFrame({"y": noise[:, 1]})
    task = from_frames(inputs, targets, name="t", where="t", source="t", numeric="piecewise")
    assert task.encoder is not None
    assert Encoder.from_plain(task.encoder).ramps == [False, True, True, True, True]
    np.testing.assert_allclose(task.development.x.std(1, correction=0), [1, 0.5, 0.5, 0.5, 0.5], rtol=1e-5)


@given(st.lists(st.floats(-1e6, 1e6), min_size=20, max_size=60).filter(lambda v: len(set(v)) > 1), st.integers(2, 12))
@settings(max_examples=60)
def test_law_of_ramps(values: list[float], bins: int) -> None:
    """Ramps are in [0, 1], rise with the value, each varies on the training rows, and together they give the value back."""
    data = pd.DataFrame({"x": values})
    encoder, _ = fitted(data, numeric="piecewise", bins=bins)
    knots = np.asarray(encoder.columns[0].knots)
    assert len(knots) in range(bins + 2)
    x = encoder.features(data.sort_values("x"))
    ramps = x[:, 1:]
    assert ((ramps >= 0) & (ramps <= 1)).all()
    assert (np.diff(ramps, axis=0) >= 0).all()
    assert (x.max(0) > x.min(0)).all()
    if len(knots):
        np.testing.assert_allclose(knots[0] + ramps @ np.diff(knots), x[:, 0], rtol=1e-9, atol=1e-6)


def test_few_values_have_few_ramps() -> None:
    data = pd.DataFrame({"two": [0, 1] * 30, "three": [1, 2, 5] * 20, "flag": [True, False] * 30})
    encoder, _ = fitted(data, numeric="piecewise")
    assert [column.width for column in encoder.columns] == [1, 3, 1]


# gaps


def test_gaps() -> None:
    data = pd.DataFrame({"x": [1.0, 2.0, np.nan, 6.0] * 15, "w": ["a", "a", "b", None] * 15})
    gap = pd.DataFrame({"x": [np.nan], "w": [None]})
    for how, row in (
        ("mean", [3.0, 1, 0]),
        ("median", [2.0, 1, 0]),
        ("indicator", [3.0, 1, 0, 0, 1]),
        ({"x": "median", "w": "category"}, [2.0, 0, 0, 1]),
    ):
        encoder, _ = fitted(data, missing=how)
        assert encoder.features(gap).tolist() == [row]
    assert fitted(data, missing="indicator")[0].names == ["x", "x missing", "w=a", "w=b", "w=missing"]
    with pytest.raises(ConfigError, match=r"a gap in 'x', a number, is no category; write missing: \{x: indicator\}"):
        fitted(data, missing="category")
    encoder, _ = fitted(data.assign(w=["a", "b", "b", None] * 15).dropna(), missing="drop")
    with pytest.raises(ConfigError, match=r"rows.csv: column 'x' has 1 missing value\(s\), the first in row 1"):
        encoder.features(gap, "rows.csv")
    with pytest.raises(ConfigError, match="column 'w' has 1 missing"):
        encoder.features(gap.assign(x=1.0, w=" "))


# what is left out, and what is refused


def test_constants_are_left_out_with_a_note() -> None:
    data = frame().assign(same=0.1, word="x")
    encoder, notes = fitted(data)
    assert encoder == fitted(frame())[0]
    assert notes["constant"] == "left out, constant on the training split: 'same', 'word'"
    assert len(fitted(data, constants=True)[0].columns) == 7


def test_all_problems_at_once() -> None:
    data = frame().assign(name=[f"Person {i}" for i in range(ROWS)], user_id=range(ROWS), big=1e300)
    with pytest.raises(ConfigError) as raised:
        fitted(data)
    told = str(raised.value)
    assert "3 problems" in told
    for words in ("exclude: [name]", "exclude: [user_id]", "in feature(s) 'big' (the first in row 1)"):
        assert words in told
    mixed = frame().assign(a=[1, "x"] * 60, b=[(1,)] * ROWS)
    with pytest.raises(ConfigError, match=r"2 problems:\n- feature 'a' holds int and, first in row 2, str values \('x'\)"):
        fitted(mixed)


@pytest.mark.parametrize("name", ["id", "Id", "ID", "userId", "user_id", "row", "customer nr", "Index"])
def test_identifiers(name: str) -> None:
    data = frame().assign(**{name: np.arange(ROWS) + 7})
    with pytest.raises(ConfigError, match="named like an identifier"):
        fitted(data)
    assert len(fitted(data.assign(**{name: np.arange(ROWS) % 50}))[0].columns) == 6


def test_names_that_only_end_so() -> None:
    for name in ("acid", "humid", "pH", "rainbow", "piano", "grid", "year"):
        assert len(fitted(frame().assign(**{name: np.arange(ROWS)}))[0].columns) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"age": "old"}, "column 'age', row 1: 'old' is not a number"),
        ({"age": [*range(ROWS - 1), "12,5"]}, f"column 'age', row {ROWS}: '12,5' is not a number"),
        ({"age": np.inf}, "column 'age', row 1: an infinite value"),
        ({"age": pd.Timestamp("2024-01-01")}, "column 'age', row 1: .* is not a number"),
        ({"since": "31/12/2024"}, "column 'since', row 1: '31/12/2024' is not a date, as 2024-12-31"),
        ({"since": 5}, "column 'since', row 1: .* is not a date"),
        ({"member": "maybe"}, "'maybe' is not true or false"),
    ],
)
def test_values_that_are_not_served(change: dict[str, Any], message: str) -> None:
    encoder, _ = fitted(frame())
    with pytest.raises(ConfigError, match=message):
        encoder.features(frame().assign(**change))


def test_a_missing_column_is_named() -> None:
    encoder, _ = fitted(frame())
    with pytest.raises(ConfigError, match=r"column\(s\) 'income' are missing; needed: all of 'age'.*Did you mean 'incomes'\?"):
        encoder.features(frame().rename(columns={"income": "incomes"}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "format"),
        ({"columns": []}, "columns"),
        ({"columns": [{"name": "a", "kind": "number"}] * 2}, "a column comes twice"),
        ({"columns": [{"name": "a", "kind": "word"}]}, "columns.0.kind"),
        ({"columns": [{"name": "a", "kind": "number", "more": 1}]}, "columns.0.more"),
        ({"columns": [{"name": "a", "kind": "number", "knots": [1.0, 1.0]}]}, "rising"),
        ({"columns": [{"name": "a", "kind": "number", "fill": "1"}]}, "columns.0.fill"),
        ({"columns": [{"name": "a", "kind": "number", "gap": True}]}, "no number for them"),
        ({"columns": [{"name": "a", "kind": "category"}]}, "without words"),
        ({"columns": [{"name": "a", "kind": "category", "words": ["b"], "word": "c"}]}, "a category has words"),
        ({"columns": [{"name": "a", "kind": "number", "words": ["b"]}]}, "has no words"),
        ({"columns": float("nan")}, "columns"),
    ],
)
def test_records_that_no_encoder_has(change: dict[str, Any], message: str) -> None:
    plain = Encoder(columns=(Column(name="a", kind="number"),)).plain()
    with pytest.raises(ConfigError, match=f"encoder record: .*{message}"):
        Encoder.from_plain({**plain, **change})


def test_spaces_around_names_that_the_file_had_are_no_other_names() -> None:
    encoder = Encoder.of_numbers(["size", "age"])
    frame = pd.DataFrame({"age ": [1.0], " size": [2.0], "size_": [3.0]})
    assert encoder.features(frame).tolist() == [[2.0, 1.0]]
    assert encoder.features(frame.assign(size=[4.0])).tolist() == [[4.0, 1.0]]  # the very name first


@pytest.mark.parametrize("rows", [{"a": [1.0]}, [{"a": 1.0}], pd.Series({"a": 1.0}), np.zeros((1, 1)), "new.csv", None])
def test_what_is_no_data_frame_is_refused_in_words(rows: Any) -> None:
    with pytest.raises(ConfigError, match=r"needed: a data frame of pandas.*write pd\.DataFrame"):
        Encoder.of_numbers(["a"]).features(rows)


@pytest.mark.parametrize("word", ["now", "today", " now"])
def test_no_date_is_the_time_of_this_machine(word: str) -> None:
    encoder = Encoder(columns=(Column(name="when", kind="date"),))
    with pytest.raises(ConfigError, match="is not a date"):
        encoder.features(pd.DataFrame({"when": ["2024-01-01", word]}))


def test_accents_are_coded_in_any_way() -> None:
    one, two = "caf\u00e9", "cafe\u0301"
    encoder = Encoder(columns=(Column(name=one, kind="category", words=(one, "bar")),))
    for name in (one, two):
        assert encoder.features(pd.DataFrame({name: [one, two, "bar"]})).tolist() == [[1, 0], [1, 0], [0, 1]]
