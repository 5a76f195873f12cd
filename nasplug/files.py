"""Whole files: written beside their place and renamed there, and read only when their content is what was written.

A *sealed* file carries ``nasplug-sha256:`` and the SHA-256 of its own bytes, taken with zeros where the digest stands. One rule
for JSON, YAML, safetensors and Parquet, checked before any parser sees a byte: what was cut, garbled or lost a bit is named
(`DamageError`), never used. A seal tells damage, not tampering: who can write a file can seal it.
"""

from __future__ import annotations

import csv
import hashlib
import json
import mmap
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from nasplug.errors import ConfigError, NasplugError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from torch import Tensor

__all__ = [
    "LOCK",
    "DamageError",
    "beside",
    "guarded",
    "holder",
    "locked",
    "put",
    "read_json",
    "read_table",
    "read_tensors",
    "read_text",
    "safe",
    "set_aside",
    "settle",
    "sweep",
    "table_writer",
    "unguarded",
    "unwritten",
    "verify",
    "write_csv",
    "write_json",
    "write_table",
    "write_tensors",
    "write_text",
]

MARK = "nasplug-sha256:"
BLANK = MARK + "0" * 64
SEAL = re.compile(re.escape(MARK).encode() + rb"([0-9a-f]{64})")
KEY = "sealed"  # of a JSON document, of the metadata of tensors and tables
LOCK = ".lock"
LOCK_TRIES = 5
DAMAGED = ".damaged"
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # how a cell begins that a spreadsheet may run
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")  # and what it only takes for a number


class DamageError(ConfigError):
    """A file that is not what was written: cut, empty, changed, or not sealed at all."""

    def __init__(self, path: Path, reason: str, remedy: str = "") -> None:
        super().__init__(f"{path} cannot be read: {reason}" + (f"; {remedy}" if remedy else ""))
        self.path = path
        self.reason = reason


# -- writing -----------------------------------------------------------------------------------------------------------


