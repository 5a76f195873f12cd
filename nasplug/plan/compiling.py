"""Whether compiled steps pay for their compilation, from sizes alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

from torch import Tensor

from nasplug.plan.building import Components
from nasplug.plan.calibration import GPU_SECONDS_PER_NUMBER, SECONDS_PER_NUMBER, shape_of
from nasplug.train import Search

__all__ = ["worth_compiling"]

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
    numbers = shape_of(parts, params, activations).numbers
    each = GPU_SECONDS_PER_NUMBER if search.seeds.device.type == "cuda" else SECONDS_PER_NUMBER
    seconds = each * numbers * max(room, len(search.seeds)) * steps * alike
    compiler = any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++"))
    return seconds > COMPILE_SECONDS and compiler
