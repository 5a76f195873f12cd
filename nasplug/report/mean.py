"""The mean of several networks, served as one: its files, and what it is worth beside the chosen network."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from nasplug import ensemble, files, lineage, results
from nasplug.report.finished import Finished
from nasplug.results import shown_error

__all__ = ["ENSEMBLE", "ensemble_scores", "ensemble_words", "write_ensemble"]

ENSEMBLE = "ensemble"  # the folder of its files
SCORES = "scores.json"


def write_ensemble(study: Finished, chosen: str) -> None:
    """``ensemble/`` with the mean of the study's best networks and its scores, where the study asks for one; else one of
    an earlier run is removed.

    The members are chosen by validation scores (`nasplug.results.members`); the test split judges once, here.
    """
    folder = study.folder / ENSEMBLE
    if study.config.ensemble is None:
        if folder.is_dir():
            ensemble.remove(folder)
            for name in (SCORES, lineage.FILE):
                (folder / name).unlink(missing_ok=True)
            with suppress(OSError):  # somebody's own file is in it
                folder.rmdir()
        return
    frame = study.frame
    names = results.members(frame, study.config.ensemble)
    made = ensemble.Ensemble({name: study.network(name) for name in names})
    ensemble.save(made, folder)
    task = study.task_of(chosen)
    found = ensemble.scores(made.eval(), task, task.test)
    row = frame[frame["replica"] == chosen].iloc[0]
    words = (
        f"The mean of {len(names)} networks ({made.parameter_count} parameters together) has test error "
        f"{shown_error(task.facts, found['error'])}; the chosen network alone ({int(row['parameters'])} parameters) "
        f"{shown_error(task.facts, float(row['test_error']))}."
    )
    plain: dict[str, Any] = {"sentence": words, "members": names, "parameters": made.parameter_count}
    defined = {f"test_{name}": value for name, value in found.items() if math.isfinite(value)}  # no AUC of one label
    files.write_json(folder / SCORES, plain | defined)


def ensemble_scores(folder: Path) -> dict[str, float]:
    """The scores of the ensemble of a study's folder."""
    told = files.read_json(folder / ENSEMBLE / SCORES)
    return {name: float(value) for name, value in told.items() if isinstance(value, int | float)}


def ensemble_words(study: Finished) -> str:
    """What is said of the ensemble; empty without one."""
    path: Path = study.folder / ENSEMBLE / SCORES
    if study.config.ensemble is None or not path.exists():
        return ""
    return str(files.read_json(path)["sentence"])
