"""The temperature that a network was trained at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nasplug import schedules
from nasplug.config import as_sweep
from nasplug.contracts import Schedule
from nasplug.drawing.style import Array
from nasplug.errors import ConfigError
from nasplug.report.finished import Finished

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["temperature_of"]

OURS: Mapping[str, Callable[..., Schedule]] = {
    made.__name__: made
    for made in (
        schedules.constant,
        schedules.linear,
        schedules.cosine,
        schedules.geometric,
        schedules.step,
        schedules.plateau,
    )
}


def temperature_of(study: Finished, row: pd.Series[Any]) -> Array | None:
    """The value at each step, ``(T,)``, as the config and the row say it.

    None for a row without a temperature (a linear network), for one of a population, which may have come from others, and for a
    schedule of a plugin, which may be anything.
    """
    given = study.config.temperature
    swept = [axis.path for axis in study.axes if axis.path.startswith("temperature.")]
    if given is None or given.use not in OURS or row["method.use"] == "linear" or study.config.train.population is not None:
        return None
    options = {**given.options, **{path.removeprefix("temperature."): row[path] for path in swept if path in row}}
    steps = row.get("train.steps", study.config.train.steps)
    if as_sweep(steps) is not None or any(as_sweep(value) is not None for value in options.values()):
        return None
    try:
        found = schedules.tabulate([OURS[given.use](**options)], int(steps))[:, 0].numpy()
    except (ConfigError, TypeError):
        return None
    more = int(row["step"]) - len(found) if study.config.train.path is not None else 0
    return np.pad(found, (0, max(0, more)), mode="edge")  # it keeps its last value at the levels after the first
