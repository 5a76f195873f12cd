"""What is served is what was trained: a network loaded from its folder alone, on the rows of the user's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from nasplug import ConfigError, Study
from nasplug.compact import CompactNetwork, export, load
from nasplug.config import parse
from nasplug.data.encoder import Encoder
from nasplug.drawing import draw_network, network_picture, strengths
from nasplug.drawing.reading import drawn_blocks

ROWS = 240


def people(kind: str) -> pd.DataFrame:
    """Words with rare ones, gaps, dates, numbers; the target bends."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": random.integers(18, 90, ROWS).astype(float),
            "city": random.choice(["Rome", "Oslo", "Lima"], ROWS),
            "since": pd.date_range("2020-01-01", periods=ROWS, freq="36h"),
            "member": random.random(ROWS) < 0.4,
            "noise": random.normal(size=ROWS),
        }
    )
    score = np.abs(frame["age"] - 50) / 10 + (frame["city"] == "Oslo") + random.normal(scale=0.1, size=ROWS)
    frame.loc[::31, "city"] = [f"Village {i}" for i in range(len(frame.loc[::31]))]
    frame.loc[::17, "age"] = np.nan
    frame.loc[5::29, "city"] = None
    labels = np.where(score > 3, "far", np.where(score > 1.5, "mid", "near"))
    return frame.assign(y={"regression": 1e6 + score, "binary": score > 2, "classes": labels}[kind])


def trained(
    folder: Path, frame: pd.DataFrame, mlflow: dict[str, Any] | None = None, loss: str | None = None, **task: Any
) -> Study:
    frame.to_csv(folder / "people.csv", index=False)
    raw = {
        "study": "served",
        "store": str(folder / "runs"),
        "task": {"use": "table", "path": str(folder / "people.csv"), "target": "y", "validation": "holdout", **task},
        "method": {"use": "edges", "mode": "annealed", "hidden": [4]},
        "penalties": [{"use": "l1", "level": 0.01}],
        "discretizers": [{"use": "threshold", "tolerance": 0.05}],
        "train": {"steps": 100, "lr": 0.02},
        "seeds": 2,
        "mlflow": mlflow,
    } | ({"loss": {"use": loss}} if loss else {})
    return Study(parse(raw)).run("serial")


def held_out(study: Study, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the test split, found by their targets' and inputs' values."""
    encoder = Encoder.from_plain(study.task.encoder or {})
    x = (torch.from_numpy(encoder.features(frame)) - study.task.input_shift) / study.task.input_scale
    rows = {tuple(row): place for place, row in enumerate(x.float().tolist())}
    return frame.iloc[[rows[tuple(row)] for row in study.task.test.x.T.tolist()]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["regression", "binary", "classes"])
def test_the_tables_scores_are_those_of_the_served_network(tmp_path: Path, kind: str) -> None:
    frame = people(kind)
    study = trained(tmp_path, frame, missing={"age": "indicator", "city": "category"}, numeric="piecewise", bins=4)
    best = load(study.folder / "best")
    test = held_out(study, frame)
    served = best.predict(test.drop(columns="y").sample(frac=1, axis=1, random_state=0).assign(more=1))
    assert served.index.equals(test.index)
    error = float(study.best()["test_error"])
    if kind == "regression":
        assert list(served.columns) == ["y"]
        scale = float(study.task.output_scale)
        assert float(((served["y"] - test["y"]) ** 2).mean()) / scale**2 == pytest.approx(error, rel=1e-4)
    else:
        assert list(served.columns) == ["label", *(f"P({label})" for label in study.task.targets)]
        assert float((served["label"] != test["y"].astype(str)).mean()) == pytest.approx(error, abs=1e-6)
        np.testing.assert_allclose(served.iloc[:, 1:].sum(1), 1.0, rtol=1e-6)
    record = json.loads((study.folder / "best" / "network.json").read_text())
    assert Encoder.from_plain(record["encoder"]).names == record["features"]
    unread = [name for name in frame if name not in {record["columns"][record["groups"][i]] for i in record["kept_inputs"]}]
    pd.testing.assert_frame_equal(best.predict(test.drop(columns=unread)), served)
    with pytest.raises(ConfigError, match=r"column\(s\) 'age' are missing"):
        best.predict(test.drop(columns="age"))
    counted(study, best)


def counted(study: Study, best: CompactNetwork) -> None:
    """A column is one input in the table, the record and the pictures."""
    columns = [name for name, _ in best.columns]
    row = study.best()
    assert int(row["inputs"]) == len(columns) == best.record["sizes"]["inputs"] <= len(study.task.columns) == 5
    assert int(row["parameters"]) == best.parameter_count
    assert sum(len(at) for _, at in best.columns) == best.widths[0] > len(columns)
    blocks = drawn_blocks(best)
    assert int(row["edges"]) == sum(int((w != 0).sum()) for w in blocks.values())
    assert sorted(s.feature for s in strengths(best)) == sorted(columns)
    assert "age" in columns
    assert f"{len(columns)} of 5 features" in network_picture(best)
    draw_network(best)


@pytest.mark.slow
def test_large_numbers_beside_their_spread_keep_their_digits(tmp_path: Path) -> None:
    """Times in milliseconds: float32 has steps of 131 seconds there."""
    t = 1_700_000_000_000 + 1000 * np.arange(ROWS)
    frame = pd.DataFrame({"t": t, "y": 5e9 + np.arange(ROWS) / 10})
    study = trained(tmp_path, frame)
    test = held_out(study, frame)
    best = load(study.folder / "best")
    error = float(study.best()["test_error"])
    assert error < 0.3
    for served in (best.predict(test)["y"], best(torch.from_numpy(test[["t"]].to_numpy())).detach().numpy()[:, 0]):
        found = float(((served - test["y"]) ** 2).mean()) / float(study.task.output_scale) ** 2
        assert found == pytest.approx(error, rel=1e-3)
    rows = torch.from_numpy(test[["t"]].to_numpy().astype(np.float64))
    program = export(best, rows[:3]).module()
    torch.testing.assert_close(program(rows), best(rows), rtol=0, atol=1e-4)
