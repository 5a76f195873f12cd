"""Rungs: the steps at which dominated rows are stopped, who is compared with whom, and what that leaves to train."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nasplug.config import Stop, StudyConfig
from nasplug.errors import ConfigError
from nasplug.plan.settling import settle
from nasplug.plan.varying import TASK, Pack

__all__ = ["Candidates", "across", "candidates", "going_on", "rungs", "share_of_steps", "steps_of"]


@dataclass(frozen=True, slots=True)
class Candidates:
    """What is compared at a rung: a configuration and seed with all its folds, against others on the same data and loss.

    Attributes:
        rows: of each candidate, its rows: which of the packs, and which row there. A pack has all folds of each.
        groups: of each group that is compared among itself, its candidates, by their configurations.
    """

    rows: Sequence[Sequence[tuple[int, int]]]
    groups: Sequence[Sequence[int]]


def candidates(packs: Sequence[Pack]) -> Candidates:
    """The candidates of packs that are compared, in one order however rows were packed: by configuration, then by seed."""
    rows: dict[tuple[str, int, int], list[tuple[int, int]]] = {}
    for number, pack in enumerate(packs):
        for row, task in enumerate(_tasks(pack)):
            rows.setdefault((task, pack.configurations[row], pack.seeds[row]), []).append((number, row))
    groups: dict[str, list[int]] = {}
    ordered = sorted(rows, key=lambda key: key[1])  # of one configuration the seeds come in the order of the plan
    for at, (task, _, _) in enumerate(ordered):
        groups.setdefault(task, []).append(at)
    return Candidates([rows[key] for key in ordered], list(groups.values()))


def _tasks(pack: Pack) -> list[str]:
    """What tells apart with whom each row is compared."""
    if not any(path.startswith(TASK) for path in pack.columns):
        return [json.dumps(pack.task(0), sort_keys=True)] * pack.rows
    return [json.dumps(pack.task(row), sort_keys=True) for row in range(pack.rows)]


def across(study: StudyConfig, packs: Sequence[Pack]) -> list[Pack]:
    """Those of a generation's packs whose rows are compared with rows of other packs; the others are compared in themselves."""
    own = [pack for pack in packs if stopping(study, pack) is not None]
    tasks = [set(_tasks(pack)) for pack in own]
    shared = {task for task, times in Counter(task for one in tasks for task in one).items() if times > 1}
    return [pack for pack, mine in zip(own, tasks, strict=True) if mine & shared]


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


def rows_after(stop: Stop, packs: Sequence[Pack]) -> list[int]:
    """How many rows of packs that are compared train, before the first rung and after each."""
    found = candidates(packs)
    each = [(len(group), len(found.rows[group[0]])) for group in found.groups]
    return [sum(folds * going_on(stop, count, passed) for count, folds in each) for passed in range(stop.rungs + 1)]


def steps_of(study: StudyConfig, pack: Pack) -> int:
    """T of a pack."""
    steps = settle(study, pack.values).train.steps
    assert isinstance(steps, int)  # it does not vary inside a pack
    return steps


def share_of_steps(study: StudyConfig, packs: Sequence[Pack], steps: int) -> tuple[list[tuple[int, int]], float]:
    """After which steps how many rows of packs go on, and the share of all rows' steps that is trained.

    ``packs``: that are compared with each other, of ``steps`` each.
    """
    stop = stopping(study, packs[0])
    if stop is None:
        return [], 1.0
    marks, rows = rungs(study, packs[0], steps), rows_after(stop, packs)
    trained = sum(count * (end - since) for count, since, end in zip(rows, [0, *marks], [*marks, steps], strict=True))
    return list(zip(marks, rows[1:], strict=True)), trained / (rows[0] * steps)
