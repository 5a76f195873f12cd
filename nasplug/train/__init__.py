"""Training: K networks, one tensor program, a generator that yields one `Report` per interval.

It knows no scheduler, no tracker and no plugin: runners consume it, tests call it, notebooks iterate over it.
"""

from __future__ import annotations

from nasplug.train.loop import train
from nasplug.train.scoring import ValidationLoss, evaluate
from nasplug.train.search import OBJECTIVE, Architect, Batches, Engine, Fixed, Keep, Report, Search, State, halves, put, start
from nasplug.train.steps import alternate, compile_step, step

__all__ = [
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
    "put",
    "start",
    "step",
    "train",
]
