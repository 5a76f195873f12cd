"""Packs that train configurations again: on all development samples, or on half samples of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nasplug.config import Stability, StudyConfig
from nasplug.data.resampling import MOST_WEIGHTS, half_samples
from nasplug.errors import ConfigError
from nasplug.plan.extending import rest
from nasplug.plan.linear import RATE, half_pace, linear_study
from nasplug.plan.packing import chunk
from nasplug.plan.settling import settle
from nasplug.plan.tasks import build_task
from nasplug.plan.varying import HALVES, LINEAR, LOSS, REFIT, Pack, axes, count, task_places
from nasplug.plugins import Plugins

__all__ = ["MOST_REFITTED", "check_halves", "halves", "most_halves", "refits"]

MOST_REFITTED = 64  # configurations of one data set: a front has some tens
TOGETHER = ("groups", "time", "column")  # kinds of validation that keep samples together, or apart
Known = dict[int, dict[str, Any]]


def _known(done: Sequence[Pack]) -> tuple[Known, set[int]]:
    """What each configuration has in the places that vary; which are linear."""
    found: Known = {}
    lines: set[int] = set()
    for pack in done:
        for row, number in enumerate(pack.configurations):
            if number not in found:
                found[number] = dict(pack.values) | {path: column[row] for path, column in pack.columns.items()}
                lines |= {number} if pack.linear else set()
    return found, lines


def refits(study: StudyConfig, wanted: Sequence[int], done: Sequence[Pack], plugins: Plugins) -> list[Pack]:
    """The packs of the configurations ``wanted``, with all seeds; ``done`` are the packs so far, which have them on folds.

    Seeds with which they were refitted before are left out.
    """
    found, lines = _known(done)
    there = [pack for pack in done if pack.refitted]
    packs: list[Pack] = []
    for one, letter, numbers in (
        (study, "p", [number for number in wanted if number not in lines]),
        (linear_study(study), LINEAR, [number for number in wanted if number in lines]),
    ):
        if numbers:
            again = [found[number] for number in numbers]
            packs += rest(one, again, numbers, there, plugins, letter=letter, first_pack=count(letter, done), folds=[REFIT])
    return packs


def halves(
    study: StudyConfig, wanted: Mapping[int, int], subsamples: int, done: Sequence[Pack], plugins: Plugins
) -> list[Pack]:
    """The packs of the configurations ``wanted`` on so many ``subsamples``, half samples, with the study's first seed.

    Args:
        study: as written, with its sweeps.
        wanted: configuration -> how many half samples it has been trained on already.
        subsamples: how many it shall have.
        done: the packs so far.
        plugins: where names are looked up.
    """
    found, lines = _known(done)
    if lines & set(wanted):  # steps that are right for all samples may be too long for half of them
        slower = half_pace(build_task(study, plugins), study.train.data_seed)
        found |= {number: found[number] | {RATE: min(slower, found[number][RATE])} for number in lines & set(wanted)}
    one_seed = study.model_copy(update={"seeds": study.seed_list[:1]})
    packs: list[Pack] = []
    for own, letter in ((one_seed, HALVES), (linear_study(one_seed), LINEAR + HALVES)):
        for have in sorted(set(wanted.values())):
            numbers = [n for n, at in wanted.items() if at == have and (n in lines) == letter.startswith(LINEAR)]
            if numbers:
                again, first = [found[number] for number in numbers], count(letter, [*done, *packs])
                more = range(have, subsamples)
                packs += chunk(own, again, plugins, letter=letter, first_pack=first, numbers=numbers, folds=more, fast=True)
    return packs


def check_halves(study: StudyConfig, plugins: Plugins) -> None:
    """Refuse to count over half samples where a random half of the samples is no sample of its own.

    Raises:
        ConfigError: naming why, and what to do.
    """
    if study.counted is None:
        return
    if swept := task_places(axes(study)):
        raise _refused(f"several data sets ({', '.join(swept)}), each with a chosen network of its own", "one data set")
    given = study.task.options.get("validation")
    kind = given.get("use") if isinstance(given, Mapping) else given
    if kind in TOGETHER:
        raise _refused(
            f"validation {kind!r}, where samples belong together or follow one another: a random half of them is not like the "
            "other",
            "another kind of validation, if samples are independent",
        )
    if study.method.options.get("stem") is not None:
        raise _refused("a stem, which reads the whole image", "a method without stem")
    first = {axis.path: axis.sweep.first for axis in axes(study) if axis.path.startswith(LOSS)}
    task = build_task(settle(study, first), plugins)
    if task.image is not None:
        raise _refused("images, whose pixels are no columns", "a task without image")
    samples = task.train.samples + task.valid.samples
    if study.counted.subsamples * samples > MOST_WEIGHTS:
        raise _refused(
            f"{study.counted.subsamples} half samples of {samples:,} samples, more than {MOST_WEIGHTS:,} weights",
            f"stability: {{subsamples: {max(2, MOST_WEIGHTS // samples // 2 * 2)}}}",
        )
    half_samples(task, 2, study.train.data_seed)


def _refused(came: str, instead: str) -> ConfigError:
    return ConfigError(f"stability: counts over random half samples, and this study has {came}. Take {instead}, or write false")


def most_halves(given: Stability) -> int:
    """At most so many networks are trained on half samples."""
    return 2 * given.levels * given.subsamples
