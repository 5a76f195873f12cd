"""Tasks of studies: built once from their options, or sent by the driver; that of a pack's rows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

from nasplug.config import StudyConfig
from nasplug.data.resampling import half_samples
from nasplug.errors import ConfigError
from nasplug.plan.judges import try_loss, try_metric
from nasplug.plan.settling import built, settle
from nasplug.plan.varying import TASK, Pack, data_key
from nasplug.plugins import Plugins
from nasplug.tasks import Facts, Loss, Metric, Task, scored, stack, traced

__all__ = ["build_task", "column_of", "forget_tasks", "take_tasks", "task_facts", "task_for", "tasks_of"]


@lru_cache(maxsize=16)
def _data(key: str, plugins: Plugins) -> Task:
    """The data alone: a sweep over losses reads its file once."""
    use = json.loads(key)
    task: Task = built(plugins, "task", use.pop("use"), use, "task")
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
    trained, judged = None if loss is None else loss["use"], [metric["use"] for metric in metrics]  # what is read is taken out
    task = _data(json.dumps(use, sort_keys=True), plugins)
    other: Loss | None = None if loss is None else built(plugins, "loss", loss.pop("use"), loss, "loss")
    more: dict[str, Metric] = {}
    for i, metric in enumerate(metrics):
        name = column_of(metric)
        if name in more:
            raise ConfigError(f"metrics.{i}: {name!r} comes twice; remove one")
        more[name] = built(plugins, "metric", metric.pop("use"), metric, f"metrics.{i}")
    task = scored(task, other, more)
    if other is not None and trained is not None:
        try_loss(f"loss: {plugins.offer('loss', trained)}", other, task)
    for i, (name, one) in enumerate(zip(judged, more.values(), strict=True)):
        try_metric(f"metrics.{i}: {plugins.offer('metric', name)}", one, task)
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


def task_for(study: StudyConfig, pack: Pack, plugins: Plugins) -> Task:
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
