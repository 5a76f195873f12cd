"""Halving: at a rung the rows that others dominate are stopped, and the others go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nasplug.config import Population, Stop
from nasplug.discretize import discretize
from nasplug.networks import sizes
from nasplug.packs.hardening import places_of
from nasplug.packs.ranking import fittest
from nasplug.packs.stored import HISTORIES, Scores, Standing
from nasplug.plan import Components, Pack, candidates, going_on
from nasplug.train import Search

__all__ = ["after_rung", "compared", "measured", "survivors"]


def compared(rule: Stop | Population) -> list[str]:
    """The columns that are measured for a rule: ``by``; for populations that compare sizes also edges.

    A network without edges is smaller than all others, and no population shall become copies of it.
    """
    sizes_too = isinstance(rule, Population) and not set(rule.by) <= set(HISTORIES)
    return [*rule.by, *(["edges"] if sizes_too and "edges" not in rule.by else [])]


def measured(stop: Stop | Population, parts: Components, search: Search, now: Standing) -> dict[str, np.ndarray]:
    """What rows are compared by, ``(n,)`` each, less is better; ``search`` is that of the n rows that still train.

    ``valid_*`` are scores of the soft networks, of the report at the rung. Sizes are those of the networks that the study's own
    discretizers would make of them now, without fine-tuning.
    """
    wanted = compared(stop)
    found = {name: now.history[name][-1][now.rows] for name in wanted if name in HISTORIES}
    if len(found) < len(wanted):
        with torch.no_grad():
            soft = search.direct(search.relax(now.state.params, search.tau.at(now.state.step - 1)))
            hard, _ = discretize(search.task, soft, places_of(parts, now), certify=False)
            found |= {name: size.cpu().double().numpy() for name, size in sizes(hard).items() if name in wanted}
    return {name: found[name] for name in wanted}


def survivors(stop: Stop, packs: Sequence[Pack], scores: Sequence[Scores], passed: int) -> list[NDArray[np.int64]]:
    """The rows of each pack that go on after so many rungs, ascending.

    Candidates are compared by means over their folds, each group among itself; `nasplug.packs.ranking.fittest` go on.

    Args:
        stop: the rule.
        packs: whose rows are compared.
        scores: of each pack, those of its rows that still train; of none where none does.
        passed: rungs, this one among them.
    """
    values = [np.full((pack.rows, len(stop.by)), np.nan) for pack in packs]
    there = [np.zeros(pack.rows, dtype=bool) for pack in packs]
    for here, trains, one in zip(values, there, scores, strict=True):
        trains[one.rows] = True
        for at, name in enumerate(stop.by):
            here[one.rows, at] = one.values[name] if len(one.rows) else np.nan
    found = candidates(packs)
    kept: list[list[int]] = [[] for _ in packs]
    for group in found.groups:
        mine = [found.rows[at] for at in group if there[found.rows[at][0][0]][found.rows[at][0][1]]]
        if not mine:
            continue
        means = np.stack([np.mean([values[pack][row] for pack, row in rows], axis=0) for rows in mine])
        for at in fittest(means, going_on(stop, len(group), passed)):
            for pack, row in mine[at]:
                kept[pack].append(row)
    return [np.sort(np.asarray(rows, dtype=np.int64)) for rows in kept]


def after_rung(pack: Pack, now: Standing, scores: Mapping[str, np.ndarray], rows: NDArray[np.int64]) -> Standing:
    """Where training stands once a rung is passed: ``rows`` go on; ``scores`` are those that were `measured` there.

    Where none does, the first stays, as stopped as the others: it has the shapes of the networks that there are not.
    """
    place = np.full(pack.rows, -1)
    place[now.rows] = np.arange(len(now.rows))
    gone = np.setdiff1d(now.rows, rows)
    stopped: dict[str, NDArray[Any]] = dict(now.stopped) or {
        "step": np.zeros(pack.rows, dtype=np.int64),
        **{f"rung_{name}": np.full(pack.rows, np.nan) for name in scores if name not in HISTORIES},
    }
    stopped = {name: column.copy() for name, column in stopped.items()}
    stopped["step"][gone] = now.state.step
    for name, values in scores.items():
        if f"rung_{name}" in stopped:
            stopped[f"rung_{name}"][now.rows] = values
    left = rows if len(rows) else now.rows[:1]
    index = torch.from_numpy(place[left]).to(next(iter(now.state.params.values())).device)
    return replace(now, state=now.state.take(index).copy(), rows=left, passed=now.passed + 1, stopped=stopped)
