"""The packs of linear networks that a sweep has beside its own: an L1 path whose numbers come from the data.

They are packs like others. Their names begin with ``l``, and their study is the user's with the method `linear`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nasplug.config import StudyConfig, parse
from nasplug.data.resampling import half_samples
from nasplug.errors import ConfigError
from nasplug.plan.packing import chunk
from nasplug.plan.settling import settle
from nasplug.plan.tasks import build_task
from nasplug.plan.varying import FIXED, LINEAR, LOSS, TASK, Axis, Pack, axes, cells, count, data_key, grid
from nasplug.plugins import Plugins
from nasplug.tasks import Task, one_hot

__all__ = ["RATE", "half_pace", "linear_packs", "linear_study", "shown_values", "study_of"]

DOWN = (*(0.02 * i for i in range(8)), *(0.2 + 3.8 * i / 23 for i in range(24)))
"""The levels' decades below the one at which every weight is 0: close where the first weights come in, down to 4."""
STEPS, LEAST_STEPS = 1000, 200
PRODUCTS = 5 * 10**10  # of all steps together, rows x outputs x inputs x samples: a minute or two on one core
MOST_NUMBERS = 2**24  # of the inputs that levels and curvature are taken from: 128 MB
MOST_PARTS = 20  # weightings that they are taken from: all samples, and resamples
SAFE = 1.2  # the curvature is estimated
CURVATURE = {"identity": 2.0, "sigmoid": 0.25, "softmax": 0.5, "exp": 1.0}
"""The largest second derivative of a sample's loss by its link; but for softmax per output, over which losses average."""

LEVEL, AFTER, RATE = "penalties.0.level", "penalties.0.ramp.after", "train.lr"
ANY = {"log": [1e-300, 1e300], "points": 2}  # a place whose numbers the plan has: they come from the data


def linear_study(study: StudyConfig) -> StudyConfig:
    """The study that linear packs belong to: the same data, method `linear`, an exact L1.

    The L1 ends halfway for half of the rows, which then train on without it (debiasing, Meinshausen 2007). Its levels,
    learning rate and steps come from the data: they are in the packs' plans.
    """
    raw = study.plain()
    train = raw["train"]
    penalty = {"use": "lasso", "level": ANY, "ramp": {"use": "step", "at": 0.5, "before": 1.0, "after": {"grid": [1.0, 0.0]}}}
    kept = {key: train[key] for key in ("dtype", "allow_tf32", "data_seed", "compile", "reports")}
    return parse(
        raw
        | {
            "method": {"use": "linear", "accelerate": True},
            "penalties": [penalty],
            "temperature": None,
            "fixed": None,
            "discretizers": [],
            "train": kept | {"steps": {"grid": [1, STEPS]}, "lr": ANY, "batch": "full", "optimizer": {"use": "sgd"}},
            "seeds": study.seed_list[:1],
            "sampler": {"use": "grid"},
            "stop": None,
            "resources": raw["resources"] | {"pack": "auto"},
            "linear": False,
        }
    )


def study_of(study: StudyConfig, pack: Pack) -> StudyConfig:
    """The study that a pack belongs to: the user's, or that of the linear packs."""
    return linear_study(study) if pack.linear else study


def linear_packs(study: StudyConfig, plugins: Plugins, first: int, there: Sequence[Pack] = ()) -> list[Pack]:
    """The linear packs of a study, whose configurations are numbered from ``first`` on; none where it has none.

    Data sets that packs which are ``there`` have linear networks for are left out.

    Raises:
        ConfigError: for ``linear: true`` where the task is drawn from a range.
    """
    if study.linear is False or (study.linear == "auto" and study.method.use == "linear"):
        return []
    places = [axis for axis in axes(study) if axis.path.startswith((TASK, LOSS))]
    if drawn := [axis.path for axis in places if axis.sweep.choice is None and axis.sweep.grid is None]:
        if study.linear == "auto":
            return []
        raise ConfigError(f"linear: true, and {', '.join(drawn)} is drawn from a range; write {{grid: [...]}} there")
    configurations: list[dict[str, Any]] = []
    known = {data_key(pack.task(row)) for pack in there if pack.linear for row in range(pack.rows)}
    for own in grid(places):
        if data_key(own) in known:
            continue
        task = build_task(settle(study, own), plugins)
        if study.linear == "auto" and not of_a_table(task):
            return []
        path = path_of(task)
        for level in path.levels:
            configurations += [
                {**own, LEVEL: level, AFTER: after, RATE: path.lr, "train.steps": path.steps} for after in (1.0, 0.0)
            ]
    numbers, at = range(first, first + len(configurations)), count(LINEAR, there)
    return chunk(linear_study(study), configurations, plugins, letter=LINEAR, first_pack=at, numbers=numbers, fast=True)


def of_a_table(task: Task) -> bool:
    """Whether the data came as columns (the task has an encoder), not made and no images: a line is worth trying unasked."""
    return task.encoder is not None and task.image is None


def shown_values(pack: Pack, found: Sequence[Axis]) -> dict[str, list[Any]]:
    """What varies, as columns of the table of networks: ``found`` are the axes of the user's study.

    Of linear packs the places of the task, ``linear.level`` and ``linear.debiased`` (1: the penalty ended halfway): their
    levels are no values of the study's own.
    """
    swept = {axis.path: axis.sweep for axis in found}
    whole = {path: [value] * pack.rows for path, value in pack.values.items()} | dict(pack.columns)
    if not pack.linear:
        return {path: _cells(path, values, swept, row=path in pack.columns) for path, values in whole.items()}
    table = {path: cells(swept[path], values) for path, values in whole.items() if path.startswith((TASK, LOSS))}
    debiased = [float(after == 0.0) for after in whole[AFTER]]
    return table | {"linear.level": [float(level) for level in whole[LEVEL]], "linear.debiased": debiased}


