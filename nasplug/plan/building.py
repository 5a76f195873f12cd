"""From plain data to what is trained: a task, components, and their rows."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import torch

from nasplug.byrow import ByRow
from nasplug.config import StudyConfig, Sweep, Use, as_sweep, parse
from nasplug.config.checking import check
from nasplug.contracts import Discretizer, Regularizer, Schedule, SearchMethod, check_component
from nasplug.data.resampling import half_samples
from nasplug.errors import ConfigError, did_you_mean
from nasplug.monotone import directions
from nasplug.networks import SIZES
from nasplug.optimizers import OPTIMIZERS, Optimizer
from nasplug.plan.fixing import fixed
from nasplug.plan.varying import FIXED, TASK, Pack, data_key
from nasplug.plugins import Plugins, options_model
from nasplug.schedules import Track, still, track
from nasplug.tasks import Facts, Loss, Metric, Task, scored, stack, traced
from nasplug.train import Architect, Search

__all__ = [
    "Components",
    "assemble",
    "build_task",
    "components",
    "discretizers",
    "forget_tasks",
    "levels_of",
    "settle",
    "take_tasks",
    "task_facts",
    "tasks_of",
]

MOST_VALUES = 2 * 10**7  # of all schedules that one place has in a pack, at all steps: 160 MB


@dataclass(frozen=True, slots=True)
class Components:
    """What a pack is built from: made once per distinct set of pack-level values."""

    study: StudyConfig
    task: Task
    method: SearchMethod
    penalties: tuple[Regularizer, ...]
    discretizers: tuple[Discretizer | ByRow, ...]
    optimizer: Optimizer
    architect: Optimizer | None
    steps: int
    batch: int | None
    finetune: int
    retrain: int
    clip: float | None
    monotone: tuple[int, ...]


def settle(study: StudyConfig, values: Mapping[str, Any]) -> StudyConfig:
    """The study with the sweeps at ``values``' paths replaced by those values."""
    raw = study.plain()
    for path, value in values.items():
        _put(raw, path, value)
    return parse(raw)


def _put(raw: Any, path: str, value: Any) -> None:
    """A value into the place that a path names, in nested plain data."""
    *parents, last = path.split(".")
    for key in parents:
        raw = raw[int(key)] if isinstance(raw, list) else raw[key]
    raw[int(last) if isinstance(raw, list) else last] = value


def _settled(value: Any, where: str) -> Any:
    if as_sweep(value) is not None:
        raise ConfigError(f"{where}: still varies inside a pack; this place takes one value per pack")
    return value


def _built(plugins: Plugins, kind: str, name: str, options: Mapping[str, Any], where: str) -> Any:
    """A component that keeps its contract, as far as its names can say."""
    made = plugins.build(kind, name, options, where)
    offer = str(plugins.offer(kind, name))
    check_component(kind, made, offer if offer.startswith(where) else f"{where}: {offer}")
    return made


@lru_cache(maxsize=16)
def _data(key: str, plugins: Plugins) -> Task:
    """The data alone: a sweep over losses reads its file once."""
    use = json.loads(key)
    task: Task = _built(plugins, "task", use.pop("use"), use, "task")
    return traced(task)


_taken: dict[str, Callable[[], Task]] = {}
"""On a worker alone: where its tasks come from."""


def take_tasks(found: Mapping[str, Callable[[], Task]]) -> None:
    """On a worker: from now on tasks are what the driver sends, by the keys of `tasks_of`; nothing is read or made here."""
    _taken.clear()
    _taken.update(found)


@lru_cache(maxsize=16)
def _task(key: str, plugins: Plugins) -> Task:
    if _taken:
        return replace(_taken[key]())  # without the digest that it came with: that of what has arrived is compared
    use, loss, metrics = json.loads(key)
    task = _data(json.dumps(use, sort_keys=True), plugins)
    other: Loss | None = None if loss is None else _built(plugins, "loss", loss.pop("use"), loss, "loss")
    more: dict[str, Metric] = {}
    for i, metric in enumerate(metrics):
        name = column_of(metric)
        if name in more:
            raise ConfigError(f"metrics.{i}: {name!r} comes twice; remove one")
        more[name] = _built(plugins, "metric", metric.pop("use"), metric, f"metrics.{i}")
    task = scored(task, other, more)
    task.check()
    return task


def column_of(metric: Mapping[str, Any]) -> str:
    """What a metric's columns are called: its name, and its options if it has some; ``pinball_0_9``.

    Of letters, digits and ``_`` alone: a point is in the names of places of the study, and a score is none.
    """
    return re.sub(r"\W", "_", "_".join([metric["use"], *(str(value) for key, value in metric.items() if key != "use")]))


def forget_tasks() -> None:
    """Build tasks anew from now on: their files may have changed."""
    _data.cache_clear()
    _task.cache_clear()
    _facts.cache_clear()


