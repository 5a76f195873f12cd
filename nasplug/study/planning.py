"""The packs that a study starts with, checked as a whole before anything runs."""

from __future__ import annotations

from nasplug.config import MOST_NETWORKS, StudyConfig
from nasplug.errors import ConfigError
from nasplug.export.smallest_c import maker
from nasplug.plan import (
    Pack,
    axes,
    check_halves,
    check_path,
    check_population,
    chunk,
    corners,
    forget_tasks,
    kind_words,
    linear_packs,
    task_places,
    unambiguous,
)
from nasplug.plugins import Plugins
from nasplug.sampling import generations_of

__all__ = ["first_packs"]


def first_packs(study: StudyConfig, plugins: Plugins, *, fast: bool = False) -> list[Pack]:
    """The packs of the first generation (for a grid: all packs), checked; ``fast`` leaves out the trials of components.

    Raises:
        ConfigError: for anything that cannot be run.
    """
    forget_tasks()
    unambiguous(study, plugins)
    check_path(study)
    found = axes(study)
    generations = generations_of(study, plugins)
    check_population(study, guided=generations.guided)
    sampler = study.sampler.use
    if {*study.sampler.objectives, *study.sampler.constraints} & {*study.sampler.measured}:
        maker("")  # refuses a machine without a C compiler
    if study.ensemble is not None and (swept := task_places(found)):
        several = f"{kind_words(swept)[1]} ({', '.join(swept)})"
        raise ConfigError(f"ensemble: over several {several}, whose networks have no mean; write null")
    _bounded(sum(generations.sizes), study.seeds)
    if study.stop is not None and study.stop.refill and not generations.drawn:
        raise ConfigError(
            f"stop.refill: sampler {sampler!r} has nothing more to draw for the steps that are saved; write refill: false, or "
            "take a sampler that draws (random, qmc, tpe, ...)"
        )
    if sampler != "grid":
        if not generations.drawn:
            raise ConfigError(
                f"sampler: {sampler!r} has nothing to draw; needed: a sweep with choice, uniform or log. "
                "Write one, or take sampler grid"
            )
        drawn = [axis.path for axis in found if axis.path in task_places(found) and axis.sweep.grid is None]
        if generations.guided and drawn:
            raise ConfigError(
                f"sampler: {sampler!r} would look for the easiest {kind_words(drawn)[0]} ({', '.join(drawn)}); write "
                "{grid: [...]} there, so that each configuration is judged by all of them, or take sampler random or grid"
            )
        wanted = list(dict.fromkeys([*study.sampler.objectives, *study.sampler.constraints]))
        if generations.guided and study.stop is not None and not {*wanted} <= {*study.stop.by}:
            raise ConfigError(
                f"stop: sampler {sampler!r} learns from {' and '.join(wanted)}, but of a network that is stopped only "
                f"{' and '.join(study.stop.by)} are known, at its rung; let stop.by have all that sampler.objectives and "
                "sampler.constraints name, or take sampler random, qmc or grid"
            )
        # What a later generation may draw is refused now.
        chunk(study, corners(found), plugins, fast=fast)
    check_halves(study, plugins)
    packs = chunk(study, next(iter(generations)), plugins, fast=fast or sampler != "grid")
    _bounded(sum(generations.sizes), study.seeds, max(len(set(pack.folds)) for pack in packs))
    if study.train.population is not None and all(len(set(pack.groups)) == pack.rows for pack in packs):
        raise ConfigError(
            f"train.population: none of the {sum(pack.rows for pack in packs)} networks has another to copy (they differ in "
            "more than numbers); write more seeds, more values or trials, or train.population: null"
        )
    return packs + linear_packs(study, plugins, sum(generations.sizes))


def _bounded(configurations: int, seeds: int | list[int], folds: int = 0) -> None:
    """Refuse more networks than a study may have, before one row of the plan is made."""
    each = seeds if isinstance(seeds, int) else len(seeds)
    networks = configurations * each * max(1, folds)
    if networks > MOST_NETWORKS:
        of_folds = f" x {folds} folds" if folds else ""
        raise ConfigError(
            f"the study has {configurations:,} configurations x {each:,} seeds{of_folds} = {networks:,} networks; needed: "
            f"{MOST_NETWORKS:,} at most. Take fewer values, seeds or trials, or make several studies of it"
        )
