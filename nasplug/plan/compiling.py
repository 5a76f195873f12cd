"""Whether compiled steps pay for their compilation, from sizes alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

from torch import Tensor

from nasplug.plan.building import Components
from nasplug.train import Search

__all__ = ["worth_compiling"]

EAGER_SECONDS_PER_FLOAT = 1e-9  # measured on one core, good to a factor of two: enough to decide whether compiling pays
COMPILE_SECONDS = 40.0  # of eager steps in one process, from which a program pays


def worth_compiling(
    parts: Components,
    search: Search,
    params: Mapping[str, Tensor],
    activations: int,
    *,
    steps: int,
    alike: int = 1,
    room: int = 0,
) -> bool:
    """Whether steps take long enough to pay for a compilation, in all packs of a shape that a worker trains.

    From sizes alone, hence reproducible. ``steps``: those that these rows train, up to the next rung. ``alike`` and ``room``:
    see `nasplug.plan.Pack`.
    """
    if not parts.method.traits.capturable:
        return False
    choice = parts.study.train.compile
    if choice != "auto":
        return choice
    batch = parts.batch or parts.task.train.samples
    numbers = 8 * sum(p[0].numel() for p in params.values()) + 4 * batch * activations
    seconds = EAGER_SECONDS_PER_FLOAT * numbers * max(room, len(search.seeds)) * steps * alike
    compiler = any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++"))
    return seconds > COMPILE_SECONDS and compiler
