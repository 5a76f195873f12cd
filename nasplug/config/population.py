"""Rows that copy each other while they train, as it is written in a study."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, Field, model_validator

from nasplug.config.limits import MOST_MEMBERS
from nasplug.config.stopping import Judged
from nasplug.config.sweeps import Strict

__all__ = ["Perturb", "Population"]


class Perturb(BaseModel):
    """The factors by which a row that copied another multiplies or divides what it has from it; 1 leaves it as it is.

    ``levels``: of each penalty. ``rate``: the learning rate, of the architecture's optimizer too. ``tau``: the temperature.
    """

    model_config = Strict
    words: ClassVar[str] = "{levels: NUMBER, rate: NUMBER, tau: NUMBER}, each >= 1 and <= 2"

    levels: float = Field(1.2, ge=1, le=2)
    rate: float = Field(1.2, ge=1, le=2)
    tau: float = Field(1.0, ge=1, le=2)

    @model_validator(mode="after")
    def _some(self) -> Perturb:
        if self.levels == self.rate == self.tau == 1.0:
            raise ValueError("all factors are 1, so that a copy would stay one; needed: a factor above 1")
        return self


class Population(BaseModel):
    """Rows train in populations; at each exchange the worst of one copy its best, and go on with other numbers.

    ``of``: rows of a population, at most. ``every``: the share of the steps between two exchanges. ``share``: how many of a
    population copy, and how many are copied. ``by``: what they are compared by.
    """

    model_config = Strict
    words: ClassVar[str] = (
        "{of: NUMBER, every: NUMBER, share: NUMBER, perturb: {levels: 1.2, rate: 1.2}, by: [valid_error, edges]}"
    )

    of: int = Field(16, ge=2, le=MOST_MEMBERS)
    every: float = Field(0.1, ge=0.01, lt=1)
    share: float = Field(0.25, gt=0, le=0.5)
    perturb: Perturb = Perturb()
    by: Judged = Field(["valid_error", "edges"], min_length=1)
