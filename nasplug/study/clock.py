"""How long a study has run its packs, over all its runs, and whether that is as long as it may."""

from __future__ import annotations

import logging
import math
import time
from contextlib import suppress
from pathlib import Path

from nasplug import files

__all__ = ["CLOCK", "Clock", "spent"]

_log = logging.getLogger(__name__)

CLOCK = "clock.json"
SAVE_SECONDS = 5.0  # what a run that is killed is not charged for, at most


def spent(folder: Path) -> float:
    """The seconds that a study has run its packs so far; 0 where nobody can say it any more."""
    return _kept(folder / CLOCK) or 0.0


def _kept(path: Path) -> float | None:
    """The seconds in a file; None where it cannot be read."""
    if path.exists():
        with suppress(files.DamageError, LookupError, TypeError, ValueError):
            seconds = float(files.read_json(path)["seconds"])
            return seconds if math.isfinite(seconds) else None
    return None


class Clock:
    """Counts the seconds of the present run beside those of the runs before it, and keeps the sum in ``clock.json``.

    Args:
        folder: of the study.
        budget: seconds.
    """

    def __init__(self, folder: Path, budget: float) -> None:
        self._path = folder / CLOCK
        self.budget = budget
        self._before = spent(folder)
        if self._path.exists() and _kept(self._path) is None:
            told = "" if math.isinf(budget) else f"; the budget of {budget:g} s counts from 0 again"
            _log.warning("%s cannot be read: nobody knows how long earlier runs took%s", self._path, told)
        self._began = self._saved = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return self._before + time.monotonic() - self._began

    @property
    def over(self) -> bool:
        """Whether the budget is spent."""
        return self.seconds >= self.budget

    def tick(self) -> None:
        """Keep the seconds so far, now and then. To be called often."""
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Keep the seconds so far."""
        self._saved = time.monotonic()
        files.write_json(self._path, {"seconds": round(self.seconds, 3)})
