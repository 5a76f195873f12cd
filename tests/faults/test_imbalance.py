"""Few of a kind: the most frequent label's own error is told, and weights of classes find the few."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest

from nasplug import ConfigError, Study
from nasplug.config import parse
from nasplug.data.datasets import table
from nasplug.report import front_table


def study(folder: Path, **task: Any) -> Study:
    r = np.random.default_rng(0)
    x = r.normal(size=(4000, 5))
    y = (r.random(4000) < 1 / (1 + np.exp(5.2 - 1.2 * x[:, 0]))).astype(int)
    path = folder / "fraud.csv"
    pd.DataFrame(x, columns=list("abcde")).assign(fraud=y).to_csv(path, index=False)
    return Study(
        parse(
            {
                "study": "fraud" + "".join(task),
                "store": str(folder),
                "task": {"use": "table", "path": str(path), "target": "fraud", **task},
                "method": {"use": "edges", "mode": "l1", "hidden": [4]},
                "penalties": [{"use": "l1", "level": {"choice": [1e-3, 3e-2]}}],
                "discretizers": [{"use": "threshold", "tolerance": 0.02}],
                "metrics": [{"use": "balanced_accuracy"}],
                "train": {"steps": 150, "lr": 0.02, "reports": 2},
                "seeds": 1,
                "mlflow": None,
            }
        )
    )


def text(found: Study) -> str:
    table = front_table(found)
    return str(table.caption)


@pytest.mark.reports
def test_a_network_that_repeats_the_majority_is_called_so(tmp_path: Path) -> None:
    found = study(tmp_path).run("serial")
    best = found.best()
    assert bool(best["constant"])
    assert float(best["test_balanced_accuracy"]) == 0.5
    trivial = found.facts_of(str(best["replica"])).trivial
    assert trivial["test_error"] == pytest.approx(float(best["test_error"]))
    assert "THE CHOSEN NETWORK IS CONSTANT" in text(found)
    assert "Always the most frequent label: validation error 0.75 %, test error 0.75 %" in text(found)
    assert "THE CHOSEN NETWORK IS CONSTANT" in (found.folder / "report.html").read_text()


def test_weights_of_classes_find_the_few(tmp_path: Path) -> None:
    found = study(tmp_path, balance="classes").run("serial")
    best = found.best()
    assert not bool(best["constant"])
    assert float(best["test_balanced_accuracy"]) > 0.65
    task = found.task_of(str(best["replica"]))
    assert task.test.weights is None  # test scores are as the data are
    weights, y = task.train.weights, task.train.y[0]
    assert weights is not None
    assert float(weights[y == 1].sum()) == pytest.approx(float(weights[y == 0].sum()), rel=0.05)
    assert "CONSTANT" not in text(found)


def test_numbers_have_no_classes_to_balance(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="balance: classes, and the target is a number"):
        study(tmp_path, balance="classes", kind="regression").plan()


@pytest.mark.parametrize("use", ["folds", "holdout"])
def test_a_weight_of_two_is_a_row_that_comes_twice_also_for_the_balance(
    tmp_path: Path, use: Literal["folds", "holdout"]
) -> None:
    r = np.random.default_rng(0)
    data = pd.DataFrame({"a": r.normal(size=90), "label": ["no", "no", "yes"] * 30})
    data["times"] = np.where(data["label"] == "no", 1, r.integers(0, 6, 90))
    data.to_csv(tmp_path / "t.csv", index=False)
    task = table(path=str(tmp_path / "t.csv"), target="label", weights="times", balance="classes", validation=use)
    y, weights = task.development.y[0], task.development.weights
    assert weights is not None
    assert float(weights[y == 1].sum()) == pytest.approx(float(weights[y == 0].sum()), rel=1e-5)


def test_one_row_to_validate_with_makes_no_network_constant(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = pd.DataFrame({"x": random.normal(size=60), "tiny": random.normal(size=60) * 1e-200})
    rows = rows.assign(part=["train"] * 39 + ["valid"] + ["test"] * 20, y=rows["x"] + random.normal(size=60) * 0.01)
    rows.to_csv(tmp_path / "one.csv", index=False)
    raw: dict[str, Any] = {
        "study": "one",
        "store": str(tmp_path),
        "task": {
            "use": "table",
            "path": str(tmp_path / "one.csv"),
            "target": "y",
            "validation": {"use": "column", "by": "part"},
        },
        "method": {"use": "edges", "mode": "l1", "hidden": [4]},
        "penalties": [{"use": "l1", "level": 0.0001}],
        "train": {"steps": 30},
        "seeds": 1,
        "linear": False,
        "mlflow": None,
    }
    assert not Study(parse(raw)).run("serial", report=False).frame["constant"].any()
