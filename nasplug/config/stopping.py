"""When networks are stopped, and when a whole sweep ends."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, Field

from nasplug.config.limits import MOST_REPORTS, MOST_RUNGS
from nasplug.config.sweeps import Strict

__all__ = ["Judged", "Plateau", "Stop"]


def _once(by: list[str]) -> list[str]:
    if len(set(by)) < len(by):
        raise ValueError(f"{', '.join(by)}; needed: each once")
    return by


Judged = Annotated[
    list[Literal["valid_loss", "valid_error", "edges", "neurons", "layers", "inputs", "parameters"]], AfterValidator(_once)
]
"""What rows that still train are compared by, each once."""


class Stop(BaseModel):
    """Rows that others dominate are stopped early, so that the others' steps are what is paid for.

    ``halving``: after the shares ``keep^rungs``, ..., ``keep^2``, ``keep`` of the steps the share ``keep`` of the rows goes on.
    ``refill``: the sampler draws as many configurations as can be had for the steps of its ``trials`` trained to the end.
    """

    model_config = Strict
    words: ClassVar[str] = "{use: halving, rungs: NUMBER, keep: NUMBER, by: [valid_error, edges], refill: BOOLEAN}"

    use: Literal["halving"]
    rungs: int = Field(2, ge=1, le=MOST_RUNGS)
    keep: float = Field(1 / 3, ge=0.001, lt=1)
    by: Judged = Field(["valid_error", "edges"], min_length=1)
    refill: bool = False

    @property
    def share(self) -> float:
        """The share of all rows' steps that is trained, > 0 and < 1, but for rungs that are moved to reports, and whole rows.

        ``k^R (1 + R (1 - k))`` for R rungs that keep k: up to the first rung all rows train, for ``k^R`` of the steps; after
        the i-th ``k^i`` of them do, for ``k^(R - i) (1 - k)`` of the steps.
        """
        return self.keep**self.rungs * (1 + self.rungs * (1 - self.keep))


class Plateau(BaseModel):
    """The sweep ends once its front no longer moves (`nasplug.results.volume`).

    That is when the front's volume rose by less than ``tolerance`` over the last ``patience`` packs (of a sampler that learns
    from results: generations), in the order of the plan.
    """

    model_config = Strict
    words: ClassVar[str] = "{tolerance: NUMBER, patience: NUMBER}"

    tolerance: float = Field(0.001, gt=0, lt=1)
    patience: int = Field(4, ge=1, le=MOST_REPORTS)
