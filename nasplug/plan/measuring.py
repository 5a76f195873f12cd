"""Packs of several sizes, trained for some steps: which size this machine is fastest with."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from nasplug.config import Resources, StudyConfig
from nasplug.machine import arithmetic, give_back, out_of_memory, pick_device
from nasplug.plan.building import Components, assemble, components
from nasplug.plan.calibration import Best, keep_best, keep_pace
from nasplug.plan.compiling import worth_compiling
from nasplug.plan.linear import study_of
from nasplug.plan.paths import paths_of
from nasplug.plan.sizing import MOST_GPU_ROWS, MOST_ROWS, shape_and_leaves, sizing
from nasplug.plan.varying import Pack
from nasplug.plugins import Plugins
from nasplug.train import Search, train

__all__ = ["Kind", "kinds", "measure", "sizings"]

FIRST = 16  # networks of the smallest pack that is tried; each next one has four times as many
NEAR = 1.05  # the smallest pack is taken whose pace is so near to the fastest
WORSE = 1.2  # larger packs are not tried when one is so much slower than the fastest before it
MOST_STEPS = 50  # between two reports
SECONDS = 0.3  # that a size is timed for, at least, if there are steps left
MOST_SECONDS = 5.0  # that two reports may be apart; larger packs are not tried


@dataclass(frozen=True, slots=True)
class Tried:
    """A size of packs, and how long its steps took."""

    rows: int
    nanoseconds: float
    bytes: float
    compiled: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Kind:
    """Packs that differ in numbers alone; the first of them, built on a device.

    ``packs``: of the rows that train, each of which gives so many networks: ``each``.
    """

    packs: Sequence[Pack]
    each: int
    parts: Components
    search: Search
    activations: int
    device: str
    takes: Resources

    @property
    def pack(self) -> Pack:
        """The first."""
        return self.packs[0]

    @property
    def rows(self) -> int:
        """That train, of all packs."""
        return sum(pack.rows for pack in self.packs)


def kinds(
    study: StudyConfig, packs: Sequence[Pack], plugins: Plugins, *, here: bool = False, most: int | None = None
) -> Iterator[Kind]:
    """Each kind of packs, ``here`` on the device that it trains on, else on the CPU; at most so many, evenly over them."""
    members: dict[tuple[bool, str], list[Pack]] = {}
    for pack in packs:
        members.setdefault((pack.linear, json.dumps(pack.values, sort_keys=True, default=str)), []).append(pack)
    each = list(members.values())
    for mine in each[:: -(-len(each) // most)] if most else each:
        own = study_of(study, mine[0])
        trained = [paths_of(own, pack) for pack in mine]
        mine, pack = [one.pack for one in trained], trained[0].pack
        takes = study.resources.of(sum(one.rows for one in mine))
        device = pick_device(takes.device, takes.gpus) if here else "cpu"
        parts = components(own, pack, plugins, device)
        search = assemble(parts, pack, plugins, device)
        one = search.take(search.seeds.new_zeros(1))
        with torch.no_grad():
            nets = one.relax(one.method.init(one.task, one.seeds), one.tau.at(0))
        yield Kind(mine, trained[0].each, parts, search, nets.activations, device, takes)


def sizings(study: StudyConfig, packs: Sequence[Pack], plugins: Plugins) -> dict[str, list[str]]:
    """How the sizes of these packs are known, in words, each with the first packs of the kinds that it is said of."""
    found: dict[str, list[str]] = {}
    for kind in kinds(study, packs, plugins):
        why = sizing(kind.parts, kind.search, kind.activations, kind.rows).why
        found.setdefault(why, []).append(kind.pack.id)
    return found


def measure(study: StudyConfig, packs: Sequence[Pack], plugins: Plugins) -> None:
    """Time steps of each kind of networks in packs of several sizes, and keep the best size for the plans that follow.

    Nothing of it is kept but times: packs train from their seeds when the study runs.

    Raises:
        ConfigError: for a device that is not here.
    """
    seen: dict[tuple[str, str], int] = {}
    for kind in kinds(study, packs, plugins, here=True):
        device, (shape, _) = kind.device, shape_and_leaves(kind.parts, kind.search, kind.activations)
        if seen.get((device, str(shape)), 0) >= kind.rows:
            continue
        seen[device, str(shape)] = kind.rows
        takes = kind.takes
        with arithmetic(takes.threads, device, share=takes.gpus or 1.0, tf32=study.train.allow_tf32):
            tried = list(_tried(kind, device))
        for one in tried:
            keep_pace(study.resources, device, shape, one.rows, one.nanoseconds, compiled=one.compiled)
        if tried:
            fastest = min(one.nanoseconds for one in tried)
            best = next(one for one in tried if one.nanoseconds <= NEAR * fastest)
            keep_best(study.resources, device, shape, Best(best.rows, best.nanoseconds, best.bytes))


def _sizes(rows: int, device: str) -> Iterator[int]:
    most = min(rows, MOST_ROWS if device == "cpu" else MOST_GPU_ROWS)
    size = FIRST
    while size < most:
        yield size
        size *= 4
    yield most


def _tried(kind: Kind, device: str) -> Iterator[Tried]:
    """Sizes up to all rows, as long as larger ones may be faster, fit and take seconds."""
    fastest = float("inf")
    for size in _sizes(kind.rows, device):
        try:
            one = _timed(kind, size, device)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            one = None
        give_back(device)
        if one is None:
            return
        yield one
        fastest = min(fastest, one.nanoseconds)
        if one.nanoseconds > WORSE * fastest or 4 * one.seconds > MOST_SECONDS:
            return


def _timed(kind: Kind, rows: int, device: str) -> Tried | None:
    """A pack's pace after its first report, in which programs are compiled; None where it has too few steps."""
    index = torch.arange(rows, device=kind.search.seeds.device) % len(kind.search.seeds)
    search, every = kind.search.take(index), max(1, min(kind.search.steps // 3, MOST_STEPS))
    params = search.method.init(search.task, search.seeds[:1])
    shape = {"steps": search.steps, "alike": kind.pack.alike}
    compiled = worth_compiling(kind.parts, search, params, kind.activations, **shape)
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats(device)
    steps, seconds, began = 0, 0.0, time.perf_counter()
    first = True
    for report in train(search, every=every, compiled=compiled):
        float(report.metrics["valid_loss"][0])  # a GPU works behind the back of Python: wait for it
        if not first:
            seconds = time.perf_counter() - began
            steps += every
        else:
            began, first = time.perf_counter(), False
        if report.step + every > search.steps or seconds > SECONDS:
            break
    if not steps:
        return None
    held = 0.0 if device == "cpu" else torch.cuda.max_memory_allocated(device) / rows
    return Tried(rows, 1e9 * seconds / steps / rows, held, compiled, seconds * every / steps)
