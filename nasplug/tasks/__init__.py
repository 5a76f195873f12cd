"""`Task`: data turned once into columns, and the losses and metrics of K networks on it, each of shape ``(K,)``."""

from __future__ import annotations

from nasplug.tasks.facts import Described, Facts
from nasplug.tasks.losses import (
    FURTHEST,
    LOSSES,
    CrossEntropy,
    Kind,
    Link,
    Logistic,
    Loss,
    SquaredError,
    linked,
    mean,
    one_hot,
    register_losses,
)
from nasplug.tasks.making import balanced, counts, scored, stack, traced, unscaled
from nasplug.tasks.metrics import Metric, register_metrics, variance
from nasplug.tasks.origin import Origin
from nasplug.tasks.splits import Resamples, Split
from nasplug.tasks.task import READING, Task

__all__ = [
    "FURTHEST",
    "LOSSES",
    "READING",
    "CrossEntropy",
    "Described",
    "Facts",
    "Kind",
    "Link",
    "Logistic",
    "Loss",
    "Metric",
    "Origin",
    "Resamples",
    "Split",
    "SquaredError",
    "Task",
    "balanced",
    "counts",
    "linked",
    "mean",
    "one_hot",
    "register_losses",
    "register_metrics",
    "scored",
    "stack",
    "traced",
    "unscaled",
    "variance",
]
