"""Training: K networks, one tensor program, a generator that yields one `Report` per interval.

It knows no scheduler, no tracker and no plugin: runners consume it, tests call it, notebooks iterate over it.
"""

from __future__ import annotations

from nasplug.train.loop import train
from nasplug.train.scoring import CONSTANT, ValidationLoss, evaluate, losses
from nasplug.train.search import OBJECTIVE, Architect, Batches, Engine, Fixed, Keep, Report, Search, State, halves, put, start
from nasplug.train.steps import alternate, compile_step, step

__all__ = [
    "CONSTANT",
    "OBJECTIVE",
    "Architect",
    "Batches",
    "Engine",
    "Fixed",
    "Keep",
    "Report",
    "Search",
    "State",
    "ValidationLoss",
    "alternate",
    "compile_step",
    "evaluate",
    "halves",
    "losses",
    "put",
    "start",
    "step",
    "train",
]
