"""Whole files: what was cut, garbled or lost a bit is named and never used; nothing is ever half there."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nasplug import Study, files
from nasplug.errors import ConfigError
from nasplug.files import DamageError

TABLE = pa.table({"a": [1, 2, 3], "b": ["x", "y", None], "c": pa.array(["{}"] * 3).dictionary_encode()})
TENSORS = {"w": torch.arange(6.0).view(2, 3), "n": torch.tensor([1, 2])}

FORMATS: dict[str, tuple[Callable[[Path], None], Callable[[Path], Any]]] = {
    "json": (lambda path: files.write_json(path, {"a": [0.1, 1], "b": {"é": None}}), files.read_json),
    "text": (lambda path: files.write_text(path, "a: 1\nb: é\n", comment="# "), files.read_text),
    "tensors": (lambda path: files.write_tensors(path, TENSORS, {"step": "3"}), files.read_tensors),
    "table": (lambda path: files.write_table(path, TABLE, {"identity": "i"}), files.read_table),
}


@pytest.fixture(params=sorted(FORMATS))
def sealed(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Callable[[Path], Any]]:
    write, read = FORMATS[request.param]
    write(tmp_path / "file")
    return tmp_path / "file", read


def test_what_was_written_is_read(tmp_path: Path) -> None:
    for name, (write, _) in FORMATS.items():
        write(tmp_path / name)
    assert files.read_json(tmp_path / "json") == {"a": [0.1, 1], "b": {"é": None}}
    assert files.read_text(tmp_path / "text").startswith("a: 1\nb: é\n# nasplug-sha256:")
    tensors, metadata = files.read_tensors(tmp_path / "tensors")
    assert metadata == {"step": "3"}
    assert all(torch.equal(tensors[key], tensor) for key, tensor in TENSORS.items())
    table = files.read_table(tmp_path / "table")
    assert table.equals(TABLE)
    assert table.schema.metadata == {b"identity": b"i"}
    assert files.read_table(tmp_path / "table", ["b", "none"]).column_names == ["b"]
    assert files.read_table(tmp_path / "table", lambda name: name != "b", [("a", ">", 1)]).num_rows == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FORMATS)


def test_every_flipped_bit_is_found(sealed: tuple[Path, Callable[[Path], Any]]) -> None:
    path, read = sealed
    good = path.read_bytes()
    assert files.MARK.encode() in good
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ (1 << at % 8)]) + good[at + 1 :])
        with pytest.raises(DamageError, match="cannot be read"):
            read(path)


def test_every_cut_is_found(sealed: tuple[Path, Callable[[Path], Any]]) -> None:
    path, read = sealed
    good = path.read_bytes()
    for length in range(len(good)):
        path.write_bytes(good[:length])
        with pytest.raises(DamageError, match="cannot be read"):
            read(path)
    path.write_bytes(good + b"\n")
    with pytest.raises(DamageError, match="changed or cut"):
        read(path)


def test_what_is_not_there_or_not_ours_is_refused(sealed: tuple[Path, Callable[[Path], Any]]) -> None:
    path, read = sealed
    path.write_bytes(b'{"a": 1}')
    with pytest.raises(DamageError, match="carries no digest"):
        read(path)
    path.unlink()
    with pytest.raises(DamageError, match="No such file"):
        read(path)
    path.mkdir()
    with pytest.raises(DamageError, match="Is a directory"):
        read(path)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.dictionaries(
        st.text(max_size=5).filter(lambda key: key != "sealed"),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
            max_leaves=8,
        ),
        max_size=4,
    )
)
def test_any_document_reads_back_as_the_same(value: dict[str, Any], tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", value)
    assert files.read_json(tmp_path / "a.json") == json.loads(json.dumps(value)) == value


def test_a_text_that_looks_like_a_seal_does_no_harm(tmp_path: Path) -> None:
    value = {"a": files.BLANK, "b": files.MARK + "f" * 64}
    files.write_json(tmp_path / "a.json", value)
    assert files.read_json(tmp_path / "a.json") == value


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"a": float("nan")})
    with pytest.raises(ZeroDivisionError), files.beside(path) as there:
        there.write_text(f"half {1 / 0}")
    assert files.read_json(path) == {"a": 1}
    assert [found.name for found in tmp_path.iterdir()] == ["a.json"]


def test_files_have_the_mode_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    for name, (write, _) in FORMATS.items():
        write(tmp_path / name)
        assert (tmp_path / name).stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_tensors_that_share_memory_are_written(tmp_path: Path) -> None:
    whole = torch.arange(4.0)
    files.write_tensors(tmp_path / "t", {"a": whole[:2], "b": whole[2:], "c": whole}, {})
    tensors, _ = files.read_tensors(tmp_path / "t")
    assert torch.equal(torch.cat([tensors["a"], tensors["b"]]), tensors["c"])


def _write_often(path: Path, number: int) -> None:
    for count in range(40):
        files.write_json(path, {"writer": number, "count": count, "long": "x" * 5000})


def test_two_processes_never_share_a_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {})
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_often, args=(path, number)) for number in range(2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        files.read_json(path)  # whole at every moment
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert [found.name for found in tmp_path.iterdir()] == ["a.json"]


def test_what_is_set_aside_keeps_its_name(tmp_path: Path) -> None:
    for _ in range(3):
        (tmp_path / "a").write_text("")
        files.set_aside(tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.damaged", "a.damaged-2", "a.damaged-3"]


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / "packs").mkdir()
    code = f"""
