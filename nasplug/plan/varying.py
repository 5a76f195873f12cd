"""What varies in a study, and the packs that come of it, as plain data."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from nasplug.config import MOST_NETWORKS, StudyConfig, Sweep, as_sweep, leaves
from nasplug.errors import ConfigError, scrub

__all__ = [
    "FIXED",
    "LOSS",
    "REFIT",
    "TASK",
    "Axis",
    "Pack",
    "axes",
    "cells",
    "combinations",
    "corners",
    "count",
    "data_key",
    "grid",
    "halved",
    "inside",
    "kind_words",
    "replica_name",
    "row_of",
    "task_places",
    "with_secrets",
]

ROW = re.compile(
    r"^(fixed|penalties\.\d+\.level|train\.lr|train\.architecture\.lr|(penalties\.\d+\.ramp|temperature|train\.decay)\.(?!use$)[^.]+"
    r"|discretizers\.\d+\.(?!use$).+)$"
)
"""Places whose numbers may differ between the rows of one pack; a sweep anywhere else makes new packs.

A sweep of the task makes rows where its data sets have one shape (`nasplug.tasks.Task.shape`) and new packs where not.
"""

FIXED = "fixed"  # the place of architectures, of which each row has its own
TASK = "task."  # how the places of the task begin
REFIT = -1  # the fold of a row that trains on all development samples
LOSS = "loss."  # those of its loss, each of which makes packs of its own
LINEAR = "l"  # how the names of linear packs begin
HALVES = "s"  # those of packs on half samples; of linear ones it is "ls"


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
        id: its name, ``p0000``, and its folder's; of a linear pack ``l0000``, of one on half samples ``s0000`` or ``ls0000``.
        values: what all its rows share and other packs may not: path -> value.
        columns: what differs between its rows: path -> K numbers (places of the task: any plain values).
        seeds: K seeds.
        configurations: which configuration of the study a row is (rows that differ only in the seed share one).
        data: what its tasks were when it was planned: `data_key` -> digest (`nasplug.tasks.Task.digest`).
        folds: which resample of its task each row is trained and validated on (`nasplug.tasks.Task.resamples`); `REFIT` is none
            of them but all development samples. On half samples it is which of those. Empty where tasks are not resampled.
        alike: how many packs of its shape a worker trains, itself among them: whether compiled steps pay is decided for all.
        room: rows of a program that it can share with packs of more rows, where steps are compiled; 0: it has its own.
        groups: which population of the pack each row is of (`nasplug.plan.populations`); empty where there are none.
    """

    id: str
    values: Mapping[str, Any]
    columns: Mapping[str, Sequence[Any]]
    seeds: Sequence[int]
    configurations: Sequence[int]
    data: Mapping[str, str] = field(default_factory=dict)
    folds: Sequence[int] = ()
    alike: int = 1
    room: int = 0
    groups: Sequence[int] = ()

    @property
    def refitted(self) -> bool:
        """Whether its rows train on all development samples, after others were validated on resamples."""
        return REFIT in self.folds

    @property
    def halved(self) -> bool:
        """Whether its rows train on half samples, so that what they keep is counted (`nasplug.stability`)."""
        return halved(self.id)

    @property
    def fitted(self) -> bool:
        """Whether its rows are scored on the samples that they train on: no score of theirs is one on held-out samples."""
        return self.refitted or self.halved

    @property
    def rows(self) -> int:
        """K."""
        return len(self.seeds)

    @property
    def linear(self) -> bool:
        """Whether its networks have no hidden layers, and its study is not the user's own (`nasplug.plan.study_of`)."""
        return self.id.startswith(LINEAR)

    def plain(self) -> dict[str, Any]:
        """Plain data."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "groups" or self.groups}

    @property
    def replicas(self) -> list[str]:
        """The names of its rows."""
        return [replica_name(self.id, row) for row in range(self.rows)]

    def task(self, row: int) -> dict[str, Any]:
        """What a row's task and its loss have in the places of the study that vary: path -> value."""
        whole = {path: value for path, value in self.values.items() if path.startswith((TASK, LOSS))}
        return whole | {path: column[row] for path, column in self.columns.items() if path.startswith(TASK)}

    @property
    def tasks(self) -> list[str]:
        """The `data_key` of each row's task."""
        varies = any(path.startswith(TASK) for path in self.columns)
        return [data_key(self.task(row)) for row in range(self.rows)] if varies else [data_key(self.task(0))] * self.rows

    def only(self, row: int, times: int = 1) -> Pack:
        """A pack of the same name all of whose rows, so many, are this one."""
        return self.some([row] * times)

    def some(self, rows: Sequence[int]) -> Pack:
        """A pack of the same name, of these rows in this order; one may come several times."""
        values = {path: [column[row] for row in rows] for path, column in self.columns.items()}
        seeds, configurations = ([column[row] for row in rows] for column in (self.seeds, self.configurations))
        folds, groups = ([column[row] for row in rows] if column else () for column in (self.folds, self.groups))
        keys = dict.fromkeys(data_key(self.task(row)) for row in dict.fromkeys(rows))
        data = {key: self.data[key] for key in keys if key in self.data}
        return replace(self, columns=values, data=data, seeds=seeds, configurations=configurations, folds=folds, groups=groups)

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
            if keys[0] in ("study", "store", "seeds", "sampler", "metrics", "choose", "stability", "resources", "mlflow"):
                raise ConfigError(f"{path}: cannot be swept; give one value")
            values = [*(sweep.choice or []), *(sweep.grid or []), *(sweep.uniform or []), *(sweep.log or [])]
            numbers = path == FIXED or all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
            found.append(Axis(path, sweep, bool(ROW.match(path)) and numbers))
    return found


