"""The log of a run: what is written is read again, in order and whole, whatever becomes of its last line."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasplug.events import (
    Event,
    Log,
    PackFailed,
    PackFinished,
    PackReported,
    StudyFinished,
    StudyStarted,
    StudyStopped,
    arguments_of,
    as_event,
    as_line,
    hook_of,
    read_events,
)
from nasplug.hookspecs import Counts, Progress

FOLDER = Path("/runs/a b/ü")
STUDY = {"study": "s", "train": {"steps": 3, "lr": {"log": [1e-5, 1e-1], "points": 3}}, "mlflow": None}

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 10**12)
progresses = st.builds(
    Progress, st.floats(0, 0.99), counts, counts, counts, counts, numbers | st.just(math.nan), numbers, numbers
)
words = texts.map(lambda text: text.replace(":", ""))  # no URI, hence no secret
plain = st.dictionaries(texts, st.none() | st.booleans() | counts | numbers | words, max_size=4)
drawn: st.SearchStrategy[Event] = st.one_of(
    st.builds(StudyStarted, plain, st.just(FOLDER), st.builds(Counts, counts, counts, counts, counts)),
    st.builds(PackReported, texts, progresses),
    st.builds(PackFinished, texts, st.just(FOLDER)),
    st.builds(PackFailed, texts, words),
    st.builds(StudyFinished, plain, st.just(FOLDER)),
    st.builds(StudyStopped, plain, st.just(FOLDER), words),
)


def report(pack: str, share: float = 0.5) -> PackReported:
    return PackReported(pack, Progress(share, 1, 2, 4, 0, 0.25, 1.0, 4.0))


def same(one: Any, other: Any) -> bool:
    """Equal, with NaN equal to itself."""
    return repr(one) == repr(other)


@given(drawn)
def test_an_event_is_read_as_it_was_written(event: Event) -> None:
    line = as_line(event)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert same(as_event(line), event)
    assert set(arguments_of(event)) < set(json.loads(line))


@given(st.lists(drawn, min_size=1, max_size=4), st.floats(0, 1))
def test_a_log_that_is_cut_anywhere_loses_its_last_line_alone(
    tmp_path_factory: pytest.TempPathFactory, told: list[Event], share: float
) -> None:
    path = tmp_path_factory.mktemp("cut") / "events.jsonl"
    lines = [as_line(event) for event in told]
    whole = b"".join(lines)
    cut = round(share * len(whole))
    path.write_bytes(whole[:cut])
    left = next((n for n in range(len(lines), -1, -1) if len(b"".join(lines[:n])) <= cut), 0)
    assert same(read_events(path), told[:left])


@given(st.lists(drawn, min_size=1, max_size=3), st.binary(max_size=60).filter(lambda b: b"\n" not in b))
def test_a_garbled_line_is_no_event_and_costs_no_other(
    tmp_path_factory: pytest.TempPathFactory, told: list[Event], garbage: bytes
) -> None:
    path = tmp_path_factory.mktemp("garbled") / "events.jsonl"
    path.write_bytes(b"".join(as_line(event) + garbage + b"\n" for event in told))
    assert same(read_events(path), told)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"null",
        b'{"event": "pack_failed"}',
        b'{"event": [], "pack": "p"}',
        b'{"event": "pack_failed", "pack": 3, "reason": "r"}',
        b'{"event": "pack_reported", "pack": "p", "progress": {"progress": "much"}}',
        b'{"event": "study_started", "study": [], "folder": "f", "counts": {"packs": 1, "networks": 1}}',
        b'{"event": "unheard_of"}',
        b"[" * 100_000,
        b"\xff\xfe{}",
    ],
)
def test_what_is_no_event(line: bytes) -> None:
    assert as_event(line) is None


def test_secrets_and_infinities_stay_out_of_the_log() -> None:
    study = {"mlflow": {"uri": "http://me:hush@host/?token=hush"}, "x": math.inf}
    line = as_line(StudyFinished(study, FOLDER))
    assert b"hush" not in line
    assert json.loads(line)["study"] == {"mlflow": {"uri": "http://host/?token=***"}, "x": None}
    assert hook_of(StudyFinished(study, FOLDER)) == "study_finished"


def followed(log: Log) -> tuple[list[Event], threading.Thread]:
    found: list[Event] = []
    portions = log.follow()

    def read() -> None:
        for portion in portions:
            found.extend(portion)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return found, thread


def test_readers_in_threads_hear_everything_in_order(tmp_path: Path) -> None:
    log = Log(tmp_path / "events.jsonl")
    readers = [followed(log) for _ in range(3)]
    told: list[Event] = [PackFailed(f"p{n:04d}", "because") for n in range(500)]
    for event in told:
        log.append(event)
    late, thread = followed(log)
    log.append(StudyFinished({}, FOLDER))
    log.close()
    for found, reader in [*readers, (late, thread)]:
        reader.join(10)
        assert found == [*told, StudyFinished({}, FOLDER)]
    assert log.count == 501
    assert read_events(log.path) == late
    log.append(told[0])  # closed: nothing is written, nothing raised
    assert len(read_events(log.path)) == 501


def test_reports_are_bounded_and_a_slow_reader_gets_the_last_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    log = Log(tmp_path / "events.jsonl")
    for tick in range(20_000):  # 2,000 seconds of two packs that report ten times a second each
        now[0] = tick / 10
        log.append(report("p0000", tick / 20_000))
        log.append(report("p0001"))
    log.append(report("p0000", 1.0))
    log.append(PackFailed("p0001", "because"))
    log.close()
    written = read_events(log.path)
    assert 1_000 < len(written) < 10_000  # of 40,000, fewer and fewer
    assert os.path.getsize(log.path) < 3_000_000
    (portion,) = (portion for portion in log.follow() if portion)
    assert portion == [report("p0001"), report("p0000", 1.0), PackFailed("p0001", "because")]


def test_a_run_begins_a_log_anew_and_leaves_that_of_an_earlier_run_to_its_readers(tmp_path: Path) -> None:
    first = Log(tmp_path / "events.jsonl")
    portions = first.follow()
    first.append(PackFailed("p0000", "because"))
    second = Log(tmp_path / "events.jsonl")
    first.append(PackFailed("p0001", "because"))
    first.close()
    found = [event for portion in portions for event in portion]
    assert found == [PackFailed("p0000", "because"), PackFailed("p0001", "because")]
    second.append(StudyFinished({}, FOLDER))
    second.close()
    assert read_events(second.path) == [StudyFinished({}, FOLDER)]


def test_a_log_that_is_removed_or_emptied_by_a_stranger_stops_nobody(tmp_path: Path) -> None:
    log = Log(tmp_path / "events.jsonl")
    found, reader = followed(log)
    log.append(PackFailed("p0000", "because"))
    log.path.unlink()
    log.append(PackFailed("p0001", "because"))
    log.close()
    reader.join(10)
    assert [event.pack for event in found if isinstance(event, PackFailed)] == ["p0000", "p0001"]


def test_a_full_disk_is_remembered_and_raises_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(tmp_path / "events.jsonl")
    write = os.write

    def partly(file: int, data: bytes) -> int:
        return write(file, data[:10])

    def full(file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    log.append(PackFailed("p0000", "because"))
    monkeypatch.setattr(os, "write", partly)
    log.append(PackFailed("p0001", "because"))
    monkeypatch.setattr(os, "write", full)
    log.append(PackFailed("p0002", "because"))
    assert log.trouble == "No space left on device"
    monkeypatch.setattr(os, "write", write)
    log.append(PackFailed("p0003", "because"))
    log.close()
    assert read_events(log.path) == [PackFailed("p0000", "because"), PackFailed("p0003", "because")]
