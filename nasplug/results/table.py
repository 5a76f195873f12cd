"""The table of replicas: the packs' tables joined in one file, and read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from nasplug import files
from nasplug.errors import ConfigError
from nasplug.folds import FITTED, FOLD, OverFolds, Steady, independent
from nasplug.packs import OWN, TABLE
from nasplug.plan import LINEAR, halved
from nasplug.results.stored import facts_of_row, plan_of
from nasplug.results.versions import versions

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FAILURES", "cause", "finished_packs", "merge", "read", "write_failures"]

FAILURES = "failures.parquet"


def merge(folder: Path) -> int:
    """Join the packs' tables into ``<folder>/replicas.parquet``, one row group per pack, and return the number of rows.

    One pack is in memory at a time; certificates, and what networks were before hardening, stay in the packs' own
    tables. Columns that a pack does not have are null
    in its rows; a column that is a number in one pack and text in another (a sweep over 32 and "full") is text in all.
    Rows of refitted networks get the scores of their configuration over its folds, and whether they are picked
    (`nasplug.folds`); where selection was counted, rows get how often their inputs were kept. Networks on half samples have no
    rows here.
    """
    found = sorted(file for file in (folder / "packs").glob(f"*/{TABLE}") if not halved(file.parent.name))
    if (folder / FAILURES).exists():
        found.append(folder / FAILURES)
    if not found:
        return 0
    for file in found:
        files.verify(file)
    schemas = [pa.schema([field for field in pq.read_schema(file) if field.name not in OWN]) for file in found]
    over = _over_folds(folder, [file for file, schema in zip(found, schemas, strict=True) if FOLD in schema.names])
    steady = Steady.of(folder)
    schema = _schema([*schemas, *(more.schema for more in (over, steady) if more)])
    rows = 0
    fixed = {pack: one.fixed for one in versions(folder) for pack in one.packs if not pack.startswith(LINEAR)}
    with files.table_writer(folder / TABLE, schema) as writer:
        for file in found:
            table = files.read_table(file, lambda name: name not in OWN)
            table = _filled(table, fixed.get(file.parent.name, {}), schema)
            if over and FOLD in table.column_names:
                table = over.added(table)
            table = steady.added(table) if steady else table
            for missing in schema:
                if missing.name not in table.column_names:
                    table = table.append_column(missing, pa.nulls(table.num_rows, missing.type))
            writer.write_table(table.select(schema.names).cast(schema))
            rows += table.num_rows
    return rows


def _filled(table: pa.Table, values: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    """A pack's rows with what all of them have in places that vary only since the study was extended."""
    for name, value in values.items():
        if name in schema.names and name not in table.column_names:
            table = table.append_column(name, pa.array([value] * table.num_rows))
    return table


def _over_folds(folder: Path, found: Sequence[Path]) -> OverFolds | None:
    """What rows on resamples, in the packs ``found``, get of one another; None without any."""
    refitted = [file for file in found if FITTED in pq.read_schema(file).names]
    samples: dict[int, float] = {}
    for file in refitted:
        plan = plan_of(folder, file.parent.name, ())
        for row, configuration in enumerate(plan.configurations):
            if configuration not in samples:
                samples[configuration] = independent(facts_of_row(folder, plan, row))
    return OverFolds.of(found if refitted else [], samples) if found else None


def finished_packs(folder: Path) -> dict[str, int]:
    """How many networks each finished pack has; one whose table cannot be read is left out."""
    found = {}
    for file in sorted((folder / "packs").glob(f"*/{TABLE}")):
        with suppress(OSError, pa.ArrowException):
            found[file.parent.name] = int(pq.read_metadata(file).num_rows)
    return found


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
    """The table of replicas, one row per replica; with ``histories`` also the decimated curves (list columns).

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
        frame: pd.DataFrame = files.read_table(path, lambda name: histories or not name.startswith("history_")).to_pandas()
    except files.DamageError as error:
        raise files.DamageError(path, error.reason, "run the study again, which writes it anew") from None
    return frame


def write_failures(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One row per replica whose pack failed for good: its configuration, seed, status ``failed`` and the error."""
    path = folder / FAILURES
    if rows:
        names = dict.fromkeys(name for row in rows for name in row)  # packs differ; pyarrow would read the first row's alone
        files.write_table(path, pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows]))
    else:
        path.unlink(missing_ok=True)


def cause(frame: pd.DataFrame) -> str:
    """Why a network diverged, of those that were looked into (`nasplug.causes`); empty where none was."""
    if "error" not in frame:
        return ""
    told = frame.loc[frame["status"] == "diverged", "error"].dropna()
    return str(told.iloc[0]) if len(told) else ""
