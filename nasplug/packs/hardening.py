"""Soft networks to hard ones, with their scores at each stage."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from nasplug import additive, monotone
from nasplug.byrow import ByRow
from nasplug.contracts import Discretizer
from nasplug.discretize import Certificates, discretize
from nasplug.errors import ContractError
from nasplug.finetune import better, finetune, retrain
from nasplug.networks import Networks, forward, sizes
from nasplug.packs.relaxed import relaxed_of, shares_of
from nasplug.packs.stored import CERTIFICATE, FITTED, HISTORIES, SPLITS, Standing
from nasplug.plan import Components, Pack
from nasplug.train import CONSTANT, Search, evaluate

__all__ = ["harden", "of_rows", "places_of"]


def places_of(parts: Components, now: Standing) -> list[Discretizer | ByRow]:
    """The study's discretizers, for the rows that still train."""
    rows = torch.from_numpy(now.rows)
    return [place.take(rows) if isinstance(place, ByRow) else place for place in parts.discretizers]


@torch.no_grad()
def harden(parts: Components, search: Search, now: Standing, pack: Pack) -> tuple[Networks, dict[str, Any]]:
    """Soft networks -> hard ones, with scores at each stage as columns, and what some were before (`nasplug.packs.relaxed`).

    Of the rows that train to the end, whose ``search`` it is.
    """
    named = FITTED if pack.fitted else {part: part for part in SPLITS}
    task, last = search.task, search.steps - 1
    soft = search.relax(now.state.kept, search.tau.at(last))
    columns: dict[str, Any] = {}

    def put(stage: str, split: str, scores: Mapping[str, Tensor]) -> None:
        if CONSTANT in scores and not stage:
            columns[CONSTANT] = scores[CONSTANT].cpu().numpy()
        for name in (name for name in scores if name != CONSTANT):
            columns[f"{stage}{named[split]}_{name}"] = scores[name].detach().cpu().double().numpy()

    put("relaxed_", "valid", evaluate(task, task.valid, soft, search.forward))
    direct = search.direct(soft)
    hard, certificates = discretize(task, direct, places_of(parts, now))
    cut, at_cut = hard, evaluate(task, task.valid, hard, forward)
    put("cut_", "valid", at_cut)
    with torch.enable_grad():
        hard = finetune(search, hard, parts.finetune, search.lr.scale)
        if parts.retrain:
            anew = retrain(search, hard, parts.retrain, search.lr.scale)
            for stage, nets in (("inherited_", hard), ("retrained_", anew)):
                for split in SPLITS:
                    put(stage, split, evaluate(task, getattr(task, split), nets, forward))
            hard = better(task, anew, hard)
    for rule, proof in (("monotone", monotone.holds), ("terms", additive.holds)):
        if getattr(hard, rule) and not bool((proven := proof(hard)).all()):
            whose = ", ".join(use.use for use in parts.study.discretizers) or "none"
            raise ContractError(
                f"{int((~proven).sum())} of {hard.replicas} hard networks do not keep to {rule}; discretizers: {whose}. Tell "
                "the author of the one without which this does not come, or of nasplug"
            )
    for split in SPLITS:
        known = hard is cut and split == "valid"
        put("", split, at_cut if known else evaluate(task, getattr(task, split), hard, forward, constant=split == "train"))
    for name, values in sizes(hard).items():
        columns[name] = values.cpu().numpy()
    by = "loss" if pack.fitted else parts.study.choose.by
    judged = columns.get(f"{named['valid']}_{by}", columns[f"{named['valid']}_loss"])
    judged = -judged if by in task.higher else judged
    columns |= shares_of(search, direct)
    return hard, columns | _certified(certificates) | relaxed_of(pack, now.rows, columns, direct, cut, judged)


def _certified(certificates: Certificates) -> dict[str, Any]:
    """Certificates as columns: their numbers each by itself, and the whole as JSON."""
    if not certificates:
        return {}
    numbers = {
        name for one in certificates for name, value in one.items() if isinstance(value, int | float) and name != "verdict"
    }
    found: dict[str, Any] = {
        f"certificate_{name}": np.asarray([float(one.get(name, math.nan)) for one in certificates]) for name in sorted(numbers)
    }
    return found | {CERTIFICATE: pa.array([json.dumps(one) for one in certificates])}


def of_rows(nets: Networks, columns: Mapping[str, Any], now: Standing, count: int) -> tuple[Networks, dict[str, Any]]:
    """Networks and columns of the rows that trained to the end -> those of all rows of the pack.

    Rows that were stopped have no hard network (all numbers are NaN) and null in the other columns, but for ``status``
    (``stopped``, or ``diverged`` where their validation loss was not finite), ``step`` and what they had at the rung.
    """
    if not now.stopped:
        return nets, dict(columns)
    gone = now.stopped["step"] > 0  # (K,)
    here = ~gone[now.rows]  # of those that are left: none, where all were stopped

    def tall(t: Tensor) -> Tensor:
        found = t.new_full((count, *t.shape[1:]), torch.nan)
        found[torch.from_numpy(now.rows[here]).to(t.device)] = t[torch.from_numpy(here).to(t.device)]
        return found

    last = np.where(gone, now.stopped["step"], now.state.step)
    found: dict[str, Any] = {}
    for name, values in columns.items():
        own = np.asarray(values)
        each = np.zeros(count, dtype=own.dtype)
        each[now.rows] = own
        if name.startswith("relaxed_valid_") and (history := name.removeprefix("relaxed_")) in HISTORIES:
            at = [int(np.argmax(np.stack(now.history["step"])[:, row] == last[row])) for row in range(count)]
            found[name] = np.where(gone, np.stack(now.history[history])[at, np.arange(count)], each)
        else:
            kind = values.type if isinstance(values, pa.Array) else None
            found[name] = each if name == "status" else pa.array(each, kind, mask=gone)
    loss = found["relaxed_valid_loss"]
    found["status"] = np.where(gone, np.where(np.isfinite(loss), "stopped", "diverged"), found["status"])
    return nets.map(tall), found | {"step": last} | {name: now.stopped[name] for name in sorted(now.stopped) if name != "step"}
