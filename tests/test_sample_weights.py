"""Columns of a table that say how much a row counts, and columns that hold a teacher's probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from nasplug.data.datasets import table
from nasplug.errors import ConfigError
from nasplug.study import Study
from nasplug.tasks import Task

ROWS = 120


def frame() -> pd.DataFrame:
    dice = np.random.default_rng(3)
    x = dice.normal(size=(ROWS, 3))
    logits = np.stack([x[:, 0], x[:, 1], np.zeros(ROWS)], axis=1) * 2.0
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = pd.DataFrame(x, columns=list("abc")).assign(w=dice.integers(0, 4, ROWS), y=x[:, 0] + dice.normal(size=ROWS) / 4)
    return found.assign(**{f"p{c}": np.round(shares[:, c], 6) for c in range(3)})


def made(folder: Path, table_of: pd.DataFrame, **options: Any) -> Task:
    file = folder / "t.csv"
    table_of.to_csv(file, index=False)
    return table(path=str(file), **({"target": "y", "features": ["a", "b", "c"]} | options))


@pytest.mark.parametrize("validation", ["holdout", "folds"])
def test_a_column_of_weights_is_no_feature_and_weighs_every_split(tmp_path: Path, validation: str) -> None:
    task = made(tmp_path, frame(), features=None, exclude=["p0", "p1", "p2"], weights="w", validation=validation)
    assert task.columns == ("a", "b", "c")
    whole = [split.weights for split in task.splits]
    assert all(weights is not None for weights in whole)
    development = torch.cat([w for w in whole[:2] if w is not None])
    assert float(development.mean()) == pytest.approx(1.0)
    values = {round(float(v), 4) for w in whole if w is not None for v in w}
    least = min(v for v in values if v > 0)
    assert {round(v / least) for v in values} == {0, 1, 2, 3}


def test_a_weight_of_two_is_a_row_twice_and_zero_is_none(tmp_path: Path) -> None:
    rows = frame().assign(part=["train"] * 60 + ["valid"] * 30 + ["test"] * 30)
    own = {"validation": {"use": "column", "by": "part"}}
    weighed = made(tmp_path, rows, weights="w", **own)
    again = made(tmp_path, rows.loc[rows.index.repeat(rows["w"])], **own)
    net = torch.randn(2, 1, len(weighed.features), dtype=torch.float64)
    for one, other in zip(weighed.splits, again.splits, strict=True):
        # both in the units of the file: their means and scales differ
        def error(task: Task, split: Any) -> torch.Tensor:
            x = split.x.double() * task.input_scale[:, None] + task.input_shift[:, None]
            y = split.y.double() * task.output_scale[:, None] + task.output_shift[:, None]
            return task.losses(net @ x, y, None if split.weights is None else split.weights.double())

        torch.testing.assert_close(error(weighed, one), error(again, other), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({"w": -1.0}, {"weights": "w"}, "w.*-1.*needed: finite numbers >= 0"),
        ({"w": 0.0}, {"weights": "w"}, "are 0 in all rows"),
        ({}, {"weights": "v"}, "weights 'v' is not a column"),
        ({}, {"weights": "a"}, "weights 'a' is also a feature"),
        ({}, {"weights": "y"}, "'y' is also a target"),
        ({}, {"features": None, "exclude": ["y"]}, "'y' is both the target and in 'exclude'"),
        (
            {"p0": np.linspace(0.5, 1.9, ROWS)},
            {"target": ["p0", "p1", "p2"], "kind": "classes"},
            "rows are no probabilities, the first is row 1",
        ),
        ({}, {"target": ["p0", "p1"], "kind": "binary"}, "kind 'binary' takes one target"),
    ],
)
def test_refusals(tmp_path: Path, change: dict[str, Any], options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        made(tmp_path, frame().assign(**change), **options)


def test_a_teachers_probabilities_are_learned(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "t.csv", index=False)
    study = Study.from_dict(
        {
            "study": "soft",
            "store": str(tmp_path / "runs"),
            "task": {
                "use": "table",
                "path": str(tmp_path / "t.csv"),
                "target": ["p0", "p1", "p2"],
                "features": ["a", "b", "c"],
                "kind": "classes",
                "validation": "holdout",
            },
            "method": {"use": "linear"},
            "train": {"steps": 300, "lr": 0.05},
            "linear": False,
            "mlflow": None,
        }
    ).run("serial")
    best = study.best()
    assert best["test_accuracy"] > 0.9
    told = study.network().predict(frame())
    shares = frame()[["p0", "p1", "p2"]].to_numpy()
    assert np.abs(told.iloc[:, 1:].to_numpy() - shares).mean() < 0.05  # not the labels alone: the probabilities
