"""Where MLflow is, and how patiently it is asked."""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from nasplug import files
from nasplug.errors import ConfigError, NasplugError, scrub

__all__ = [
    "SAFE",
    "artifact_root",
    "as_global",
    "database_of",
    "default_uri",
    "locked",
    "once",
    "probe",
    "quiet",
    "store_of",
    "talking",
    "variables",
]

SAFE = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
"""Environment under which MLflow loads no model that could run code; what is logged here needs none."""

RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_ALONE = threading.RLock()
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def default_uri(store: Path) -> str:
    """The tracking URI of a store that was given none: a database beside the studies."""
    path = str((store.expanduser() / "mlflow.db").resolve())
    for odd in "%?#":  # what ends or escapes a path in an address
        path = path.replace(odd, quote(odd))
    return f"sqlite:///{path}"


def store_of(folder: Path) -> str:
    """The tracking URI of a store or of a study's folder.

    Raises:
        ConfigError: where nothing has been tracked.
    """
    tracked = folder / "mlflow.json"
    if tracked.exists():
        try:
            uri = str(files.read_json(tracked)["uri"])
            database = database_of(uri)
            if database is not None and not database.exists() and (folder.parent / "mlflow.db").exists():
                return default_uri(folder.parent)  # the store has moved since
            return uri
        except files.DamageError as error:
            raise files.DamageError(tracked, error.reason, "run the study again, which writes it anew") from None
    for store in (folder, folder.parent) if folder.is_dir() else ():
        if (store / "mlflow.db").exists():
            return default_uri(store)
    raise ConfigError(f"{folder}: no MLflow store here; give a store (the folder with mlflow.db) or a study's folder")


def database_of(uri: str) -> Path | None:
    """The file of an sqlite URI."""
    scheme, _, rest = uri.partition(":///")
    return Path(unquote(rest.partition("?")[0])).absolute() if scheme.startswith("sqlite") and rest else None


def artifact_root(uri: str, store: str) -> str | None:
    """Where files go: a server knows for itself; beside an sqlite database; in the store for any other database."""
    if uri.startswith(("http://", "https://", "databricks")):
        return None
    database = database_of(uri)
    home = database.parent if database else Path(store).expanduser().resolve()
    return (home / "mlartifacts").as_uri()


def probe(uri: str) -> None:
    """Fail at once where MLflow would try a database for two minutes."""
    database = database_of(uri)
    parts = urlsplit(uri)
    if database is not None:
        if database.exists():
            with closing(sqlite3.connect(database, timeout=5)) as connection:
                connection.execute("PRAGMA schema_version")
    elif parts.scheme.partition("+")[0] in PORTS and parts.hostname:
        socket.create_connection((parts.hostname, parts.port or PORTS[parts.scheme.partition("+")[0]]), timeout=5).close()


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """One process at a time: a lock beside the file, released when its holder ends, by a crash too. Not on Windows."""
    database.parent.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with open(f"{database}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for a while; what the user has set stays."""
    ours = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


@contextmanager
def as_global(uri: str) -> Iterator[None]:
    """MLflow's global tracking URI for a while; its environment variable, which MLflow sets along, is put back too."""
    if uri.startswith(("http://", "https://")):
        yield
        return
    from mlflow.tracking._tracking_service.utils import _use_tracking_uri

    before = os.environ.get("MLFLOW_TRACKING_URI")
    try:
        with _use_tracking_uri(uri):
            yield
    finally:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before


@contextmanager
def talking(uri: str, *, retries: int, seconds: int, told: str) -> Iterator[None]:
    """MLflow calls: without chatter, with bounded patience, and with their failures in our words.

    One thread at a time: MLflow takes patience from the environment, and the place of a model from a global.

    Raises:
        NasplugError: for a place that cannot be reached, or refuses; ``told`` says what is safe and what to do.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when it is imported; nothing leaves unasked
    import mlflow  # noqa: F401 - sets its loggers' levels, so it comes before quiet

    with _ALONE, quiet():
        from alembic.util import CommandError
        from mlflow.exceptions import MlflowException
        from requests import RequestException
        from sqlalchemy.exc import SQLAlchemyError

        patience = {
            RETRIES: str(retries),
            "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds),
            "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
            **SAFE,
        }
        troubles = (MlflowException, RequestException, SQLAlchemyError, CommandError, ImportError, OSError, sqlite3.Error)
        try:
            with variables(patience):
                yield
        except troubles as error:
            reason = str(scrub(" ".join(str(error).split()))).partition(" [SQL: ")[0]  # a page of SQL helps nobody
            if "is full" in reason or "disk I/O error" in reason:
                reason += "; make room on its disk"
            # `from None`: the original may hold the URI with its password, and tracebacks travel
            text = f"MLflow at {scrub(uri)} failed: {type(error).__name__}: {reason[:1000].rstrip('.')}"
            raise NasplugError(f"{text}. {told}" if told else text) from None


@contextmanager
def once() -> Iterator[None]:
    """Within `talking`: requests are sent once. One that makes something may have made it although no answer came."""
    before = os.environ.get(RETRIES)
    os.environ[RETRIES] = "0"
    try:
        yield
    finally:
        os.environ.pop(RETRIES)
        if before is not None:
            os.environ[RETRIES] = before


@contextmanager
def quiet() -> Iterator[None]:
    """No migration logs, retry warnings and hints: errors reach the user in our words."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic", "urllib3")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
