"""The training of one pack: up to each rung, then to the end, with checkpoints, in as many portions as memory asks for."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nasplug.config import Stop, StudyConfig
from nasplug.engine import engine_for
from nasplug.hookspecs import Progress
from nasplug.machine import give_back
from nasplug.packs.population import exchanged, numbers_at, tuned
from nasplug.packs.portions import HOME, Portions, begun, in_turn, moved, on, steps, within_memory
from nasplug.packs.stopping import after_rung, measured
from nasplug.packs.stored import HISTORIES, Standing, load_checkpoint, save_checkpoint
from nasplug.plan import (
    Components,
    Pack,
    Paths,
    assemble,
    candidates,
    components,
    exchanges,
    going_on,
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


def _progress(pack: Pack, report: Report, work: Work, since: float) -> Progress:
    """``since``: when this run began, by the clock."""
    seconds = max(time.perf_counter() - since, 1e-9)
    return Progress(
        progress=report.step / work.last,
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
    study: StudyConfig, pack: Pack, plugins: Plugins, device: str, folder: Path, identity: str
) -> Generator[Progress, None, Work]:
    """Build a pack, and train it up to each rung, then to the end; or up to the end of each level that rows pass through.

    Where memory ends, rows go on from the last report in twice as many portions.

    A rung's rows are found again where an earlier run ended between its report and its checkpoint.

    Raises:
        NasplugError: where one network alone does not fit in memory.
    """
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
                for latest, progress in _stretch(study, pack, work, since, until, began, folder, identity):
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
        elif number < len(marks):
            work = _after_mark(study, pack, work)
    return work


def _after_mark(study: StudyConfig, pack: Pack, work: Work) -> Work:
    """The rows that go on after a rung, or as whose copies after an exchange, compared in portions where memory asks for it."""
    rule = study.train.population if pack.groups else study.stop
    assert rule is not None  # there are marks

    def compared(where: Portions) -> list[dict[str, np.ndarray]]:
        return in_turn(work.here, work.now, where, lambda search, now: measured(rule, work.parts, search, now))

    found, where = within_memory(compared, work.where, len(work.now.rows))
    work = work.within(where)
    scores: dict[str, np.ndarray] = {name: np.concatenate([part[name] for part in found]) for name in rule.by}
    if isinstance(rule, Stop):
        return replace(work, now=after_rung(rule, pack, work.now, scores))
    return replace(work, now=exchanged(study, pack, work.now, scores))


def _stretch(
    study: StudyConfig, pack: Pack, work: Work, since: int, until: int, began: float, folder: Path, identity: str
) -> Iterator[tuple[Work, Progress]]:
    """Steps from where training stands to ``until``, the rung after that at ``since``; ``began``: this run, by the clock."""
    here, now, every = work.here, work.now, max(1, work.search.steps // study.train.reports)
    shared = bool(work.paths.ends or pack.groups)  # levels of a path, and populations between exchanges, share a program
    room = _room(study, pack, now.passed) if now.passed and not shared else pack.room
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
        yield work, _progress(pack, report, work, began)
        mark = time.perf_counter()
    if len(paces) > 1 and work.where.count == 1:  # in the first interval programs are compiled
        rows = max(room, len(now.rows))
        pace = 1e9 * statistics.median(paces[1:]) / rows
        kind, fast = shape_of(work.parts, params, activations), fast or engine is not None
        keep_pace(study.resources, work.where.device, kind, rows, pace, compiled=fast)


def _room(study: StudyConfig, pack: Pack, passed: int) -> int:
    """Rows of the program that a smaller pack shares with others after so many rungs; 0: it has its own."""
    found = candidates(pack)
    folds = len(found.rows[0])
    if not pack.room or study.stop is None or len(found.groups) > 1:  # how many data sets the others have is not known
        return 0
    return folds * going_on(study.stop, pack.room // folds, passed)
