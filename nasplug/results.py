"""What a study earned, read from its folder: the table of replicas, the front, the chosen network."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from nasplug.compact import CompactNetwork, compact
from nasplug.errors import ConfigError, did_you_mean
from nasplug.packs import CERTIFICATE, TABLE, load_networks
from nasplug.plan import task_values as plan_values
from nasplug.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FAILURES",
    "certificate",
    "choose",
    "front",
    "merge",
    "network",
    "plan_of",
    "read",
    "slack",
    "write_certificate",
    "write_failures",
]

FAILURES = "failures.parquet"
LATENCY = "latency_us"  # a limit that is measured and is no column: it belongs to a machine
R2_SLACK = 0.01  # a regression network may lose this share of the target's variance to be called as good as the best


def merge(folder: Path) -> int:
    """Join the packs' tables into ``<folder>/replicas.parquet``, a row group a pack, and return the number of rows.

    One pack is in memory at a time; certificates stay in the packs' own tables. Columns that a pack does not have are null
    in its rows; a column that is a number in one pack and text in another (a sweep over 32 and "full") is text in all.
    """
    files = sorted((folder / "packs").glob(f"*/{TABLE}"))
    if (folder / FAILURES).exists():
        files.append(folder / FAILURES)
    if not files:
        return 0
    schema = _schema([pa.schema([field for field in pq.read_schema(file) if field.name != CERTIFICATE]) for file in files])
    beside = folder / (TABLE + f".{os.getpid()}.tmp")
    rows = 0
    with pq.ParquetWriter(beside, schema) as writer:
        for file in files:
            table = pq.read_table(file, columns=[n for n in pq.read_schema(file).names if n != CERTIFICATE])
            for missing in schema:
                if missing.name not in table.column_names:
                    table = table.append_column(missing, pa.nulls(table.num_rows, missing.type))
            writer.write_table(table.select(schema.names).cast(schema))
            rows += table.num_rows
    beside.replace(folder / TABLE)
    return rows


def _schema(found: Sequence[pa.Schema]) -> pa.Schema:
    try:
        return pa.unify_schemas(found, promote_options="permissive")
    except pa.ArrowTypeError:
        columns = []
        for name in dict.fromkeys(name for schema in found for name in schema.names):
            mine = [pa.schema([schema.field(name)]) for schema in found if name in schema.names]
            try:
                columns.append(pa.unify_schemas(mine, promote_options="permissive").field(0))
            except pa.ArrowTypeError:
                columns.append(pa.field(name, pa.string()))
        return pa.schema(columns)


def read(folder: Path, *, histories: bool = False) -> pd.DataFrame:
    """The table of replicas, a row each; with ``histories`` also the decimated curves (list columns).

    Certificates are left out but for their numbers; `certificate` reads one.

    Raises:
        ConfigError: when the folder holds no results.
    """
    path = folder / TABLE
    if not path.exists():
        raise ConfigError(
            f"{folder} has no {TABLE}; give the folder of a study that has run (<store>/<study>), or run it first"
        )
    try:
        names = [n for n in pq.read_schema(path).names if histories or not n.startswith("history_")]
        frame: pd.DataFrame = pq.read_table(path, columns=names).to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{path} cannot be read ({error}); run the study again, which writes it anew") from None
    return frame


def write_failures(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One row a replica whose pack failed for good: its configuration, seed, status ``failed`` and the error."""
    path = folder / FAILURES
    if rows:
        names = dict.fromkeys(name for row in rows for name in row)  # packs differ; pyarrow would read the first row's alone
        pq.write_table(pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows]), path)
    else:
        path.unlink(missing_ok=True)


def front(frame: pd.DataFrame, error: str = "valid_error", size: str = "edges") -> pd.DataFrame:
    """The Pareto set: finished networks than which none is both smaller and better, smallest first.

    Ties in error and size are settled by the smaller validation loss. Only validation scores are read.
    """
    finished = frame[(frame["status"] == "finished") & frame[error].notna()]
    ordered = finished.sort_values([size, error, "valid_loss"], kind="stable")
    best = ordered[error].cummin().shift(fill_value=float("inf"))
    return ordered[ordered[error] < best].reset_index(drop=True)


def slack(task: Task, best_error: float) -> float:
    """How much worse than the best a network may be on the validation split and still count as good.

    Labels: one standard error (Breiman's rule) of the best share of wrong labels, with one wrong and one right label added
    so that a best of 0 does not pretend to be certain. Regression: 1 % of the target's variance (R2 loses .01).
    """
    if task.kind == "regression":
        y = task.valid.y
        return R2_SLACK * float((y - y.mean(-1, keepdim=True)).square().mean())
    n = task.valid.samples
    return task.standard_error((best_error * n + 1.0) / (n + 2.0), task.valid)


def choose(frame: pd.DataFrame, task_of: Callable[[str], Task]) -> pd.Series[Any]:
    """The network to serve: the smallest on the front whose validation error is within `slack` of the best.

    Args:
        frame: a row a replica.
        task_of: what a replica was trained on; that of the best one sets the slack.

    Raises:
        ConfigError: when no network finished.
    """
    candidates = front(frame)
    if candidates.empty:
        raise ConfigError(
            "no network of this study finished with finite scores; see the column 'status' of its table, "
            "and try a smaller learning rate"
        )
    best = candidates.iloc[int(candidates["valid_error"].argmin())]
    allowed = float(best["valid_error"]) + slack(task_of(str(best["replica"])), float(best["valid_error"]))
    return candidates[candidates["valid_error"] <= allowed].iloc[0]


