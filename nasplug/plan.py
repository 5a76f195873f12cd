"""From a study to packs: what sets a shape makes a new pack, what is only a number makes a new row.

Pure: no scheduler and no tracker. Planning builds every distinct method, schedule, penalty and discretizer once and tries
them on one network, so that a wrong combination is refused here and not at step 1,000.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasplug.checking import check
from nasplug.config import StudyConfig, Sweep, Use, as_sweep, leaves, parse
from nasplug.contracts import Choosy, Discretizer, Holding, OnSimplex, Params, Proximal, Regularizer, Schedule, SearchMethod
from nasplug.errors import ConfigError, ContractError, NasplugError, did_you_mean
from nasplug.networks import Networks, activation
from nasplug.optimizers import OPTIMIZERS, Exponentiated, Optimizer
from nasplug.plugins import Plugins, options_model
from nasplug.replicas import normal
from nasplug.schedules import Track, constant, track
from nasplug.tasks import Task, stack
from nasplug.train import Architect, Search, start

__all__ = [
    "Axis",
    "Components",
    "Pack",
    "assemble",
    "axes",
    "cells",
    "chunk",
    "components",
    "corners",
    "cpus_here",
    "forget_tasks",
    "grid",
    "inside",
    "settle",
    "task_places",
    "task_values",
]

ROW = re.compile(
    r"^(penalties\.\d+\.level|train\.lr|train\.architecture\.lr|(penalties\.\d+\.ramp|temperature|train\.decay)\.(?!use$)[^.]+)$"
)
"""Places whose numbers may differ between the rows of one pack; a sweep anywhere else makes new packs.

A sweep of the task makes rows where its data sets have one shape (`nasplug.tasks.Task.shape`) and new packs where not.
"""

CACHE_BYTES = 8 * 2**20  # what a pack's working set may take: measured, the step is fastest while it stays near the caches
MOST_ROWS = 4096
TASK = "task."  # how the places of the task begin
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of CPU in a period, or max
MOST_DATA = 2 * 2**20  # numbers a data set may have to be copied for each row of a pack
MOST_STACKED = 128 * 2**20  # numbers that all these copies may have
MOST_CONFIGURATIONS = 10**6  # of a grid, which is planned as a whole
PROBE = 100.0  # activations must be finite up to here: units of a search that still works receive less
WORKING_COPIES = 8  # parameters, two moments, gradient and temporaries


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


@dataclass(frozen=True, slots=True)
class Components:
    """What a pack is built from: made once a distinct set of pack-level values."""

    study: StudyConfig
    task: Task
    method: SearchMethod
    penalties: tuple[Regularizer, ...]
    discretizers: tuple[Discretizer, ...]
    optimizer: Optimizer
    architect: Optimizer | None
    steps: int
    batch: int | None
    finetune: int
    retrain: int
    clip: float | None


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


def settle(study: StudyConfig, values: Mapping[str, Any]) -> StudyConfig:
    """The study with the sweeps at ``values``' paths replaced by those values."""
    raw = study.plain()
    for path, value in values.items():
        here: Any = raw
        *parents, last = path.split(".")
        for key in parents:
            here = here[int(key)] if isinstance(here, list) else here[key]
        here[int(last) if isinstance(here, list) else last] = value
    return parse(raw)


def _settled(value: Any, where: str) -> Any:
    if as_sweep(value) is not None:
        raise ConfigError(f"{where}: still varies inside a pack; this place takes one value a pack")
    return value


@lru_cache(maxsize=16)
def _task(key: str, plugins: Plugins) -> Task:
    use = json.loads(key)
    task = plugins.build("task", use.pop("use"), use, "task")
    if not isinstance(task, Task):
        raise ConfigError(f"task: the plugin returned {type(task).__name__}; a nasplug.Task is needed")
    task.check()
    return task


def forget_tasks() -> None:
    """Build tasks anew from now on: their files may have changed."""
    _task.cache_clear()


