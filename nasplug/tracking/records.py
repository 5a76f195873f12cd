"""A study as MLflow's records: plain data, scores, curves, data sets."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nasplug import files
from nasplug.errors import scrub
from nasplug.packs import TABLE
from nasplug.plan import row_of
from nasplug.tasks import Task

__all__ = [
    "Row",
    "cleaned",
    "curves_of",
    "datasets_of",
    "now_ms",
    "pack_of",
    "scored_on",
    "scores_of",
    "spread",
]

Row = Mapping[str, Any]  # of the table of replicas

DIGEST = 36  # MLflow's limit
SPLITS = {"train": "training", "valid": "validation", "test": "testing"}  # ours -> MLflow's contexts
COLUMNS = 256  # features listed by name in a data set's schema
LABELS = ("seed", "configuration", "fold", "picked")  # numbers of a row that are neither score nor size


def spread(names: Sequence[str], most: int, needed: str | None) -> list[str]:
    """At most ``most`` of ``names``, evenly over their order, ends first; ``needed`` is always among them."""
    if len(names) <= most:
        return list(names)
    at = [0] if most == 1 else [round(i * (len(names) - 1) / (most - 1)) for i in range(most)]
    if needed is not None:
        place = names.index(needed)
        nearest = min(range(most), key=lambda i: abs(at[i] - place), default=0)
        at[nearest : nearest + 1] = [place]
    return [names[i] for i in sorted(set(at))]


def scores_of(row: Row) -> dict[str, float]:
    """The scores and sizes of a row: whatever is a number, and neither configuration nor label."""
    numbers = {key: value for key, value in row.items() if isinstance(value, int | float) and "." not in key}
    return {key: float(value) for key, value in numbers.items() if key not in LABELS and math.isfinite(value)}


def scored_on(metric: str, task: Task, digest: str) -> tuple[str | None, str | None]:
    """Name and digest of the split that a score was measured on."""
    for split in SPLITS:
        if f"{split}_" in metric:
            return f"{task.name}/{split}", digest[:DIGEST]
    return None, None


def cleaned(path: Path, beside: Path) -> Path:
    """The file, or a copy without secrets where it may hold some: the report shows the config, the table plugins' errors."""
    copy = beside / path.name
    if path.suffix == ".html":
        files.write_text(copy, scrub(path.read_text(encoding="utf-8")))
        return copy
    if path.suffix == ".parquet" and "error" in pq.read_schema(path).names:
        table = files.read_table(path)
        errors = pa.array(scrub(table["error"].to_pylist()), pa.string())
        files.write_table(copy, table.set_column(table.column_names.index("error"), "error", errors))
        return copy
    return path


def curves_of(folder: Path, names: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """The decimated histories of some replicas; only their packs are read."""
    found: dict[str, dict[str, list[float]]] = {}
    for pack in sorted({pack_of(name) for name in names}):
        path = folder / "packs" / pack / TABLE
        curves = files.read_table(path, lambda c: c == "replica" or c.startswith("history_"), [("replica", "in", list(names))])
        for row in curves.to_pylist():
            replica = row.pop("replica")
            found[replica] = {column.removeprefix("history_"): values for column, values in row.items()}
    return found


def datasets_of(task: Task, digest: str) -> list[Any]:
    """The splits as MLflow's data sets. One digest (of everything) and one name per split: MLflow keys them by both."""
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.types import ColSpec, DataType, Schema

    source = CodeDatasetSource({"task": task.name, "source": scrub(task.source), "sha256": digest})
    columns = Schema([ColSpec(DataType.double, feature) for feature in task.features[:COLUMNS]])
    found = []
    for part, context in SPLITS.items():
        profile = {
            "num_rows": getattr(task, part).samples,
            "num_features": task.inputs,
            "kind": task.kind,
            "targets": list(task.targets[:COLUMNS]),
        }
        data = Dataset(
            name=f"{task.name}/{part}",
            digest=digest[:DIGEST],
            source_type="code",
            source=source.to_json(),
            schema=json.dumps({"mlflow_colspec": columns.to_dict()}),
            profile=json.dumps(profile),
        )
        found.append(DatasetInput(data, [InputTag("mlflow.data.context", context)]))
    return found


def pack_of(replica: str) -> str:
    """The pack in a replica's name."""
    return row_of(replica)[0]


def now_ms() -> int:
    """Milliseconds since 1970, as MLflow dates what it is given."""
    return int(time.time() * 1000)
