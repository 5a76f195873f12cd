"""The loop: a generator that yields one `Report` per interval."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from nasplug.contracts import Params, Proximal
from nasplug.networks import Networks
from nasplug.replicas import column, finite, seeds_of
from nasplug.train.scoring import evaluate, kept
from nasplug.train.search import OBJECTIVE, Batches, Report, Search, State, halves, start
from nasplug.train.softness import softness
from nasplug.train.steps import alternate, compile_step, step

__all__ = ["train"]


def train(
    search: Search,
    state: State | None = None,
    *,
    every: int = 100,
    compiled: bool = False,
    room: int = 0,
    until: int | None = None,
) -> Iterator[Report]:
    """Train all rows from ``state`` (or from their seeds) and yield a `Report` after every ``every`` steps and at the end.

    Args:
        search: what to train.
        state: where to go on; it stays as it is. None starts afresh.
        every: steps between reports.
        compiled: run each step as one compiled program (`torch.compile`); worth it when many steps are left.
        room: rows to train at once, where they are more than K: the first row is repeated, so that one compiled program serves
            packs of several sizes. Reports are of the K rows.
        until: the step to stop at, a multiple of ``every``, so that it changes no report; schedules run over all steps. None:
            the last.

    Yields:
        Reports with ``train_loss`` and ``penalty`` of the last step, ``valid_loss`` and ``valid_error`` of the soft networks,
        and how soft they are (`nasplug.train.softness`): ``edges``, and ``entropy`` where the method has choices.

    With ``search.keep`` ``best`` each report also keeps the iterates whose validation loss plus penalty is the smallest yet.
    Only reports count at which a row's temperature and levels have their last values: before, objectives do not compare.
    """
    state = start(search) if state is None else state.copy()
    rows = torch.arange(len(search.seeds), device=search.seeds.device)
    whole = room <= len(rows)
    if not whole:
        more = torch.cat([rows, rows.new_zeros(room - len(rows))])
        search, state = search.take(more), state.take(more)
    params, moments, best = state.params, state.moments, state.best
    architect = search.architect
    held: Batches | None = None
    mine = search.task.train
    if architect is not None and architect.share > 0:
        mine, other = halves(search.task.train, architect.share, search.data_seed)
        held = Batches(other, search.batch, search.data_seed + 1)
    batches = Batches(mine, search.batch, search.data_seed)
    once: Callable[..., tuple[Tensor, Tensor]] = step if held is None else alternate
    advance = compile_step(once) if compiled else once
    freezing = _freezing(search)
    portions = kept(search.task.valid, len(search.seeds))
    for t in range(state.step, search.steps if until is None else until):
        batch = batches.at(t).batch
        given = batch if held is None else (batch, held.at(t).batch)
        noise = seeds_of(search.seeds, f"step {t}") if search.traits.stochastic else None
        levels = tuple(level.at(t) for level in search.levels)
        support = _support(search, params, t, freezing)
        loss, penalty = advance(search, params, moments, given, search.lr.at(t), search.tau.at(t), levels, noise)
        for name, mask in support.items():
            params[name].mul_(mask)
        params = search.method.project(params, t + 1, search.steps)
        if (t + 1) % every == 0 or t + 1 == search.steps:
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
            yield Report(t + 1, search.steps, metrics, healthy, now.copy())  # steps write in place


def _freezing(search: Search) -> Tensor | None:
    """The step from which each row's zeros are frozen, long ``(K,)``: all its proximal penalties are over; None without any.

    One that was never above 0 freezes nothing: its row's step is T.
    """
    found: Tensor | None = None
    for regularizer, level in zip(search.penalties, search.levels, strict=True):
        if isinstance(regularizer, Proximal):
            steps = torch.arange(1, search.steps + 1, device=level.table.device).unsqueeze(1)
            after = (steps * (level.table > 0)).amax(0)[level.index]  # (K,): one more than the last step above 0
            after = torch.where((after > 0) & (level.scale > 0), after, search.steps)
            found = after if found is None else torch.maximum(found, after)
    return found


@torch.no_grad()
def _support(search: Search, params: Params, t: int, freezing: Tensor | None) -> Params:
    """What a step must leave at 0: leaves of ones, and of zeros where a frozen row's leaf is exactly 0; none for most steps."""
    if freezing is None or t < int(freezing.min()):
        return {}
    frozen = freezing <= t  # (K,)
    held = search.method.hold(search.relax(params, search.tau.at(t)))
    return {name: ((leaf != 0) | ~column(frozen, leaf)).to(leaf) for name, leaf in held.items()}


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
    kept = {name: torch.where(column(better, p), p, best[name]) for name, p in params.items()}
    return {OBJECTIVE: torch.where(better, objective, best[OBJECTIVE]), **kept}