def build_task(study: StudyConfig, plugins: Plugins) -> Task:
    """The task of a settled study; built once for the same options, until `forget_tasks`."""
    return _task(json.dumps(study.task.model_dump(mode="json"), sort_keys=True), plugins)


def _optimizer(use: Use, where: str) -> Optimizer:
    name = use.use
    if name not in OPTIMIZERS:
        raise ConfigError(f"{where}: {name!r} is not known; known: {', '.join(OPTIMIZERS)}.{did_you_mean(name, OPTIMIZERS)}")
    options = check(options_model(name, OPTIMIZERS[name]), use.options, where, swept=True)
    return OPTIMIZERS[name](**{key: getattr(options, key) for key in options.model_fields_set})


def task_values(values: Mapping[str, Any], columns: Mapping[str, Sequence[Any]], row: int) -> dict[str, Any]:
    """The places of the task among a pack's shared values and its columns' values in a row."""
    whole = {path: value for path, value in values.items() if path.startswith(TASK)}
    return whole | {path: column[row] for path, column in columns.items() if path.startswith(TASK)}


def _tasks(study: StudyConfig, pack: Pack, plugins: Plugins) -> Task:
    """The task of a pack: one for all its rows, or a stack of theirs."""
    if not any(path.startswith(TASK) for path in pack.columns):
        return build_task(settle(study, pack.values), plugins)
    keys = [json.dumps(pack.task(row), sort_keys=True) for row in range(pack.rows)]
    distinct = {key: at for at, key in enumerate(dict.fromkeys(keys))}
    return stack([build_task(settle(study, json.loads(key)), plugins) for key in distinct], [distinct[key] for key in keys])


def components(study: StudyConfig, pack: Pack, plugins: Plugins, device: str = "cpu") -> Components:
    """Build everything that a pack of the study names.

    Raises:
        ConfigError: for anything a plugin or a place does not accept.
    """
    task = _tasks(study, pack, plugins)
    study = settle(study, pack.values)
    dtype = torch.float64 if study.train.dtype == "float64" else torch.float32
    task = task.to(device, dtype)
    method = plugins.build("method", study.method.use, study.method.options, "method")
    penalties = tuple(plugins.build("regularizer", p.use, p.options, f"penalties.{i}") for i, p in enumerate(study.penalties))
    discretizers = tuple(
        plugins.build("discretizer", d.use, d.options, f"discretizers.{i}") for i, d in enumerate(study.discretizers)
    )
    batch = _settled(study.train.batch, "train.batch")
    if batch != "full" and batch > task.train.samples:
        raise ConfigError(
            f"train.batch: {batch}; needed: at most {task.train.samples}, which is all training samples of the task, or full"
        )
    clip, architecture = study.train.clip, study.train.architecture
    return Components(
        study=study,
        task=task,
        method=method,
        penalties=penalties,
        discretizers=discretizers,
        optimizer=_optimizer(study.train.optimizer, "train.optimizer"),
        architect=_optimizer(architecture.optimizer, "train.architecture.optimizer") if architecture else None,
        steps=int(_settled(study.train.steps, "train.steps")),
        batch=None if batch == "full" else int(batch),
        finetune=int(_settled(study.train.finetune, "train.finetune")),
        retrain=int(_settled(study.train.retrain, "train.retrain")),
        clip=None if clip is None else float(_settled(clip, "train.clip")),
    )


def _numbers(values: Sequence[float], where: str, *, positive: bool) -> list[float]:
    for value in values:
        good = isinstance(value, int | float) and math.isfinite(value) and (value > 0 if positive else value >= 0)
        if not good:
            raise ConfigError(f"{where}: {value!r}; needed: a finite number {'> 0' if positive else '>= 0'}")
    return [float(v) for v in values]


