"""The loop: a generator that yields one `Report` per interval."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from nasplug.contracts import Params, SearchMethod
from nasplug.networks import Networks
from nasplug.replicas import column, finite
from nasplug.train.replaying import Steps
from nasplug.train.scoring import evaluate, kept
from nasplug.train.search import OBJECTIVE, Engine, Report, Search, State, start
from nasplug.train.softness import softness
from nasplug.train.steps import alternate, compile_step, step
from nasplug.train.timetable import timetable

__all__ = ["train"]


def train(
    search: Search,
    state: State | None = None,
    *,
    every: int = 100,
    compiled: bool = False,
    room: int = 0,
    until: int | None = None,
    engine: Engine | None = None,
) -> Iterator[Report]:
    """Train all rows from ``state`` (or from their seeds) and yield a `Report` after every ``every`` steps and at the end.

    Args:
        search: what to train.
        state: where to go on; it stays as it is. None starts afresh.
        every: steps between reports.
        compiled: run each step as one compiled program (`torch.compile`); worth it when many steps are left.
        room: rows to train at once, where they are more than K: the first row is repeated, so that one compiled program serves
            packs of several sizes. Reports are of the K rows.
        until: the step to stop at, with a report; schedules run over all steps. None: the last.
        engine: makes the steps between two reports, unless it finds that it cannot.

    Yields:
        Reports with ``train_loss`` and ``penalty`` of the last step, ``valid_loss`` and ``valid_error`` of the soft networks,
        and how soft they are (`nasplug.train.softness`): ``edges``, and ``entropy`` where the method has choices.

    With ``search.keep`` ``best`` each report also keeps the iterates whose validation loss plus penalty is the smallest yet.
    Only reports count at which a row's temperature and levels have their last values: before, objectives do not compare. Nor do
    those of a row before and after its method has moved an untrained leaf (`nasplug.contracts.Traits`), which begins anew.
    """
    state = start(search) if state is None else state.copy()
    rows = torch.arange(len(search.seeds), device=search.seeds.device)
    whole = room <= len(rows)
    if not whole:
        more = torch.cat([rows, rows.new_zeros(room - len(rows))])
        search, state = search.take(more), state.take(more)
    params, moments, best = state.params, state.moments, state.best
    first, end = state.step, search.steps if until is None else until
    bilevel = search.architect is not None and search.architect.share > 0
    once: Callable[..., tuple[Tensor, Tensor]] = alternate if bilevel else step
    ahead = timetable(search, compile_step(once) if compiled else once, first, end)
    move = Steps(ahead, once)
    since = search.steps if ahead.frozen is None else int(ahead.frozen.min())  # asked once: before it no zero is frozen
    projects = type(search.method).project is not SearchMethod.project
    portions = kept(search.task.valid, len(search.seeds))
    clock = torch.tensor([first], device=search.seeds.device)
    told, ended = None, first  # what an engine says of its steps, and where they end
    for t in range(first, end):
        if engine is not None and t == ended:
            ended = min((t // every + 1) * every, end)
            told = engine(search, params, moments, t, ended)
        if told is not None and t + 1 < ended:
            continue
        for shown in ahead.shown if told is None else ():
            shown.turn(t)
        loss, penalty = told or move(params, moments, clock, t >= since)
        if projects:
            params = move.settle(params, search.method.project(params, t + 1, search.steps))
        if (t + 1) % every == 0 or t + 1 in (end, search.steps):
            with torch.no_grad():
                nets = search.relax(params, search.tau.at(t))  # without noise, as it will be made hard
                valid = search.task.valid
                scores = evaluate(search.task, valid, nets, search.forward, final=False, portions=portions)
                shape = softness(search, nets)
                if search.keep == "best":
                    best = _best(search, best, params, t, scores["loss"], nets)
            metrics = {
                "train_loss": loss.clone(),
                "penalty": penalty.clone(),
                "valid_loss": scores["loss"],
                "valid_error": scores["error"],
                **shape,
            }
            now, healthy = State(params, moments, t + 1, best), finite(params)
            if not whole:
                metrics, healthy = {name: values[rows] for name, values in metrics.items()}, healthy[rows]
                now = now.take(rows)
            yield Report(t + 1, search.steps, metrics, healthy, now.copy(), move.reason)  # steps write in place


def _best(search: Search, best: Params, params: Params, t: int, loss: Tensor, nets: Networks) -> Params:
    """The better of two iterates of each row, with its objective."""
    last = search.steps - 1
    objective, settled = loss, search.tau.at(t) == search.tau.at(last)  # (K,)
    for regularizer, level in zip(search.penalties, search.levels, strict=True):
        objective = objective + level.at(t) * regularizer(nets)
        settled = settled & (level.at(t) == level.at(last))
    objective = torch.where(settled & torch.isfinite(objective), objective, torch.inf)
    if best.keys() - {OBJECTIVE} != params.keys():  # the first time, or a method has put other leaves in their place
        return {OBJECTIVE: objective, **{name: p.clone() for name, p in params.items()}}
    better = (objective < best[OBJECTIVE]) | ~torch.isfinite(best[OBJECTIVE])  # nothing to lose yet: the later one
    for name in search.traits.untrained & params.keys():
        better = better | (params[name] != best[name]).flatten(1).any(1)
    kept = {name: torch.where(column(better, p), p, best[name]) for name, p in params.items()}
    return {OBJECTIVE: torch.where(better, objective, best[OBJECTIVE]), **kept}
