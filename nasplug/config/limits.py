"""What a study may have at most: refused from the numbers as they are written, before anything is built from them."""

from __future__ import annotations

__all__ = [
    "MOST_GENERATION",
    "MOST_MEMBERS",
    "MOST_NETWORKS",
    "MOST_PARTS",
    "MOST_REPORTS",
    "MOST_RUNGS",
    "MOST_STEPS",
    "MOST_SUBSAMPLES",
    "MOST_TRIALS",
]

MOST_NETWORKS = 10**6  # configurations times seeds: each is a row of the plan, which is in memory as a whole
MOST_STEPS = 10**6  # schedules have a value at each step
MOST_TRIALS = 20_000  # drawing them takes 4 s
MOST_OBJECTIVES = 8  # of a sampler, and constraints: beyond, almost everything is on the front
MOST_MEMBERS = 4_096  # of a population, which trains in one pack: more is no pack of a CPU
MOST_GENERATION = 1_000  # a guided sampler looks at all that are open for each that it draws
MOST_PARTS = 64  # penalties, discretizers
MOST_REPORTS = 1000  # each is a number of the table, for every network and curve
MOST_RUNGS = 8  # each compares all rows of a pack, and discretizes them
MOST_SUBSAMPLES = 1000  # each configuration that is counted is trained on so many