def _schedule_track(use: Use | None, where: str, pack: Pack, scale: Sequence[float], steps: int, plugins: Plugins) -> Track:
    """One row a distinct set of options; rows that share them share the table's column."""
    if use is None:
        return track([constant()], [0] * pack.rows, scale, steps)
    mine = {path: column for path, column in pack.columns.items() if path.startswith(where + ".")}
    distinct: dict[tuple[float, ...], int] = {}
    index = [distinct.setdefault(row, len(distinct)) for row in zip(*mine.values(), strict=True)]
    if not mine:
        distinct, index = {(): 0}, [0] * pack.rows
    schedules: list[Schedule] = []
    for row in distinct:
        options = use.options | {path.rsplit(".", 1)[1]: value for path, value in zip(mine, row, strict=True)}
        schedules.append(plugins.build("schedule", use.use, options, where))
    try:
        return track(schedules, index, scale, steps)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _settling(tau: Track, levels: Sequence[Track], steps: int, reports: int) -> None:
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


def assemble(parts: Components, pack: Pack, plugins: Plugins, device: str = "cpu") -> Search:
    """Rows and components together: what the loop trains.

    Raises:
        ConfigError: for a level, learning rate or temperature that cannot be.
    """
    train = parts.study.train

    def number(path: str, value: Any, *, positive: bool) -> list[float]:
        if path in pack.columns:
            return _numbers(pack.columns[path], path, positive=positive)
        return _numbers([_settled(value, path)], path, positive=positive) * pack.rows

    lr = number("train.lr", train.lr, positive=True)
    levels = []
    for i, penalty in enumerate(parts.study.penalties):
        level = number(f"penalties.{i}.level", penalty.level, positive=False)
        levels.append(_schedule_track(penalty.ramp, f"penalties.{i}.ramp", pack, level, parts.steps, plugins))
        if bool((levels[-1].table < 0).any()):
            raise ConfigError(
                f"penalties.{i}.ramp: goes below 0; needed: values >= 0, as they multiply the level. Correct its ends"
            )
    one = [1.0] * pack.rows
    tau = _schedule_track(parts.study.temperature, "temperature", pack, one, parts.steps, plugins)
    if bool((tau.table < 0).any()):
        raise ConfigError("temperature: goes below 0; needed: values >= 0. Correct its ends")
    decay = _schedule_track(train.decay, "train.decay", pack, lr, parts.steps, plugins)
    if bool((decay.table < 0).any()):
        raise ConfigError(
            "train.decay: goes below 0; needed: values >= 0, as they multiply the learning rate. Correct its ends"
        )
    dtype = parts.task.train.x.dtype
    if train.keep == "best":
        _settling(tau, levels, parts.steps, train.reports)
    architect = None
    if train.architecture is not None and parts.architect is not None:
        rate = number("train.architecture.lr", train.architecture.lr, positive=True)
        rates = torch.tensor(rate, device=device, dtype=dtype)  # (K,)
        architect = Architect(parts.architect, rates, train.architecture.share, train.architecture.order)
    return Search(
        task=parts.task,
        method=parts.method,
        penalties=parts.penalties,
        optimizer=parts.optimizer,
        seeds=torch.tensor(list(pack.seeds), dtype=torch.long, device=device),
        steps=parts.steps,
        lr=decay.to(device, dtype),
        tau=tau.to(device, dtype),
        levels=tuple(level.to(device, dtype) for level in levels),
        batch=parts.batch,
        data_seed=train.data_seed,
        clip=parts.clip,
        architect=architect,
        keep=train.keep,
    )


def _needs(what: str, name: str, component: Any, parts: Iterable[str], method: str) -> None:
    missing = sorted(set(component.needs) - set(parts))
    if missing:
        raise ConfigError(
            f"{what}: {name!r} reads {', '.join(missing)}, which method {method!r} as configured does not make; "
            f"it makes: {', '.join(sorted(parts))}. Take another one here, or another method (or mode)"
        )


