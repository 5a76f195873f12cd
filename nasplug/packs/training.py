"""The training of one pack: up to each rung, then to the end, with checkpoints, in as many portions as memory asks for."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nasplug.config import Population, Stop, StudyConfig
from nasplug.engine import engine_for
from nasplug.hookspecs import Progress
from nasplug.machine import give_back
from nasplug.packs.population import exchanged, numbers_at, tuned
from nasplug.packs.portions import HOME, Portions, begun, in_turn, moved, on, steps, within_memory
from nasplug.packs.stopping import after_rung, compared, measured, survivors
from nasplug.packs.stored import (
    CHECKPOINT,
    HISTORIES,
    Scores,
    Standing,
    load_checkpoint,
    load_scores,
    save_checkpoint,
    save_scores,
)
from nasplug.plan import (
    Components,
    Pack,
    Paths,
    assemble,
    components,
    exchanges,
    keep_pace,
    paths_of,
    rungs,
    shape_of,
    worth_compiling,
)
from nasplug.plugins import Plugins
from nasplug.train import Report, Search, start

__all__ = ["Work", "trained"]

CHECKPOINT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Work:
    """A pack that is built and trains.

    Attributes:
        parts: what it was built from.
        paths: which networks its rows give: the networks themselves, or those at each level that they pass through.
        search: of all its rows.
        where: on which device, in how many portions.
        now: where training stands.
        compiled: whether steps were compiled.
        worked: network-steps of this run.
        ready: when it was built, by `time.perf_counter`.
        resumed: the step that its checkpoint was of.
        eager: why steps ran one by one where a GPU could have replayed them; empty where nothing is to be said.
        earlier: seconds that it took up to the rung at which it waited for other packs.
    """

    parts: Components
    paths: Paths
    search: Search
    where: Portions
    now: Standing
    compiled: bool = False
    worked: int = 0
    ready: float = field(default_factory=time.perf_counter)
    resumed: int = 0
    eager: str = ""
    earlier: float = 0.0

    @property
    def here(self) -> Search:
        """The search of the rows that still train, at the level that they have reached."""
        if self.paths.ends:
            return self.paths.at(self.search, self.now.passed)
        if self.paths.pack.groups:
            return tuned(self.search, self.now)
        return (
            self.search.take(torch.from_numpy(self.now.rows).to(self.search.seeds.device)) if self.now.passed else self.search
        )

    @property
    def stopped(self) -> bool:
        """Whether none of its rows trains on."""
        return bool(self.now.stopped) and bool((self.now.stopped["step"] > 0).all())

    @property
    def last(self) -> int:
        """The step that training ends with."""
        return self.paths.ends[-1] if self.paths.ends else self.search.steps

    def within(self, where: Portions) -> Work:
        """The same in so many portions: of several, all that is of all rows waits in the CPU's memory."""
        if where == self.where:
            return self
        search = on(self.search, torch.arange(len(self.search.seeds)), HOME)
        now = replace(self.now, state=moved(self.now.state, HOME), portions=where.count)
        give_back(where.device)
        return replace(self, parts=replace(self.parts, task=search.task), search=search, where=where, now=now)


