"""One step of all rows, whose place in time is a counter on the device: it asks nothing of the host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nasplug.contracts import Params, Proximal
from nasplug.replicas import column, number_of, seeds_of
from nasplug.tasks import Split
from nasplug.train.search import Batch, Batches, Search, halves

__all__ = ["Shown", "Timetable", "freezing", "timetable"]

MOST_PLACES = 16_000_000  # of samples in the order of batches that is on the device at once: 128 MB


@dataclass(frozen=True, slots=True)
class Shown:
    """The batches of the steps from ``first`` up to ``end``; a table on the device says which samples each is shown.

    Attributes:
        batches: whose.
        first, end: see above.
        table: long ``(R, B)``, of R steps at once; None where each is shown all samples.
    """

    batches: Batches
    first: int
    end: int
    table: Tensor | None

    def turn(self, step: int) -> None:
        """Before each step, on the host: where the table has been used up, write the next steps into it."""
        if self.table is not None and (step - self.first) % len(self.table) == 0:
            order = self.batches.order(step, min(step + len(self.table), self.end))
            self.table[: len(order)].copy_(order)

    def at(self, clock: Tensor) -> Batch:
        """The batch of the step that the counter stands at."""
        split: Split = self.batches.split
        if self.table is None:
            return split.batch
        row = clock - self.first if self.first else clock
        if self.end - self.first > len(self.table):
            row = row.remainder(len(self.table))
        return split.columns(self.table.index_select(0, row).view(-1)).batch


def _shown(batches: Batches, first: int, end: int) -> Shown:
    rows = max(1, min(end - first, MOST_PLACES // batches.size))
    device = batches.split.x.device
    table = None if batches.whole else torch.empty(rows, batches.size, dtype=torch.long, device=device)
    return Shown(batches, first, end, table)


@dataclass(frozen=True, slots=True)
class Timetable:
    """What steps need beside the state that they move; all of it stays where it is while they run.

    Attributes:
        search: what to train.
        advance: `nasplug.train.step` or `nasplug.train.alternate`, as they are or compiled.
        shown: batches; of a bilevel search the weights' and the held ones.
        streams: the stream of noise of each step (`nasplug.replicas.number_of`), long ``(T,)``, for stochastic methods.
        frozen: see `freezing`.
    """

    search: Search
    advance: Callable[..., tuple[Tensor, Tensor]]
    shown: tuple[Shown, ...]
    streams: Tensor | None
    frozen: Tensor | None

    def step(self, params: Params, moments: dict[str, Tensor], clock: Tensor, held: bool) -> tuple[Tensor, Tensor]:
        """One step in place, of the counter too: task loss ``(K,)`` and penalty ``(K,)`` before it.

        Args:
            params: leaves.
            moments: of the optimizers.
            clock: the step, 0-based, long ``(1,)``.
            held: whether the zeros of a row may be frozen by now.
        """
        search = self.search
        batch, *more = [shown.at(clock) for shown in self.shown]
        noise = None if self.streams is None else seeds_of(search.seeds, self.streams.index_select(0, clock))
        lr, tau, levels = search.lr.at(clock), search.tau.at(clock), tuple(level.at(clock) for level in search.levels)
        support = self._support(params, tau, clock) if held else {}
        given = (batch, *more) if more else batch
        loss, penalty = self.advance(search, params, moments, given, lr, tau, levels, noise)
        for name, mask in support.items():
            params[name].mul_(mask)
        clock.add_(1)
        return loss, penalty

    @torch.no_grad()
    def _support(self, params: Params, tau: Tensor, clock: Tensor) -> Params:
        """What a step must leave at 0: leaves of ones, and of zeros where a frozen row's leaf is exactly 0."""
        if self.frozen is None:
            return {}
        frozen = self.frozen <= clock  # (K,)
        held = self.search.method.hold(self.search.relax(params, tau))
        return {name: ((leaf != 0) | ~column(frozen, leaf)).to(leaf) for name, leaf in held.items()}


def timetable(search: Search, advance: Callable[..., tuple[Tensor, Tensor]], first: int, end: int) -> Timetable:
    """The steps from ``first`` up to ``end``, with their tables on the device of the search."""
    mine, held, architect = search.task.train, [], search.architect
    if architect is not None and architect.share > 0:
        mine, other = halves(search.task.train, architect.share, search.data_seed)
        held = [Batches(other, search.batch, search.data_seed + 1)]
    batches = [Batches(mine, search.batch, search.data_seed), *held]
    streams = None
    if search.traits.stochastic:
        numbers = [number_of(f"step {t}") for t in range(end)]
        streams = torch.tensor(numbers, dtype=torch.long, device=search.seeds.device)
    return Timetable(search, advance, tuple(_shown(each, first, end) for each in batches), streams, freezing(search))


def freezing(search: Search) -> Tensor | None:
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
