"""From plain data to what is trained: a task, components, and their rows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from nasplug.checking import check
from nasplug.config import StudyConfig, Use, as_sweep, parse
from nasplug.contracts import Discretizer, Regularizer, Schedule, SearchMethod
from nasplug.errors import ConfigError, did_you_mean
from nasplug.optimizers import OPTIMIZERS, Optimizer
from nasplug.plan.varying import TASK, Pack
from nasplug.plugins import Plugins, options_model
from nasplug.schedules import Track, constant, track
from nasplug.tasks import Task, stack
from nasplug.train import Architect, Search

__all__ = ["Components", "assemble", "build_task", "components", "forget_tasks", "settle"]


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
