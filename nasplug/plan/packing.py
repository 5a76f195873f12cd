"""Configurations to packs of a size that this machine is fast with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nasplug.config import MOST_NETWORKS, StudyConfig
from nasplug.errors import ConfigError
from nasplug.monotone import directions
from nasplug.plan.building import assemble, components, discretizers
from nasplug.plan.laws import check_laws
from nasplug.plan.paths import accept_path, paths_of
from nasplug.plan.populations import check_whole, exchanges, populations
from nasplug.plan.settling import settle
from nasplug.plan.sizing import floats, numbers, places, sizing, weigh
from nasplug.plan.stopping import rungs
from nasplug.plan.tasks import build_task, task_facts
from nasplug.plan.trying import fit, try_out
from nasplug.plan.varying import LOSS, TASK, Pack, axes, data_key
from nasplug.plugins import Plugins

__all__ = ["chunk"]

MOST_DATA = 2 * 2**20  # numbers that a data set may have to be copied for each row of a pack
MOST_TRIED = 2**21  # numbers of a network that planning tries the laws on: twice, in float64
MOST_SETS = 10_000  # data sets of a study
MOST_GROUPS = 2_000  # kinds of packs: planning each takes some hundredths of a second
MOST_ROOM = 4  # times as many rows as a pack has, where it takes the compiled program of larger packs


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
    numbers: Sequence[int] = (),
    folds: Sequence[int] = (),
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
        numbers: of the configurations; 0, 1, ... where none are given.
        folds: what to train on instead of the task's resamples: these half samples, or all development samples
            (`nasplug.plan.REFIT`).
        fast: leave out `check_laws`.
    """
    rows_of = {axis.path: axis.row for axis in axes(study)}
    tasks = [path for path in rows_of if path.startswith((TASK, LOSS))]
    packs: list[Pack] = []
    tried: set[str] = set()
    seeds = study.seed_list
    numbered = list(zip(numbers or range(len(configurations)), configurations, strict=True))
    groups, data = _together(study, numbered, rows_of, tasks, plugins)
    networks = 0
    for members in groups:
        one = members[0][1]
        mine = list(folds) or list(range(task_facts(settle(study, _of(one, tasks)), plugins).resamples))
        networks += len(members) * len(seeds) * max(1, len(mine))
        _bounded(networks, len(mine))
        names = [
            path for path, row in rows_of.items() if row or (path in tasks and any(c[path] != one[path] for _, c in members))
        ]
        shared = {path: json.loads(json.dumps(one[path])) for path in rows_of if path not in names}
        across = [number for number, _ in members for _ in seeds]
        columns = {path: [c[path] for _, c in members for _ in seeds] for path in names}
        whole = Pack(f"{letter}0000", shared, columns, seeds * len(members), across)
        # Its first row's data are enough to plan with: those of all rows are made where they are trained.
        first_row = {path: column[:1] for path, column in columns.items()}
        parts = components(study, Pack(f"{letter}0000", shared, first_row, seeds[:1], across[:1], folds=mine[:1]), plugins)
        weigh(parts)
        accept_path(parts)
        search = assemble(parts, whole, plugins)
        nets = try_out(parts, search, plugins)
        fit(parts, discretizers(study, whole, plugins), search.direct(nets), plugins)
        trained = _trained(study, whole)
        each, rows = 1, len(trained)  # rows that train: at most of what stays together, and of all
        if study.train.population is not None:
            each, rows = max(map(len, trained)), whole.rows
            group = {row: number for number, rows in enumerate(trained) for row in rows}
            whole = replace(whole, groups=[group[row] for row in range(whole.rows)])
            exchanges(study, whole, parts.steps)
        size = sizing(parts, search, nets.activations, rows * max(1, len(mine))).rows
        if study.resources.pack == "auto" and not parts.task.stacked:
            size = max(size, each)  # what a machine is fast with refuses no population
        check_whole(study, each, size, len(mine))
        if not fast and floats(t for part in nets.parts for t in getattr(nets, part).values()) <= MOST_TRIED:
            check_laws(parts, search, plugins, tried)
        units = max(1, size // (each * max(1, len(mine))))  # configurations and seeds, with all their folds; populations
        count = -(-len(trained) // units)
        if parts.study.resources.pack == "auto" and count > 1:
            count = -(-count // places(study)) * places(study)  # whole rounds of even packs: no worker waits for another
        lists = _even(mine, size)
        if not folds and rungs(study, whole, parts.steps) and len(lists) > 1:
            raise ConfigError(
                f"stop: all {len(mine)} folds of a configuration are stopped together, but a pack has room for {size} rows; "
                f"write resources.pack: {len(mine)} or more, fewer folds, or stop: null"
            )
        divided = list(_divided(whole, trained, -(-len(trained) // count), lists, letter, first_pack + len(packs), data))
        packs += _alike(divided, [paths_of(study, pack).pack.rows for pack in divided], places(study))
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


def _trained(study: StudyConfig, whole: Pack) -> Sequence[Sequence[int]]:
    """What stays together: networks of a path, the weakest level first, which train in one row; a population; or a network."""
    if study.train.path is None:
        return populations(study, whole)
    found = paths_of(study, whole)
    each: list[list[int]] = [[] for _ in range(found.pack.rows)]
    for row in sorted(range(whole.rows), key=lambda row: found.number[row]):
        each[found.path[row]].append(row)
    return each


def _alike(packs: Sequence[Pack], each: Sequence[int], workers: int) -> list[Pack]:
    """Packs of one kind, each with how many of its shape a worker trains. A last, smaller one takes the room of the others.

    ``each``: how many rows train in each pack.
    """
    numbers = Counter(each)
    common = sorted(rows for rows, number in numbers.items() if number > 1)
    rooms = {
        rows: next((more for more in common if numbers[rows] == 1 and rows < more <= MOST_ROOM * rows), 0) for rows in numbers
    }
    shapes = Counter(rooms[rows] or rows for rows in each)
    return [
        replace(pack, room=rooms[rows], alike=-(-shapes[rooms[rows] or rows] // workers))
        for pack, rows in zip(packs, each, strict=True)
    ]


def _divided(
    whole: Pack,
    trained: Sequence[Sequence[int]],
    size: int,
    lists: Sequence[Sequence[int]],
    letter: str,
    number: int,
    data: Mapping[str, str],
) -> Iterator[Pack]:
    """Packs of ``size`` of what stays together, for each fold of a list, from ``number`` on, each with its own data's digests.

    ``trained``: rows of ``whole`` that stay together.
    """
    for at in range(0, len(trained), size):
        part = [row for rows in trained[at : at + size] for row in rows]
        for folds in lists:
            times = max(1, len(folds))
            columns = {path: [column[row] for row in part] * times for path, column in whole.columns.items()}
            seeds, configurations = ([each[row] for row in part] for each in (whole.seeds, whole.configurations))
            mine = [fold for fold in folds for _ in seeds]
            pack = Pack(f"{letter}{number:04d}", whole.values, columns, seeds * times, configurations * times, folds=mine)
            pack = replace(pack, groups=[whole.groups[row] for row in part] if whole.groups else ())
            rows = range(len(seeds) if any(path.startswith(TASK) for path in columns) else 1)
            keys = dict.fromkeys(data_key(pack.task(row)) for row in rows)
            yield replace(pack, data={key: data[key] for key in keys})
            number += 1
