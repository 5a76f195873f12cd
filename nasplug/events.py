"""What happens in a run, as typed events in a log on disk: one JSON object per line, appended whole, read as it grows.

Each run writes ``events.jsonl`` of its study anew. A line that is cut or is no event is skipped by every reader.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from nasplug.errors import scrub
from nasplug.hookspecs import Counts, Progress

__all__ = [
    "EVENTS",
    "Event",
    "Log",
    "PackFailed",
    "PackFinished",
    "PackReported",
    "StudyFinished",
    "StudyStarted",
    "StudyStopped",
    "arguments_of",
    "as_event",
    "as_line",
    "hook_of",
    "read_events",
]

EVENTS = "events.jsonl"
REPORT_SECONDS = 0.2
REPORTS = 1000  # after so many the interval between the reports of a pack has doubled, after twice as many tripled, ...


@dataclass(frozen=True, slots=True)
class StudyStarted:
    """See `nasplug.hookspecs.study_started`."""

    study: Mapping[str, Any]
    folder: Path
    counts: Counts


@dataclass(frozen=True, slots=True)
class PackReported:
    """See `nasplug.hookspecs.pack_reported`."""

    pack: str
    progress: Progress


@dataclass(frozen=True, slots=True)
class PackFinished:
    """See `nasplug.hookspecs.pack_finished`."""

    pack: str
    folder: Path


@dataclass(frozen=True, slots=True)
class PackFailed:
    """See `nasplug.hookspecs.pack_failed`."""

    pack: str
    reason: str


@dataclass(frozen=True, slots=True)
class StudyFinished:
    """See `nasplug.hookspecs.study_finished`."""

    study: Mapping[str, Any]
    folder: Path


@dataclass(frozen=True, slots=True)
class StudyStopped:
    """See `nasplug.hookspecs.study_stopped`."""

    study: Mapping[str, Any]
    folder: Path
    reason: str


Event = StudyStarted | PackReported | PackFinished | PackFailed | StudyFinished | StudyStopped
"""What observers are told; an event's fields are its hook's arguments."""

HOOKS: Mapping[str, type[Event]] = {
    "study_started": StudyStarted,
    "pack_reported": PackReported,
    "pack_finished": PackFinished,
    "pack_failed": PackFailed,
    "study_finished": StudyFinished,
    "study_stopped": StudyStopped,
}
NAMES = {kind: name for name, kind in HOOKS.items()}

Record = TypeVar("Record", Counts, Progress)


def hook_of(event: Event) -> str:
    """The name of the hook that an event is told through."""
    return NAMES[type(event)]


def arguments_of(event: Event) -> dict[str, Any]:
    """The arguments of the event's hook."""
    return {field.name: getattr(event, field.name) for field in fields(event)}


def as_line(event: Event) -> bytes:
    """An event as one line of JSON, with its hook and the time (seconds since 1970), without secrets."""
    plain = {name: _plain(value) for name, value in arguments_of(event).items()}
    told = json.dumps({"event": hook_of(event), "at": round(time.time(), 3), **plain}, default=str, allow_nan=False)
    return told.encode("ascii") + b"\n"


def as_event(line: bytes) -> Event | None:
    """The event of a line; None where it holds none: cut, garbled, or of another kind."""
    try:
        found = json.loads(line)
        kind = HOOKS[found["event"]]
        return kind(**{field.name: _READERS[field.name](found[field.name]) for field in fields(kind)})
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def read_events(path: Path) -> list[Event]:
    """The events of a log; a cut last line is left out.

    Raises:
        OSError: where there is none.
    """
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    return [event for line in whole.split(b"\n") if (event := as_event(line)) is not None]


class Log:
    """The events of one run, from one writer to any number of readers in other threads.

    The log is bounded: a pack's reports follow one another at least `REPORT_SECONDS` apart, and less often the more there are.

    Attributes:
        path: of the file, which is made anew.
        count: how many events were appended, reports not counted.
        trouble: why an event could not be written; empty where all were.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.trouble = ""
        path.unlink(missing_ok=True)  # whoever still reads that of an earlier run keeps it
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | getattr(os, "O_CLOEXEC", 0), 0o644)
        self._size = 0
        self._torn = False
        self._open = True
        self._changed = threading.Condition()
        self._reported: dict[str, float] = {}
        self._reports = 0

    def append(self, event: Event) -> None:
        """Write an event and wake the readers. What cannot be written is lost and stands in `trouble`; nothing is raised."""
        with self._changed:
            if not self._open or (isinstance(event, PackReported) and not self._due(event)):
                return
            line = (b"\n" if self._torn else b"") + as_line(event)
            try:
                written = os.write(self._file, line)
            except OSError as error:
                self.trouble = error.strerror or str(error)
                return
            self._torn = written < len(line)
            self._size += written
            if self._torn:
                self.trouble = "the disk took a part of a line"
                return
            self.count += not isinstance(event, PackReported)
            self._changed.notify_all()

    def _due(self, event: PackReported) -> bool:
        """Whether a report is written: the first, the last, and those between that are not too soon after another."""
        now = time.monotonic()
        interval = REPORT_SECONDS * (1.0 + self._reports / REPORTS)
        if event.progress.progress < 1.0 and now - self._reported.get(event.pack, -math.inf) < interval:
            return False
        self._reported[event.pack] = now
        self._reports += 1
        return True

    def follow(self) -> Iterator[list[Event]]:
        """The events from the first one on, in the portions in which they are found, until the log is closed.

        Within a portion only the last report of each pack is left, so that a slow reader catches up.
        """
        return self._portions(self.path.open("rb"))  # opened now: it can be read to its end whatever becomes of its name

    def _portions(self, file: BinaryIO) -> Iterator[list[Event]]:
        seen, rest, open_ = 0, b"", True
        with file:
            while open_:
                with self._changed:
                    self._changed.wait_for(lambda seen=seen: self._size > seen or not self._open)  # type: ignore[misc]
                    seen, open_ = self._size, self._open
                *lines, rest = (rest + file.read()).split(b"\n")
                found = [event for line in lines if (event := as_event(line)) is not None]
                last = {event.pack: at for at, event in enumerate(found) if isinstance(event, PackReported)}
                yield [event for at, event in enumerate(found) if not isinstance(event, PackReported) or last[event.pack] == at]

    def close(self) -> None:
        """No more events; readers end when they have read what there is."""
        with self._changed:
            if self._open:
                self._open = False
                os.close(self._file)
                self._changed.notify_all()


def _plain(value: Any) -> Any:
    """Counts and progress as mappings, paths as text, numbers that are not finite as null, no secrets."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(inner) for name, inner in asdict(value).items()}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return scrub(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(type(value).__name__)
    return value


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(type(value).__name__)
    return value


def _record(kind: type[Record]) -> Callable[[Any], Record]:
    def read(value: Any) -> Record:
        found = _mapping(value)
        numbers: dict[str, Any] = {name: math.nan if number is None else number for name, number in found.items()}
        if not all(type(number) in (int, float) for number in numbers.values()):
            raise TypeError(kind.__name__)
        return kind(**numbers)

    return read


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "study": _mapping,
    "folder": lambda value: Path(_text(value)),
    "counts": _record(Counts),
    "pack": _text,
    "progress": _record(Progress),
    "reason": _text,
}
