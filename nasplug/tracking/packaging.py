"""The folder of a logged model: all that it takes to answer rows where nasplug is not, and the network's own files."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nasplug import compact, ensemble, rows
from nasplug.compact import CompactNetwork
from nasplug.data.encoder import Column, Encoder
from nasplug.ensemble import Ensemble
from nasplug.export.rows import decoded, raw
from nasplug.machine import version_of
from nasplug.records import answers, reading
from nasplug.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NETWORK", "package"]

NETWORK = "network"  # the network's own files, in a model's folder
CODE, GRAPH, ROWS, SERVED = "model.py", "graph.pt2", "rows.py", "served.json"  # as `nasplug.tracking.pyfunc` has them
EXAMPLE, REQUEST = "input_example.json", "serving_input_example.json"  # as MLflow has them
NEEDED = ("torch", "mlflow", "numpy", "pandas")
CPU = "--extra-index-url https://download.pytorch.org/whl/cpu"  # torch without CUDA: 200 MB instead of several GB
EXAMPLES, LOOKED_AT = 3, 100  # rows of the example, and those that they are chosen from
DIGITS = 5  # of a number beside its spread: more are noise of a float32


def package(network: CompactNetwork | Ensemble, task: Task, folder: Path, record: Any) -> None:
    """Write a model's folder; ``record`` is MLflow's `Model`, which learns what is there.

    Behind convolutions, and of images, a model takes pixels ``(N, I)``; else rows with the columns that the network reads.

    Raises:
        RuntimeError: for functions that `torch.export` cannot trace.
    """
    import mlflow.pyfunc

    folder.mkdir(parents=True, exist_ok=True)
    members = [
        m.record for m in (network.members if isinstance(network, Ensemble) else [network]) if isinstance(m, CompactNetwork)
    ]
    encoder = reading(members[0])[0]
    read = sorted(frozenset[int]().union(*(reading(member)[1] for member in members)))
    columns = [encoder.columns[place] for place in read]
    pixels = task.image is not None
    torch.export.save(compact.export(network, torch.zeros(3, network.record["inputs"], dtype=torch.float64)), folder / GRAPH)
    (folder / ROWS).write_bytes(Path(rows.__file__).read_bytes())
    (folder / CODE).write_bytes(Path(__file__).with_name("pyfunc.py").read_bytes())
    served = {
        "columns": None if pixels else [asdict(column.rule) for column in encoder.columns],
        "read": read,
        "targets": [str(target) for target in network.record["targets"]],
        "link": network.record["link"],
        "outputs": members[0]["widths"][-1],
        "files": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (GRAPH, ROWS)},
    }
    (folder / SERVED).write_text(json.dumps(served, indent=1), encoding="utf-8")
    if isinstance(network, Ensemble):
        ensemble.save(network, folder / NETWORK)
    else:
        compact.save(network, folder / NETWORK)
    record.signature = _signature(members[0], None if pixels else columns)
    record.saved_input_example_info = _write_example(folder, task, encoder, None if pixels else columns)
    told = {"model_code_path": CODE, "model_config": {"only": ""}, "streamable": False} | _write_environment(folder)
    mlflow.pyfunc.add_to_model(record, "mlflow.pyfunc.loaders.code_model", **told)
    record.model_size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    record.save(str(folder / "MLmodel"))


def _signature(record: Mapping[str, Any], columns: Sequence[Column] | None) -> Any:
    """Columns by name, of any type: MLflow refuses whole numbers and gaps of a double, and dates that are text; we read these.

    ``columns``: None for pixels.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec
    from mlflow.types.schema import AnyType

    answered = answers(record, np.empty((0, record["widths"][-1]))).dtypes
    outputs = Schema([ColSpec("double" if dtype.kind == "f" else "string", str(name)) for name, dtype in answered.items()])
    if columns is None:
        return ModelSignature(inputs=Schema([TensorSpec(np.dtype("float64"), (-1, record["inputs"]))]), outputs=outputs)
    any_type = AnyType()  # type: ignore[no-untyped-call]
    inputs = Schema([ColSpec(any_type, column.name) for column in columns]) if columns else None
    return ModelSignature(inputs=inputs, outputs=outputs)


