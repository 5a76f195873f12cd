"""`ranked`: every candidate is tried on validation data; the best ones stay, under a limit on cost if one is given."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from nasplug.contracts import Certifying, Discretizer, Score
from nasplug.errors import ConfigError
from nasplug.networks import Networks
from nasplug_mixture.verdict import certify

__all__ = ["Ranked", "ranked"]

SWEEPS = 2
"""How often each site is asked again once all are hard; a row that finds nothing better is left."""

ROUNDING = 1e-9
"""Three times 0.1 is within a limit of 0.3, which it is not in binary."""

HALVINGS = 60
"""Bisections of the price of cost: from a factor of 2^60 to rounding."""


@dataclass(frozen=True, slots=True)
class _Sites:
    """The sites of networks side by side: an assignment is long ``(K, S)``, the candidate of each site."""

    nets: Networks

    @property
    def layers(self) -> list[int]:
        """Hidden layers that mix, first to last."""
        return sorted(self.nets.choices)

    @property
    def count(self) -> int:
        """S."""
        return sum(self.nets.choices[layer].shape[1] for layer in self.layers)

    @property
    def shares(self) -> Tensor:
        """``(K, S, A)``."""
        return torch.cat([self.nets.choices[layer] for layer in self.layers], 1)

    @property
    def neurons(self) -> Tensor:
        """How many neurons that are not off each site decides for: ``(K, S)``, float."""
        found = []
        for layer in self.layers:
            choice = self.nets.choices[layer]
            on = choice.new_ones(len(choice), self.nets.widths[layer])
            if layer in self.nets.gates:
                on = (self.nets.gates[layer] != 0).to(choice)
            found.append(on.sum(1, keepdim=True) if choice.shape[1] == 1 else on)
        return torch.cat(found, 1)

    @property
    def left(self) -> Tensor:
        """Candidates that may still be chosen, bool ``(K, S, A)``."""
        kept, choices = self.nets.kept, self.nets.choices
        return torch.cat([kept.get(layer, torch.ones_like(choices[layer])) for layer in self.layers], 1) > 0

    def put(self, shares: Tensor) -> Networks:
        """The networks with these shares, ``(K, S, A)``."""
        parts = shares.split_with_sizes([self.nets.choices[layer].shape[1] for layer in self.layers], 1)
        return replace(self.nets, choices=dict(zip(self.layers, parts, strict=True)))


def _least(losses: Tensor) -> Tensor:
    """argmin over the last axis where NaN is the worst; the first on a tie."""
    return torch.nan_to_num(losses, nan=math.inf, posinf=math.inf, neginf=-math.inf).argmin(-1)


@dataclass(frozen=True, slots=True)
class Ranked(Certifying):
    """See `ranked`."""

    most: int
    costs: Mapping[str, float]
    limit: float
    needs: ClassVar[frozenset[str]] = frozenset({"choices"})

    def __call__(self, nets: Networks, score: Score) -> Networks:
        """Choices one-hot.

        Raises:
            ConfigError: for a candidate without a cost.
        """
        sites = _Sites(nets)
        shares = sites.shares  # (K, S, A)
        hard = shares.amax(-1) == 1.0  # (K, S); False for NaN
        settled = shares.argmax(-1)
        cost = sites.neurons.double().unsqueeze(-1) * self._prices(nets).to(shares.device)  # (K, S, A)
        left = sites.left | hard.unsqueeze(-1)
        search = _Search(sites, score, hard, settled, left, cost, self.limit * (1.0 + ROUNDING))
        small = shares.shape[-1] ** sites.count <= self.most
        found = search.all_of_them() if small else search.improved(search.table())
        return sites.put(F.one_hot(found, shares.shape[-1]).to(shares))

    def accept(self, nets: Networks) -> None:
        """Refuse operations, and costs that are not those of the candidates.

        Raises:
            ConfigError: for networks that choose operations, a candidate without a cost, or a cost without a candidate.
        """
        if nets.alternatives:
            raise ConfigError("ranked: it ranks activations, and these networks choose operations; take closest or least")
        if not self.costs:
            return
        if missing := [name for name in nets.candidates if name not in self.costs]:
            raise ConfigError(
                f"ranked: no cost for {', '.join(missing)}; costs has {', '.join(self.costs)}. Give every candidate one "
                "(python -m nasplug_mixture.latency measures them)"
            )
        if unread := [name for name in self.costs if name not in nets.candidates]:
            raise ConfigError(
                f"ranked: costs has {', '.join(unread)}, which {'are' if len(unread) > 1 else 'is'} no candidate; candidates: "
                f"{', '.join(nets.candidates)}. Remove or correct it"
            )

    def _prices(self, nets: Networks) -> Tensor:
        if not self.costs:
            return torch.zeros(len(nets.candidates), dtype=torch.float64)
        self.accept(nets)
        return torch.tensor([self.costs[name] for name in nets.candidates], dtype=torch.float64)

    def certified(self, nets: Networks, score: Score) -> tuple[Networks, Sequence[Mapping[str, Any]]]:
        """What it chooses, and what is proven of the candidates it chooses from; see `nasplug_mixture.certify`."""
        return self(nets, score), certify(nets, score)


@dataclass(frozen=True, slots=True)
class _Search:
    """One call of `ranked`: all rows at once, each for itself."""

    sites: _Sites
    score: Score
    hard: Tensor  # bool (K, S)
    settled: Tensor  # long (K, S): what a hard site stays, and a broken row falls back on
    left: Tensor  # bool (K, S, A): what may still be chosen
    cost: Tensor  # (K, S, A)
    limit: float

    def _kept(self, assignment: Tensor) -> Tensor:
        """The assignment with hard sites as they are."""
        return torch.where(self.hard, self.settled, assignment)

    def _loss(self, assignment: Tensor) -> Tensor:
        """The validation loss of hard networks; infinite beyond the limit, and where a candidate was dropped before."""
        hot = F.one_hot(assignment, self.cost.shape[-1])
        loss = self.score(self.sites.put(hot.to(self.sites.shares)))
        allowed = ((hot * self.cost).sum((1, 2)) <= self.limit) & ~((hot > 0) & ~self.left).any(-1).any(-1)
        return torch.where(allowed, loss, torch.inf)

    def all_of_them(self) -> Tensor:
        """The best of all assignments: ``A^S`` scorings. The cheapest where none is within the limit."""
        k, sites, candidates = self.cost.shape
        found = self._kept(self._cheapest())
        best = self.cost.new_full((k,), math.inf)
        for combination in itertools.product(range(candidates), repeat=sites):
            one = self._kept(torch.tensor(combination, device=self.cost.device).expand(k, sites))
            loss = self._loss(one)
            better = loss < best  # False for NaN
            found, best = torch.where(better.unsqueeze(1), one, found), torch.where(better, loss, best)
        return found

    def _cheapest(self) -> Tensor:
        """The largest share without a limit, else the candidate of the least cost."""
        return self.settled if math.isinf(self.limit) else torch.where(self.left, self.cost, torch.inf).argmin(-1)

    def table(self) -> Tensor:
        """Each site's best candidate with the others still mixed, ``S A`` scorings, at the least price that meets the limit."""
        k, sites, candidates = self.cost.shape
        shares = self.sites.shares
        losses = self.cost.new_full((k, sites, candidates), math.nan)
        for s, c in itertools.product(range(sites), range(candidates)):
            one = shares.clone()
            one[:, s] = F.one_hot(torch.tensor(c, device=shares.device), candidates).to(shares)
            losses[:, s, c] = torch.where(self.left[:, s, c], self.score(self.sites.put(one)).to(losses), torch.nan)
        broken = ~torch.isfinite(losses).any(-1)  # (K, S)

        def at(price: Tensor) -> tuple[Tensor, Tensor]:
            one = _least(losses + price.view(-1, 1, 1) * self.cost)
            one = self._kept(torch.where(broken, self._cheapest(), one))
            return one, self.cost.gather(-1, one.unsqueeze(-1)).sum((1, 2)) <= self.limit

        free, enough = at(self.cost.new_zeros(k))
        if bool(enough.all()):
            return free
        low, high = self.cost.new_full((k,), -HALVINGS), self.cost.new_full((k,), HALVINGS)
        for _ in range(HALVINGS):  # a price of 2^low is too little, one of 2^high enough, or nothing is
            middle = (low + high) / 2
            within = at(2.0**middle)[1]
            low, high = torch.where(within, low, middle), torch.where(within, middle, high)
        dear, within = at(2.0**high)
        dear = torch.where(within.unsqueeze(1), dear, self._kept(self._cheapest()))
        return torch.where(enough.unsqueeze(1), free, dear)

    def improved(self, assignment: Tensor) -> Tensor:
        """Site by site the best candidate with the others hard, within the limit; `SWEEPS` times ``S (A - 1)`` scorings."""
        _, sites, candidates = self.cost.shape
        best = self._loss(assignment)
        for _ in range(SWEEPS):
            for s in range(sites):
                before = assignment
                for step in range(1, candidates):
                    one = before.clone()
                    one[:, s] = (before[:, s] + step) % candidates
                    one = self._kept(one)
                    loss = self._loss(one)
                    better = loss < best  # False for NaN
                    assignment = torch.where(better.unsqueeze(1), one, assignment)
                    best = torch.where(better, loss, best)
        return assignment


