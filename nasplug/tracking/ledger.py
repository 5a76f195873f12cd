"""What MLflow has of a study and what it does not have yet, from the study's folder alone.

Three files say so. ``events.jsonl`` has the last run (`Story`). ``telling.json`` is written before MLflow is asked for
anything: the key that finds the study's run there, and where the study ran (`Note`). ``mlflow.json`` is written after MLflow
has answered; its ``told`` is the mark of the last run of which MLflow has everything.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import secrets
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nasplug import files
from nasplug.events import EVENTS, StudyFinished, StudyStarted, StudyStopped, as_event
from nasplug.machine import environment

__all__ = ["NOTE", "STATE_FILE", "Note", "Story", "is_told", "note_of", "story_of", "take_note", "untold", "user"]

STATE_FILE = "mlflow.json"
NOTE = "telling.json"
STUDY_LINE = b'{"event": "study_'  # how lines of the log begin that are no pack's
MARK = 16  # characters
UNTOLD = {
    "finished": "MLflow does not have the results of this study yet",
    "stopped": "MLflow was not told that this study was stopped",
    "": "MLflow was not told that this study was killed",
}


@dataclass(frozen=True, slots=True)
class Story:
    """The last run of a study.

    Attributes:
        study: its config as plain data.
        began: seconds since 1970.
        ended: likewise; None where it runs or was killed.
        end: ``finished``, ``stopped`` or empty.
        reason: why it was stopped.
        mark: what this run is known by.
    """

    study: Mapping[str, Any]
    began: float
    ended: float | None
    end: str
    reason: str
    mark: str

    @property
    def seconds(self) -> float:
        """How long it took; NaN before its end."""
        return float("nan") if self.ended is None else self.ended - self.began


def story_of(folder: Path) -> Story | None:
    """What the log says; None where a study has not run, or its log is lost."""
    try:
        whole, _, _ = (folder / EVENTS).read_bytes().rpartition(b"\n")
    except OSError:
        return None
    first: tuple[bytes, StudyStarted] | None = None
    last: tuple[bytes, StudyFinished | StudyStopped] | None = None
    for line in whole.split(b"\n"):
        if not line.startswith(STUDY_LINE):
            continue
        match as_event(line):
            case StudyStarted() as event if first is None:
                first = line, event
            case StudyFinished() | StudyStopped() as event:
                last = line, event
    if first is None:
        return None
    mark = hashlib.sha256(first[0] + (last[0] if last else b"")).hexdigest()[:MARK]
    if last is None:
        return Story(first[1].study, _at(first[0]), None, "", "", mark)
    stopped = isinstance(last[1], StudyStopped)
    reason = last[1].reason if isinstance(last[1], StudyStopped) else ""
    return Story(first[1].study, _at(first[0]), _at(last[0]), "stopped" if stopped else "finished", reason, mark)


def _at(line: bytes) -> float:
    """When a line was written."""
    try:
        return float(json.loads(line)["at"])
    except (ValueError, LookupError, TypeError):
        return 0.0


@dataclass(frozen=True, slots=True)
class Note:
    """What only the process that runs a study knows of it, for whoever tells MLflow of it later.

    Attributes:
        key: a tag of the study's run in MLflow, which finds it also if the answer to making it never came.
        user: who ran the study.
        plugins: `nasplug.plugins.Plugins.manifest`.
        environment: `nasplug.machine.environment`.
    """

    key: str
    user: str
    plugins: Sequence[Mapping[str, Any]]
    environment: Mapping[str, Any]


def note_of(folder: Path) -> Note | None:
    """The note in a folder; None where there is none that can be read."""
    try:
        return Note(**files.read_json(folder / NOTE))
    except (files.DamageError, TypeError):
        return None


def take_note(folder: Path, plugins: Sequence[Mapping[str, Any]]) -> Note:
    """Write the note of a run that begins here; the key of an earlier run of the study stays."""
    before = note_of(folder)
    note = Note(secrets.token_hex(16) if before is None else before.key, user(), list(plugins), environment())
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / NOTE, asdict(note))
    return note


def is_told(folder: Path, story: Story) -> bool:
    """Whether MLflow has all of the last run."""
    with suppress(files.DamageError):
        return bool(files.read_json(folder / STATE_FILE).get("told") == story.mark)
    return False


def untold(folder: Path) -> str:
    """What MLflow does not have of a study that is tracked, in words, and what to do.

    Empty where it has everything, and while the study runs.
    """
    story = story_of(folder)
    if story is None or story.study.get("mlflow") is None or is_told(folder, story):
        return ""
    if not story.end and files.holder(folder) is not None:
        return ""
    return f"{UNTOLD[story.end]}; to tell it: nasplug sync {shlex.quote(str(folder))}"


def user() -> str:
    """Who runs this, as the machine calls him."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        return "unknown"
