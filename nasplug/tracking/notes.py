"""What a person reads on MLflow's page: Markdown about a study, a registered model and a version of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasplug import files, results
from nasplug.console import one_line
from nasplug.tasks import Facts
from nasplug.tracking.records import Row

__all__ = ["address", "model_note", "plain", "study_note", "version_note"]

LINEAR, REPORT = "linear.json", "report.html"
LISTED = 12  # names of columns
MARKS = re.compile(r"([\\`*_{}\[\]()#+!|<>~])")


def plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return MARKS.sub(r"\\\1", one_line(text))


def _sizes(row: Row, facts: Facts) -> str:
    of = len(facts.columns or facts.features)
    return f"{int(row['parameters']):,} parameters, {int(row['edges']):,} edges, {int(row['inputs'])} of {of} inputs"


def _purpose(facts: Facts) -> str:
    """``tells yes from no``, ``tells 5 labels apart (a, b, ...)``, ``predicts price``."""
    names = [plain(name) for name in facts.targets[:LISTED]]
    more = ", ..." if len(facts.targets) > LISTED else ""
    if facts.kind == "regression":
        return f"predicts {', '.join(names)}{more}"
    if len(facts.targets) == 2:
        return f"tells {names[1]} from {names[0]}"
    return f"tells {len(facts.targets)} labels apart ({', '.join(names)}{more})"


def _errors(row: Row, facts: Facts) -> list[str]:
    return [results.shown_error(facts, float(row[f"{part}_error"])) for part in ("valid", "test")]


def _linear(folder: Path) -> str:
    """Whether a linear model is as good, as the report says it; empty where none was written."""
    try:
        return str(files.read_json(folder / LINEAR)["sentence"])
    except (files.DamageError, OSError, LookupError):
        return ""


def study_note(folder: Path, facts: Facts, row: Row, counts: Mapping[str, int], front: int, page: str) -> str:
    """The verdict, the chosen network, and where the report is.

    Args:
        folder: of the study.
        facts: of the chosen network's task.
        row: the chosen network's.
        counts: status -> how many networks.
        front: how many are on it.
        page: the run's address on MLflow's page, without its server.
    """
    valid, test = _errors(row, facts)
    lines = [
        f"**{plain(str(row['replica']))}** {_purpose(facts)} with {_sizes(row, facts)}.",
        "",
        f"| | chosen network | always {'the mean' if facts.kind == 'regression' else 'the most frequent label'} |",
        "|---|---|---|",
    ]
    for name, part, value in (("validation error", "valid", valid), ("test error", "test", test)):
        trivial = facts.trivial.get(f"{part}_error")
        lines.append(f"| {name} | {value} | {'' if trivial is None else results.shown_error(facts, trivial)} |")
    total = sum(counts.values())
    told = ", ".join(f"{n:,} {status}" for status, n in counts.items() if n)
    lines += ["", plain(_linear(folder)), "", f"{total:,} networks: {told}; {front} on the front."]
    names = [name for name in (REPORT, "front.csv", "study.yaml") if name == "study.yaml" or (folder / name).exists()]
    lines += ["", " · ".join(f"[{name}]({page}/artifacts/{name})" for name in names)]
    return "\n".join(lines)


def version_note(study: str, facts: Facts, row: Row, columns: tuple[str, ...], page: str) -> str:
    """How good a version is, what it reads, and which run it is of."""
    valid, test = _errors(row, facts)
    names = ", ".join(map(plain, columns[:LISTED])) + (f" and {len(columns) - LISTED} more" if len(columns) > LISTED else "")
    return (
        f"Validation error **{valid}**, test error **{test}**; {_sizes(row, facts)}.\n\n"
        f"It reads {names or 'nothing: it is a constant'}.\n\n"
        f"{plain(str(row['replica']))} of study {plain(study)}: [its run]({page})"
    )


def model_note(name: str, facts: Facts) -> str:
    """What a registered model is for, and how it is loaded."""
    code = f'mlflow.pyfunc.load_model("models:/{name}@champion").predict(data_frame)'
    return (
        f"A small network that {_purpose(facts)}, made by nasplug.\n\n```python\n{code}\n```\n\n"
        "The tags of each version say where it came from."
    )


def address(experiment: Any, run: Any) -> str:
    """A run on MLflow's page, from anywhere on it."""
    return f"#/experiments/{experiment}/runs/{run}"