def _write_example(folder: Path, task: Task, encoder: Encoder, columns: Sequence[Column] | None) -> dict[str, str]:
    """Rows as their owner has them, in MLflow's two files; what its record says of them."""
    split = task.train.columns(torch.arange(min(LOOKED_AT, task.train.samples)))
    features = raw(task, split)
    told = {"artifact_path": EXAMPLE, "serving_input_path": REQUEST}
    if columns is None:
        example: Any = features.T[:EXAMPLES].tolist()
        request, told = {"inputs": example}, told | {"type": "ndarray"}
    else:
        example = _rows(encoder, columns, features, task.input_scale.double().numpy())
        request, told = {"dataframe_split": example}, told | {"type": "dataframe", "pandas_orient": "split"}
    for name, value in ((EXAMPLE, example), (REQUEST, request)):
        (folder / name).write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return told


def _rows(encoder: Encoder, columns: Sequence[Column], features: rows.Array, scales: rows.Array) -> dict[str, Any]:
    """Some training rows as plain values; those with the fewest gaps and rare words."""
    frame = decoded(encoder, columns, features)
    odd = np.zeros(len(frame))
    for column in columns:
        values = frame[column.name]
        odd += values.isna() | (~values.isin(column.words) if column.kind == "category" else False)
    frame = frame.iloc[np.argsort(odd, kind="stable")[:EXAMPLES]]
    first = dict(zip(reversed(encoder.groups), reversed(scales), strict=True))  # of a column that of its first feature
    places = {column.name: place for place, column in enumerate(encoder.columns)}
    plain = {column.name: _plain(column, frame[column.name], float(first[places[column.name]])) for column in columns}
    return {
        "columns": list(plain),
        "data": [list(row) for row in zip(*plain.values(), strict=True)] if plain else [[]] * len(frame),
    }


def _plain(column: Column, values: pd.Series[Any], scale: float) -> list[Any]:
    """Values of a column for JSON, None where missing: as many digits as a float32 has beside the column's ``scale``."""
    gaps = values.isna().to_numpy()
    if column.kind == "category":
        told: list[Any] = values.to_list()
    elif column.kind == "boolean":
        told = [bool(value) for value in values]
    elif column.kind == "date":
        told = [_dated(at, scale) for at in values]
    else:
        rounded = np.round(values.to_numpy(dtype=np.float64), DIGITS - math.floor(math.log10(scale or 1.0)))
        whole = bool((np.floor(rounded) == rounded)[~gaps].all()) and float(np.abs(rounded[~gaps]).max(initial=0.0)) < 2**53
        told = [int(value) if whole else float(value) for value in np.where(gaps, 0.0, rounded)]
    return [None if gap else value for gap, value in zip(gaps, told, strict=True)]


def _dated(at: pd.Timestamp, scale: float) -> str:
    """ISO 8601: a day where it is midnight as far as a float32 tells, else with the time of the day, UTC."""
    day = at.round("D")
    if abs((at - day).total_seconds()) <= max(1.0, scale / 10**DIGITS):
        return day.strftime("%Y-%m-%d")
    return at.round("s").strftime("%Y-%m-%dT%H:%M:%S")


def _write_environment(folder: Path) -> dict[str, str]:
    """What a model needs to be loaded, as installed here; nothing is looked up. The files, as MLflow's record names them."""
    needed = [CPU, *(f"{package}=={version_of(package).partition('+')[0]}" for package in NEEDED)]
    python = platform.python_version()
    (folder / "requirements.txt").write_text("\n".join(needed) + "\n")
    build = "".join(f"- {package}\n" for package in ("pip", "setuptools", "wheel"))
    (folder / "python_env.yaml").write_text(
        f"python: {python}\nbuild_dependencies:\n{build}dependencies:\n- -r requirements.txt\n"
    )
    listed = "".join(f"  - {line}\n" for line in needed)
    conda = f"name: mlflow-env\nchannels:\n- conda-forge\ndependencies:\n- python={python}\n- pip\n- pip:\n{listed}"
    (folder / "conda.yaml").write_text(conda)
    return {"conda_env": "conda.yaml", "python_env": "python_env.yaml"}
