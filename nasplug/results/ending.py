"""How a sweep ended that ended before all of its networks were trained."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nasplug import files

__all__ = ["ENDING", "Ending", "ending_of", "write_ending"]

ENDING = "ending.json"


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the sweep ended early, and what that leaves out.

    Attributes:
        by: ``budget`` or ``plateau``.
        networks: that the study has.
        untrained: how many of them have no result; of generations that were not drawn an estimate.
        words: the same for people, with what to do.
    """

    by: str
    networks: int
    untrained: int
    words: str

    def plain(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def ending_of(folder: Path) -> Ending | None:
    """How the study's last run ended early; None where it did not, or where nobody can say it any more."""
    if (folder / ENDING).exists():
        with suppress(files.DamageError, TypeError):
            return Ending(**files.read_json(folder / ENDING))
    return None


def write_ending(folder: Path, ending: Ending | None) -> None:
    """``ending.json``; none where all was trained."""
    if ending is None:
        (folder / ENDING).unlink(missing_ok=True)
    else:
        files.write_json(folder / ENDING, ending.plain())
