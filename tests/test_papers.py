"""The published experiments, run from their configs: what each file promises in its first lines, on held-out data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nasplug.study import Study

PAPERS = Path(__file__).parents[1] / "configs" / "papers"


def frame(name: str, store: Path) -> Any:
    return Study.from_yaml(PAPERS / f"{name}.yaml", [f"store={store}", "mlflow=null"]).run("serial").frame


@pytest.mark.slow
@pytest.mark.reports
def test_the_quick_start_keeps_its_promise(tmp_path: Path) -> None:
    config = PAPERS.parent / "quickstart.yaml"
    done = Study.from_yaml(config, [f"store={tmp_path}", "mlflow=null"]).run("serial")
    assert (done.frame["status"] == "finished").sum() >= 500
    verdict = json.loads((done.folder / "linear.json").read_text())
    line = verdict["linear"]
    assert verdict["chosen"]["test_error"] <= line["test_error"] + 0.02, verdict["sentence"]  # one standard error
    assert done.best()["parameters"] < 31


@pytest.mark.slow
def test_xor_reaches_the_limit_of_six_edges(tmp_path: Path) -> None:
    rows = frame("edges_xor", tmp_path)
    for hidden, wanted in (("[8]", 99), ("[4]", 95)):
        mine = rows[rows["method.hidden"] == hidden]
        assert len(mine) == 100
        assert (mine["test_accuracy"] >= 0.95).sum() >= wanted
        assert mine["edges"].median() == 6
        assert (mine["edges"] == 6).sum() >= 95


@pytest.mark.slow
def test_addition_reaches_the_limit_of_three_edges(tmp_path: Path) -> None:
    rows = frame("edges_addition", tmp_path)
    assert len(rows) == 100
    assert (rows["test_r2"] >= 0.999).sum() >= 99
    assert rows["edges"].median() == 3
    assert (rows["edges"] == 3).sum() >= 90


@pytest.mark.slow
def test_snapping_behaves_as_the_reference_code(tmp_path: Path) -> None:
    xor = frame("edges_xor_snap", tmp_path)
    assert len(xor) == 20
    assert (xor["edges"] == 14).all()  # every edge that can carry a signal; the reference counts 16 more that cannot
    assert xor["train_accuracy"].between(0.74, 0.75).sum() >= 17
    addition = frame("edges_addition_snap", tmp_path)
    assert addition["edges"].median() == 11
    assert addition["test_r2"].median() < 0.85


@pytest.mark.slow
def test_plain_l1_behaves_as_the_paper_says(tmp_path: Path) -> None:
    xor = frame("edges_xor_l1", tmp_path)
    assert 0.75 < xor["test_accuracy"].mean() < 0.95
    assert 5 <= xor["edges"].median() <= 10
    addition = frame("edges_addition_l1", tmp_path)
    assert (addition["test_r2"] >= 0.999).sum() <= 20
    assert addition["edges"].median() > 10
