"""In a notebook: tables instead of bare objects, one line of progress, errors of one line. A real kernel runs the cells."""

from __future__ import annotations

import os
import sys
from typing import Any

import nbclient
import nbformat
import pytest

from nasplug import ConfigError, notebook
from nasplug.progress import Watcher, watching

CELLS = (
    """
import numpy as np, pandas as pd
from nasplug import Study
x = np.random.default_rng(0).normal(size=(80, 3))
pd.DataFrame(x, columns=["a", "b", "c"]).assign(y=x[:, 0]).to_csv("table.csv", index=False)
study = Study.from_dict({
    "study": "cells", "store": "runs", "mlflow": None, "linear": False, "reach": None, "seeds": 2,
    "task": {"use": "table", "path": "table.csv", "target": "y", "validation": "holdout"},
    "method": {"use": "edges", "mode": "l1", "hidden": [3]},
    "penalties": [{"use": "l1", "level": {"log": [0.001, 0.1], "points": 2}}],
    "train": {"steps": 200}})
""",
    'study.run("serial", report=False)',
    "study.network()",
    "study.front()",
    'study.network("p0009/0000")',
    'study.run("serial", progress=False, report=False).folder.name',
    """
from nasplug.sklearn import SmallNetworkRegressor
SmallNetworkRegressor(levels=1, steps=20, folds=1, linear=False, random_state=0).fit(x, x[:, 0])
""",
)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """What stands below each cell."""
    folder = tmp_path_factory.mktemp("notebook")
    kernels = folder / "share" / "kernels" / "own"
    kernels.mkdir(parents=True)
    (kernels / "kernel.json").write_text(
        f'{{"argv": ["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"], '
        '"display_name": "own", "language": "python"}'
    )
    patch = pytest.MonkeyPatch()
    patch.setenv("JUPYTER_PATH", str(folder / "share"))
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        patch.setenv(name, str(folder / name.lower()))
    patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    try:
        client = nbclient.NotebookClient(
            made, timeout=120, kernel_name="own", allow_errors=True, resources={"metadata": {"path": str(folder)}}
        )
        client.execute()
    finally:
        patch.undo()
    return [list(cell["outputs"]) for cell in made["cells"]]


def html(found: list[dict[str, Any]]) -> str:
    return "".join(one["data"]["text/html"] for one in found if "text/html" in one.get("data", {}))


@pytest.mark.slow
def test_a_study_shows_one_line_of_progress_and_then_itself(outputs: list[list[dict[str, Any]]]) -> None:
    assert outputs[0] == []
    lines = [one["data"]["text/plain"] for one in outputs[1] if one["output_type"] == "display_data"]
    assert len(lines) == 1
    assert "100.0 %" in lines[0]
    assert "networks 4/4" in lines[0]
    assert not any("\x1b" in str(one) for one in outputs[1])
    assert "Study cells" in html(outputs[1])
    assert "networks</th><td>4" in html(outputs[1])


@pytest.mark.slow
def test_networks_fronts_and_estimators_are_tables(outputs: list[list[dict[str, Any]]]) -> None:
    assert "Compact network" in html(outputs[2])
    assert "valid_error" in html(outputs[3])
    assert "relaxed" not in html(outputs[3])
    assert "SmallNetworkRegressor" in html(outputs[6])
    assert "Compact network" in html(outputs[6])


@pytest.mark.slow
def test_an_error_is_one_line(outputs: list[list[dict[str, Any]]]) -> None:
    (error,) = outputs[4]
    assert error["output_type"] == "error"
    assert len(error["traceback"]) == 1
    assert "\n" not in error["traceback"][0]
    assert "p0009" in error["traceback"][0]


@pytest.mark.slow
def test_progress_can_be_left_out(outputs: list[list[dict[str, Any]]]) -> None:
    (only,) = outputs[5]
    assert only["data"]["text/plain"] == "'cells'"


def test_outside_of_a_notebook_nothing_is_different() -> None:
    assert not notebook.in_notebook()
    assert watching(None) == []
    assert len(watching(True)) == 1
    assert watching(True, [Watcher()]) == []
    notebook.Line().show("nobody sees this")


def test_what_is_shown_holds_no_secrets_and_no_markup() -> None:
    error = ConfigError("store postgresql://me:secret@host/db is away")
    assert error._render_traceback_() == ["ConfigError: store postgresql://host/db is away"]
    assert "<script>" not in notebook.facts("<script>", {"<script>": "<script>"}) + notebook.table(["<script>"], [["<script>"]])
