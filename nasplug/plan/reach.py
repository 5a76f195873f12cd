"""Levels beyond the strongest that was asked for, where a grid has found no small network yet."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nasplug.config import StudyConfig, Sweep
from nasplug.plan.varying import LINEAR, Axis, axes, grid, row_of, task_places

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ROUNDS", "beyond", "reached"]

ROUNDS = 4
SHARE = 4  # a round has a quarter of an axis's own points
LEVEL = re.compile(r"penalties\.\d+\.level")


def _ranges(study: StudyConfig) -> list[Axis]:
    """The levels that are swept over a logarithmic range, in a grid; none where rows pass through one, or change theirs."""
    if study.reach is None or study.sampler.use != "grid" or study.train.path is not None or study.train.population is not None:
        return []
    return [axis for axis in axes(study) if LEVEL.fullmatch(axis.path) and axis.sweep.log and axis.sweep.count > 1]


def _further(sweep: Sweep, number: int) -> list[float]:
    """The points of a round beyond the upper end, as far from each other as those of the range."""
    low, high = sweep.log or (1.0, 1.0)
    factor = (high / low) ** (1.0 / (sweep.count - 1))
    points = max(1, round(sweep.count / SHARE))
    return [high * factor ** (at + 1) for at in range((number - 1) * points, number * points)]


def beyond(study: StudyConfig, number: int) -> list[dict[str, Any]]:
    """The configurations of round ``number`` (1, 2, ...): each level's range goes on, the other axes have their own values.

    None where no level is swept over a range.
    """
    found = axes(study)
    made: list[dict[str, Any]] = []
    for axis in _ranges(study):
        more = Axis(axis.path, Sweep(grid=_further(axis.sweep, number)), axis.row)
        made += grid([more if other.path == axis.path else other for other in found])
    return made


def reached(study: StudyConfig, frame: pd.DataFrame) -> bool:
    """Whether there is a network with an edge and at most ``study.reach`` parameters, or stronger levels would give none.

    ``frame``: the networks so far. Linear ones do not count: what is looked for are small networks of the study's own method.
    Of several data sets or losses each needs one. Where the strongest level leaves no edge to any network, stronger ones do
    not either.
    """
    own = frame[(frame["status"] == "finished") & ~frame["replica"].map(lambda name: row_of(name)[0].startswith(LINEAR))]
    if own.empty:
        return True
    places = task_places(axes(study))
    parts = [part for _, part in own.groupby(places, dropna=False)] if places else [own]
    return all(_within(part, study.reach or 0, [axis.path for axis in _ranges(study)]) for part in parts)


def _within(own: pd.DataFrame, most: int, levels: Sequence[str]) -> bool:
    connected = own["edges"] > 0
    if bool((connected & (own["parameters"] <= most)).any()):
        return True
    strongest = [own[own[path] == own[path].max()] for path in levels]
    return all(bool((rows["edges"] == 0).all()) for rows in strongest)
