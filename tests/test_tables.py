"""`benchmarks/tables.py` and `choice.py`: the same rows for everyone, a fair count, honest ranks."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import tables

    return tables


def test_halves_are_fixed_by_the_alphabet(bench: ModuleType) -> None:
    import table_sets

    assert len(table_sets.TABLES) >= 15
    assert not set(table_sets.CHOOSING) & set(table_sets.JUDGING)
    assert sorted({*table_sets.CHOOSING, *table_sets.JUDGING}) == sorted(table_sets.TABLES)
    assert list(table_sets.CHOOSING) == sorted(table_sets.TABLES)[::2]


def test_each_row_is_tested_once_and_never_trained_on(bench: ModuleType) -> None:
    import table_sets

    table = table_sets.TABLES["breast_cancer"]
    frame = table.frame()
    splits = table_sets.outer(table, frame)
    assert sorted(np.concatenate([rows.test for rows in splits]).tolist()) == list(range(len(frame)))
    for rows in splits:
        assert not set(rows.development) & set(rows.test)
    data = bench.cut(table, frame, splits[0])
    assert len(data.frame) == len(data.y)
    assert set(np.unique(data.y_test)) == {0.0, 1.0}


def test_columns_are_learned_from_the_rows_given(bench: ModuleType) -> None:
    from rivals import Encoder

    frame = pd.DataFrame({"size": [1.0, 2.0, np.nan, 5.0], "colour": ["red", "blue", None, "red"], "one": [1.0] * 4})
    encoder = Encoder(frame)
    assert encoder.owners.tolist() == [0, 0, 1, 1, 1]  # size and its gap; blue, red and its gap; one is constant
    rows = encoder(frame)
    assert rows.x.mean(0) == pytest.approx(0, abs=1e-12)
    assert rows.x.std(0) == pytest.approx(1)
    other = encoder(pd.DataFrame({"size": [2.0], "colour": ["green"], "one": [9.0]}))
    assert other.x[0, 0] == pytest.approx((2.0 - 8 / 3) / frame["size"].fillna(8 / 3).std(ddof=0))
    assert other.frame["colour"].isna().all()


def test_what_a_number_is(bench: ModuleType) -> None:
    """A tree of one split holds a threshold and two leaves; a linear model its weights and its intercept."""
    import rivals

    x = np.linspace(-1, 1, 60).reshape(-1, 1)
    frame = pd.DataFrame({"x": x[:, 0], "noise": np.cos(np.arange(60) * 7.0)})
    encoder = rivals.Encoder(frame)
    fit = rivals.Fit(encoder(frame), (x[:, 0] > 0.2).astype(float), "binary", encoder.owners, 0)
    stump = dict(rivals.tree(fit))["2 leaves of 1"]
    assert (stump.numbers, stump.inputs) == (3, 1)
    assert (stump.predict(fit.rows).argmax(1) == fit.y).all()
    smallest = min((point for _, point in rivals.linear(fit) if point.inputs), key=lambda point: point.numbers)
    assert (smallest.numbers, smallest.inputs) == (2, 1)
    one = dict(rivals.boosting(fit))["2 leaves, rate 0.3, 1 rounds"]
    assert one.numbers == 3 + 1  # a stump, and where it starts from


def test_budgets_and_ranks(bench: ModuleType) -> None:
    import table_scores

    def record(model: str, split: int, *candidates: tuple[int, float, float]) -> dict[str, Any]:
        found = [{"numbers": n, "valid_error": v, "valid_loss": v, "error": e} for n, v, e in candidates]
        return {
            "table": "pima",
            "model": model,
            "split": split,
            "candidates": found,
            "constant": {"error": 0.35},
            "seconds": 1.0,
        }

    mine = [record("nasplug", split, (8, 0.30, 0.31), (90, 0.2, 0.22)) for split in (0, 1)]
    assert [table_scores.pick(mine[0], budget)["error"] for budget in (5, 10, 100, None)] == [0.35, 0.31, 0.22, 0.22]
    linear = [record("linear", split, (6, 0.2, 0.20 + 0.001 * split)) for split in (0, 1)]
    boosting = [record("boosting", split, (500, 0.1, 0.21)) for split in (0, 1)]
    said: list[str] = []
    result = table_scores.summary([*mine, *linear, *boosting], said.append)
    assert result["mean_rank"] == {"10": 2.0, "30": 2.0, "100": 2.0, "300": 2.0, "any": 3.0}
    assert result["first_at"] == []
    assert result["worse_than_linear"] == ["pima"]
    assert result["hgb_within_5pct_at_300"] == 1.0  # 0.22 against 0.21
    assert result["judged"] == ["pima"]
    assert any("nasplug with linear: 0 wins, 0 ties, 1 losses" in line for line in said)


def test_sums_beside_ebm(bench: ModuleType) -> None:
    import additive

    def record(table: str, model: str, sizes: dict[int, float], name: str = "64 bins, 0 pairs") -> dict[str, Any]:
        found = [{"name": name, "numbers": n, "valid_error": e, "valid_loss": e, "error": e} for n, e in sizes.items()]
        return {"table": table, "split": 0, "model": model, "candidates": found, "constant": {"numbers": 1, "error": 1.0}}

    records = [record(table, "additive", {20: 0.3, 90: 0.2}) for table in "ab"] + [
        record(table, "ebm", {200: 0.1}) for table in "ab"
    ]
    records[-1]["candidates"] += record("b", "ebm", {900: 0.05}, "256 bins, 10 pairs")["candidates"]
    said: list[str] = []
    found = additive.show(additive.of_models(records), said.append)
    assert found["30"]["duels"]["additive, ebm"] == {"wins": 2, "ties": 0, "losses": 0}
    assert found["any"]["mean_rank"] == {"additive": 3.0, "ebm": 1.75, "ebm+": 1.25}
    assert any("0.0500" in line and "900" in line for line in said)


def test_choices_are_by_weights_of_the_products_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import choice
    import table_sets

    table = table_sets.TABLES["breast_cancer"]
    x, _, values, classes = choice.dataset(table)
    train, valid, test = (w.view(3, 6, -1) for w in choice.weights(choice.divided(table, values, classes, 3), x.shape[1]))
    assert ((valid[:, :5].sum(1) > 0) == (test[:, 0] == 0)).all()  # each development row is held out once
    assert (valid[:, :5].sum(1) <= 1).all()
    assert not (train[:, :5] * valid[:, :5]).any()
    assert not (train * test).any()
    assert (train[:, 5] == 1 - test[:, 5]).all()


def test_regret_is_against_the_front(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import choice

    error, edges = np.array([0.5, 0.3, 0.2, 0.25]), np.array([1.0, 2.0, 5.0, 9.0])
    assert choice.front(error, edges) == [0, 1, 2]
    test = np.array([0.5, 0.31, 0.33, 0.01])  # the last is not on the front: larger and worse than the third
    assert choice.regret(error, None, error, edges, test) == pytest.approx((0.02, 0.31))
    assert choice.regret(error, np.full(4, 0.15), error, edges, test) == pytest.approx((0.0, 0.31))  # the smaller one will do


@pytest.mark.slow
@pytest.mark.parametrize("model", ["ebm", "lassonet", "tabm", "pruned"])
def test_a_rival_is_measured(bench: ModuleType, tmp_path: Path, model: str) -> None:
    package = bench.MODELS[model][1]
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install -e '.[benchmarks]'")
    import table_sets

    table = table_sets.TABLES["diabetes"]
    made = bench.make(table, table.frame(), 0, model, tmp_path)
    assert made["candidates"]
    assert min(one["error"] for one in made["candidates"]) < 0.8


@pytest.mark.slow
def test_quick_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import choice

    said: list[str] = []
    result = choice.main(["--tables", "diabetes", "--outer", "2"], said.append)
    assert json.loads(said[-1])["outer"] == 2
    assert result["regret_folds_over_holdout"] >= 0
    assert result["tables"]["diabetes"]["best"] < 0.8
