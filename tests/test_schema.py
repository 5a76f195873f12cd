"""MLflow's tables in an sqlite file come whole: after kills, beside older versions, with damage."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from nasplug.errors import NasplugError
from nasplug.tracking.places import default_uri, probe
from nasplug.tracking.schema import alone, prepare, state_of

MAKE = "import sys; from nasplug.tracking.schema import alone\nwith alone(sys.argv[1]): pass"


@pytest.fixture(scope="module")
def current(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database as this MLflow makes it."""
    database = tmp_path_factory.mktemp("current") / "mlflow.db"
    prepare(database)
    return database.read_bytes()


def older(database: Path, current: bytes, *, runs: int) -> None:
    """The same database one revision back: without what the last migration added, and with some runs."""
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config

    database.write_bytes(current)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (7, 'mine', 'active')")
        for number in range(runs):
            connection.execute(
                "INSERT INTO runs (run_uuid, experiment_id, lifecycle_stage) VALUES (?, 7, 'active')", (f"r{number}",)
            )
        connection.commit()
    command.downgrade(_get_alembic_config(f"sqlite:///{database}"), "-1")


def count(database: Path, table: str) -> int:
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])


def test_a_new_file_is_whole_and_nothing_is_left_beside_it(tmp_path: Path, current: bytes) -> None:
    database = tmp_path / "there" / "mlflow.db"
    uri = default_uri(database.parent)
    probe(uri)
    with alone(uri):
        assert state_of(database) == "current"
    assert sorted(p.name for p in database.parent.iterdir()) == ["mlflow.db", "mlflow.db.lock"]
    made = database.stat().st_mtime_ns
    with alone(uri):
        pass
    assert database.stat().st_mtime_ns == made


def test_an_empty_file_gets_its_tables(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    database.touch()
    prepare(database)
    assert state_of(database) == "current"


def test_an_older_file_is_migrated_as_a_copy_and_kept(
    tmp_path: Path, current: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    database = tmp_path / "mlflow.db"
    older(database, current, runs=3)
    assert state_of(database) == "older"
    prepare(database)
    assert state_of(database) == "current"
    assert count(database, "runs") == 3
    (kept,) = tmp_path.glob("mlflow.db.before-*")
    assert state_of(kept) == "older"
    assert count(kept, "runs") == 3
    before, after = [line for line in capsys.readouterr().err.splitlines() if line.startswith("The MLflow database")]
    assert "(3 runs) has the tables of another MLflow. A copy is migrated" in before
    assert "was migrated" in after
    assert str(kept) in before
    assert str(kept) in after


@pytest.mark.parametrize("runs", [0, 2])
def test_what_a_killed_migration_left(tmp_path: Path, current: bytes, runs: int) -> None:
    """Tables of a later migration without its mark: it cannot be migrated. Runs are never thrown away."""
    database = tmp_path / "mlflow.db"
    database.write_bytes(current)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")  # one of the first
        for number in range(runs):
            connection.execute("INSERT INTO runs (run_uuid, experiment_id) VALUES (?, 0)", (f"r{number}",))
        connection.commit()
    if runs:
        before = database.read_bytes()
        with pytest.raises(NasplugError, match=r"holds 2 runs and was left as it is"):
            prepare(database)
        assert database.read_bytes() == before
    else:
        prepare(database)
        assert state_of(database) == "current"
        assert (tmp_path / "mlflow.db.incomplete").exists()


def test_a_file_that_others_write_is_not_replaced(tmp_path: Path, current: bytes) -> None:
    database = tmp_path / "mlflow.db"
    older(database, current, runs=1)
    with closing(sqlite3.connect(database)) as other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("UPDATE experiments SET name = 'yours' WHERE experiment_id = 7")
        other.commit()
        with pytest.raises(NasplugError, match="another process has it open"):
            prepare(database)
    prepare(database)
    assert state_of(database) == "current"


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_nothing_or_everything(tmp_path: Path) -> None:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", MAKE, default_uri(tmp_path / "whole")], check=True)
    took = time.monotonic() - began
    draw = random.Random("schema")
    for number in range(int(os.environ.get("NASPLUG_FAULT_SEEDS", "3"))):
        store = tmp_path / str(number)
        process = subprocess.Popen([sys.executable, "-c", MAKE, default_uri(store)])
        time.sleep(took * draw.uniform(0.2, 1.1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        database = store / "mlflow.db"
        if database.exists():
            assert state_of(database) == "current"
        with alone(default_uri(store)):
            assert state_of(database) == "current"
