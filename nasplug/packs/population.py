"""Population-based training inside a pack: at an exchange rows that others dominate go on as copies of those, with numbers of
their own.

Source: Jaderberg et al. 2017, truncation selection and perturbation. We differ: rows may be compared by several numbers at once
(`nasplug.packs.ranking`); a row copies what another trains with from its schedule on, and its draws are its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from nasplug.config import StudyConfig
from nasplug.packs.ranking import fittest
from nasplug.packs.stored import Standing
from nasplug.plan import Pack, copying
from nasplug.replicas import uniform
from nasplug.schedules import Track
from nasplug.train import Search

__all__ = ["PARENT", "exchanged", "numbers_at", "tuned"]

PARENT = "parent"
"""The history of which row each went on as, after a report."""
ORIGIN = "origin"
"""Beside the factors of `nasplug.packs.stored.Standing.tuned`: whose numbers and schedules a row has."""
CONSTANT = ("edges", "inputs")  # of which a network that is worth a copy has some
LEVEL, RATE, ARCHITECT, TAU = "penalties.", "train.lr", "train.architecture.lr", "temperature"


def tuned(search: Search, now: Standing) -> Search:
    """The search of all rows, with the levels, learning rates and temperatures that they have come to."""
    if not now.tuned:
        return search
    origin = torch.from_numpy(now.tuned[ORIGIN]).to(search.seeds.device)

    def scaled(values: Tensor, place: str) -> Tensor:
        """What was above 0 stays above 0 and finite, whatever factors have come together."""
        factor = torch.from_numpy(now.tuned[place]).to(values.device)
        info = torch.finfo(values.dtype)
        found = (values[origin].double() * factor).clamp(info.tiny, info.max).to(values.dtype)
        return torch.where(values[origin] > 0, found, values[origin])

    def own(track: Track, place: str) -> Track:
        return replace(track, index=track.index[origin], scale=scaled(track.scale, place))

    architect = search.architect
    return replace(
        search,
        lr=own(search.lr, RATE),
        tau=own(search.tau, TAU),
        levels=tuple(own(level, f"{LEVEL}{number}.level") for number, level in enumerate(search.levels)),
        architect=None if architect is None else replace(architect, lr=scaled(architect.lr, ARCHITECT)),
    )


def numbers_at(search: Search, step: int) -> dict[str, Tensor]:
    """What all rows trained with in the step before ``step``, by places of the study: what a population's history has more.

    `PARENT` of a row that goes on as itself is itself. In order of names, as a checkpoint gives them back.
    """
    found = {f"{LEVEL}{number}.level": level.at(step - 1) for number, level in enumerate(search.levels)}
    found |= {RATE: search.lr.at(step - 1), TAU: search.tau.at(step - 1)}
    found |= {} if search.architect is None else {ARCHITECT: search.architect.lr}
    found |= {PARENT: torch.arange(len(search.seeds))}
    return dict(sorted(found.items()))


def exchanged(study: StudyConfig, pack: Pack, now: Standing, scores: Mapping[str, np.ndarray]) -> Standing:
    """Where training stands after an exchange; ``scores`` are those that were measured there (`nasplug.packs.stopping`).

    Of each population the worst share copies: parameters, the optimizer's memory, schedules and numbers, each of one of the
    best share, drawn evenly. Then each number is multiplied or divided by its factor. What is drawn depends on a row's seed,
    its place in its population and the number of the exchange. Where sizes are compared, a network whose output is constant (it
    has no edges) is worse than all others, though none is smaller: who copied it would be lost.
    """
    rule = study.train.population
    assert rule is not None  # there are exchanges
    values = np.stack([scores[name] for name in rule.by], axis=1)  # (K, M)
    for name in CONSTANT:
        if name in scores:
            values[scores[name] == 0] = np.inf
    factors = {place: _factor(study, place) for place in sorted(now.history) if place.startswith((LEVEL, RATE, ARCHITECT, TAU))}
    source, moves = np.arange(pack.rows), {place: np.ones(pack.rows) for place in factors}
    for group in _groups(pack):
        count = copying(rule, len(group))
        best = fittest(values[group], count)
        worst = np.setdiff1d(np.arange(len(group)), fittest(values[group], len(group) - count))
        for member in worst:
            row, stream = group[member], f"exchange {now.passed} of member {member}"
            seed = torch.tensor([pack.seeds[row]])
            source[row] = group[best[int(count * float(uniform(seed, stream, ())))]]
            for place, factor in factors.items():
                larger = float(uniform(seed, f"{stream}: {place}", ())) < 0.5
                moves[place][row] = factor if larger else 1.0 / factor
    index = torch.from_numpy(source).to(next(iter(now.state.params.values())).device)
    before = now.tuned or {ORIGIN: np.arange(pack.rows), **{place: np.ones(pack.rows) for place in factors}}
    told = {ORIGIN: before[ORIGIN][source], **{place: before[place][source] * moves[place] for place in factors}}
    history = now.history | {PARENT: [*now.history[PARENT][:-1], source.astype(np.float64)]}
    return replace(now, state=now.state.take(index).copy(), passed=now.passed + 1, tuned=told, history=history)


def _groups(pack: Pack) -> list[np.ndarray]:
    """The rows of each population."""
    groups = np.asarray(pack.groups)
    return [np.flatnonzero(groups == group) for group in dict.fromkeys(pack.groups)]


def _factor(study: StudyConfig, place: str) -> float:
    rule = study.train.population
    assert rule is not None
    if place == TAU:
        return rule.perturb.tau if study.temperature is not None else 1.0
    return rule.perturb.levels if place.startswith(LEVEL) else rule.perturb.rate
