"""How a study stands, from any process: what its folder says of its last run, and a run that is stopped from outside."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nasplug.errors import ConfigError, NasplugError
from nasplug.events import (
    EVENTS,
    PackFailed,
    PackFinished,
    PackReported,
    StudyFinished,
    StudyStarted,
    StudyStopped,
    read_events,
)
from nasplug.files import LOCK, holder
from nasplug.folder import STUDY_FILE
from nasplug.progress import Tally
from nasplug.results import ending_of
from nasplug.tracking import untold

__all__ = ["Standing", "State", "standing", "standings", "stop"]

State = Literal["new", "running", "finished", "stopped", "killed"]

HOLDER = re.compile(r"process (\d+) on (.*)")
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Standing:
    """How a study stands.

    Attributes:
        folder: of the study.
        state: ``new``: it has never run; ``running``: a process holds its folder; ``finished``; ``stopped``: its last run ended
            early and said so; ``killed``: its last run ended without a word.
        why: of a study that was stopped, or ended early: the reason; of one that runs: which process, on which machine.
        packs, packs_done, packs_failed: of the whole study; those that will come are an estimate where a sampler draws them.
        networks, networks_done: likewise.
        share: how much is trained, in [0, 1].
        best: the smallest validation error of hard networks; None before there is one.
        edges: of the network that has it.
        began: when its last run began, seconds since 1970; None where that is not known.
        ended: when it was last heard of; None likewise.
        left: seconds that a run has before it, at the pace so far; None where that cannot be told.
        untold: what MLflow does not have of it, and how to tell it; empty if it has all, or is not told of it.
    """

    folder: Path
    state: State
    why: str = ""
    packs: int = 0
    packs_done: int = 0
    packs_failed: int = 0
    networks: int = 0
    networks_done: int = 0
    share: float = 0.0
    best: float | None = None
    edges: int | None = None
    began: float | None = None
    ended: float | None = None
    left: float | None = None
    untold: str = ""

    def plain(self) -> dict[str, Any]:
        """Plain JSON."""
        return {name: str(v) if isinstance(v := getattr(self, name), Path) else v for name in self.__slots__}


def standings(store: Path) -> list[Standing]:
    """Of each study in a store, by name; of a study's own folder, the one.

    Raises:
        ConfigError: where there is no study.
    """
    if (store / STUDY_FILE).is_file():
        return [standing(store)]
    found = [standing(path.parent) for path in sorted(store.glob(f"*/{STUDY_FILE}"))]
    if not found:
        raise ConfigError(f"{store}: no study here; needed: the folder of a study, or a store with studies")
    return found


def standing(folder: Path) -> Standing:
    """How the study in ``folder`` stands; nothing is written, and a run is not disturbed.

    Raises:
        ConfigError: for a folder that is no study's.
    """
    if not (folder / STUDY_FILE).is_file():
        raise ConfigError(f"{folder} is not a study's folder (it has no {STUDY_FILE}); give <store>/<study>")
    who = holder(folder)
    tally, end = Tally(), ""
    log = folder / EVENTS
    try:
        events = read_events(log)
        began, ended = _began(log), log.stat().st_mtime
    except OSError:
        return Standing(folder, "new" if who is None else "running", who or "")
    for event in events:
        match event:
            case StudyStarted():
                tally.began(folder, event.counts)
            case PackReported():
                tally.reported(event.pack, event.progress)
            case PackFinished():
                tally.finished(event.pack, folder / "packs" / event.pack)
            case PackFailed():
                tally.lost(event.pack)
            case StudyStopped():
                end = event.reason
            case StudyFinished():
                end = "finished"
    state: State = "killed"
    if who is not None:
        state, end = "running", who
    elif end:
        early = ending_of(folder)
        state, end = ("finished", "" if early is None else early.words) if end == "finished" else ("stopped", end)
    left = tally.left(time.time() - began) if state == "running" and began is not None else math.nan
    return Standing(
        folder,
        state,
        end,
        packs=tally.packs,
        packs_done=len(tally.done),
        packs_failed=len(tally.failed),
        networks=tally.networks,
        networks_done=sum(tally.done.values()),
        share=tally.share,
        best=None if tally.best is None else tally.best[0],
        edges=None if tally.best is None else tally.best[1],
        began=began,
        ended=ended,
        left=None if math.isnan(left) else left,
        untold=untold(folder),
    )


def _began(log: Path) -> float | None:
    """When the first event of a log was written."""
    with log.open("rb") as file:
        try:
            return float(json.loads(file.readline())["at"])
        except (ValueError, LookupError, TypeError):
            return None


def stop(folder: Path, seconds: float = 30.0) -> str:
    """Ask the process that runs the study to stop, as Ctrl-C does, and wait until it has; which one it was.

    Finished packs are kept, and packs that train keep their last checkpoint: the same ``nasplug run`` goes on from there.

    Args:
        folder: of the study.
        seconds: how long to wait.

    Raises:
        ConfigError: for a folder that is no study's, or a study that does not run.
        NasplugError: for a process on another machine, of another user, or that does not end in time.
    """
    if not (folder / STUDY_FILE).is_file():
        raise ConfigError(f"{folder} is not a study's folder (it has no {STUDY_FILE}); give <store>/<study>")
    who = holder(folder)
    if who is None:
        raise ConfigError(f"{folder}: no process runs this study; nothing to stop")
    found = HOLDER.fullmatch(who)
    if found is None:
        raise NasplugError(f"{folder}: {LOCK} does not say which process runs this study ({who!r}); stop it where it runs")
    process, machine = int(found[1]), found[2]
    if machine != socket.gethostname():
        raise NasplugError(f"{folder}: {who} runs this study; stop it there, with nasplug stop on that machine")
    try:
        os.kill(process, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has just ended
    except PermissionError:
        raise NasplugError(f"{folder}: {who} runs this study and belongs to another user; only that user can stop it") from None
    for _ in _until(seconds):
        if holder(folder) != who:
            return who
    raise NasplugError(f"{folder}: {who} was asked to stop and has not ended within {seconds:g} s; it may still do so")


def _until(seconds: float) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(POLL_SECONDS)
