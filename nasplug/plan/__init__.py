"""From a study to packs: what sets a shape makes a new pack, what is only a number makes a new row.

Pure: no scheduler and no tracker. Planning builds every distinct method, schedule, penalty and discretizer once and tries
them on one network, so that a wrong combination is refused here and not at step 1,000.
"""

from __future__ import annotations

from nasplug.plan.building import Components, assemble, components
from nasplug.plan.calibration import Calibration, Pace, Shape, calibration_of, keep_pace, shape_of
from nasplug.plan.compiling import worth_compiling
from nasplug.plan.costing import Cost, cost_of, few_words, longest_first
from nasplug.plan.extending import Numbers, added, lacking, rest, value_at
from nasplug.plan.fixing import Edges, edges_of, fixed_parts, kernels_of, layer_text, named, only_operations, searched
from nasplug.plan.laws import check_laws
from nasplug.plan.linear import linear_packs, linear_study, shown_values, study_of
from nasplug.plan.meaning import unambiguous
from nasplug.plan.measuring import measure, sizings
from nasplug.plan.packing import chunk
from nasplug.plan.paths import Paths, check_path, paths_of
from nasplug.plan.populations import check_population, copying, exchanges, in_words
from nasplug.plan.reach import ROUNDS, beyond, reached
from nasplug.plan.refits import MOST_REFITTED, check_halves, halves, most_halves, refits
from nasplug.plan.settling import settle
from nasplug.plan.stopping import across, candidates, going_on, rungs, share_of_steps, steps_of
from nasplug.plan.tasks import build_task, forget_tasks, take_tasks, task_facts, tasks_of
from nasplug.plan.timing import levels_of
from nasplug.plan.trying import UntemperedError, try_out
from nasplug.plan.varying import (
    FIXED,
    LINEAR,
    LOSS,
    REFIT,
    TASK,
    Axis,
    Pack,
    axes,
    cells,
    combinations,
    corners,
    count,
    data_key,
    grid,
    halved,
    inside,
    kind_words,
    replica_name,
    row_of,
    task_places,
    with_secrets,
)

__all__ = [
    "FIXED",
    "LINEAR",
    "LOSS",
    "MOST_REFITTED",
    "REFIT",
    "ROUNDS",
    "TASK",
    "Axis",
    "Calibration",
    "Components",
    "Cost",
    "Edges",
    "Numbers",
    "Pace",
    "Pack",
    "Paths",
    "Shape",
    "UntemperedError",
    "across",
    "added",
    "assemble",
    "axes",
    "beyond",
    "build_task",
    "calibration_of",
    "candidates",
    "cells",
    "check_halves",
    "check_laws",
    "check_path",
    "check_population",
    "chunk",
    "combinations",
    "components",
    "copying",
    "corners",
    "cost_of",
    "count",
    "data_key",
    "edges_of",
    "exchanges",
    "few_words",
    "fixed_parts",
    "forget_tasks",
    "going_on",
    "grid",
    "halved",
    "halves",
    "in_words",
    "inside",
    "keep_pace",
    "kernels_of",
    "kind_words",
    "lacking",
    "layer_text",
    "levels_of",
    "linear_packs",
    "linear_study",
    "longest_first",
    "measure",
    "most_halves",
    "named",
    "only_operations",
    "paths_of",
    "reached",
    "refits",
    "replica_name",
    "rest",
    "row_of",
    "rungs",
    "searched",
    "settle",
    "shape_of",
    "share_of_steps",
    "shown_values",
    "sizings",
    "steps_of",
    "study_of",
    "take_tasks",
    "task_facts",
    "task_places",
    "tasks_of",
    "try_out",
    "unambiguous",
    "value_at",
    "with_secrets",
    "worth_compiling",
]
