"""From a study to packs: what sets a shape makes a new pack, what is only a number makes a new row.

Pure: no scheduler and no tracker. Planning builds every distinct method, schedule, penalty and discretizer once and tries
them on one network, so that a wrong combination is refused here and not at step 1,000.
"""

from __future__ import annotations

from nasplug.plan.building import Components, assemble, build_task, components, forget_tasks, settle
from nasplug.plan.packing import chunk, cpus_here
from nasplug.plan.trying import try_out
from nasplug.plan.varying import TASK, Axis, Pack, axes, cells, corners, grid, inside, task_places, task_values

__all__ = [
    "TASK",
    "Axis",
    "Components",
    "Pack",
    "assemble",
    "axes",
    "build_task",
    "cells",
    "chunk",
    "components",
    "corners",
    "cpus_here",
    "forget_tasks",
    "grid",
    "inside",
    "settle",
    "task_places",
    "task_values",
    "try_out",
]
