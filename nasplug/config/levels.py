"""A row that passes through the levels of a penalty, as it is written in a study."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, Field

from nasplug.config.limits import MOST_STEPS
from nasplug.config.sweeps import Strict

__all__ = ["LevelPath"]


class LevelPath(BaseModel):
    """Each row passes through all values of one level, the weakest first, and goes on from where the one before has led it.

    ``over``: the place of the level, which varies. ``steps``: of each level after the first, which has ``train.steps``.
    """

    model_config = Strict
    words: ClassVar[str] = "{over: penalties.0.level, steps: NUMBER}"

    over: str = Field(
        "penalties.0.level",
        pattern=r"^penalties\.\d+\.level$",
        description="the place of a penalty's level (penalties.0.level)",
    )
    steps: int = Field(100, ge=1, le=MOST_STEPS)
