"""Populations (`nasplug.config.Population`): which rows train together, and after which steps they copy each other.

A pack has one row per network, as any other, and a population is in one pack as a whole: what its rows become depends on the
population alone, not on who else shares the pack.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence

from nasplug.config import Population, StudyConfig
from nasplug.errors import ConfigError
from nasplug.plan.stopping import steps_of
from nasplug.plan.varying import FIXED, TASK, Pack

__all__ = ["check_population", "check_whole", "copying", "exchanges", "in_words", "populations"]


def populations(study: StudyConfig, whole: Pack) -> list[list[int]]:
    """The rows of each population, of all rows that may share a pack; each row by itself where there are none.

    Rows on one data set, with one architecture where that is fixed, are dealt out in turn to the fewest populations of at most
    ``of`` rows: each has rows from all over the study, and their sizes differ by one at most.
    """
    rule = study.train.population
    if rule is None:
        return [[row] for row in range(whole.rows)]
    alike: dict[str, list[int]] = {}
    places = [path for path in whole.columns if path == FIXED or path.startswith(TASK)]
    for row in range(whole.rows):
        alike.setdefault(json.dumps([whole.columns[path][row] for path in places], sort_keys=True), []).append(row)
    found = []
    for rows in alike.values():
        count = -(-len(rows) // rule.of)
        found += [rows[at::count] for at in range(count)]
    return found


def exchanges(study: StudyConfig, pack: Pack, steps: int) -> list[int]:
    """The steps after which rows copy others, ascending, each at a report, none of them the last; none without populations.

    Raises:
        ConfigError: where two fall on one report.
    """
    rule = study.train.population
    if rule is None or not pack.groups:
        return []
    every = max(1, steps // study.train.reports)
    last = (steps - 1) // every  # the last report before the end
    count = math.ceil(1.0 / rule.every - 1e-9) - 1
    found = [min(max(1, round(steps * rule.every * i / every)), last) * every for i in range(1, count + 1)]
    if len(set(found)) < len(found) or 0 in found:
        raise ConfigError(
            f"train.population.every: {rule.every:g} is {count} exchanges in {steps} steps, but rows are compared at reports "
            f"(train.reports: {study.train.reports}), each at most once. Write a larger share, more steps, or more reports"
        )
    return found


def copying(rule: Population, size: int) -> int:
    """How many rows of a population of this size copy others at an exchange, and how many are copied; 0 of one row alone."""
    return min(max(1, math.floor(rule.share * size + 1e-9)), size // 2)


def in_words(study: StudyConfig, packs: Sequence[Pack]) -> str:
    """Which populations these packs have, and how often who of them copies whom; empty where there are none."""
    rule = study.train.population
    if rule is None:
        return ""
    sizes = Counter(size for pack in packs for size in Counter(pack.groups).values())
    told = " and ".join(f"{count:,} of {size:,} rows" for size, count in sorted(sizes.items(), reverse=True))
    times, few = len(exchanges(study, packs[0], steps_of(study, packs[0]))), copying(rule, max(sizes))
    by = " and ".join(rule.by)
    return f"Populations: {told}; {times} times the worst {few} of each copy the best {few} by {by}, and change their numbers."


def check_population(study: StudyConfig, *, guided: bool) -> None:
    """Refuse what rows that copy each other cannot do, before any of it is built; ``guided``: the sampler learns from results.

    Raises:
        ConfigError: naming what came, and what to do.
    """
    rule = study.train.population
    if rule is None:
        return
    if study.train.path is not None:
        raise ConfigError(
            "train.population: beside train.path, which sets the level that populations look for. Remove one of the two"
        )
    if study.stop is not None:
        raise ConfigError("train.population: beside stop, which ends the rows that would copy others. Remove one of the two")
    if study.train.keep == "best":
        raise ConfigError(
            "train.population: beside train.keep: best, whose objective changes with the level; write keep: last, or "
            "train.population: null"
        )
    if study.counted is not None:
        raise ConfigError(
            "train.population: beside stability, whose half samples have no validation samples to compare rows by; write "
            "stability: false, or train.population: null"
        )
    if guided:
        raise ConfigError(
            f"train.population: sampler {study.sampler.use!r} learns what a configuration is worth, and rows leave theirs for "
            "those of others; take sampler random, qmc or grid, or write train.population: null"
        )
    given = {"levels": rule.perturb.levels if study.penalties else 1.0, "rate": rule.perturb.rate}
    given["tau"] = rule.perturb.tau if study.temperature is not None else 1.0
    if all(factor == 1.0 for factor in given.values()):
        raise ConfigError(
            "train.population.perturb: the study has nothing that it changes (penalties for levels, a temperature for tau), so "
            "that a copy would stay one; write rate: 1.2, say"
        )


def check_whole(study: StudyConfig, largest: int, size: int, folds: int) -> None:
    """Refuse populations that no pack has room for, and those on folds.

    Args:
        study: as written.
        largest: rows of the largest population.
        size: how many rows a pack has room for.
        folds: how many resamples a configuration is trained on; 0 where there are none.

    Raises:
        ConfigError: naming what came, and what to do.
    """
    if study.train.population is None:
        return
    if folds:
        raise ConfigError(
            f"train.population: beside {folds} folds, after which the configurations on the front are trained on all samples; "
            "rows of a population leave their configuration for others. Write validation: holdout, or train.population: null"
        )
    if largest > size:
        raise ConfigError(
            f"train.population.of: {study.train.population.of}; a population of {largest} rows trains in one pack, and a pack "
            f"has room for {size} rows. Write resources.pack: {largest} or more, or of: {max(2, size)}"
        )
