"""Which penalty made rows diverge: the first of them are trained again, step by step, up to where they did.

Training is a function of seeds and steps, so what happened once happens again; nothing is watched while a pack trains.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from nasplug.contracts import Params, Proximal
from nasplug.replicas import seeds_of
from nasplug.train import Search, start, train

__all__ = ["causes"]

MOST_ROWS = 4
MOST_STEPS = 2000


def causes(
    search: Search, history: Mapping[str, Sequence[np.ndarray]], whose: Sequence[str], among: Collection[int] | None = None
) -> dict[int, str]:
    """Row -> why it diverged, in one line, for the first `MOST_ROWS` that did so within `MOST_STEPS`.

    Args:
        search: what was trained.
        history: of each report, ``step`` and ``valid_loss``, ``(K,)`` each.
        whose: of each penalty, what it is called.
        among: the rows that are looked at; None: all.
    """
    if not history["step"] or not search.penalties:
        return {}  # only a penalty is looked for
    bad = ~np.isfinite(np.stack(history["valid_loss"]))  # (reports, K)
    steps = np.stack(history["step"]).max(1)  # a row that was stopped stays at its last
    first = np.where(bad.any(0), steps[bad.argmax(0)], MOST_STEPS + 1)  # (K,)
    sought = [int(row) for row in np.argsort(first, kind="stable") if among is None or row in among]
    rows = [row for row in sought[:MOST_ROWS] if first[row] <= MOST_STEPS]
    if not rows:
        return {}
    some = search.take(torch.tensor(rows, device=search.seeds.device))
    before = start(some).params
    found: dict[int, str] = {}
    for report in train(some, every=1):
        fits = torch.isfinite(report.metrics["train_loss"])  # else its numbers were too large before any penalty's
        spoilt = ~(report.healthy & fits & torch.isfinite(report.metrics["penalty"]))
        for at in torch.nonzero(spoilt).flatten().tolist():
            if rows[at] not in found:
                found[rows[at]] = _cause(some, before, report.step - 1, at, whose if bool(fits[at]) else ())
        before = report.state.params
        if len(found) == len(rows) or report.step > max(first[row] for row in rows):
            break
    return found


def _cause(search: Search, params: Params, t: int, row: int, whose: Sequence[str]) -> str:
    """What was not finite in step ``t`` from these parameters: a penalty of ``whose``, its slope, or what is left."""
    one = search.take(torch.tensor([row], device=search.seeds.device))
    leaves = {name: p[row : row + 1].detach().clone().requires_grad_() for name, p in params.items()}
    noise = seeds_of(one.seeds, f"step {t}") if one.traits.stochastic else None
    nets = one.relax(leaves, one.tau.at(t), noise)
    for penalty, level, whom in zip(one.penalties, one.levels, whose, strict=False):
        value = penalty(nets)
        if not bool(torch.isfinite(value * level.at(t)).all()):
            return f"{whom} is {float(value.detach()):g} at step {t + 1}; tell its author, or lower its level"
        if not isinstance(penalty, Proximal) and not _finite_slopes(value, leaves):
            return f"the slope of {whom} is not finite at step {t + 1}; tell its author, or lower its level"
    return f"the numbers of a network are not finite from step {t + 1} on; try a smaller train.lr, or train.clip"


def _finite_slopes(value: Tensor, leaves: Params) -> bool:
    if not value.requires_grad:
        return True
    slopes = torch.autograd.grad(value.sum(), list(leaves.values()), allow_unused=True, retain_graph=True)
    return all(slope is None or bool(torch.isfinite(slope).all()) for slope in slopes)