def choices(frame: pd.DataFrame, places: Sequence[str], task_of: Callable[[str], Task]) -> pd.DataFrame:
    """The network to serve for each data set, a row each; ``places`` of the study tell data sets apart.

    Errors of different data sets do not compare, so each has its own front. One of which nothing finished has no row.
    """
    import pandas as pd

    finished = frame[frame["status"] == "finished"]
    groups = [part for _, part in finished.groupby(list(places), sort=False, dropna=False)] if places else [finished]
    chosen = [choose(part, task_of) for part in groups if not front(part).empty]
    return pd.DataFrame(chosen).reset_index(drop=True)


def within(
    frame: pd.DataFrame, limits: Mapping[str, float], latency_of: Callable[[str], float], error: str = "valid_error"
) -> pd.Series[Any]:
    """The finished network of the smallest validation error that keeps every limit; nothing is trained for it.

    Args:
        frame: a row a replica.
        limits: column -> the most it may be (``edges``, ``parameters``, ``neurons``, ...); ``latency_us`` is measured.
        latency_of: microseconds of a replica, asked from the best one on until one keeps the limit.
        error: what is ranked by.

    Raises:
        ConfigError: for a column that is not there or holds no numbers, or limits that no network keeps.
    """
    asked = {name: most for name, most in limits.items() if name != LATENCY}
    numbers = sorted(name for name in frame.columns if frame[name].dtype.kind in "iuf" and "." not in name)
    for name in asked:
        if name not in numbers:
            raise ConfigError(
                f"limit {name!r}: is not a column with numbers; there are: {LATENCY}, {', '.join(numbers)}."
                + did_you_mean(name, [LATENCY, *numbers])
            )
    found = frame[(frame["status"] == "finished") & frame[error].notna()]
    for name, most in asked.items():
        found = found[found[name] <= most]
    for _, row in found.sort_values([error, "valid_loss"], kind="stable").iterrows():
        if LATENCY not in limits or latency_of(str(row["replica"])) <= limits[LATENCY]:
            return row
    kept = ", ".join(f"{name} <= {most:g}" for name, most in limits.items())
    least = ", ".join(f"{name} {frame.loc[frame['status'] == 'finished', name].min():g}" for name in asked)
    raise ConfigError(f"no finished network keeps {kept}{f'; the smallest: {least}' if least else ''}. Raise a limit")


def latency(network: CompactNetwork, samples: int = 1) -> float:
    """Microseconds that a call with ``samples`` rows takes on one thread of this CPU: the median of 30 after warming up."""
    x = torch.zeros(samples, network.record["inputs"])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            times = []
            for _ in range(40):
                began = time.perf_counter()
                network(x)
                times.append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
    return 1e6 * statistics.median(times[10:])


def plan_of(folder: Path, replica: str) -> dict[str, Any]:
    """What a replica's finished pack was: its values, columns and seeds as plain data.

    Raises:
        ConfigError: for a name that is not a replica of this study, or a pack that has not finished.
    """
    path = folder / "packs" / replica.partition("/")[0] / "pack.json"
    try:
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["pack"]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"{replica!r}: {path} cannot be read ({error}); replicas are named as in the column 'replica', like p0000/0012"
        ) from None
    return plan


def task_values(folder: Path, replica: str) -> dict[str, Any]:
    """What a replica's task has in the places of the study that vary: path -> value.

    Raises:
        ConfigError: as `plan_of`.
    """
    plan = plan_of(folder, replica)
    return plan_values(plan["values"], plan["columns"], int(replica.partition("/")[2] or 0))


def certificate(folder: Path, replica: str) -> dict[str, Any] | None:
    """What a discretizer certified of a replica (`nasplug.contracts.Certifying`); None where none did."""
    path = folder / "packs" / replica.partition("/")[0] / TABLE
    if CERTIFICATE not in pq.read_schema(path).names:
        return None
    (text,) = pq.read_table(path, columns=[CERTIFICATE], filters=[("replica", "=", replica)])[CERTIFICATE].to_pylist()
    found: dict[str, Any] = json.loads(text)
    return found


def write_certificate(folder: Path, replica: str, to: Path) -> None:
    """``certificate.json`` in the folder ``to``, where the replica has one."""
    found = certificate(folder, replica)
    if found is not None:
        (to / "certificate.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def network(folder: Path, replica: str, task: Task | None = None) -> CompactNetwork:
    """A replica's hard network as a small module (with ``task``: on raw features, in the target's units).

    Raises:
        ConfigError: for a name that is not a replica of this study.
    """
    pack, _, row = replica.partition("/")
    if not (row.isascii() and row.isdigit()) or not (folder / "packs" / pack).is_dir():
        raise ConfigError(f"{replica!r} is not a replica of {folder}; names look like p0000/0012 (column 'replica')")
    nets = load_networks(folder / "packs" / pack)
    if int(row) >= nets.replicas:
        raise ConfigError(f"{replica!r}: pack {pack} has {nets.replicas} networks, 0000 to {nets.replicas - 1:04d}")
    return compact(nets, int(row), task)
