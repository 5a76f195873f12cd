"""`nasplug.lineage`: where a network came from, beside it wherever it leaves, and the network trained again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nasplug import Study, files, lineage
from nasplug.compact import digest_of

SMALL: dict[str, Any] = {
    "study": "small",
    "task": {"use": "breast_cancer", "validation": "holdout"},
    "method": {"use": "edges", "mode": "annealed", "hidden": [4]},
    "penalties": [{"use": "l1", "level": {"log": [1e-3, 1e-1], "points": 3}, "ramp": {"use": "linear", "until": 0.5}}],
    "temperature": {"use": "linear", "start": 1.0, "end": 0.0, "until": 0.5},
    "discretizers": [{"use": "threshold", "tolerance": 0.02}],
    "train": {"steps": 30, "batch": 64, "lr": 0.02, "finetune": 10},
    "seeds": 2,
    "linear": False,
    "mlflow": None,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study.from_dict({**SMALL, "store": str(tmp_path_factory.mktemp("runs"))}).run("serial", report=False)


def test_the_chosen_network_has_its_lineage_beside_it(study: Study) -> None:
    found = lineage.read(study.folder / "best" / lineage.FILE)
    row = study.best()
    assert found["replica"]["name"] == row["replica"]
    assert found["network"]["digest"] == digest_of(study.network())
    assert found["data"]["origin"] == study.task.origin.plain()  # type: ignore[union-attr]
    assert found["data"]["task"]["digest"] == study.task.digest
    assert found["study"]["config"]["penalties"][0]["level"]["points"] == 3
    assert found["replica"]["varies"]["penalties.0.level"] == row["penalties.0.level"]  # the same float
    assert found["scores"]["final"]["valid_error"] == row["valid_error"]
    assert found["scores"]["hard"]["valid_loss"] == row["cut_valid_loss"]
    assert found["scores"]["relaxed"]["valid_loss"] == row["relaxed_valid_loss"]
    assert found["pack"]["rows"] == 6
    assert found["training"]["environment"]["threads"] == 1
    assert found["plugins"]["made_by"]["nasplug-edges"].startswith("0.1.0, source ")
    assert found["schedules"]["temperature"]["use"] == "linear"


def test_it_is_a_function_of_the_folder_alone(study: Study) -> None:
    found = lineage.read(study.folder / "best" / lineage.FILE)
    again = study.lineage()
    assert json.loads(json.dumps(again)) == found
    assert lineage.digest(again) == lineage.digest(found)


def test_a_tampered_lineage_is_refused(study: Study, tmp_path: Path) -> None:
    text = (study.folder / "best" / lineage.FILE).read_text().replace('"seed": ', '"seed": 1')
    (tmp_path / lineage.FILE).write_text(text)
    with pytest.raises(files.DamageError, match="its content was changed"):
        lineage.read(tmp_path / lineage.FILE)
