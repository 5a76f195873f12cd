"""Tasks made by hand: from splits as they are, several as one stack, or one with another loss and more metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch

from nasplug.errors import ConfigError
from nasplug.tasks.losses import LOSSES, Kind, Loss
from nasplug.tasks.metrics import Metric
from nasplug.tasks.origin import Origin
from nasplug.tasks.splits import Split
from nasplug.tasks.task import Task

__all__ = ["balanced", "counts", "scored", "stack", "traced", "unscaled"]

MOST_MADE = 10**6  # samples, units or the like of data that a task makes itself


def counts(where: str, least: int = 1, most: int = MOST_MADE, **values: int) -> None:
    """Refuse a count that is out of range, before data are made: ``counts("task 'xor'", samples=samples)``.

    Raises:
        ConfigError: naming it.
    """
    for name, value in values.items():
        if not least <= value <= most:
            raise ConfigError(f"{where}: {name}={value}; needed: a whole number >= {least} and <= {most}")


def unscaled(
    name: str,
    splits: tuple[Split, Split, Split],
    *,
    kind: Kind = "regression",
    loss: Loss | None = None,
    features: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    source: str = "",
) -> Task:
    """A task whose numbers are learned as they are: every shift 0, every scale 1.

    Args:
        name: shown in tables and tracking.
        splits: training, validation and test.
        kind: see `Task`.
        loss: see `Task`; None: ``mse``, ``logistic`` or ``cross_entropy``, as the kind has it.
        features: one name per input; None: x0, x1, ...
        targets: one name per output of a regression, None: y0, y1, ...; the labels in order of the other kinds, always given.
        source: where the data came from, in words.

    Raises:
        ConfigError: for names that are not as many as what they name, or labels without names.
    """
    train, valid, test = splits
    if targets is None:
        if kind != "regression":
            raise ConfigError(f"task {name!r}: a {kind} task without targets; needed: the names of its labels, in order")
        targets = [f"y{i}" for i in range(train.y.shape[-2])]
    inputs = train.x.shape[-2]
    outputs = len(targets) if kind == "classes" else train.y.shape[-2]
    features = [f"x{i}" for i in range(inputs)] if features is None else features
    wanted = 2 if kind == "binary" else outputs
    if len(features) != inputs or len(targets) != wanted:
        raise ConfigError(
            f"task {name!r}: {len(features)} features and {len(targets)} targets; needed: {inputs} and {wanted}, as in its data"
        )
    like = train.x.dtype
    return Task(
        name=name,
        kind=kind,
        loss=LOSSES[kind] if loss is None else loss,
        train=train,
        valid=valid,
        test=test,
        features=tuple(features),
        targets=tuple(targets),
        input_shift=torch.zeros(inputs, dtype=like),
        input_scale=torch.ones(inputs, dtype=like),
        output_shift=torch.zeros(outputs, dtype=like),
        output_scale=torch.ones(outputs, dtype=like),
        source=source,
    )


def traced(task: Task) -> Task:
    """The task with its origin; where it has none, that of its samples in the user's units, rounded to float32."""
    if task.origin is not None:
        return task
    ins, outs = (task.input_scale, task.input_shift), (task.output_scale, task.output_shift)

    def raw(values: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        if not values.is_floating_point() or len(scale) != values.shape[-2]:  # labels, and a loss with outputs of its own
            return values.movedim(-1, 0)
        return (values.double() * scale.double().unsqueeze(-1) + shift.double().unsqueeze(-1)).float().movedim(-1, 0)

    parts = [[raw(split.x, *ins), raw(split.y, *outs)] for split in task.splits]
    return replace(task, origin=Origin.of_samples(task.source or task.name, parts))


def stack(tasks: Sequence[Task], index: Sequence[int], folds: Sequence[int] = ()) -> Task:
    """One task for a pack whose network k learns ``tasks[index[k]]``: data ``(K, I, N)``; names and scales are the first's.

    Scores in units of the target are in each network's own (`Task.units`). With ``folds`` it learns on the resample
    ``folds[k]`` (`Task.resampled`).

    Raises:
        ConfigError: for tasks of different shapes.
    """
    if len({task.shape for task in tasks}) != 1:
        raise ConfigError(
            f"tasks of the shapes {sorted({task.shape for task in tasks}, key=str)} in one stack; needed: equal ones"
        )

    def joined(splits: Sequence[Split]) -> Split:
        return Split(*(torch.stack(parts) for parts in zip(*(splits[at].batch for at in index), strict=True)))

    units = torch.stack([tasks[at].output_scale for at in index])
    if not folds:
        train, valid, test = (joined(splits) for splits in zip(*(task.splits for task in tasks), strict=True))
        return replace(tasks[0], train=train, valid=valid, test=test, units=units)
    rows = [tasks[at].resampled([fold]) for at, fold in zip(index, folds, strict=True)]
    data, test = joined([task.development for task in tasks]), joined([task.test for task in tasks])

    def weighted(splits: Sequence[Split]) -> Split:
        if all(split.weights is None for split in splits):
            return Split(data.x, data.y)
        one = data.x.new_ones(data.samples)
        return Split(data.x, data.y, torch.stack([one if s.weights is None else s.weights.view(-1) for s in splits]))

    train, valid = weighted([row.train for row in rows]), weighted([row.valid for row in rows])
    return replace(tasks[0], train=train, valid=valid, test=test, units=units)


def balanced(task: Task) -> Task:
    """The task with weights that give each label the same share of training and of validation; the test split has none.

    ``w_c = N / (C n_c)`` with the counts of the development samples, so weights have mean 1. Samples with weights count as
    often as these say, and both are multiplied. A label whose samples all have the weight 0 keeps that.

    Raises:
        ConfigError: for a regression.
    """
    if task.kind == "regression":
        raise ConfigError(
            f"task {task.name!r}: balance: classes, and the target is a number; remove it, or write kind: classes"
        )
    both = torch.cat([labels_in(split.y) for split in (task.train, task.valid)])
    given = [split.weights for split in (task.train, task.valid) if split.weights is not None]
    count = torch.bincount(both, torch.cat(given).double() if given else None, minlength=2).double()
    each = count.sum() / (len(count) * torch.where(count > 0, count, 1.0))

    def own(split: Split) -> Split:
        weights = each[labels_in(split.y)].to(split.x)
        return replace(split, weights=weights if split.weights is None else weights * split.weights)

    return replace(task, train=own(task.train), valid=own(task.valid))


def labels_in(y: torch.Tensor) -> torch.Tensor:
    """Targets as labels, long ``(N,)``."""
    if not y.is_floating_point():
        return y
    return y.argmax(0) if len(y) > 1 else (y[0] > 0.5).long()


def scored(task: Task, loss: Loss | None, scores: Mapping[str, Metric]) -> Task:
    """The task with another loss (None: its own) and more metrics.

    Raises:
        ConfigError: where the kind of task, or its targets, do not go with one of them.
    """
    for name, metric in scores.items():
        if task.kind not in metric.kinds:
            raise ConfigError(
                f"metrics: {name!r} is for {_listed(metric.kinds)}, and the task {task.name!r} is {_words(task.kind)}; "
                "remove it, or take another"
            )
    return replace(task if loss is None else _with(task, loss), scores=dict(scores))


def _with(task: Task, loss: Loss) -> Task:
    if task.kind not in loss.kinds:
        raise ConfigError(
            f"loss: {loss} is for {_listed(loss.kinds)}, and the task {task.name!r} is {_words(task.kind)}; take another loss "
            f"(by default {LOSSES[task.kind]}), or say what the task is (task.kind)"
        )
    names = loss.outputs
    if task.transform is not None and (len(names) > 1 or not loss.shifted):
        raise ConfigError(f"loss: {loss} beside a transform of the target; remove one of the two (task.transform: none)")
    task = task if loss.shifted else _unshifted(task, loss)
    if len(names) > 1:
        task = replace(
            task,
            targets=tuple(f"{target} {name}" for target in task.targets for name in names),
            output_shift=task.output_shift.repeat_interleave(len(names)),
            output_scale=task.output_scale.repeat_interleave(len(names)),
        )
    return replace(task, loss=loss)


def _unshifted(task: Task, loss: Loss) -> Task:
    """Targets as multiples of their mean: shift 0. Of a resampled task that of all development samples, as other scales are."""
    shift, scale = (t.double().unsqueeze(-1) for t in (task.output_shift, task.output_scale))
    raw = [split.y.double() * scale + shift for split in task.splits]
    noise = 1e-5 * max(float(y.abs().max()) for y in raw)  # of targets that came in float32
    least = min(float(y.min()) for y in raw)
    if least < -noise:
        raise ConfigError(
            f"loss: {loss} needs targets >= 0, and the least of the task {task.name!r} is {least:g}; take another loss"
        )
    seen = raw[0] if task.resamples is None else torch.cat(raw[:2], -1)
    unit = seen.clamp(min=0.0).mean(-1, keepdim=True)  # (O, 1)
    if bool((unit == 0).any()):
        raise ConfigError(f"loss: {loss}: a target of {task.name!r} is 0 in all samples to train on; take another loss")
    train, valid, test = (
        replace(split, y=(y.clamp(min=0.0) / unit).to(split.y)) for split, y in zip(task.splits, raw, strict=True)
    )
    return replace(
        task,
        train=train,
        valid=valid,
        test=test,
        output_shift=torch.zeros_like(task.output_shift),
        output_scale=unit.squeeze(-1).to(task.output_scale),
    )


def _listed(kinds: Iterable[Kind]) -> str:
    return " and ".join(_words(kind) for kind in sorted(kinds))


def _words(kind: Kind) -> str:
    return {"regression": "a regression", "binary": "of two labels", "classes": "of several classes"}[kind]
