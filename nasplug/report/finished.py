"""What a report reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nasplug.compact import CompactNetwork
from nasplug.config import StudyConfig
from nasplug.plan import Axis
from nasplug.tasks import Facts, Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Finished"]


class Finished(Protocol):
    """What a report reads of a study that has run."""

    config: StudyConfig

    @property
    def folder(self) -> Path: ...  # noqa: D102

    @property
    def axes(self) -> list[Axis]: ...  # noqa: D102

    @property
    def frame(self) -> pd.DataFrame: ...  # noqa: D102

    def task_of(self, replica: str) -> Task: ...  # noqa: D102

    def facts_of(self, replica: str) -> Facts: ...  # noqa: D102

    def network(self, replica: str | None = None) -> CompactNetwork: ...  # noqa: D102

    def choices(self) -> pd.DataFrame: ...  # noqa: D102