def build_task(study: StudyConfig, plugins: Plugins) -> Task:
    """The task of a settled study; built once for the same options, until `forget_tasks`."""
    return _task(_key(study), plugins)


def _key(study: StudyConfig) -> str:
    loss = None if study.loss is None else study.loss.model_dump(mode="json")
    parts = (study.task.model_dump(mode="json"), loss, [metric.model_dump(mode="json") for metric in study.metrics])
    return json.dumps(parts, sort_keys=True)


@cache
def _facts(key: str, plugins: Plugins) -> Facts:
    return _task(key, plugins).facts


def task_facts(study: StudyConfig, plugins: Plugins) -> Facts:
    """What is known of the task of a settled study without its samples; kept for every task, until `forget_tasks`."""
    return _facts(_key(study), plugins)


def tasks_of(study: StudyConfig, pack: Pack) -> dict[str, StudyConfig]:
    """What a pack of the study learns: a key -> the settled study to build the task of, one for each of its data sets."""
    found = {}
    for values in _data_sets(pack):
        settled = settle(study, json.loads(values))
        found[_key(settled)] = settled
    return found


def _data_sets(pack: Pack) -> dict[str, int]:
    """The data sets of a pack's rows, as JSON -> how many come before."""
    rows = range(pack.rows if any(path.startswith(TASK) for path in pack.columns) else 1)
    return {key: at for at, key in enumerate(dict.fromkeys(_data_set(pack, row) for row in rows))}


def _data_set(pack: Pack, row: int) -> str:
    return json.dumps(pack.task(row), sort_keys=True)


def _optimizer(use: Use, where: str) -> Optimizer:
    name = use.use
    if name not in OPTIMIZERS:
        raise ConfigError(f"{where}: {name!r} is not known; known: {', '.join(OPTIMIZERS)}.{did_you_mean(name, OPTIMIZERS)}")
    options = check(options_model(name, OPTIMIZERS[name]), use.options, where, swept=True)
    return OPTIMIZERS[name](**{key: getattr(options, key) for key in options.model_fields_set})


def _tasks(study: StudyConfig, pack: Pack, plugins: Plugins) -> Task:
    """The task of a pack: one for all its rows, or a stack of theirs; of rows on resamples, all with the development samples.

    Raises:
        ConfigError: where the data are not those that the pack was planned with.
    """
    stacked = any(path.startswith(TASK) for path in pack.columns)
    distinct = _data_sets(pack)
    tasks = []
    for key in distinct:
        values = json.loads(key)
        task = build_task(settle(study, values), plugins)
        planned = pack.data.get(data_key(values))
        if planned not in (None, task_facts(settle(study, values), plugins).digest):
            raise ConfigError(
                f"task {task.name!r}: its data are not those that pack {pack.id} was planned with; they changed while the "
                "study runs, or differ between machines. Give every machine the same data, and run again"
            )
        tasks.append(task)
    if stacked:
        return stack(tasks, [distinct[_data_set(pack, row)] for row in range(pack.rows)], pack.folds)
    if pack.halved:
        drawn = half_samples(tasks[0], 1 + max(pack.folds), study.train.data_seed)
        return replace(tasks[0], resamples=drawn).resampled(pack.folds)
    return tasks[0].resampled(pack.folds) if pack.folds else tasks[0]


def discretizers(study: StudyConfig, pack: Pack, plugins: Plugins) -> tuple[Discretizer | ByRow, ...]:
    """The discretizers of a pack's rows: one for each distinct set of the options that differ between them.

    Raises:
        ConfigError: for options that a discretizer does not accept, of any row.
    """
    found: list[Discretizer | ByRow] = []
    for i, use in enumerate(settle(study, pack.values).discretizers):
        where = f"discretizers.{i}"
        mine = {path.removeprefix(f"{where}."): column for path, column in pack.columns.items() if path.startswith(f"{where}.")}
        rows = list(zip(*mine.values(), strict=True)) or [()] * pack.rows
        distinct = {row: at for at, row in enumerate(dict.fromkeys(rows))}
        each = []
        for row in distinct:
            options = json.loads(json.dumps(use.options))
            for path, value in zip(mine, row, strict=True):
                _put(options, path, value)
            each.append(_built(plugins, "discretizer", use.use, options, where))
        found.append(each[0] if len(each) == 1 else ByRow(tuple(each), tuple(distinct[row] for row in rows)))
    return tuple(found)


