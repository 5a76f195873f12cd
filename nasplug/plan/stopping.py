"""Rungs: the steps at which dominated rows of a pack are stopped, how many go on, and what that leaves to train."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from nasplug.config import Stop, StudyConfig
from nasplug.errors import ConfigError
from nasplug.plan.building import settle
from nasplug.plan.varying import Pack

__all__ = ["Candidates", "candidates", "going_on", "rungs", "share_of_steps", "steps_of"]


@dataclass(frozen=True, slots=True)
class Candidates:
    """What is compared in a pack: a configuration and seed with all its folds, against others on the same data and loss.

    Attributes:
        rows: of each candidate, its rows.
        groups: of each group that is compared among itself, its candidates.
    """

    rows: Sequence[Sequence[int]]
    groups: Sequence[Sequence[int]]


def candidates(pack: Pack) -> Candidates:
    """The candidates of a pack, in the order of their first rows."""
    rows: dict[tuple[str, int, int], list[int]] = {}
    for row in range(pack.rows):
        task = json.dumps(pack.task(row), sort_keys=True)
        rows.setdefault((task, pack.configurations[row], pack.seeds[row]), []).append(row)
    groups: dict[str, list[int]] = {}
    for at, (task, _, _) in enumerate(rows):
        groups.setdefault(task, []).append(at)
    return Candidates(list(rows.values()), list(groups.values()))


def stopping(study: StudyConfig, pack: Pack) -> Stop | None:
    """The rule that a pack's rows are stopped by; None for linear networks, and for those that were chosen before."""
    return None if pack.linear or pack.fitted else study.stop


def rungs(study: StudyConfig, pack: Pack, steps: int) -> list[int]:
    """The steps after which rows are stopped, ascending, each at a report; none where none are stopped.

    Of n rungs the i-th is at ``steps * keep^(n - i)``, i from 0, moved to the nearest report, not the last.

    Raises:
        ConfigError: where two fall on one report.
    """
    stop = stopping(study, pack)
    if stop is None:
        return []
    every = max(1, steps // study.train.reports)
    last = (steps - 1) // every  # the last report before the end
    found = [min(max(1, round(steps * stop.keep ** (stop.rungs - i) / every)), last) * every for i in range(stop.rungs)]
    if len(set(found)) < len(found) or 0 in found:
        raise ConfigError(
            f"stop.rungs: {stop.rungs} with keep: {stop.keep:g} would come after the steps {', '.join(map(str, found))} of "
            f"{steps}, but rows are compared at reports (train.reports: {study.train.reports}), each at most once. "
            "Write fewer rungs, more steps, or more reports"
        )
    return found


def going_on(stop: Stop, count: int, passed: int) -> int:
    """How many of ``count`` candidates go on after ``passed`` rungs: at least one."""
    return max(1, math.ceil(count * stop.keep**passed - 1e-9))


def _rows_after(stop: Stop, pack: Pack, passed: int) -> int:
    """How many rows of a pack train on after ``passed`` rungs."""
    found = candidates(pack)
    folds = len(found.rows[0])  # a pack has all folds of each
    return folds * sum(going_on(stop, len(group), passed) for group in found.groups)


def steps_of(study: StudyConfig, pack: Pack) -> int:
    """T of a pack."""
    steps = settle(study, pack.values).train.steps
    assert isinstance(steps, int)  # it does not vary inside a pack
    return steps


def share_of_steps(study: StudyConfig, pack: Pack, steps: int) -> tuple[list[tuple[int, int]], float]:
    """After which steps how many rows go on, and the share of all rows' steps that is trained."""
    marks = rungs(study, pack, steps)
    found, trained, rows, since = [], 0, pack.rows, 0
    for passed, mark in enumerate(marks, start=1):
        trained += rows * (mark - since)
        stop = study.stop
        assert stop is not None  # there are rungs
        rows, since = _rows_after(stop, pack, passed), mark
        found.append((mark, rows))
    return found, (trained + rows * (steps - since)) / (pack.rows * steps)
