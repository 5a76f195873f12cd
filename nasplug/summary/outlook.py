"""What the command line prints of a study before it runs: its data, what varies, its packs, and what it will cost.

Heavy packages are imported inside, so that what is installed is listed without them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from nasplug.console import console, one_line, padded

if TYPE_CHECKING:
    from nasplug.config import StudyConfig
    from nasplug.plan import Pack
    from nasplug.study import Study
    from nasplug.tasks import Task

__all__ = ["about", "about_task", "notes_of", "print_plan"]

WITHIN = "inside a pack (new rows)"
GUESSED = "guessed"
LINES = "linear networks, at levels that come from the data"


def notes_of(notes: Mapping[str, str]) -> list[str]:
    """Notes as lines; the kind has a line of its own."""
    from nasplug.tasks import READING

    found = {key.removeprefix(READING): text for key, text in notes.items()}
    return [f"{key.capitalize()}: {text}." for key, text in found.items() if key != "kind"]


def about_task(task: Task) -> list[str]:
    """What a task is, in lines: its kind and why, its rows, its inputs."""
    from nasplug.tasks import READING

    kind = task.notes.get(f"{READING}kind", task.kind)
    train, valid, test = (split.samples for split in task.splits)
    if task.resamples is None:
        rows = f"{train:,} to train, {valid:,} to validate, {test:,} to test"
    else:
        rows = f"{task.resamples.train.shape[1]:,} to train and validate ({task.resamples.words}), {test:,} to test"
    columns, features = len(task.columns), len(task.features)
    inputs = f"{columns:,} column{'' if columns == 1 else 's'}" + (f" as {features:,} features" if columns < features else "")
    labels = "" if task.kind == "regression" else f" ({', '.join(padded(one, 20).rstrip() for one in task.targets[:6])}"
    labels += "" if not labels else ", ...)" if len(task.targets) > 6 else ")"
    return [f"Kind: {kind}{labels}.", f"Rows: {rows}.", f"Inputs: {inputs}."]


def about(task: Task) -> list[str]:
    """What a plan says of its data: kind, rows, inputs, and what was assumed, filled and left out."""
    source = [f"Data: {one_line(task.source)}."] if task.source else []
    return [*source, *about_task(task), *notes_of(task.notes)]


def _stopping(config: StudyConfig, packs: Sequence[Pack]) -> str:
    """When how many networks are stopped, and what is left to train."""
    from nasplug.plan import share_of_steps, steps_of

    each = {pack.id: steps_of(config, pack) for pack in packs}
    rows, trained, told = sum(pack.rows for pack in packs), 0.0, []
    for steps in sorted(set(each.values())):
        mine = [pack for pack in packs if each[pack.id] == steps]
        marks, share = share_of_steps(config, mine, steps)
        trained += share * sum(pack.rows for pack in mine) / rows
        told.append(", ".join(f"after {mark:,} steps {left:,} of {sum(p.rows for p in mine):,}" for mark, left in marks))
    by = " and ".join(config.stop.by) if config.stop else ""
    trials = config.sampler.trials
    more = f", as many as {trials:,} trials take to the end" if config.stop is not None and config.stop.refill else ""
    about = " or so, as all are compared" if len(told) > 1 else ""
    return f"Halving by {by}: {'; '.join(told)} go on{about}. {100 * trained:.0f} % of all steps are trained{more}."


def _passing(config: StudyConfig, packs: Sequence[Pack]) -> str:
    """Which levels rows pass through."""
    from nasplug.plan import levels_of, paths_of

    path, levels = config.train.path, levels_of(config)
    if path is None:
        return ""
    rows = sum(paths_of(config, pack).pack.rows for pack in packs)
    ends = f"from {levels[0]:g} to {levels[-1]:g}, with {path.steps:,} steps for each after the first"
    return f"Path: {rows:,} rows pass through {len(levels)} levels of {path.over}, {ends}."


def _sizes(found: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """How sizes of packs are known, in lines: ``why -> first packs``."""
    for why, packs in found.items():
        whose = "" if len(found) == 1 else f" ({', '.join(packs[:3])}{', ...' if len(packs) > 3 else ''})"
        more = ". nasplug plan --measure times some steps, and keeps the size that is fastest here" if GUESSED in why else ""
        yield f"Pack sizes{whose}: {why}{more}."


def print_plan(study: Study, packs: Sequence[Pack]) -> None:
    """Axes, packs and size."""
    from nasplug.monotone import told
    from nasplug.plan import beyond, cost_of, few_words, in_words, inside, most_halves, sizings

    out = console()
    sizes = study.generations.sizes
    networks = sum(pack.rows for pack in packs)
    axes = Table(title=f"Study {study.config.study!r}: what varies")
    for heading in ("place", "values", "number of values", "varies"):
        axes.add_column(heading, overflow="fold")
    for axis in study.axes:
        written = axis.sweep.model_dump(exclude_none=True)
        values = axis.sweep.choice or axis.sweep.grid
        points = len(values) if values is not None else axis.sweep.points
        where = WITHIN if inside(axis, [pack for pack in packs if not pack.linear]) else "between packs (new packs)"
        axes.add_row(axis.path, json.dumps(written), "drawn" if points is None else str(points), where)
    seeds = study.config.seed_list
    in_order = seeds == list(range(seeds[0], seeds[0] + len(seeds)))
    axes.add_row("seeds", f"{seeds[0]} .. {seeds[-1]}" if in_order else str(seeds), str(len(seeds)), WITHIN)
    out.print(axes)
    own, lines = ([pack for pack in packs if pack.linear is linear] for linear in (False, True))
    folds = len({fold for pack in own for fold in pack.folds})
    title = f"{networks} networks in {len(packs)} packs" + (" (first generation)" if len(sizes) > 1 else "")
    if folds or lines:
        title += f": {sizes[0]} configurations x {len(seeds)} seeds" + (f" x {folds} folds" if folds else "")
        title += f", and {sum(pack.rows for pack in lines)} linear networks" if lines else ""
    table = Table(title=title)
    for heading in ("pack", "networks", "shared by its rows"):
        table.add_column(heading, overflow="fold")
    for pack in packs[:40]:
        shared = LINES if pack.linear else ", ".join(f"{k}={v}" for k, v in pack.values.items()) or "-"
        table.add_row(pack.id, str(pack.rows), shared)
    if len(packs) > 40:
        table.add_row("...", "", f"{len(packs) - 40} more")
    out.print(table)
    for line in (*_sizes(sizings(study.config, packs, study.plugins)), *about(study.task)):
        out.print(line, highlight=False, soft_wrap=True)
    if words := few_words(packs, study.axes):
        out.print(words, highlight=False, soft_wrap=True)
    later = round(sum(pack.rows for pack in own) * (sum(sizes) / max(sizes[0], 1) - 1.0))
    if (cost := cost_of(study.config, packs, study.plugins, later=later)) is not None:
        out.print(str(cost), highlight=False, soft_wrap=True)
        if words := cost.against(study.config.budget_words, study.config.budget_seconds):
            out.print(words, highlight=False, soft_wrap=True)
    if len(sizes) > 1:
        out.print(f"{len(sizes)} generations of {sizes[0]} configurations; later ones depend on the results of earlier ones.")
    if study.config.stop is not None:
        out.print(_stopping(study.config, own), highlight=False, soft_wrap=True)
    for words in (_passing(study.config, own), in_words(study.config, own)):
        if words:
            out.print(words, highlight=False, soft_wrap=True)
    if beyond(study.config, 1):
        few = f"{study.config.reach} parameters"
        out.print(f"If no network ends with at most {few}, stronger penalty levels follow.", highlight=False, soft_wrap=True)
    if study.config.monotone:
        out.print(f"Monotone: each output {told(study.config.monotone)}.", highlight=False)
    if folds:
        rest = "all samples that are not for the test (the development samples)"
        words = f"Then the front's configurations are trained again, on {rest}, with all seeds."
        out.print(words, highlight=False, soft_wrap=True)
    if study.config.counted is not None:
        count = study.config.counted.subsamples
        most = most_halves(study.config.counted)
        out.print(f"Then selection is counted: at most {most:,} networks more, {count} half samples of each configuration.")
    out.print(f"Results will be in {study.folder}. To run it: the same command with 'run' instead of 'plan'.")