def _column(values: Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()


def _all_rows(values: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """``(n,)`` of the ``rows`` -> ``(count,)``, 0 or NaN elsewhere."""
    found = np.full(count, np.nan if values.dtype.kind == "f" else 0, dtype=values.dtype)
    found[rows] = values
    return found


def _recorded(now: Standing, report: Report, count: int) -> dict[str, list[np.ndarray]]:
    """The history with one report more; what a report lacks, as the entropy of what has no choices, is NaN there."""
    fresh = {name: _all_rows(_column(values), now.rows, count) for name, values in report.metrics.items()}
    fresh["step"] = _all_rows(np.full(len(now.rows), report.step, dtype=np.int64), now.rows, count)
    none, reports = np.full(count, np.nan), len(now.history["step"])
    names = dict.fromkeys((*now.history, *fresh))
    return {name: [*now.history.get(name, [none] * reports), fresh.get(name, none)] for name in names}


def _best(pack: Pack, report: Report) -> float:
    """The smallest validation error of a report; NaN where there is none, as for a pack whose rows train on all samples."""
    error = report.metrics["valid_error"]
    healthy = error[torch.isfinite(error) & (not pack.fitted)]
    return float(healthy.min()) if len(healthy) else math.nan


def _share(study: StudyConfig, pack: Pack, work: Work, step: int) -> float:
    """The share of a pack's network-steps that is done; of those to come at each rung the share ``keep`` goes on."""
    ahead = [mark for mark in rungs(study, pack, work.last) if mark >= step] if study.stop is not None else []
    if study.stop is None or not (ahead or work.now.stopped):
        return step / work.last
    rows, gone = len(work.now.rows), work.now.stopped.get("step", np.zeros(1)).sum()
    parts = zip([step, *ahead], [*ahead, work.last], strict=True)
    left = sum(study.stop.keep**number * (end - since) for number, (since, end) in enumerate(parts))
    done = step + float(gone) / rows
    return done / (done + left)


def _progress(study: StudyConfig, pack: Pack, report: Report, work: Work, since: float) -> Progress:
    """``since``: when this run began, by the clock."""
    seconds = max(time.perf_counter() - since, 1e-9)
    return Progress(
        progress=_share(study, pack, work, report.step),
        step=report.step,
        steps=work.last,
        networks=len(work.paths.path),
        diverged=int((~report.healthy).sum()),
        best_valid_error=_best(pack, report),
        seconds=seconds,
        network_steps_per_second=work.worked / seconds,
    )


def _built(study: StudyConfig, pack: Pack, plugins: Plugins, device: str, folder: Path, identity: str) -> Work:
    """A pack where its checkpoint says, or where it begins.

    Raises:
        NasplugError: where one network alone does not fit in memory.
    """
    paths = paths_of(study, pack)
    pack = paths.pack

    def made(where: Portions) -> tuple[Components, Search]:
        parts = components(study, pack, plugins, where.home)
        return parts, assemble(parts, pack, plugins, where.home)

    (parts, search), where = within_memory(made, Portions(device), pack.rows)
    fresh, where = within_memory(lambda where: begun(search, start, where), where, pack.rows)
    order = list(fresh.params)
    found, where = within_memory(lambda where: load_checkpoint(folder, identity, where.home, order), where, pack.rows)
    now = found or Standing(fresh, np.arange(pack.rows), {name: [] for name in ("step", *HISTORIES)})
    return Work(parts, paths, search, Portions(device), now, resumed=now.state.step).within(
        replace(where, count=max(where.count, now.portions))
    )


def trained(
    study: StudyConfig,
    pack: Pack,
    plugins: Plugins,
    device: str,
    folder: Path,
    identity: str,
    kept: Sequence[Sequence[int]] | None = None,
) -> Generator[Progress, None, Work | None]:
    """Build a pack, and train it up to each rung, then to the end; or up to the end of each level that rows pass through.

    Where memory ends, rows go on from the last report in twice as many portions.

    A rung's rows are found again where an earlier run ended between its report and its checkpoint.

    Args:
        study, pack, plugins, device, folder: see `nasplug.packs.run_pack`.
        identity: of the pack.
        kept: its rows that go on after each rung so far, where they are compared with rows of other packs; None: the pack
            compares its own.

    Returns:
        None where it waits at a rung for what goes on there. Where nothing does, training has ended.

    Raises:
        NasplugError: where one network alone does not fit in memory.
    """
    work = _built(study, pack, plugins, device, folder, identity)
    if kept is not None and work.now.passed > len(kept):  # who went on is known no more: it is found out again
        (folder / CHECKPOINT).unlink()
        work = _built(study, pack, plugins, device, folder, identity)
    pack, steps, began = work.paths.pack, work.search.steps, work.ready
    marks = list(work.paths.ends[:-1]) or exchanges(study, pack, steps) or rungs(study, pack, steps)
    for number, until in enumerate([*marks, work.last]):
        if number < work.now.passed:
            continue
        since = marks[number - 1] if number else 0
        while work.now.state.step < until:
            where = work.where
            try:
                for latest, progress in _stretch(study, pack, work, since, until, began, folder, identity, alone=kept is None):
                    work = latest
                    try:
                        yield progress
                    except GeneratorExit:  # it shall end here: nothing since its last checkpoint is lost
                        save_checkpoint(folder, identity, work.now)
                        raise
            except (RuntimeError, MemoryError) as error:
                where = work.where.after(error, len(work.now.rows))
            work = work.within(where)  # here: the error holds what its frames hold
        if work.paths.ends:
            end = {name: p.detach().to(HOME, copy=True) for name, p in work.now.state.params.items()}
            work = replace(work, now=replace(work.now, passed=number + 1, ends=(*work.now.ends, end)))
        elif number < len(marks) and study.train.population is not None and pack.groups:
            work, scores, _ = _scored(study.train.population, work, None)
            work = replace(work, now=exchanged(study, pack, work.now, scores.values))
        elif number < len(marks) and study.stop is not None:
            work, scores, fresh = _scored(study.stop, work, load_scores(folder, identity, number))
            if kept is None:
                (rows,) = survivors(study.stop, [pack], [scores], number + 1)
            else:
                waits = number >= len(kept)
                if fresh and waits:  # before the scores: whoever finds these finds where training stands, too
                    save_checkpoint(folder, identity, work.now)
                if fresh:
                    save_scores(folder, identity, number, scores)
                if waits:
                    return None
                rows = np.asarray(kept[number], dtype=np.int64)
            earlier = work.earlier if fresh else scores.seconds
            work = replace(work, now=after_rung(pack, work.now, scores.values, rows), earlier=earlier)
            if work.stopped:
                return work
    return work


def _scored(rule: Stop | Population, work: Work, known: Scores | None) -> tuple[Work, Scores, bool]:
    """What rows at a rung or an exchange are compared by, as it is known, or measured now: then the last is true."""
    if known is not None and np.array_equal(known.rows, work.now.rows):
        return work, known, False

    def each(where: Portions) -> list[dict[str, np.ndarray]]:
        return in_turn(work.here, work.now, where, lambda search, now: measured(rule, work.parts, search, now))

    found, where = within_memory(each, work.where, len(work.now.rows))
    values = {str(name): np.concatenate([s[name] for s in found]) for name in compared(rule)}
    seconds = time.perf_counter() - work.ready + work.earlier
    return work.within(where), Scores(work.now.rows, values, seconds), True


def _stretch(
    study: StudyConfig,
    pack: Pack,
    work: Work,
    since: int,
    until: int,
    began: float,
    folder: Path,
    identity: str,
    *,
    alone: bool,
) -> Iterator[tuple[Work, Progress]]:
    """Steps from where training stands to ``until``, the rung after that at ``since``.

    ``began``: this run, by the clock; ``alone``: whether rows are compared in the pack itself.
    """
    here, now, every = work.here, work.now, max(1, work.search.steps // study.train.reports)
    shared = bool(work.paths.ends or pack.groups)  # levels of a path, and populations between exchanges, share a program
    room = pack.room
    if now.passed and not shared:
        room = 0 if alone else _bucket(len(now.rows), max(pack.rows, pack.room))
    whole = work.last if shared else until - since
    first = on(here, torch.zeros(1, dtype=torch.long), work.where.device)
    with torch.no_grad():
        params = moved(now.state.take(torch.zeros(1, dtype=torch.long, device=here.seeds.device)), work.where.device).params
        activations = first.relax(params, first.tau.at(0)).activations
    fast = worth_compiling(work.parts, here, params, activations, steps=whole, alike=pack.alike, room=room)
    engine = None if study.train.compile is False else engine_for(first, params)
    room = room if fast and engine is None else 0
    work = replace(work, compiled=work.compiled or fast or engine is not None)
    paces: list[float] = []
    saved = mark = time.perf_counter()
    for report in steps(here, now.state, work.where, every=every, compiled=fast, room=room, until=until, engine=engine):
        told = {**report.metrics, **(numbers_at(here, report.step) if pack.groups else {})}
        history = _recorded(now, replace(report, metrics=told), pack.rows)
        taken = report.step - now.state.step
        paces.append((time.perf_counter() - mark) / taken)
        now = replace(now, state=report.state, history=history)
        work = replace(work, now=now, worked=work.worked + taken * len(now.rows), eager=report.eager or work.eager)
        if time.perf_counter() - saved > CHECKPOINT_SECONDS or report.step == work.last:
            save_checkpoint(folder, identity, now)
            saved = time.perf_counter()
        yield work, _progress(study, pack, report, work, began)
        mark = time.perf_counter()
    if len(paces) > 1 and work.where.count == 1:  # in the first interval programs are compiled
        rows = max(room, len(now.rows))
        pace = 1e9 * statistics.median(paces[1:]) / rows
        kind, fast = shape_of(work.parts, params, activations), fast or engine is not None
        keep_pace(study.resources, work.where.device, kind, rows, pace, compiled=fast)


def _bucket(rows: int, most: int) -> int:
    """Rows of the program that takes so many: of few sizes, 2^i and 3 * 2^(i - 1), so that packs share programs.

    How many rows of a pack go on is another number in each, where they are compared with those of others.
    """
    power = 1 << max(0, rows - 1).bit_length()
    return min(most, 3 * power // 4 if rows <= 3 * power // 4 else power)
