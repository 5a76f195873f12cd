"""The course of a study: its generations run in turn, then what is refitted, then what is counted on half samples."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasplug import results, stability
from nasplug.config import StudyConfig
from nasplug.errors import NasplugError
from nasplug.folder import kept, planned, remembered
from nasplug.folds import Steady, on_folds, outcomes
from nasplug.hookspecs import Counts
from nasplug.observers import Audience
from nasplug.packs import TABLE, examine, examine_tables, identity_of
from nasplug.plan import (
    ROUNDS,
    TASK,
    Axis,
    Numbers,
    Pack,
    axes,
    beyond,
    chunk,
    count,
    data_key,
    lacking,
    linear_packs,
    reached,
    refits,
    rest,
    row_of,
    settle,
    task_facts,
    task_places,
)
from nasplug.plugins import Plugins
from nasplug.runner import Runner
from nasplug.sampling import JOURNAL, Generations, Journal, Outcome, generations_of
from nasplug.study.clock import Clock
from nasplug.study.ending import early, nothing_finished
from nasplug.study.following import Ending, failed_rows, watch_of
from nasplug.study.halving import Halving, as_at_rungs
from nasplug.study.joined import Joined
from nasplug.study.plateau import Judge, restored
from nasplug.tasks import Facts

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Course", "started", "stopped"]

_log = logging.getLogger(__name__)


class Course:
    """What a study does from its first packs to its last: it trains what its folder does not have yet.

    Where the study was extended, packs of earlier versions of its config stay as they are, and packs are planned for the rest.

    Attributes:
        config: of the study.
        plugins: where names are looked up.
        kept: what earlier versions planned.
        first: the packs of the first generation that are not among those.
        ending: how the sweep ended, where it ended early.
        table: of replicas.
    """

    def __init__(
        self,
        config: StudyConfig,
        plugins: Plugins,
        whole: Sequence[Pack],
        measures: Mapping[str, Callable[[str], float]] | None = None,
    ) -> None:
        """``whole``: the first generation's packs, as if nothing was there yet; ``measures``: `nasplug.results.measures`."""
        self.config = config
        self.plugins = plugins
        self._measures = measures or {}
        *self.kept, mine = kept(config)
        self.ending: results.Ending | None = None
        self.table = Joined(self.folder)
        self._whole = [pack for pack in whole if not pack.linear]
        self._numbers = Numbers([pack for one in [*self.kept, mine] for pack in one.whole])
        self._known = [pack for one in self.kept for pack in one.whole]
        self._refits = [pack for pack in mine.packs if pack.refitted]
        self.first = list(whole)
        if self.kept:
            configurations = next(iter(self.generations))
            self._first_numbers = self._numbers.of(configurations)
            self.first = planned(config, 0, partial(self._rest, configurations, self._first_numbers, self._known, lines=True))

    @property
    def folder(self) -> Path:
        """Everything the study writes."""
        return self.config.folder

    @property
    def axes(self) -> list[Axis]:
        """What varies."""
        return axes(self.config)

    @property
    def generations(self) -> Generations:
        """The configurations, from the beginning."""
        return generations_of(self.config, self.plugins)

    @property
    def frame(self) -> pd.DataFrame:
        """The table of replicas, as it is now."""
        return self.table.frame

    def facts_of(self, replica: str) -> Facts:
        """Facts about the task that a replica was trained on."""
        return results.facts_of(self.folder, replica)

    @property
    def counts(self) -> Counts:
        """How much there is to do, as far as the first generation's packs tell, and how much is done."""
        sizes = self.generations.sizes
        done = results.finished_packs(self.folder)
        packs, own = [*self._known, *self.first], self._whole
        there = {number for pack in packs if not (pack.linear or pack.fitted) for number in pack.configurations}
        scale = max(0, sum(sizes) - len(there)) / max(sizes[0], 1)  # of the generations that follow
        more, rows = round(len(own) * scale), int(sum(pack.rows for pack in own) * scale)
        return Counts(len(packs) + more, sum(pack.rows for pack in packs) + rows, len(done), sum(done.values()))

    @property
    def waiting(self) -> tuple[list[Pack], int]:
        """Packs that are planned and not trained, and how many networks of later generations there will be."""
        packs = [pack for pack in [*self._known, *self.first] if not self._there(pack)]
        return packs, self.counts.networks - sum(pack.rows for pack in [*self._known, *self.first])

    def run(self, runner: Runner, told: Audience) -> dict[str, str]:
        """Every generation in turn; each is planned when the one before has been told. Returns why the failed packs failed.

        Once the budget is spent, no pack of the sweep or on half samples begins. Refits do, as none could be chosen without.
        """
        failed: dict[str, str] = {}
        clock = Clock(self.folder, self.config.budget_seconds)
        try:
            self._run(runner, told, failed, clock)
        finally:
            clock.save()
        return failed

    def _run(self, runner: Runner, told: Audience, failed: dict[str, str], clock: Clock) -> None:
        results.write_ending(self.folder, None)
        restored(self.folder)
        for damage in examine_tables(self.folder / "packs"):
            _log.warning("%s", damage)
        rule = self.config.plateau
        judge = None if rule is None else Judge(rule, self.folder, task_places(self.axes), self.facts_of)
        results.write_failures(self.folder, [])  # what failed in an earlier run is tried again
        failures: list[dict[str, Any]] = []
        generations = self.generations
        journal = Journal(self.folder / JOURNAL)
        done: list[Pack] = []

        def spent() -> bool:
            clock.tick()
            return clock.over

        def over() -> bool:
            return (judge is not None and judge.ended(failed)) or spent()

        def never() -> bool:
            clock.tick()
            return False

        def train(
            number: int | str, config: StudyConfig, packs: Sequence[Pack], whole: Sequence[Pack], ending: Ending = over
        ) -> None:
            """Packs of a version of the config; ``whole``: with values for all that varies now."""
            for pack in packs:
                for damage in examine(self.folder / "packs" / pack.id, identity_of(config, pack, self.plugins)):
                    _log.warning("%s", damage)
            results.write_facts(self.folder, self._facts(packs))
            if judge is not None and ending is over:
                judge.follow(packs, together=generations.guided)
            halving = Halving(config, number, packs, self.plugins)
            watch = watch_of(self.folder, told, failed, ending, halving)
            self.table.change()
            for waiting in halving.stages(failed):
                if waiting and not ending():
                    runner.run(config, waiting, self.plugins, watch)
            lost = [p for p in whole if p.id in failed and not p.halved]  # what is only counted has no rows in the table
            failures.extend(row for p in lost for row in failed_rows(p, failed[p.id], self.axes))
            results.write_failures(self.folder, failures)
            done.extend(whole)

        def run(number: int | str, make: Callable[[], list[Pack]], ending: Ending = over) -> list[Pack]:
            """Packs as the folder remembers them (a resumed study keeps its rows' places), else newly made; run and told."""
            packs = planned(self.config, number, make)
            train(number, self.config, packs, packs, ending)
            return packs

        for at, old in enumerate(self.kept):
            for part, ending in (("", over), ("-refits", never), ("-halves", over)):  # as those of this version, below
                packs, whole = ([p for p in some if _part(p) == part] for some in (old.packs, old.whole))
                train(f"v{at + 1}{part}", old.config, packs, whole, ending)
        sizes = generations.sizes
        for number, configurations in enumerate(self._configurations(generations, done)):
            numbers = self._numbered(number, configurations, done)
            run(number, partial(self._packs, configurations, numbers, done) if number else lambda: self.first)
            late = judge.trim() if judge is not None and judge.ended(failed) else []
            left, later = self._left(done, failed), sizes[number + 1 :]
            if late:
                self.table.change()
            if left or (later and judge is not None and judge.at is not None):
                self._end(judge, left, later, done, late)
                break
            if number < len(sizes):
                generations.tell(self.outcome(numbers), numbers, journal)
        self.table.write()
        if self.ending is not None and not (self.folder / TABLE).exists():
            raise NasplugError(nothing_finished(failed, self.folder, self.ending))
        self._refit(done, partial(run, ending=never), len(sizes) + ROUNDS)
        counted = Steady.of(self.folder)
        unplanned = stability.count(
            self, done, partial(run, ending=spent), lambda name: spent() and not remembered(self.config, name)
        )
        if Steady.of(self.folder) != counted:
            self.table.change()  # rows have what was counted of their configurations
        if self.ending is None and (left := self._left(done, failed)) + unplanned:
            self._end(None, left, [], done, [], unplanned)
        results.write_ending(self.folder, self.ending)

    def _left(self, done: Sequence[Pack], failed: Mapping[str, str]) -> int:
        """Networks of packs that were neither finished nor failed."""
        return sum(pack.rows for pack in done if not self._there(pack) and pack.id not in failed)

    def _end(
        self,
        judge: Judge | None,
        left: int,
        later: Sequence[int],
        done: Sequence[Pack],
        late: Sequence[str],
        unplanned: int = 0,
    ) -> None:
        """The sweep ended early: ``left`` networks of the packs so far are not trained, nor ``later`` configurations.

        ``late``: packs that had finished and are not counted. ``unplanned``: networks on half samples that have no pack.
        """
        own = sum(pack.rows for pack in self._whole)
        more = round(own * sum(later) / max(self.generations.sizes[0], 1)) + unplanned
        counts = sum(pack.rows for pack in done) + more, left + more
        self.ending = early(self.config, judge, *counts, late, guided=self.generations.guided)

    def _there(self, pack: Pack) -> bool:
        """Whether a pack has its results."""
        return (self.folder / "packs" / pack.id / TABLE).exists()

    def _configurations(self, generations: Generations, done: Sequence[Pack]) -> Iterator[list[dict[str, Any]]]:
        """Those of each generation; then stronger levels, round by round, while no network is as small as ``reach`` says.

        ``done``: the packs so far. What later rounds of an earlier run found does not count.
        """
        yield from generations
        for number in range(1, ROUNDS + 1):
            configurations = beyond(self.config, number)
            if not configurations:
                return
            frame = self.frame
            so_far = frame[frame["replica"].map(lambda name: row_of(name)[0]).isin({pack.id for pack in done})]
            planned_before = remembered(self.config, len(generations.sizes) + number - 1)
            planned_before |= bool(self.kept) and self._numbers.some(configurations)  # new seeds of old rounds
            if reached(self.config, so_far) and not planned_before:
                return
            yield configurations

    def _numbered(self, number: int, configurations: Sequence[Mapping[str, Any]], done: Sequence[Pack]) -> Sequence[int]:
        """The numbers of a generation's configurations: they go on from generation to generation, and then behind all others.

        Where the study was extended, each has the number that it had, and new ones stand behind all others.
        """
        if self.kept:
            return self._numbers.of(configurations) if number else self._first_numbers
        sizes = self.generations.sizes
        first = sum(sizes[:number]) if number < len(sizes) else 1 + max(n for pack in done for n in pack.configurations)
        return range(first, first + len(configurations))

    def _packs(self, configurations: Sequence[Mapping[str, Any]], numbers: Sequence[int], done: Sequence[Pack]) -> list[Pack]:
        """A generation's packs, newly made."""
        if self.kept:
            return self._rest(configurations, numbers, done)
        at = self._next(done)
        return chunk(self.config, configurations, self.plugins, first_pack=at, numbers=numbers, fast=True)

    def _next(self, done: Sequence[Pack]) -> int:
        """The number of the next pack: behind ``done``, and behind refits that were planned when the sweep had ended early."""
        there = {pack.id for pack in done}
        return count("p", [*done, *(pack for pack in self._refits if pack.id not in there)])

    def _rest(
        self, configurations: Sequence[Mapping[str, Any]], numbers: Sequence[int], done: Sequence[Pack], *, lines: bool = False
    ) -> list[Pack]:
        """Packs of what packs that are there do not have; with ``lines`` also the linear ones of new data sets."""
        there = [pack for pack in done if not (pack.linear or pack.fitted)]
        packs = rest(self.config, configurations, numbers, there, self.plugins, first_pack=self._next(done))
        return packs + (linear_packs(self.config, self.plugins, self._numbers.next, done) if lines else [])

    def _refit(self, done: Sequence[Pack], run: Callable[[int, Callable[[], list[Pack]]], list[Pack]], number: int) -> None:
        """Train on all development samples what is on the front of means over folds (`nasplug.results.to_refit`).

        A resumed study goes on with the refits that it planned; what the front has beside them now (a pack that had failed may
        have worked) is one more generation.
        """
        seeds = self.config.seed_list
        numbers = sorted({n for pack in done if pack.refitted for n in pack.configurations})
        lines = {n for pack in done if pack.linear for n in pack.configurations}
        before = [pack for pack in done if pack.refitted]
        short = {numbers[at] for places in lacking(seeds, numbers, before).values() for at in places} - lines
        there = set(numbers) - short
        while wanted := [c for c in self._wanted(done) if c not in there]:
            packs = run(number, partial(refits, self.config, wanted, list(done), self.plugins))
            there |= {c for pack in packs for c in pack.configurations}
            number += 1

    def _wanted(self, done: Sequence[Pack]) -> list[int]:
        """The configurations that are to be refitted, as far as is known now; none of which the sweep's end left a fold out."""
        sweep = [pack for pack in done if pack.folds and not pack.fitted]
        planned, there = (
            {pair for pack in packs for pair in zip(pack.configurations, pack.folds, strict=True)}
            for packs in (sweep, [pack for pack in sweep if self._there(pack)])
        )
        frame = self.frame
        frame = frame[~frame["configuration"].isin({number for number, _ in planned - there})]
        if on_folds(frame).empty:
            return []
        frame, error = results.judged(frame, self.facts_of, self.config.choose)
        return results.to_refit(frame, task_places(self.axes), error)

    def _facts(self, packs: Sequence[Pack]) -> Iterator[Facts]:
        """What is known of each task of these packs."""
        seen: set[str] = set()
        for pack in packs:
            for row in range(pack.rows if any(path.startswith(TASK) for path in pack.columns) else 1):
                values = pack.task(row)
                if (key := data_key(values)) not in seen:
                    seen.add(key)
                    yield task_facts(settle(self.config, values), self.plugins)

    def outcome(self, numbers: Sequence[int]) -> Outcome:
        """The sampler's objectives and constraints of configurations, over the seeds that finished, and then over folds.

        Where a rule stops networks by all of them, those that it stopped count with what they were stopped by.
        """
        frame, sampler, stop = self.frame, self.config.sampler, self.config.stop
        frame = frame[frame["configuration"].isin(numbers)]
        if stop is not None and {*sampler.objectives, *sampler.constraints} <= {*stop.by}:
            frame = as_at_rungs(frame, stop.by)
        if not (frame["status"] == "finished").any():
            return {}
        wanted = list(dict.fromkeys([*sampler.objectives, *sampler.constraints]))
        if measured := [name for name in wanted if name in sampler.measured]:
            frame = results.measured(frame[frame["status"] == "finished"], measured, self._measures)
        means = outcomes(frame, wanted)
        return {int(row[0]): dict(zip(wanted, map(float, row[1:]), strict=True)) for row in means.itertuples()}


def _part(pack: Pack) -> str:
    """Which part of an earlier version a pack is of."""
    return "-refits" if pack.refitted else "-halves" if pack.halved else ""


@contextmanager
def started(runner: Runner, libraries: Callable[[], None]) -> Iterator[None]:
    """The runner, started in another thread while libraries are imported here; closed at the end.

    That thread lives as long: Ray's processes end with the thread that started them.
    """
    with ThreadPoolExecutor(1) as aside:
        starting = aside.submit(runner.start)
        try:
            libraries()
            starting.result()
            yield
        finally:
            wait([starting])
            runner.close()  # in this thread: Ray ends the process when its objects are let go while it stops


def stopped(error: BaseException) -> str:
    """Why a run ended early, in one line."""
    if isinstance(error, KeyboardInterrupt):
        return "stopped by Ctrl-C or a signal"
    return " ".join((str(error) if isinstance(error, NasplugError) else f"{type(error).__name__}: {error}").split())
