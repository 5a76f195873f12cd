"""From plain data to what is trained: components, and their rows."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import torch

from nasplug.byrow import ByRow
from nasplug.config import StudyConfig, Use
from nasplug.config.checking import check
from nasplug.contracts import Discretizer, Regularizer, SearchMethod
from nasplug.errors import ConfigError, did_you_mean
from nasplug.monotone import directions
from nasplug.networks import SIZES
from nasplug.optimizers import OPTIMIZERS, Optimizer
from nasplug.plan.fixing import fixed
from nasplug.plan.settling import built, put, settle, single
from nasplug.plan.tasks import task_for
from nasplug.plan.timing import check_best, finite, levels_of, schedule_track
from nasplug.plan.varying import FIXED, Pack
from nasplug.plugins import Plugins, options_model
from nasplug.tasks import Task
from nasplug.train import Architect, Search

__all__ = ["Components", "assemble", "components", "discretizers"]


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


def _optimizer(use: Use, where: str) -> Optimizer:
    name = use.use
    if name not in OPTIMIZERS:
        raise ConfigError(f"{where}: {name!r} is not known; known: {', '.join(OPTIMIZERS)}.{did_you_mean(name, OPTIMIZERS)}")
    options = check(options_model(name, OPTIMIZERS[name]), use.options, where, swept=True)
    return OPTIMIZERS[name](**{key: getattr(options, key) for key in options.model_fields_set})


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
                put(options, path, value)
            each.append(built(plugins, "discretizer", use.use, options, where))
        found.append(each[0] if len(each) == 1 else ByRow(tuple(each), tuple(distinct[row] for row in rows)))
    return tuple(found)


def components(study: StudyConfig, pack: Pack, plugins: Plugins, device: str = "cpu") -> Components:
    """Build everything that a pack of the study names.

    Raises:
        ConfigError: for anything a plugin or a place does not accept.
    """
    task = task_for(study, pack, plugins)
    cuts = discretizers(study, pack, plugins)
    study = settle(study, pack.values)
    dtype = torch.float64 if study.train.dtype == "float64" else torch.float32
    task = task.to(device, dtype)
    method = built(plugins, "method", study.method.use, study.method.options, "method")
    penalties = tuple(built(plugins, "regularizer", p.use, p.options, f"penalties.{i}") for i, p in enumerate(study.penalties))
    batch = single(study.train.batch, "train.batch")
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
        steps=int(single(study.train.steps, "train.steps")),
        batch=None if batch == "full" else int(batch),
        finetune=int(single(study.train.finetune, "train.finetune")),
        retrain=int(single(study.train.retrain, "train.retrain")),
        clip=None if clip is None else float(single(clip, "train.clip")),
        monotone=directions(task, study.monotone),
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
            return finite(pack.columns[path], path, positive=positive)
        return finite([single(value, path)], path, positive=positive) * pack.rows

    lr = number("train.lr", train.lr, positive=True)
    levels = []
    for i, penalty in enumerate(parts.study.penalties):
        level = number(f"penalties.{i}.level", penalty.level, positive=False)
        levels.append(schedule_track(penalty.ramp, f"penalties.{i}.ramp", pack, level, parts.steps, plugins))
        if bool((levels[-1].table < 0).any()):
            raise ConfigError(
                f"penalties.{i}.ramp: goes below 0; needed: values >= 0, as they multiply the level. Correct its ends"
            )
    one = [1.0] * pack.rows
    tau = schedule_track(parts.study.temperature, "temperature", pack, one, parts.steps, plugins)
    if bool((tau.table < 0).any()):
        raise ConfigError("temperature: goes below 0; needed: values >= 0. Correct its ends")
    decay = schedule_track(train.decay, "train.decay", pack, lr, parts.steps, plugins)
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
        anew = schedule_track(train.decay, "train.decay", pack, lr, train.path.steps, plugins)
        decay, each = decay.followed(anew.table, more), train.path.steps * more
        tau = tau.followed(tau.table[-1:], each)
        levels = [level.followed(level.table[-1:], each) for level in levels]
        total += each
    dtype = parts.task.train.x.dtype
    if train.keep == "best":
        check_best(tau, levels, parts.steps, train.reports)
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