@contextmanager
def beside(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A place beside ``path`` to write to, with a name that no other process has; renamed to ``path`` when all went well.

    Args:
        path: the file that will be there whole, or as it was before.
        durable: the file survives a loss of power once this has returned (fsync of the file and its folder).

    Raises:
        NasplugError: where it cannot be written: no room, no permission.
    """
    there = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        there.open("xb").close()
        mode = there.stat().st_mode & 0o777  # as the user's umask has it: some writers make files for their owner alone
        yield there
        there.chmod(mode)
        if durable:
            _to_disk(there)
        there.replace(path)
        if durable:
            _to_disk(path.parent)
    except OSError as error:  # Pillow's and pyarrow's are such, too
        raise unwritten(path, error) from error
    finally:
        with suppress(OSError):
            there.unlink(missing_ok=True)


def put(there: Path, path: Path) -> None:
    """A file that is whole takes its place; raises as `beside`."""
    try:
        there.replace(path)
    except OSError as error:
        raise unwritten(path, error) from error


def settle(folder: Path, since: float) -> None:
    """Wait for the disk once, for all files below ``folder`` that were written at ``since`` (`time.time`) or later.

    What was written without `durable` survives a loss of power from here on. A file that goes meanwhile is left out.

    Raises:
        NasplugError: for a file that the disk does not take.
    """
    for path in (folder, *folder.rglob("*")):
        try:
            if path.stat().st_mtime >= since:
                _to_disk(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise unwritten(path, error) from error


def unwritten(path: Path, error: OSError) -> NasplugError:
    """What is said of a file that cannot be written."""
    return NasplugError(f"{path} cannot be written ({error.strerror or error}); mend that and run the same command again")


def _to_disk(path: Path) -> None:
    if sys.platform == "win32" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _seal(path: Path, *, first: bool) -> None:
    """Put the digest where the writer left zeros: at the ``first`` such place, or at the last."""
    blank = BLANK.encode()
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        at = content.find(blank) if first else content.rfind(blank)
        digest = hashlib.sha256(content).hexdigest()
        content[at + len(MARK) : at + len(blank)] = digest.encode()


def write_text(path: Path, text: str, *, comment: str = "") -> None:
    """A text file; with ``comment`` (how a line of one begins) sealed and durable."""
    with beside(path, durable=bool(comment)) as there:
        sealed = f"{text.rstrip()}\n{comment}{BLANK}\n" if comment else text
        there.write_bytes(sealed.encode("utf-8"))
        if comment:
            _seal(there, first=False)


def write_json(path: Path, value: Mapping[str, Any], *, indent: int | None = 1, durable: bool = True) -> None:
    """A sealed JSON document: finite numbers, which read back as the same. Long ones are written without ``indent``."""
    text = json.dumps({**value, KEY: BLANK}, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
    with beside(path, durable=durable) as there:
        there.write_bytes(text.encode("utf-8"))
        _seal(there, first=False)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, durable: bool = True) -> None:
    """A sealed safetensors file. Tensors that share memory are written apart."""
    from safetensors.torch import save_file

    # Cloned where needed: safetensors refuses tensors that share memory, as the layers of one parameter may.
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage().data_ptr()
        found[name] = plain.clone() if storage in seen else plain
        seen.add(storage)
    with beside(path, durable=durable) as there:
        save_file(found, there, metadata={**metadata, KEY: BLANK})
        _seal(there, first=True)


@contextmanager
def table_writer(
    path: Path, schema: pa.Schema, told: Mapping[str, str] | None = None, *, durable: bool = True
) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetWriter` of a sealed table; what is ``told`` is read back by `nasplug.files.read_table`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Of numbers dictionaries take half of the time that writing takes, and room.
    words = [f.name for f in schema if not (pa.types.is_primitive(f.type) or pa.types.is_list(f.type))]
    with beside(path, durable=durable) as there:
        with pq.ParquetWriter(there, schema.with_metadata(told), use_dictionary=words) as writer:
            yield writer
            writer.add_key_value_metadata({KEY: BLANK})
        _seal(there, first=False)


def write_table(path: Path, table: pa.Table, metadata: Mapping[str, str] | None = None, *, durable: bool = True) -> None:
    """A sealed Parquet table."""
    told = table.replace_schema_metadata(metadata)
    with table_writer(path, told.schema, metadata, durable=durable) as writer:
        writer.write_table(told)


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """A table for people, `safe` in a spreadsheet."""
    with beside(path) as there:
        safe(frame).to_csv(there, index=False, quoting=csv.QUOTE_NONNUMERIC)


def safe(frame: pd.DataFrame) -> pd.DataFrame:
    """The same table with each cell and each column's name `guarded`; numbers stay."""
    made: pd.DataFrame = frame.apply(lambda column: column.map(guarded) if column.dtype.kind == "O" else column)
    return made.rename(columns=guarded)


def guarded(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula with an apostrophe in front: ``=x`` as ``'=x``.

    All else stays, also text that is a number: of ``-1`` a spreadsheet makes -1.
    """
    formula = isinstance(value, str) and value.startswith(FORMULA) and not NUMBER.fullmatch(value)
    return f"'{value}" if formula else value


def unguarded(text: str) -> str:
    """What `guarded` was given; other text stays."""
    return text[1:] if text.startswith("'") and guarded(text[1:]) == text else text


# -- reading -----------------------------------------------------------------------------------------------------------


def verify(path: Path) -> None:
    """Refuse a file that is not, byte for byte, what was sealed.

    Raises:
        DamageError: for one that is missing, empty, cut, changed or not sealed.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise DamageError(path, "it is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                _check(path, content)
    except OSError as error:
        raise DamageError(path, error.strerror or str(error)) from None


def _check(path: Path, content: mmap.mmap) -> None:
    at, digests = 0, 0
    while found := SEAL.search(content, at):  # the seal, and what may look like one in somebody's text
        whole = hashlib.sha256(memoryview(content)[: found.start(1)])
        whole.update(b"0" * 64)
        whole.update(memoryview(content)[found.end(1) :])
        if whole.hexdigest().encode() == found[1]:
            return
        at, digests = found.end(), digests + 1
        if digests > 100:
            break
    if digests:
        raise DamageError(path, "its content was changed or cut since it was written (its digest does not fit)")
    raise DamageError(path, "it carries no digest: it was cut, or nasplug did not write it")


def _trouble(path: Path, error: Exception) -> DamageError:
    return DamageError(path, " ".join(str(error).split())[:300] or type(error).__name__)


def read_text(path: Path) -> str:
    """The text of a sealed file.

    Raises:
        DamageError: as `verify`.
    """
    verify(path)
    return path.read_text(encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """The document that `write_json` wrote.

    Raises:
        DamageError: as `verify`.
    """
    try:
        value = json.loads(read_text(path))
        if not isinstance(value, dict):
            raise ValueError("it holds no JSON object")
    except (ValueError, RecursionError) as error:
        raise _trouble(path, error) from None
    value.pop(KEY, None)
    return value


def read_tensors(path: Path, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file that `write_tensors` wrote.

    Raises:
        DamageError: as `verify`.
    """
    verify(path)
    try:
        with safe_open(path, framework="pt", device=device) as file:
            metadata: dict[str, str] = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError) as error:
        raise _trouble(path, error) from None
    metadata.pop(KEY, None)
    return tensors, metadata


def read_table(
    path: Path, columns: Sequence[str] | Callable[[str], bool] | None = None, filters: list[tuple[str, str, Any]] | None = None
) -> pa.Table:
    """A table that `write_table` wrote: some columns (those there are of the named ones, or those it is true of), some rows.

    Raises:
        DamageError: as `verify`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    verify(path)
    try:
        with pq.ParquetFile(path) as file:
            there = file.schema_arrow.names
            chosen = [n for n in there if columns is None or (columns(n) if callable(columns) else n in columns)]
            if filters is None:
                found = file.read(columns=chosen).select(chosen)
                told = found.schema.metadata or {}
                return found.replace_schema_metadata({k: v for k, v in told.items() if k != KEY.encode()} or None)
        return pq.read_table(path, columns=chosen, filters=filters)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _trouble(path, error) from None


# -- folders -----------------------------------------------------------------------------------------------------------


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that a good one can take its place: ``NAME.damaged``, ``NAME.damaged-2``, ..."""
    number = 1
    while (aside := path.with_name(path.name + DAMAGED + (f"-{number}" if number > 1 else ""))).exists():
        number += 1
    path.replace(aside)
    return aside


def sweep(folder: Path) -> None:
    """Remove what a process that was killed left half-written in ``folder`` and below; to be called under its lock."""
    for left in folder.rglob(".*.tmp"):
        with suppress(OSError):
            left.unlink()


@contextmanager
def locked(folder: Path, what: str, name: str = LOCK) -> Iterator[None]:
    """One process at a time writes to ``folder``; readers are never kept waiting. A crash frees it too. ``name``: of its lock.

    Raises:
        ConfigError: when another holds it: ``what`` is running, and where.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    handle = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666)
    with os.fdopen(handle, "r+", encoding="utf-8", errors="replace") as lock:
        for attempt in reversed(range(LOCK_TRIES)):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt:  # it may be somebody who only looks (`holder`)
                    time.sleep(0.02)
                    continue
                whom = lock.read(200).strip() or "another process"
                raise ConfigError(f"{what} is running already ({whom}) in {folder}; wait until it ends, or stop it") from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        lock.flush()
        yield


def holder(folder: Path) -> str | None:
    """Which process writes to ``folder`` (`locked`), in words; None where none does. Nothing is waited for, made or written."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        lock = (folder / LOCK).open(encoding="utf-8", errors="replace")
    except OSError:
        return None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return lock.read(200).strip() or "another process"
    return None
