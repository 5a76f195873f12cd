"""What changes from step to step: numbers, levels and schedules of a pack's rows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from nasplug.config import StudyConfig, Sweep, Use
from nasplug.contracts import Schedule
from nasplug.errors import ConfigError
from nasplug.plan.settling import built
from nasplug.plan.varying import Pack
from nasplug.plugins import Plugins
from nasplug.schedules import Track, still, track

__all__ = ["check_best", "finite", "levels_of", "schedule_track"]

MOST_VALUES = 2 * 10**7  # of all schedules that one place has in a pack, at all steps: 160 MB


def finite(values: Sequence[float], where: str, *, positive: bool) -> list[float]:
    """Numbers of a place; refused if one is infinite, negative or, where ``positive``, 0."""
    for value in values:
        good = isinstance(value, int | float) and math.isfinite(value) and (value > 0 if positive else value >= 0)
        if not good:
            raise ConfigError(f"{where}: {value!r}; needed: a finite number {'> 0' if positive else '>= 0'}")
    return [float(v) for v in values]


def schedule_track(use: Use | None, where: str, pack: Pack, scale: Sequence[float], steps: int, plugins: Plugins) -> Track:
    """One row per distinct set of options; rows that share them share the table's column."""
    if use is None:
        return still(scale, steps)
    mine = {path: column for path, column in pack.columns.items() if path.startswith(where + ".")}
    distinct: dict[tuple[float, ...], int] = {}
    index = [distinct.setdefault(row, len(distinct)) for row in zip(*mine.values(), strict=True)]
    if not mine:
        distinct, index = {(): 0}, [0] * pack.rows
    if len(distinct) * steps > MOST_VALUES:
        raise ConfigError(
            f"{where}: {len(distinct):,} schedules over {steps:,} steps are {len(distinct) * steps:,} values; needed: "
            f"{MOST_VALUES:,} at most. Let fewer of its options vary, or take fewer steps"
        )
    schedules: list[Schedule] = []
    for row in distinct:
        options = use.options | {path.rsplit(".", 1)[1]: value for path, value in zip(mine, row, strict=True)}
        schedules.append(built(plugins, "schedule", use.use, options, where))
    try:
        return track(schedules, index, scale, steps)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def levels_of(study: StudyConfig) -> tuple[float, ...]:
    """The strengths that a row passes through (`nasplug.plan.paths`), weakest first; none where it has one level."""
    if study.train.path is None:
        return ()
    place = int(study.train.path.over.split(".")[1])
    level = study.penalties[place].level if place < len(study.penalties) else None
    return tuple(sorted(float(value) for value in level.values)) if isinstance(level, Sweep) else ()


def check_best(tau: Track, levels: Sequence[Track], steps: int, reports: int) -> None:
    """Refuse to keep the best of one iterate: no report but the last at a temperature and levels that have settled."""
    every = max(1, steps // reports)
    for t in range(every - 1, steps - 1, every):
        settled = torch.stack([one.at(t) == one.at(steps - 1) for one in (tau, *levels)]).all(0)  # (K,)
        if bool(settled.any()):
            return
    raise ConfigError(
        f"train.keep: best; of {reports} reports in {steps} steps none but the last comes when temperature and levels have "
        "their last values, so that best is last. End them earlier (until: 0.8), or report more often (train.reports)"
    )
