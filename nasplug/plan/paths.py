"""Rows that pass through the levels of a penalty (`nasplug.config.LevelPath`): which networks of a pack are of one path.

A pack has one row per network, as any other. What trains are its paths: all rows of it that differ in the level alone. A level
starts from where the one before has ended, with the optimizer's memory; the weakest comes first, so that a network goes from
dense to sparse, as in LassoNet (Lemhadri et al. 2021). glmnet (Friedman et al. 2010) goes the other way, which suits a convex
loss: there a network without edges is where the path begins, and here gradients of a network without edges are 0.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from nasplug.config import MOST_STEPS, StudyConfig
from nasplug.contracts import SearchMethod
from nasplug.errors import ConfigError
from nasplug.plan.building import Components
from nasplug.plan.settling import settle
from nasplug.plan.timing import levels_of
from nasplug.plan.varying import Pack, axes
from nasplug.train import Search

__all__ = ["Paths", "accept_path", "check_path", "paths_of"]


@dataclass(frozen=True, slots=True)
class Paths:
    """What trains of a pack, in each of its rows: a path, or, where no level is passed through, the network itself.

    Attributes:
        pack: one row per path: what its networks share, and the weakest level.
        path: of each network, its path ``(K,)``.
        number: of each network, which level of the path it is ``(K,)``.
        ends: the steps at which levels end, up to the last that a network has; empty where no level is passed through.
        levels: the strengths, weakest first.
        penalty: whose level it is.
    """

    pack: Pack
    path: Sequence[int]
    number: Sequence[int]
    ends: tuple[int, ...] = ()
    levels: tuple[float, ...] = ()
    penalty: int = 0

    @property
    def each(self) -> int:
        """Networks of a path, at most."""
        return max(1, len(self.ends))

    def at(self, search: Search, number: int) -> Search:
        """The search at a level of the path."""
        if not self.ends:
            return search
        tracks = list(search.levels)
        own = tracks[self.penalty]
        tracks[self.penalty] = replace(own, scale=torch.full_like(own.scale, self.levels[number]))
        return replace(search, levels=tuple(tracks))

    def members(self, number: int) -> list[int]:
        """The networks at a level, in the order of their paths."""
        return sorted((row for row, at in enumerate(self.number) if at == number), key=lambda row: self.path[row])


def paths_of(study: StudyConfig, pack: Pack) -> Paths:
    """What trains of a pack; ``study``: as written, with its sweeps (of a linear pack its own, `nasplug.plan.study_of`).

    The same row once more (`nasplug.lineage.again`) is a path of its own.
    """
    given = study.train.path
    if given is None:
        return Paths(pack, range(pack.rows), [0] * pack.rows)
    levels = levels_of(study)
    known = {level: number for number, level in enumerate(levels)}
    others = [column for place, column in pack.columns.items() if place != given.over]
    times: Counter[Any] = Counter()
    found: dict[Any, int] = {}
    first: list[int] = []
    path, number = [], []
    for row in range(pack.rows):
        at = known[float(pack.columns[given.over][row])]
        own = json.dumps([pack.seeds[row], pack.folds[row] if pack.folds else None, *(column[row] for column in others)])
        key = own, times[own, at]
        times[own, at] += 1
        if key not in found:
            found[key] = len(first)
            first.append(row)
        path.append(found[key])
        number.append(at)
    steps = settle(study, pack.values).train.steps
    assert isinstance(steps, int)  # it does not vary inside a pack
    columns = {place: [column[row] for row in first] for place, column in pack.columns.items()}
    seeds, configurations = ([each[row] for row in first] for each in (pack.seeds, pack.configurations))
    folds = [pack.folds[row] for row in first] if pack.folds else ()
    one = replace(
        pack, columns={**columns, given.over: [levels[0]] * len(first)}, seeds=seeds, configurations=configurations, folds=folds
    )
    ends = tuple(steps + given.steps * at for at in range(max(number) + 1))
    return Paths(one, path, number, ends, levels, int(given.over.split(".")[1]))


def check_path(study: StudyConfig) -> None:
    """Refuse what a row cannot do while it passes through levels, before any of it is built.

    Raises:
        ConfigError: naming what came, and what to do.
    """
    given = study.train.path
    if given is None:
        return
    found = {axis.path: axis for axis in axes(study)}
    if given.over not in found or not found[given.over].row:
        raise ConfigError(
            f"train.path.over: {given.over} does not vary over numbers, and a path passes through its values; write "
            f"level: {{log: [0.001, 0.1], points: 16}} there, or train.path: null"
        )
    if study.sampler.use != "grid" and found[given.over].sweep.grid is None:
        raise ConfigError(
            f"train.path: sampler {study.sampler.use!r} would draw single values of {given.over}; write {{grid: [...]}} there, "
            "so that each draw passes through all of them, or take sampler grid"
        )
    if study.stop is not None:
        raise ConfigError(
            "train.path: beside stop, which compares networks at one step; here each step has one level of many. "
            "Remove one of the two"
        )
    if study.train.keep == "best":
        raise ConfigError(
            "train.path: beside train.keep: best, whose objective changes with the level; write keep: last, or train.path: null"
        )
    steps = study.train.steps
    for first in [steps] if isinstance(steps, int) else [int(end) for end in steps.ends]:
        total = first + given.steps * (len(levels_of(study)) - 1)
        if total > MOST_STEPS:
            raise ConfigError(
                f"train.path: {total:,} steps for all levels; needed: {MOST_STEPS:,} at most. Take fewer, or less"
            )


def accept_path(parts: Components) -> None:
    """Refuse a method whose networks are whole at the end of training alone.

    Raises:
        ConfigError: naming it.
    """
    if parts.study.train.path is not None and type(parts.method).project is not SearchMethod.project:
        raise ConfigError(
            f"train.path: method {parts.study.method.use!r} as configured changes its parameters by the number of the step "
            "(project), so that its networks are whole after the last step alone, and a path has one at each level. Take "
            "another method (or mode), or train.path: null"
        )
