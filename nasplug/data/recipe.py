"""A study to start from, for a table: the one place where its defaults stand."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nasplug.tasks import Kind

__all__ = ["TableFacts", "recipe"]


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What a recipe depends on.

    Attributes:
        path: of the file, as it is to be written.
        target: the column or columns to predict.
        kind: of the task.
        rows: of the table.
        numbers, categories: how many columns of each there are to learn from.
        classes: how many labels; 0 for a regression.
        gaps: whether a column to learn from has gaps.
        open: whether the target has gaps.
        exclude: columns that are left out.
        options: what the user decided about reading and the task, as it is written.
    """

    path: str
    target: str | list[str]
    kind: Kind
    rows: int
    numbers: int
    categories: int
    classes: int = 0
    gaps: bool = False
    open: bool = False
    exclude: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


FEW = 2_000  # rows: below, networks are validated by folds, which are rows of a pack as seeds are: two seeds will do
BENDS = 300  # rows: with fewer, ramps fitted noise


def recipe(facts: TableFacts) -> dict[str, Any]:
    """A study as plain data, with the keys of the YAML: 16 levels of one penalty, from dense networks to almost empty ones.

    By experiment on half of the tables of ``benchmarks/tables.md``, judged on the other half. Ramps (``numeric: piecewise``)
    were better from 300 rows on. Two layers of 8 neurons, 3,000 steps and 8 bins were not better than one of 16, 1,000 and 4.
    """
    name = _name(facts.path)
    task: dict[str, Any] = {"use": "table", "path": facts.path, "target": facts.target, **facts.options}
    if facts.exclude:
        task["exclude"] = list(facts.exclude)
    if facts.gaps:
        task.setdefault("missing", "indicator")
    elif facts.open:
        task.setdefault("missing", "drop")
    if facts.numbers and facts.rows >= BENDS:
        task.setdefault("numeric", "piecewise")
    task.setdefault("validation", "auto")
    return {
        "study": name,
        "task": task,
        "method": {"use": "edges", "mode": "annealed", "hidden": [16]},
        "penalties": [
            {"use": "l1", "level": {"log": [1e-4, 1e-1], "points": 16}, "ramp": {"use": "linear", "until": 0.3}},
        ],
        "temperature": {"use": "linear", "start": 1.0, "end": 0.0, "until": 0.5},
        "discretizers": [{"use": "threshold", "tolerance": 0.02}],
        "train": {"steps": 1000, "batch": 64, "lr": 0.01, "finetune": 200},
        "seeds": 2 if facts.rows < FEW else 4,
        "mlflow": {"register": name},
    }


def _name(path: str) -> str:
    """The name of a study, from that of a file."""
    stem = re.split(r"[/\\]", path)[-1].rsplit(".", 1)[0]
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:100]
    return plain if plain and not re.fullmatch(r"[0-9._-]+", plain) else f"table-{plain}".rstrip("-")
