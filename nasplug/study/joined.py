"""The table of replicas while a study runs: joined from the packs' own when somebody asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nasplug import results

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Joined"]


class Joined:
    """The table of the study in ``folder``: it is written, and read, once after each change."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written = False
        self._frame: pd.DataFrame | None = None

    def change(self) -> None:
        """Packs train, or what rows get beside their packs' columns is another."""
        self._written, self._frame = False, None

    def write(self) -> None:
        """Join the packs' tables, unless nothing has changed since."""
        if not self._written:
            results.merge(self._folder)
            self._written = True

    @property
    def frame(self) -> pd.DataFrame:
        """The table as it is now. Whoever gets it leaves it as it is."""
        self.write()
        if self._frame is None:
            self._frame = results.read(self._folder)
        return self._frame
