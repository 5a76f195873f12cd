"""Configurations to packs of a size that this machine is fast with."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from nasplug.config import MOST_NETWORKS, StudyConfig
from nasplug.errors import ConfigError, NasplugError
from nasplug.machine import cpus_here
from nasplug.monotone import directions
from nasplug.networks import Networks
from nasplug.plan.building import Components, assemble, build_task, components, discretizers, settle, task_facts
from nasplug.plan.laws import check_laws
from nasplug.plan.stopping import rungs
from nasplug.plan.trying import fit, try_out
from nasplug.plan.varying import LOSS, REFIT, TASK, Pack, axes, data_key
from nasplug.plugins import Plugins
from nasplug.tasks import Task
from nasplug.train import Search

__all__ = ["chunk"]

CACHE_BYTES = 8 * 2**20  # what a pack's working set may take: measured, the step is fastest while it stays near the caches
MOST_ROWS = 4096
MOST_DATA = 2 * 2**20  # numbers that a data set may have to be copied for each row of a pack
MOST_TRIED = 2**21  # numbers of a network that planning tries the laws on: twice, in float64
MOST_STACKED = 128 * 2**20  # numbers that all these copies may have
MOST_SETS = 10_000  # data sets of a study
MOST_GROUPS = 2_000  # kinds of packs: planning each takes some hundredths of a second
MOST_NUMBERS = 2**22  # of one network: 16 MB, and as much again in each of its working copies
MOST_BYTES = 16 * 2**30  # of a pack whose size is asked for
MOST_ROOM = 4  # times as many rows as a pack has, where it takes the compiled program of larger packs
WORKING_COPIES = 8  # parameters, two moments, gradient and temporaries


def floats(tensors: Iterable[Tensor]) -> int:
    """Numbers per row."""
    return sum(math.prod(t.shape[1:]) for t in tensors)


def numbers(task: Task) -> int:
    """Numbers of a data set, all splits; of a stack, those of one network."""
    return sum(math.prod(t.shape[t.dim() - (2 if t.is_floating_point() else 1) :]) for s in task.splits for t in s.pair)


def weigh(parts: Components) -> None:
    """Refuse networks that are too large, from shapes alone: of no seeds a method makes leaves of the shape ``(0, ...)``.

    Raises:
        ConfigError: naming the largest leaf.
    """
    none = torch.zeros(0, dtype=torch.long)
    try:
        leaves = parts.method.init(parts.task.take(none), none)
    except NasplugError:
        raise
    except Exception:  # noqa: BLE001  a stranger's method that takes one seed at least is weighed when one network is made
        return
    if isinstance(leaves, Mapping):  # else it is named when one network is made
        _light(parts, leaves)


def _light(parts: Components, leaves: Mapping[str, Tensor]) -> None:
    shapes = {name: leaf.shape[1:] for name, leaf in leaves.items()}
    count = sum(map(math.prod, shapes.values()))
    if count > MOST_NUMBERS:
        name = max(shapes, key=lambda name: math.prod(shapes[name]))
        raise ConfigError(
            f"method {parts.study.method.use!r}: each of its networks has {count:,} numbers ({name!r} alone "
            f"{' x '.join(map(str, shapes[name]))}); needed: {MOST_NUMBERS:,} at most. Take narrower layers or fewer, or fewer "
            "inputs"
        )


def places(study: StudyConfig) -> int:
    """How many packs this machine trains at once."""
    return max(1, int(cpus_here() / study.resources.cpus))


def pack_rows(parts: Components, search: Search, nets: Networks, rows: int) -> int:
    """How many rows a pack takes: what the caches hold, but no fewer packs than the machine has places for.

    On a GPU a pack is as large as allowed: there the launch of a kernel is what costs.
    """
    resources = parts.study.resources
    most = MOST_ROWS
    batch = parts.batch or parts.task.train.samples
    leaves = search.method.init(search.task, search.seeds[:1])
    _light(parts, leaves)
    params = floats(leaves.values())
    size = 4 * (WORKING_COPIES * params + 4 * batch * nets.activations)
    if isinstance(resources.pack, int) and min(resources.pack, rows) * size > MOST_BYTES:
        raise ConfigError(
            f"resources.pack: {resources.pack}; a pack of {min(resources.pack, rows)} of these networks takes about "
            f"{min(resources.pack, rows) * size / 2**30:,.0f} GB while it trains; needed: {MOST_BYTES // 2**30} at most. "
            f"Write {max(1, MOST_BYTES // size)}, or auto"
        )
    if parts.task.stacked:
        most = max(1, min(most, MOST_STACKED // places(parts.study) // numbers(parts.task)))
    elif parts.task.train.weights is not None and parts.task.train.weights.dim() == 2:  # of each row, for two splits
        most = max(1, min(most, MOST_STACKED // places(parts.study) // (2 * parts.task.train.samples)))
    if isinstance(resources.pack, int):
        if parts.task.stacked and resources.pack > most:
            raise ConfigError(
                f"resources.pack: {resources.pack}; each network of a pack over data sets has a copy of its own, and at most "
                f"{most} copies of {numbers(parts.task):,} numbers are held at once. Write {most}, or auto"
            )
        return resources.pack
    if resources.gpus > 0:
        return max(1, min(most, MOST_BYTES // size))
    fair = max(16, -(-rows // places(parts.study)))
    return min(most, max(8, min(fair, CACHE_BYTES // size)))


Numbered = tuple[int, Mapping[str, Any]]  # a configuration and its number


def _together(
    study: StudyConfig, configurations: Sequence[Numbered], rows_of: Mapping[str, bool], tasks: Sequence[str], plugins: Plugins
) -> tuple[list[list[Numbered]], dict[str, str]]:
    """Configurations that may share packs (they differ in numbers alone, and in data sets of one shape); data sets by digest.

    Raises:
        ConfigError: for data sets of several kinds, or such as no file could tell apart.
    """
    shapes: dict[str, str] = {}  # of a task's places: what the tasks of one pack share; a large one has packs of its own
    data: dict[str, str] = {}  # of a task's places: its digest
    kinds: set[str] = set()
    groups: dict[tuple[str, str], list[Numbered]] = {}
    for number, configuration in configurations:
        between = {path: value for path, value in configuration.items() if not rows_of[path] and path not in tasks}
        own = json.dumps({path: configuration[path] for path in tasks}, sort_keys=True)
        if own not in shapes:
            if len(shapes) == MOST_SETS:
                raise ConfigError(f"{', '.join(tasks)}: makes more than {MOST_SETS:,} data sets; make several studies of it")
            settled, key = settle(study, json.loads(own)), data_key(json.loads(own))
            digest = task_facts(settled, plugins).digest
            if data.setdefault(key, digest) != digest:
                raise ConfigError(f"{', '.join(tasks)}: two of its values differ in a secret alone; list one of them")
            task = build_task(settled, plugins) if tasks else None
            alike = "" if task is None else f"{task.shape} {directions(task, study.monotone)}"
            shapes[own] = own if task is not None and numbers(task) > MOST_DATA else alike
            kinds |= set() if task is None else {task.kind}
        groups.setdefault((json.dumps(between, sort_keys=True), shapes[own]), []).append((number, configuration))
        if len(groups) > MOST_GROUPS:
            raise ConfigError(
                f"what varies between packs ({', '.join(between)}) makes more than {MOST_GROUPS:,} kinds of packs, each of "
                "which is built and tried out; let fewer places vary that are no numbers of a row (`nasplug plan` names them)"
            )
    if len(kinds) > 1:
        raise ConfigError(
            f"task: data sets of the kinds {', '.join(sorted(kinds))} in one study; their errors cannot be compared. "
            "Make a study for each kind"
        )
    return list(groups.values()), data


def chunk(
    study: StudyConfig,
    configurations: Sequence[Mapping[str, Any]],
    plugins: Plugins,
    *,
    letter: str = "p",
    first_pack: int = 0,
    first: int = 0,
    refit: Sequence[int] = (),
    halves: Sequence[int] = (),
    fast: bool = False,
) -> list[Pack]:
    """Configurations x seeds x folds -> packs, each checked.

    A pack has all folds of its configurations and seeds if it has room for one of them. Fold varies slowest in a pack: rows
    with the same weights on the samples stand together, and are scored together.

    Args:
        study: as written, with its sweeps.
        configurations: one mapping per configuration, with a value for every axis.
        plugins: where names are looked up.
        letter: what the packs' names begin with.
        first_pack: the number of the first pack.
        first: the number of the first configuration.
        refit: the numbers of configurations that were trained before, to be trained on all development samples now.
        halves: or on these half samples instead.
        fast: leave out `check_laws`.
    """
    rows_of = {axis.path: axis.row for axis in axes(study)}
    tasks = [path for path in rows_of if path.startswith((TASK, LOSS))]
    packs: list[Pack] = []
    tried: set[str] = set()
    seeds = study.seed_list
    numbered = list(zip(refit, configurations, strict=True)) if refit else list(enumerate(configurations, start=first))
    groups, data = _together(study, numbered, rows_of, tasks, plugins)
    networks = 0
    for members in groups:
        one = members[0][1]
        folds = list(halves) or [REFIT] if refit else list(range(task_facts(settle(study, _of(one, tasks)), plugins).resamples))
        networks += len(members) * len(seeds) * max(1, len(folds))
        _bounded(networks, len(folds))
        names = [
            path for path, row in rows_of.items() if row or (path in tasks and any(c[path] != one[path] for _, c in members))
        ]
        shared = {path: json.loads(json.dumps(one[path])) for path in rows_of if path not in names}
        across = [number for number, _ in members for _ in seeds]
        columns = {path: [c[path] for _, c in members for _ in seeds] for path in names}
        whole = Pack(f"{letter}0000", shared, columns, seeds * len(members), across)
        # Its first row's data are enough to plan with: those of all rows are made where they are trained.
        first_row = {path: column[:1] for path, column in columns.items()}
        parts = components(study, Pack(f"{letter}0000", shared, first_row, seeds[:1], across[:1], folds=folds[:1]), plugins)
        weigh(parts)
        search = assemble(parts, whole, plugins)
        nets = try_out(parts, search, plugins)
        fit(parts, discretizers(study, whole, plugins), search.direct(nets), plugins)
        size = pack_rows(parts, search, nets, whole.rows * max(1, len(folds)))
        if not fast and floats(t for part in nets.parts for t in getattr(nets, part).values()) <= MOST_TRIED:
            check_laws(parts, search, plugins, tried)
        units = max(1, size // max(1, len(folds)))  # configurations and seeds, with all their folds
        count = -(-whole.rows // units)
        if parts.study.resources.pack == "auto" and count > 1:
            count = -(-count // places(study)) * places(study)  # whole rounds of even packs: no worker waits for another
        lists = _even(folds, size)
        if not refit and rungs(study, whole, parts.steps) and len(lists) > 1:
            raise ConfigError(
                f"stop: all {len(folds)} folds of a configuration are stopped together, but a pack has room for {size} rows; "
                f"write resources.pack: {len(folds)} or more, fewer folds, or stop: null"
            )
        divided = _divided(whole, -(-whole.rows // count), lists, letter, first_pack + len(packs), data)
        packs += _alike(list(divided), places(study))
    return packs


def _of(configuration: Mapping[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    return {path: configuration[path] for path in paths}


def _bounded(networks: int, folds: int) -> None:
    """Refuse more rows than a study may have, before they are made."""
    if networks > MOST_NETWORKS:
        raise ConfigError(
            f"the study has {networks:,} networks and more ({max(1, folds)} for each configuration and seed, one per fold); "
            f"needed: {MOST_NETWORKS:,} at most. Take fewer values, seeds or folds, or validation: holdout"
        )


def _even(folds: Sequence[int], size: int) -> list[Sequence[int]]:
    """Folds in lists of at most ``size``, as even as can be: one, where a pack has room for all."""
    most = -(-len(folds) // max(1, -(-len(folds) // size)))
    return [folds[at : at + most] for at in range(0, len(folds), most)] if folds else [()]


def _alike(packs: Sequence[Pack], workers: int) -> list[Pack]:
    """Packs of one kind, each with how many of its shape a worker trains. A last, smaller one takes the room of the others."""
    numbers = Counter(pack.rows for pack in packs)
    common = sorted(rows for rows, number in numbers.items() if number > 1)
    rooms = {
        rows: next((more for more in common if numbers[rows] == 1 and rows < more <= MOST_ROOM * rows), 0) for rows in numbers
    }
    shapes = Counter(rooms[pack.rows] or pack.rows for pack in packs)
    return [replace(pack, room=rooms[pack.rows], alike=-(-shapes[rooms[pack.rows] or pack.rows] // workers)) for pack in packs]


def _divided(
    whole: Pack, size: int, lists: Sequence[Sequence[int]], letter: str, number: int, data: Mapping[str, str]
) -> Iterator[Pack]:
    """Packs of ``size`` rows for each fold of a list, numbered from ``number`` on, each with the digests of its own data."""
    for at in range(0, whole.rows, size):
        part = slice(at, at + size)
        for folds in lists:
            times = max(1, len(folds))
            columns = {path: list(column[part]) * times for path, column in whole.columns.items()}
            seeds, configurations = list(whole.seeds[part]), list(whole.configurations[part])
            mine = [fold for fold in folds for _ in seeds]
            pack = Pack(f"{letter}{number:04d}", whole.values, columns, seeds * times, configurations * times, folds=mine)
            rows = range(len(seeds) if any(path.startswith(TASK) for path in columns) else 1)
            keys = dict.fromkeys(data_key(pack.task(row)) for row in rows)
            yield replace(pack, data={key: data[key] for key in keys})
            number += 1
