"""The tables of MLflow: in an sqlite file as a whole or not at all, whenever a process is killed; in PostgreSQL made by one.

MLflow makes its tables in some fifty migrations, in place. One that is killed among them leaves a file that no later start can
use. So a new file is made beside its place and then renamed, and an older one is migrated as a copy that replaces it.
PostgreSQL takes back what a killed one did; there, two that migrate at once fail.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Literal

from nasplug.errors import NasplugError
from nasplug.tracking.places import database_of, locked

__all__ = ["State", "alone", "prepare", "state_of", "whole"]

State = Literal["none", "older", "current"]
TURN = int.from_bytes(b"nasplug", "big")  # the number of PostgreSQL's lock


@contextmanager
def alone(uri: str) -> Iterator[None]:
    """One process at a time with an sqlite file whose tables are whole; for any other URI nothing is done.

    Raises:
        NasplugError: for a file whose tables cannot be made current.
    """
    database = database_of(uri)
    if database is None:
        yield
        return
    with locked(database):
        prepare(database)
        yield


def whole(uri: str) -> None:
    """Make the tables of an sqlite file or in a PostgreSQL database whole where they are not; nothing for any other URI.

    Whoever finds them whole waits for nobody: many studies may begin on one store at once.

    Raises:
        NasplugError: for a file whose tables cannot be made current.
    """
    database = database_of(uri)
    if database is not None and state_of(database) != "current":
        with alone(uri):
            pass
    if uri.startswith("postgresql"):
        _in_turn(uri)


def _in_turn(uri: str) -> None:
    """Make the tables of a new PostgreSQL database; those of another MLflow are left to that one's words.

    Who finds them missing meanwhile waits, on whatever machine. The lock is the connection's, and ends with it.
    """
    import sqlalchemy
    from mlflow.store.db.utils import _all_tables_exist, _get_schema_version, _initialize_tables

    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool)
    try:
        if _get_schema_version(engine) == _head():  # type: ignore[no-untyped-call]
            return
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:turn)"), {"turn": TURN})
            if not _all_tables_exist(engine):  # type: ignore[no-untyped-call]
                _initialize_tables(engine)  # type: ignore[no-untyped-call]
    finally:
        engine.dispose()


@lru_cache(maxsize=1)
def _head() -> str:
    """The last migration of the installed MLflow; reading all of them takes a while."""
    from mlflow.store.db.utils import _get_latest_schema_revision

    return str(_get_latest_schema_revision())  # type: ignore[no-untyped-call]


def state_of(database: Path) -> State:
    """Whether the file has no tables of MLflow, those of another version, or those of this one.

    Raises:
        sqlite3.Error: for a file that is no database.
    """
    if not database.exists():
        return "none"
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {name for name in names if not name.startswith(("alembic_", "sqlite_"))}:
            return "none"
        marked = "alembic_version" in names
        found = connection.execute("SELECT version_num FROM alembic_version").fetchall() if marked else []
    return "current" if found == [(_head(),)] else "older"


def prepare(database: Path) -> None:
    """Make the file's tables those of the installed MLflow; to be called by one process at a time.

    What an older file held is kept as ``<file>.before-<version of MLflow>``. What a killed migration left, and holds no run, is
    set aside as ``<file>.incomplete`` and made anew.

    Raises:
        NasplugError: for a file that holds runs and cannot be migrated. It stays as it is.
    """
    state = state_of(database)
    if state == "current":
        return
    beside = database.with_name(f"{database.name}.{os.getpid()}.new")
    try:
        if state == "none":
            _migrate(beside)
        else:
            _migrate_copy(database, beside)
        beside.replace(database)
    finally:
        for left in (beside, *(beside.with_name(beside.name + end) for end in ("-journal", "-wal", "-shm"))):
            with suppress(OSError):
                left.unlink()


def _migrate(database: Path) -> None:
    """Run all migrations that the file has not seen."""
    import sqlalchemy
    from mlflow.store.db.utils import _initialize_tables
    from sqlalchemy.engine import URL

    engine = sqlalchemy.create_engine(URL.create("sqlite", database=str(database)), poolclass=sqlalchemy.pool.NullPool)
    try:
        _initialize_tables(engine)  # type: ignore[no-untyped-call]
    finally:
        engine.dispose()


def _migrate_copy(database: Path, beside: Path) -> None:
    """A current copy of an older file."""
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from mlflow.version import VERSION
    from sqlalchemy.exc import SQLAlchemyError

    kept = database.with_name(f"{database.name}.before-{VERSION}")
    with closing(sqlite3.connect(database, timeout=30)) as old:
        runs = _runs(old)
    if runs:
        words = f"{runs} run{'' if runs == 1 else 's'}"
        _say(
            f"The MLflow database {database} ({words}) has the tables of another MLflow. A copy is migrated to MLflow "
            f"{VERSION} and then takes its place; as it is now, it is kept: {kept}"
        )
    with closing(sqlite3.connect(database, timeout=30)) as old, closing(sqlite3.connect(beside)) as new:
        old.backup(new)
        old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if database.with_name(f"{database.name}-wal").exists():  # its log would be applied to the file that takes its place
        raise NasplugError(
            f"{database} has tables of another MLflow, and another process has it open; stop that (nasplug ui, mlflow server) "
            "and run the same command again"
        )
    try:
        _migrate(beside)
    except (SQLAlchemyError, CommandError, MlflowException) as error:  # of tables that a migration does not expect
        if runs:
            raise NasplugError(
                f"the tables of {database} are of another MLflow and cannot be migrated to {VERSION}: {type(error).__name__}: "
                f"{str(error).splitlines()[0][:300]}. It holds {runs} runs and was left as it is; use the MLflow that made it, "
                "or give another mlflow.uri or store"
            ) from None
        beside.unlink()
        database.replace(database.with_name(f"{database.name}.incomplete"))
        _migrate(beside)
        return
    if not kept.exists():
        with closing(sqlite3.connect(database, timeout=30)) as old, closing(sqlite3.connect(kept)) as copy:
            old.backup(copy)
    _say(f"The MLflow database {database} was migrated to MLflow {VERSION}; it was before: {kept}")


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _runs(connection: sqlite3.Connection) -> int:
    try:
        return int(connection.execute("SELECT COUNT(*) FROM runs").fetchone()[0])
    except sqlite3.Error:
        return 0