def ranked(*, most: int = 512, costs: Mapping[str, float] | None = None, limit: float | None = None) -> Discretizer:
    """Try every candidate with the shared weights on the validation split, and keep the best architecture found.

    With A candidates and S sites: all ``A^S`` architectures, if they are at most ``most``. Else each site's candidates with
    the other sites still mixed (``S A`` scorings), then twice, site by site, with the others hard (``2 S (A - 1)``).

    ``costs`` (a number >= 0 per candidate and neuron, any unit) and ``limit`` (of their sum over neurons that are not off): the
    best architecture within the limit, straight from the ranking, no training in between. Above ``most`` a price on cost
    is raised until the limit is met. A row that cannot meet it takes its cheapest. ``python -m nasplug_mixture.latency``
    measures such costs on this CPU; they stand in the study, so that the same study makes the same networks. Activations have
    no parameters: a limit on parameters or size is a matter of widths and penalties, and the study's front is its ranking.

    What is hard stays, and what a search dropped for good is not chosen. A site without a finite loss takes its largest share
    (its cheapest candidate under a limit).

    Fails: it needs labels and reads the validation split, whose score is then a little too good; above ``most`` the result is
    a local optimum; ranks with shared weights are not those after training again.

    Raises:
        ConfigError: for one of ``costs`` and ``limit`` without the other, or a number out of range.

    Source: ranking by the supernet is the last step of one-shot search (Bender et al. 2018); a site at a time as in Wang
    et al. 2021, Rethinking architecture selection. We differ: no training between the sites.
    """
    if most < 1:
        raise ConfigError(f"ranked: most={most}; needed: a whole number >= 1")
    if (costs is None) != (limit is None):
        given, other = ("costs", "limit") if limit is None else ("limit", "costs")
        raise ConfigError(f"ranked: {given} without {other}; give both, or neither")
    if limit is not None and not (math.isfinite(limit) and limit > 0.0):
        raise ConfigError(f"ranked: limit={limit}; needed: a finite number > 0, in the unit of costs")
    for name, cost in (costs or {}).items():
        if not (math.isfinite(cost) and cost >= 0.0):
            raise ConfigError(f"ranked: costs.{name}={cost}; needed: a finite number >= 0")
    return Ranked(most, dict(costs or {}), math.inf if limit is None else limit)