def _cells(path: str, values: Sequence[Any], swept: Mapping[str, Any], *, row: bool) -> list[Any]:
    return [float(value) for value in values] if row and not path.startswith((TASK, FIXED)) else cells(swept[path], values)


# -- numbers from the data ---------------------------------------------------------------------------------------------


class Path(NamedTuple):
    """Levels, strongest first; the learning rate 1 / L; steps."""

    levels: tuple[float, ...]
    lr: float
    steps: int


def path_of(task: Task) -> Path:
    """What the data ask for: of all weightings that rows train with (`parts`) the largest level and the largest curvature."""
    x, y, each = parts(task)
    kept: list[Tensor] = [w for w in each if bool((w > 0).any())]
    most = max(steepest(task, x, y, w) for w in kept)
    products = 2 * len(DOWN) * task.outputs * (task.inputs + 1) * task.train.samples
    steps = min(STEPS, max(LEAST_STEPS, PRODUCTS // products))
    return Path(tuple(most * 10.0**-down for down in DOWN), _pace(task, x, kept), steps)


def _pace(task: Task, x: Tensor, each: Sequence[Tensor]) -> float:
    """1 / L."""
    return 1.0 / max(SAFE * curvature(task, x, each), 1e-12)


def half_pace(task: Task, seed: int) -> float:
    """The learning rate of linear networks on half samples, which may have twice the curvature of the whole.

    Of the first ones, however many there are, so that more of them leave the first ones as they were.
    """
    drawn = replace(task, resamples=half_samples(task, MOST_PARTS - 2, seed))
    x, _, each = parts(drawn)
    return _pace(drawn, x, [weights for weights in each if bool((weights > 0).any())])


def parts(task: Task) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Inputs and targets in float64, and the weights ``(N,)`` that networks train with: of each resample, and of all samples.

    Of a hold-out those of the training split alone. Of many resamples `MOST_PARTS` are taken, of a large table evenly spread
    samples.
    """
    split = task.train if task.resamples is None else task.development
    own = torch.ones(split.samples, dtype=torch.float64) if split.weights is None else split.weights.double()
    if task.resamples is None:
        each = [own]
    else:
        drawn = task.resamples.train
        some = torch.linspace(0, len(drawn) - 1, min(len(drawn), MOST_PARTS - 1)).round().long()
        each = [own, *(own * weights for weights in drawn[some].double())]
    most = max(1, MOST_NUMBERS // max(task.inputs, 1))
    if split.samples > most:
        at = torch.linspace(0, split.samples - 1, most).long()
        split, each = split.columns(at), [weights[at] for weights in each]
    return split.x.double(), split.y if split.y.dtype == torch.long else split.y.double(), each


def steepest(task: Task, x: Tensor, y: Tensor, weights: Tensor) -> float:
    """The least level at which every weight is 0: the largest slope of the loss where all are 0 and biases at their best."""
    known = one_hot(y, task.outputs).double() if y.dtype == torch.long else y
    bias = task.loss.constant(known, weights).double().view(1, -1, 1)
    outputs = bias.expand(1, task.outputs, x.shape[-1]).clone().requires_grad_()
    (slopes,) = torch.autograd.grad(task.losses(outputs, y, weights).sum(), outputs)  # (1, O, N)
    most = float((slopes[0] @ x.T).abs().max())
    return most if math.isfinite(most) and most > 0.0 else 1.0


def curvature(task: Task, x: Tensor, each: Sequence[Tensor]) -> float:
    """An upper estimate of the loss's largest second derivative along any direction of weights and biases.

    With ``w`` the weights of a part it is the link's own times the largest eigenvalue of ``sum_n w_n x_n x_n' / sum_n w_n``, x
    with a 1 for the bias: by power iteration, of the first part from anywhere, of the others from where that one ended.
    It is done on ``a_n = v'x_n``: where there are more inputs than samples, on the matrix of products of samples.
    """
    link = CURVATURE[task.loss.link] / (1 if task.loss.link == "softmax" else task.outputs)
    if task.loss.link == "exp":  # that of e^o: as large as the largest target
        seen = (task.train,) if task.resamples is None else (task.train, task.valid)  # all: ``y`` may be some of them
        link *= max(1.0, *(float(split.y.max()) for split in seen))
    whole = torch.cat([x, torch.ones_like(x[:1])])  # (I + 1, N)
    a = (torch.ones(len(whole), dtype=torch.float64) + 0.01 * torch.arange(len(whole)).remainder(7)) @ whole  # (N,)
    gram = whole.T @ whole if whole.shape[1] < len(whole) else None
    found = 0.0
    for at, weights in enumerate(each):
        share = weights / weights.sum()
        value = torch.zeros((), dtype=torch.float64)
        for _ in range(10 if at else 50):
            if gram is None:
                v = whole @ (share * a)
                value, after = v.norm(), v @ whole
            else:
                after = gram @ (share * a)
                value = (share * a * after).sum().clamp(min=0.0).sqrt()  # the norm of the same v
            a = after / value.clamp(min=1e-300)
        found = max(found, float(value))
    return link * found
