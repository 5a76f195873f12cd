"""Configurations to packs of a size that this machine is fast with."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from nasplug.config import StudyConfig
from nasplug.errors import ConfigError
from nasplug.networks import Networks
from nasplug.plan.building import Components, assemble, build_task, components, settle
from nasplug.plan.trying import try_out
from nasplug.plan.varying import TASK, Pack, axes
from nasplug.plugins import Plugins
from nasplug.tasks import Task
from nasplug.train import Search

__all__ = ["chunk", "cpus_here"]

CACHE_BYTES = 8 * 2**20  # what a pack's working set may take: measured, the step is fastest while it stays near the caches
MOST_ROWS = 4096
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of CPU in a period, or max
MOST_DATA = 2 * 2**20  # numbers a data set may have to be copied for each row of a pack
MOST_STACKED = 128 * 2**20  # numbers that all these copies may have
WORKING_COPIES = 8  # parameters, two moments, gradient and temporaries


def floats(tensors: Iterable[Tensor]) -> int:
    """Numbers a row."""
    return sum(math.prod(t.shape[1:]) for t in tensors)


def numbers(task: Task) -> int:
    """Numbers of a data set, all splits; of a stack, those of one network."""
    return sum(math.prod(t.shape[t.dim() - (2 if t.is_floating_point() else 1) :]) for s in task.splits for t in s.pair)


def cpus_here() -> int:
    """The CPUs that this process may use: in a container that has a quota, the quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if QUOTA.exists():
        share, period = QUOTA.read_text().split()
        if share != "max":
            return max(1, min(allowed, int(share) // int(period)))
    return allowed


def places(study: StudyConfig) -> int:
    """How many packs this machine trains at once."""
    return max(1, int(cpus_here() / study.resources.cpus))


def pack_rows(parts: Components, search: Search, nets: Networks, rows: int) -> int:
    """How many rows a pack takes: what the caches hold, but no fewer packs than the machine has places for.

    On a GPU a pack is as large as allowed: there the launch of a kernel is what costs.
    """
    resources = parts.study.resources
    most = MOST_ROWS
    if parts.task.stacked:
        most = max(1, min(most, MOST_STACKED // places(parts.study) // numbers(parts.task)))
    if isinstance(resources.pack, int):
        if parts.task.stacked and resources.pack > most:
            raise ConfigError(
                f"resources.pack: {resources.pack}; each network of a pack over data sets has a copy of its own, and at most "
                f"{most} copies of {numbers(parts.task):,} numbers are held at once. Write {most}, or auto"
            )
        return resources.pack
    if resources.gpus > 0:
        return most
    batch = parts.batch or parts.task.train.samples
    params = floats(search.method.init(search.task, search.seeds[:1]).values())
    size = 4 * (WORKING_COPIES * params + 4 * batch * nets.activations)
    fair = max(16, -(-rows // places(parts.study)))
    return min(most, max(8, min(fair, CACHE_BYTES // size)))


def chunk(
    study: StudyConfig, configurations: Sequence[Mapping[str, Any]], plugins: Plugins, *, first_pack: int = 0, first: int = 0
) -> list[Pack]:
    """Configurations x seeds -> packs, each checked.

    Args:
        study: as written, with its sweeps.
        configurations: a value for every axis, a mapping each.
        plugins: where names are looked up.
        first_pack: the number of the first pack.
        first: the number of the first configuration.
    """
    rows_of = {axis.path: axis.row for axis in axes(study)}
    tasks = [path for path in rows_of if path.startswith(TASK)]
    shapes: dict[str, str] = {}  # of a task's places: what the tasks of one pack share; a large one has packs of its own
    kinds: set[str] = set()
    groups: dict[tuple[str, str], list[tuple[int, Mapping[str, Any]]]] = {}
    for number, configuration in enumerate(configurations, start=first):
        between = {path: value for path, value in configuration.items() if not rows_of[path] and path not in tasks}
        own = json.dumps({path: configuration[path] for path in tasks}, sort_keys=True)
        if own not in shapes:
            task = build_task(settle(study, json.loads(own)), plugins) if tasks else None
            shapes[own] = "" if task is None else own if numbers(task) > MOST_DATA else str(task.shape)
            kinds |= set() if task is None else {task.kind}
        groups.setdefault((json.dumps(between, sort_keys=True), shapes[own]), []).append((number, configuration))
    if len(kinds) > 1:
        raise ConfigError(
            f"task: data sets of the kinds {', '.join(sorted(kinds))} in one study; their errors are no numbers of one table. "
            "Make a study for each kind"
        )
    packs: list[Pack] = []
    seeds = study.seed_list
    for members in groups.values():
        one = members[0][1]
        names = [
            path for path, row in rows_of.items() if row or (path in tasks and any(c[path] != one[path] for _, c in members))
        ]
        shared = {path: json.loads(json.dumps(one[path])) for path in rows_of if path not in names}
        across = [number for number, _ in members for _ in seeds]
        columns = {path: [c[path] for _, c in members for _ in seeds] for path in names}
        whole = Pack("all", shared, columns, seeds * len(members), across)
        # Its first row's data are enough to plan with: those of all rows are made where they are trained.
        first_row = {path: column[:1] for path, column in columns.items()}
        parts = components(study, Pack("first", shared, first_row, seeds[:1], across[:1]), plugins)
        search = assemble(parts, whole, plugins)
        nets = try_out(parts, search, plugins)
        size = pack_rows(parts, search, nets, whole.rows)
        count = -(-whole.rows // size)
        if parts.study.resources.pack == "auto" and count > 1:
            count = -(-count // places(study)) * places(study)  # whole rounds of even packs: no worker waits for another
        size = -(-whole.rows // count)
        for at in range(0, whole.rows, size):
            part = slice(at, at + size)
            packs.append(
                Pack(
                    f"p{first_pack + len(packs):04d}",
                    shared,
                    {path: column[part] for path, column in columns.items()},
                    whole.seeds[part],
                    across[part],
                )
            )
    return packs