import os
from pathlib import Path
from nasplug import Study, files
managers = [files.beside(path) for path in (Path({str(tmp_path)!r}) / "a", Path({str(tmp_path)!r}) / "packs" / "b")]
for manager in managers:
    manager.__enter__().write_text("half")
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert len(list(tmp_path.rglob("*.tmp"))) == 2
    files.sweep(tmp_path)
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_lock_is_one_processes(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from nasplug.errors import ConfigError
from nasplug.files import locked
try:
    with locked(Path({str(tmp_path)!r}), "this study"):
        print("held")
except ConfigError as error:
    print(error)
"""
    ask = [sys.executable, "-c", code]
    with files.locked(tmp_path, "this study"):
        said = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
        assert f"this study is running already (process {os.getpid()} on " in said
        with pytest.raises(ConfigError, match="wait until it ends, or stop it"), files.locked(tmp_path, "this study"):
            pass  # another thread of this process would be refused too
    assert subprocess.run(ask, capture_output=True, text=True, check=True).stdout == "held\n"


def test_tables_for_people_carry_no_formulas(tmp_path: Path) -> None:
    bad = ['=HYPERLINK("http://x","y")', "+1+1", "-1-cmd", "@SUM(A1)", "\tx", "\rx", "\n=1", "-"]
    good = ["-1", "+.5e-3", "plain", "'quoted"]
    frame = pd.DataFrame({"=a": [*bad, *good], "n": [-1.5, 1e-17, 0.1] * 4, "i": range(-4, 8)})
    files.write_csv(tmp_path / "a.csv", frame)
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["'=a"] for row in rows] == [*(f"'{text}" for text in bad), *good]
    assert [files.unguarded(row["'=a"]) for row in rows] == [*bad, *good]
    assert [float(row["n"]) for row in rows] == frame["n"].tolist()
    assert [int(row["i"]) for row in rows] == list(range(-4, 8))


def test_a_study_that_has_ended_waited_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs do not, one by one; in the end all that they wrote does, and what lay there before does not again."""
    waited: set[int] = set()
    real = os.fsync

    def counted(handle: int) -> None:
        waited.add(os.fstat(handle).st_ino)
        real(handle)

    monkeypatch.setattr(os, "fsync", counted)
    raw: dict[str, Any] = {
        "study": "few",
        "store": str(tmp_path),
        "task": {"use": "xor"},
        "method": {"use": "edges", "mode": "l1", "hidden": [2]},
        "train": {"steps": 2},
        "linear": False,
        "mlflow": None,
    }
    folder = Study.from_dict(raw).run("serial", report=False).folder
    written = [folder / "packs", *(folder / "packs").rglob("*")]
    assert len(written) == 5
    assert {path.stat().st_ino for path in written} <= waited
    waited.clear()
    for path in written:
        os.utime(path, (1.0, 1.0))
    files.settle(folder / "packs", 2.0)
    assert not waited