def components(study: StudyConfig, pack: Pack, plugins: Plugins, device: str = "cpu") -> Components:
    """Build everything that a pack of the study names.

    Raises:
        ConfigError: for anything a plugin or a place does not accept.
    """
    task = _tasks(study, pack, plugins)
    cuts = discretizers(study, pack, plugins)
    study = settle(study, pack.values)
    dtype = torch.float64 if study.train.dtype == "float64" else torch.float32
    task = task.to(device, dtype)
    method = _built(plugins, "method", study.method.use, study.method.options, "method")
    penalties = tuple(_built(plugins, "regularizer", p.use, p.options, f"penalties.{i}") for i, p in enumerate(study.penalties))
    batch = _settled(study.train.batch, "train.batch")
    if batch != "full" and batch > task.train.samples:
        raise ConfigError(
            f"train.batch: {batch}; needed: at most {task.train.samples}, which is all training samples of the task, or full"
        )
    names = ["error", "loss", "r2" if task.kind == "regression" else "accuracy", *task.scores, *task.each_error]
    if study.choose.by not in names:
        raise ConfigError(
            f"choose.by: {study.choose.by!r} is no score of this study; there are: {', '.join(names)}. Add it to metrics, or "
            f"take one of these.{did_you_mean(study.choose.by, names)}"
        )
    judged = [*(f"valid_{name}" for name in names), *SIZES, *study.sampler.measured]
    for place, wanted in (("objectives", study.sampler.objectives), ("constraints", study.sampler.constraints)):
        if odd := [name for name in wanted if name not in judged]:
            raise ConfigError(
                f"sampler.{place}: {odd[0]!r} is no column that a sampler can go by; there are: {', '.join(judged)}."
                f"{did_you_mean(odd[0], judged)}"
            )
    for name, most in study.sampler.constraints.items():
        if name in (*SIZES, *study.sampler.measured, "valid_error") and most < 0:
            raise ConfigError(f"sampler.constraints: {name}: {most:g} is below 0, and no network is; needed: a number >= 0")
    clip, architecture = study.train.clip, study.train.architecture
    return Components(
        study=study,
        task=task,
        method=method,
        penalties=penalties,
        discretizers=cuts,
        optimizer=_optimizer(study.train.optimizer, "train.optimizer"),
        architect=_optimizer(architecture.optimizer, "train.architecture.optimizer") if architecture else None,
        steps=int(_settled(study.train.steps, "train.steps")),
        batch=None if batch == "full" else int(batch),
        finetune=int(_settled(study.train.finetune, "train.finetune")),
        retrain=int(_settled(study.train.retrain, "train.retrain")),
        clip=None if clip is None else float(_settled(clip, "train.clip")),
        monotone=directions(task, study.monotone),
    )


def _numbers(values: Sequence[float], where: str, *, positive: bool) -> list[float]:
    for value in values:
        good = isinstance(value, int | float) and math.isfinite(value) and (value > 0 if positive else value >= 0)
        if not good:
            raise ConfigError(f"{where}: {value!r}; needed: a finite number {'> 0' if positive else '>= 0'}")
    return [float(v) for v in values]


def _schedule_track(use: Use | None, where: str, pack: Pack, scale: Sequence[float], steps: int, plugins: Plugins) -> Track:
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
        schedules.append(_built(plugins, "schedule", use.use, options, where))
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

    Where rows pass through levels, temperature and ramps run over the first level and keep their last values; the learning
    rate's decay runs over each level anew.

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
    more = max(0, len(levels_of(parts.study)) - 1)
    total = parts.steps
    if train.path is not None and more:
        own = int(train.path.over.split(".")[1])
        if not bool((levels[own].table[-1] > 0).all()):
            raise ConfigError(
                f"penalties.{own}.ramp: ends at 0, and multiplies all levels of train.path that come after the first; let it "
                "end above 0"
            )
        anew = _schedule_track(train.decay, "train.decay", pack, lr, train.path.steps, plugins)
        decay, each = decay.followed(anew.table, more), train.path.steps * more
        tau = tau.followed(tau.table[-1:], each)
        levels = [level.followed(level.table[-1:], each) for level in levels]
        total += each
    dtype = parts.task.train.x.dtype
    if train.keep == "best":
        _settling(tau, levels, parts.steps, train.reports)
    architect = None
    if train.architecture is not None and parts.architect is not None:
        rate = number("train.architecture.lr", train.architecture.lr, positive=True)
        rates = torch.tensor(rate, device=device, dtype=dtype)  # (K,)
        architect = Architect(parts.architect, rates, train.architecture.share, train.architecture.order)
    search = Search(
        task=parts.task,
        method=parts.method,
        penalties=parts.penalties,
        optimizer=parts.optimizer,
        seeds=torch.tensor(list(pack.seeds), dtype=torch.long, device=device),
        steps=total,
        lr=decay.to(device, dtype),
        tau=tau.to(device, dtype),
        levels=tuple(level.to(device, dtype) for level in levels),
        batch=parts.batch,
        data_seed=train.data_seed,
        clip=parts.clip,
        architect=architect,
        keep=train.keep,
        functions=plugins.functions,
        monotone=parts.monotone,
    )
    given = pack.columns.get(FIXED, [parts.study.fixed] * pack.rows)
    if parts.study.fixed is None:
        return search
    return replace(search, fixed=fixed(search, [str(text) for text in given], parts.study.method.use))