def _holds(what: str, name: str, penalty: Proximal, method: SearchMethod, use: str) -> None:
    held = method.holds if isinstance(method, Holding) else frozenset()
    missing = sorted(penalty.needs - held)
    if missing:
        raise ConfigError(
            f"{what}: {name!r} is proximal and moves {', '.join(missing)}, which are no parameters of method {use!r}; it "
            f"holds: {', '.join(sorted(held)) or 'none'}. Take a penalty that is not proximal, or another method"
        )


def _elementwise(nets: Networks, method: str, plugins: Plugins) -> None:
    """Refuse activations that no plugin offers, and those that would break every network that takes them."""
    probe = (torch.arange(-2000, 2001) * (PROBE / 2000)).requires_grad_()  # 0 is among them, exactly
    for name in nets.names:
        plugins.offer("activation", name, method)
        with _blaming(f"activation {name!r} of {method}"):
            values = activation(name)(probe)
            if values.shape != probe.shape:
                raise ContractError(
                    f"activation {name!r} made shape {tuple(values.shape)} of {tuple(probe.shape)}; it must be elementwise"
                )
            (slope,) = torch.autograd.grad(values.sum(), probe, allow_unused=True, materialize_grads=True)
        bad = ~(torch.isfinite(values) & torch.isfinite(slope))
        if bool(bad.any()):
            where = float(probe.detach()[bad][0])
            raise ConfigError(
                f"{method}: activation {name!r} has a value or slope that is not finite at {where:g}; needed: finite "
                f"ones between -{PROBE:g} and {PROBE:g}. Take another activation"
            )


def _moved(parts: Components, search: Search, params: Params) -> None:
    """Refuse optimizers that do not fit the leaves they would move, and a bilevel search without samples for it."""
    study, method, architect = parts.study, parts.method, search.architect
    use = study.method.use
    if architect is not None:
        leaves = sorted(search.architecture(params))
        if not leaves:
            raise ConfigError(
                f"train.architecture: method {use!r} as configured has no architecture of its own to move; its leaves: "
                f"{', '.join(sorted(params))}. Remove train.architecture, or take another method"
            )
        if not search.weights(params):
            raise ConfigError(f"train.architecture: method {use!r} has no weights beside its architecture; remove it")
        if any(isinstance(penalty, Proximal) for penalty in parts.penalties):
            raise ConfigError(
                "train.architecture: beside a proximal penalty, whose step follows train.lr; remove one of the two"
            )
    if architect is not None and architect.share > 0:
        samples = parts.task.train.samples
        held = round(architect.share * samples)
        least = parts.batch or 1
        if min(held, samples - held) < least:
            raise ConfigError(
                f"train.architecture.share: {architect.share:g} of {samples} training samples holds {held} and leaves "
                f"{samples - held}; needed: {least} at least for each (train.batch). Take a share nearer to 0.5"
            )
    simplex = method.simplex if isinstance(method, OnSimplex) else frozenset()
    groups = {"train.optimizer": search.weights(params), "train.architecture.optimizer": search.architecture(params)}
    for (where, group), optimizer in zip(groups.items(), (parts.optimizer, parts.architect), strict=True):
        on, off = sorted(set(group) & simplex), sorted(set(group) - simplex)
        if on and not isinstance(optimizer, Exponentiated):
            raise ConfigError(
                f"{where}: {', '.join(on)} of method {use!r} are points of the simplex, which this optimizer would leave; "
                "write train.architecture: {optimizer: {use: exponentiated}, lr: 0.1}"
            )
        if off and isinstance(optimizer, Exponentiated):
            raise ConfigError(
                f"{where}: exponentiated moves points of the simplex, and {', '.join(off)} of method {use!r} are none; "
                "take adam, adamw or sgd here, or an option of the method that puts them there"
            )


