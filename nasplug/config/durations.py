"""Times as people write them: 90s, 10m, 1.5h, or a number of seconds."""

from __future__ import annotations

import re

__all__ = ["DURATION_WORDS", "seconds_of"]

DURATION_WORDS = "a time as 90s, 10m or 1.5h, or a number of seconds, above 0"
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
WRITTEN = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?([smh])")


def seconds_of(given: str | float) -> float:
    """Seconds.

    Raises:
        ValueError: for text that is no time, and for what is not above 0.
    """
    found = WRITTEN.fullmatch(given.strip()) if isinstance(given, str) else None
    seconds = float(found[1]) * UNITS[found[2]] if found else 0.0 if isinstance(given, str) else float(given)
    if not seconds > 0.0:
        raise ValueError(f"{given!r}; needed: {DURATION_WORDS}")
    return seconds
