"""What a study does with what its packs tell while they train, and with those that fail."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nasplug import results
from nasplug.errors import scrub
from nasplug.events import PackFailed, PackFinished, PackReported
from nasplug.folds import FOLD
from nasplug.hookspecs import Progress
from nasplug.observers import Audience
from nasplug.plan import Axis, Pack, shown_values
from nasplug.runner import Watch
from nasplug.study.halving import Halving

__all__ = ["Ending", "failed_rows", "watch_of"]

_log = logging.getLogger(__name__)

Ending = Callable[[], bool]  # whether packs shall end (`nasplug.runner.Watch`)

MERGE_SECONDS = 10.0  # between two tables of what is there so far, at least
MERGE_SHARE = 0.02  # of the time they may take: one of many packs takes seconds


def watch_of(folder: Path, told: Audience, failed: dict[str, str], ending: Ending, halving: Halving) -> Watch:
    """What a runner tells and asks while packs of the study in ``folder`` train; why packs failed goes into ``failed``.

    From time to time all rows so far are put together into the study's table.
    """
    merged, took = time.monotonic(), 0.0

    def on_report(pack: str, progress: Progress) -> None:
        told.tell(PackReported(pack, progress))

    def on_end(pack: str) -> None:
        nonlocal merged, took
        told.tell(PackFinished(pack, folder / "packs" / pack))
        if halved := results.portioned(folder, pack):
            _log.warning("%s", halved)
        began = time.monotonic()
        if began - merged > max(MERGE_SECONDS, took / MERGE_SHARE):
            results.merge(folder)
            merged = time.monotonic()
            took = merged - began

    def on_failure(pack: str, reason: str) -> None:
        failed[pack] = reason
        told.tell(PackFailed(pack, reason))

    return Watch(on_report, on_end, on_failure, ending, halving.kept, lambda: halving.decide(failed))


def failed_rows(pack: Pack, error: str, found: Sequence[Axis]) -> list[dict[str, Any]]:
    """The rows of the table of a pack that failed; ``found``: what varies."""
    columns = shown_values(pack, found)
    return [
        {
            "replica": replica,
            "configuration": pack.configurations[row],
            "seed": pack.seeds[row],
            **({FOLD: pack.folds[row]} if pack.folds else {}),
            **{path: column[row] for path, column in columns.items()},
            "status": "failed",
            "error": scrub(error),
        }
        for row, replica in enumerate(pack.replicas)
    ]