@contextmanager
def _blaming(whom: str) -> Iterator[None]:
    """Whatever a plugin raises that is not one of our errors, with its name."""
    try:
        yield
    except NasplugError:
        raise
    except Exception as error:
        raise ContractError(
            f"{whom} broke on one network with {type(error).__name__}: {error}. Change its options, or tell its author"
        ) from error


def _tempered(method: SearchMethod, search: Search, params: Params, use: str) -> None:
    """Refuse a temperature that changes nothing: networks at its largest and smallest value, from leaves moved a little."""
    values = search.tau.table[:, search.tau.index[0]] * search.tau.scale[0]  # (T,)
    low, high = float(values.min()), float(values.max())
    low = high / 2.0 if low == high else low
    moved = {name: p + 0.1 * normal(search.seeds, f"try out {name}", tuple(p.shape[1:])).to(p) for name, p in params.items()}
    with _blaming(f"method {use!r}"), torch.no_grad():
        hot, cold = (method.relax(moved, torch.full_like(search.tau.at(0), tau), search.seeds) for tau in (high, low))
        pairs = [(getattr(hot, part)[key], getattr(cold, part)[key]) for part in hot.parts for key in getattr(hot, part)]
    if all(torch.equal(a, b) for a, b in pairs):
        raise ConfigError(
            f"temperature: method {use!r} as configured does not read it: its networks are the same at {high:g} and {low:g}. "
            "Remove it, or take another method (or mode)"
        )


def try_out(parts: Components, search: Search, plugins: Plugins) -> Networks:
    """Make one network and check that everything fits it: shapes, needs, penalties' values.

    Raises:
        ConfigError: for combinations that do not fit.
        ContractError: for a plugin that breaks its contract.
    """
    first = search.take(torch.tensor([0]))
    study = parts.study
    method = f"method {study.method.use!r}"
    with _blaming(method):
        drawn = parts.method.init(first.task, first.seeds)
    _moved(parts, first, drawn)
    with _blaming(method):
        params = start(first).params
        nets = parts.method.relax(params, first.tau.at(0))
        nets.check()
    _elementwise(nets, method, plugins)
    if study.temperature is not None:
        _tempered(parts.method, first, params, study.method.use)
    if nets.inputs != parts.task.inputs or nets.widths[-1] != parts.task.outputs:
        raise ConfigError(
            f"{method} made networks of widths {nets.widths} for a task of {parts.task.inputs} inputs and {parts.task.outputs} "
            "outputs; take another method, or another task"
        )
    with _blaming(method):
        given = first.task.train.x[..., :2]
        outputs = parts.method.forward(nets, given)
        direct = parts.method.direct(nets)
        direct.check()
    if outputs.shape != (1, parts.task.outputs, 2):
        raise ContractError(
            f"{method} gave outputs of shape {tuple(outputs.shape)} for one network and 2 samples; "
            f"it must give {(1, parts.task.outputs, 2)}, (K, O, B)"
        )
    for i, penalty in enumerate(parts.penalties):
        _needs(f"penalties.{i}", study.penalties[i].use, penalty, nets.parts, study.method.use)
        if isinstance(penalty, Proximal):
            _holds(f"penalties.{i}", study.penalties[i].use, penalty, parts.method, study.method.use)
        with _blaming(f"penalties.{i}: regularizer {study.penalties[i].use!r}"):
            value = penalty(nets)
        if value.shape != (1,):
            raise ContractError(
                f"penalties.{i}: {study.penalties[i].use!r} returned shape {tuple(value.shape)} for one network; "
                "it must return one number a network, (K,)"
            )
    for i, discretizer in enumerate(parts.discretizers):
        _needs(f"discretizers.{i}", study.discretizers[i].use, discretizer, direct.parts, study.method.use)
        if isinstance(discretizer, Choosy):
            with _blaming(f"discretizers.{i}: discretizer {study.discretizers[i].use!r}"):
                discretizer.accept(direct)
    return nets


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
