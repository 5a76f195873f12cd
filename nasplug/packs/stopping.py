"""Halving inside a pack: at a rung the rows that others dominate are stopped, and the others go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from nasplug.config import Population, Stop
from nasplug.discretize import discretize
from nasplug.networks import sizes
from nasplug.packs.hardening import places_of
from nasplug.packs.ranking import fittest
from nasplug.packs.stored import HISTORIES, Standing
from nasplug.plan import Components, Pack, candidates, going_on
from nasplug.train import Search

__all__ = ["after_rung", "measured"]


def measured(stop: Stop | Population, parts: Components, search: Search, now: Standing) -> dict[str, np.ndarray]:
    """What rows are compared by, ``(n,)`` each, less is better; ``search`` is that of the n rows that still train.

    ``valid_*`` are scores of the soft networks, of the report at the rung. Sizes are those of the networks that the study's own
    discretizers would make of them now, without fine-tuning.
    """
    found = {name: now.history[name][-1][now.rows] for name in stop.by if name in HISTORIES}
    if len(found) < len(stop.by):
        with torch.no_grad():
            soft = search.direct(search.relax(now.state.params, search.tau.at(now.state.step - 1)))
            hard, _ = discretize(search.task, soft, places_of(parts, now), certify=False)
            found |= {name: size.cpu().double().numpy() for name, size in sizes(hard).items() if name in stop.by}
    return {name: found[name] for name in stop.by}


def after_rung(stop: Stop, pack: Pack, now: Standing, scores: Mapping[str, np.ndarray]) -> Standing:
    """Where training stands once a rung is passed: fewer rows; ``scores`` are those that were `measured` there.

    Candidates are compared by means over their folds, each group among itself; `nasplug.packs.ranking.fittest` go on.
    """
    place = np.full(pack.rows, -1)
    place[now.rows] = np.arange(len(now.rows))
    values = np.stack(list(scores.values()), axis=1)  # (n, M)
    found, passed = candidates(pack), now.passed + 1
    kept: list[int] = []
    for group in found.groups:
        here = [at for at in group if place[found.rows[at][0]] >= 0]
        means = np.stack([values[place[list(found.rows[at])]].mean(0) for at in here])
        for at in fittest(means, going_on(stop, len(group), passed)):
            kept += found.rows[here[at]]
    rows = np.sort(np.asarray(kept, dtype=np.int64))
    gone = np.setdiff1d(now.rows, rows)
    stopped = dict(now.stopped) or {
        "step": np.zeros(pack.rows, dtype=np.int64),
        **{f"rung_{name}": np.full(pack.rows, np.nan) for name in stop.by if name not in HISTORIES},
    }
    stopped = {name: column.copy() for name, column in stopped.items()}
    stopped["step"][gone] = now.state.step
    for name in stop.by:
        if f"rung_{name}" in stopped:
            stopped[f"rung_{name}"][now.rows] = scores[name]
    index = torch.from_numpy(place[rows]).to(next(iter(now.state.params.values())).device)
    return replace(now, state=now.state.take(index).copy(), rows=rows, passed=passed, stopped=stopped)
