"""What varies in a study, and the packs that come of it, as plain data."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nasplug.config import StudyConfig, Sweep, as_sweep, leaves
from nasplug.errors import ConfigError

__all__ = ["TASK", "Axis", "Pack", "axes", "cells", "corners", "grid", "inside", "task_places", "task_values"]

ROW = re.compile(
    r"^(penalties\.\d+\.level|train\.lr|train\.architecture\.lr|(penalties\.\d+\.ramp|temperature|train\.decay)\.(?!use$)[^.]+)$"
)
"""Places whose numbers may differ between the rows of one pack; a sweep anywhere else makes new packs.

A sweep of the task makes rows where its data sets have one shape (`nasplug.tasks.Task.shape`) and new packs where not.
"""

TASK = "task."  # how the places of the task begin
MOST_CONFIGURATIONS = 10**6  # of a grid, which is planned as a whole


@dataclass(frozen=True, slots=True)
class Axis:
    """One place of the study that varies, and whether it varies inside a pack (``row``) or between packs.

    A place of the task is not ``row``: whether data sets fit one pack is known when they have been made (`inside`).
    """

    path: str
    sweep: Sweep
    row: bool


@dataclass(frozen=True, slots=True)
class Pack:
    """K networks to be trained as one tensor program: plain data, so that it can cross a process border.

    Attributes:
        id: its name, ``p0000``, and its folder's.
        values: what all its rows share and other packs may not: path -> value.
        columns: what differs between its rows: path -> K numbers (places of the task: any plain values).
        seeds: K seeds.
        configurations: which configuration of the study a row is (rows that differ only in the seed share one).
    """

    id: str
    values: Mapping[str, Any]
    columns: Mapping[str, Sequence[Any]]
    seeds: Sequence[int]
    configurations: Sequence[int]

    @property
    def rows(self) -> int:
        """K."""
        return len(self.seeds)

    def plain(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def task(self, row: int) -> dict[str, Any]:
        """What a row's task has in the places of the study that vary: path -> value."""
        return task_values(self.values, self.columns, row)

    def column(self, path: str, default: float) -> list[float]:
        """The K numbers at a path, or the study's one value."""
        return list(self.columns.get(path, [default] * self.rows))


def inside(axis: Axis, packs: Sequence[Pack]) -> bool:
    """Whether an axis varies inside these packs."""
    return axis.row or any(axis.path in pack.columns for pack in packs)


def axes(study: StudyConfig) -> list[Axis]:
    """Every sweep of the study, in the order of the config."""
    found = []
    for keys, value in leaves(study.plain()):
        sweep = as_sweep(value)
        if sweep is not None:
            path = ".".join(keys)
            if keys[0] in ("study", "store", "seeds", "sampler", "resources", "mlflow"):
                raise ConfigError(f"{path}: cannot be swept; give one value")
            values = [*(sweep.choice or []), *(sweep.grid or []), *(sweep.uniform or []), *(sweep.log or [])]
            numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
            found.append(Axis(path, sweep, bool(ROW.match(path)) and numbers))
    return found


def task_places(found: Sequence[Axis]) -> list[str]:
    """Which of the axes make data sets."""
    return [axis.path for axis in found if axis.path.startswith(TASK)]


def cells(sweep: Sweep, values: Sequence[Any]) -> list[Any]:
    """Plain values of a sweep as a table's column holds them: of one type, whichever of its values a pack has."""
    kinds = {type(value) for value in sweep.ends}
    if kinds == {int, float}:
        return [float(value) for value in values]
    if len(kinds) == 1 and kinds <= {str, bool, int, float}:
        return list(values)
    return [value if isinstance(value, str) else json.dumps(value) for value in values]


def grid(found: Sequence[Axis]) -> list[dict[str, Any]]:
    """Every combination of the axes' values; the last axis varies fastest."""
    names = [axis.path for axis in found]
    lists = []
    for axis in found:
        try:
            lists.append(axis.sweep.values)
        except ConfigError as error:
            raise ConfigError(f"{axis.path}: {error}") from None
    if math.prod(map(len, lists)) > MOST_CONFIGURATIONS:
        counts = ", ".join(f"{name} {len(values)}" for name, values in zip(names, lists, strict=True))
        raise ConfigError(
            f"the grid has {math.prod(map(len, lists))} configurations ({counts}); needed: {MOST_CONFIGURATIONS} at most. "
            "List fewer values, or take sampler random, tpe or nsga2"
        )
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*lists)]


def corners(found: Sequence[Axis]) -> list[dict[str, Any]]:
    """Each value that a draw may give (of a range, its ends), with the other axes at their first."""
    ends = {axis.path: axis.sweep.ends for axis in found}
    first = {path: values[0] for path, values in ends.items()}
    return [first | {path: value} for path, values in ends.items() for value in values]


def task_values(values: Mapping[str, Any], columns: Mapping[str, Sequence[Any]], row: int) -> dict[str, Any]:
    """The places of the task among a pack's shared values and its columns' values in a row."""
    whole = {path: value for path, value in values.items() if path.startswith(TASK)}
    return whole | {path: column[row] for path, column in columns.items() if path.startswith(TASK)}