def task_places(found: Sequence[Axis]) -> list[str]:
    """Which of the axes make tasks whose errors do not compare: data sets, and losses.

    A loss brings its own error: of two quantiles neither is the better.
    """
    return [axis.path for axis in found if axis.path.startswith((TASK, LOSS))]


def kind_words(places: Sequence[str]) -> tuple[str, str]:
    """What `task_places` tell apart, one and several of it, in words."""
    if all(path.startswith(LOSS) for path in places):
        return "loss", "losses"
    if any(path.startswith(LOSS) for path in places):
        return "data set and loss", "data sets and losses"
    return "data set", "data sets"


def cells(sweep: Sweep, values: Sequence[Any]) -> list[Any]:
    """Plain values of a sweep as a table's column holds them: of one type, whichever of its values a pack has; no secrets."""
    values = scrub(list(values))
    kinds = {type(value) for value in sweep.ends}
    if kinds == {int, float}:
        return [float(value) for value in values]
    if len(kinds) == 1 and kinds <= {str, bool, int, float}:
        return list(values)
    return [value if isinstance(value, str) else json.dumps(value) for value in values]


def combinations(found: Sequence[Axis]) -> int:
    """How many combinations of the axes' values there are, by multiplication: no list is made.

    Raises:
        ConfigError: for more than a study may have networks, or a range without points.
    """
    counts = {}
    for axis in found:
        try:
            counts[axis.path] = axis.sweep.count
        except ConfigError as error:
            raise ConfigError(f"{axis.path}: {error}") from None
    total = math.prod(counts.values())
    if total > MOST_NETWORKS:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ConfigError(
            f"the grid has {total} configurations ({listed}); needed: {MOST_NETWORKS} at most. "
            "List fewer values, or take a sampler that draws (random, tpe)"
        )
    return total


def grid(found: Sequence[Axis]) -> list[dict[str, Any]]:
    """Every combination of the axes' values; the last axis varies fastest.

    Raises:
        ConfigError: as `combinations`.
    """
    combinations(found)
    names, lists = [axis.path for axis in found], [axis.sweep.values for axis in found]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*lists)]


def corners(found: Sequence[Axis]) -> list[dict[str, Any]]:
    """Each value that a draw may give (of a range, its ends), with the other axes at their first."""
    ends = {axis.path: axis.sweep.ends for axis in found}
    first = {path: values[0] for path, values in ends.items()}
    return [first | {path: value} for path, values in ends.items() for value in values]


def halved(pack: str) -> bool:
    """Whether a pack of this name trains on half samples."""
    return pack.removeprefix(LINEAR).startswith(HALVES)


def count(letter: str, packs: Sequence[Pack]) -> int:
    """How many packs have names that begin with just this ``letter`` (or these two)."""
    return sum(pack.id.rstrip("0123456789") == letter for pack in packs)


def replica_name(pack: str, row: int) -> str:
    """How a network is called in every table: ``p0001/0017`` is row 17 of pack p0001."""
    return f"{pack}/{row:04d}"


def data_key(values: Mapping[str, Any]) -> str:
    """A task of the study by what it has in the places that vary, without secrets; ``{}`` where none does."""
    return json.dumps(scrub(values), sort_keys=True)


def with_secrets(pack: Pack, found: Sequence[Axis]) -> Pack:
    """A pack as a file remembers it, without secrets -> as the study has it: its values are those of the sweeps."""

    def whole(path: str, value: Any) -> Any:
        return known.get(path, {}).get(json.dumps(value), value)

    known = {
        axis.path: {json.dumps(scrub(value)): value for value in [*(axis.sweep.choice or []), *(axis.sweep.grid or [])]}
        for axis in found
    }
    values = {path: whole(path, value) for path, value in pack.values.items()}
    columns = {path: [whole(path, value) for value in column] for path, column in pack.columns.items()}
    return replace(pack, values=values, columns=columns)


NAME = re.compile(r"((?:[pl]|l?s)[0-9]{4,})/([0-9]{4,})")


def row_of(replica: str) -> tuple[str, int]:
    """The pack and the row in a replica's name.

    Raises:
        ConfigError: for what is no such name.
    """
    found = NAME.fullmatch(replica)
    if found is None:
        raise ConfigError(f"{replica!r} is not a replica; names look like p0000/0012 (column 'replica')")
    return found[1], int(found[2])
