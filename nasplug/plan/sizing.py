"""How many networks a pack takes: what memory holds and this machine is fast with, measured or guessed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nasplug.config import StudyConfig
from nasplug.errors import ConfigError, NasplugError
from nasplug.machine import cpus_here, memory_of
from nasplug.plan.building import Components
from nasplug.plan.calibration import Shape, calibration_of, shape_of
from nasplug.tasks import Task
from nasplug.train import Search

__all__ = ["MOST_ROWS", "Sizing", "floats", "numbers", "places", "shape_and_leaves", "sizing", "weigh"]

CACHE_BYTES = 8 * 2**20  # what a pack's working set may take: measured, the step is fastest while it stays near the caches
MOST_ROWS = 4096
MOST_GPU_ROWS = 65_536
MOST_STACKED = 128 * 2**20  # numbers that all copies of data sets, one for each row, may have
MOST_NUMBERS = 2**22  # of one network: 16 MB, and as much again in each of its working copies
MOST_BYTES = 16 * 2**30  # of a pack whose size is asked for, and of a GPU that is not here
GPU_SHARE = 0.8  # of a GPU's memory that packs are made for


@dataclass(frozen=True, slots=True)
class Sizing:
    """How many rows a pack may have, and how that is known, in words."""

    rows: int
    why: str


def floats(tensors: Iterable[Tensor]) -> int:
    """Numbers per row."""
    return sum(math.prod(t.shape[1:]) for t in tensors)


def numbers(task: Task) -> int:
    """Numbers of a data set, all splits; of a stack, those of one network."""
    return sum(math.prod(t.shape[t.dim() - (2 if t.is_floating_point() else 1) :]) for s in task.splits for t in s.pair)


def weigh(parts: Components) -> None:
    """Refuse networks that are too large, from shapes alone: of no seeds a method makes leaves of the shape ``(0, ...)``.

    Raises:
        ConfigError: naming the largest leaf.
    """
    none = torch.zeros(0, dtype=torch.long)
    try:
        leaves = parts.method.init(parts.task.take(none), none)
    except NasplugError:
        raise
    except Exception:  # noqa: BLE001  a stranger's method that takes one seed at least is weighed when one network is made
        return
    if isinstance(leaves, Mapping):  # else it is named when one network is made
        _light(parts, leaves)


def _light(parts: Components, leaves: Mapping[str, Tensor]) -> None:
    shapes = {name: leaf.shape[1:] for name, leaf in leaves.items()}
    count = sum(map(math.prod, shapes.values()))
    if count > MOST_NUMBERS:
        name = max(shapes, key=lambda name: math.prod(shapes[name]))
        raise ConfigError(
            f"method {parts.study.method.use!r}: each of its networks has {count:,} numbers ({name!r} alone "
            f"{' x '.join(map(str, shapes[name]))}); needed: {MOST_NUMBERS:,} at most. Take narrower layers or fewer, or fewer "
            "inputs"
        )


def places(study: StudyConfig) -> int:
    """How many packs this machine trains at once; of GPUs that are not here, one is taken for there."""
    resources = study.resources
    found = cpus_here() / resources.cpus
    if resources.gpus:
        found = min(found, max(1, torch.cuda.device_count()) / resources.gpus)
    return max(1, int(found + 1e-9))


def shape_and_leaves(parts: Components, search: Search, activations: int) -> tuple[Shape, Mapping[str, Tensor]]:
    """The shape of a pack's networks, and the leaves of one of them."""
    leaves = search.method.init(search.task, search.seeds[:1])
    return shape_of(parts, leaves, activations), leaves


def sizing(parts: Components, search: Search, activations: int, rows: int) -> Sizing:
    """How many of ``rows`` a pack takes, but no fewer packs than the machine has places for.

    What was measured on this device decides (`nasplug.plan.measuring`). Else a pack takes what the caches hold; on a GPU as
    many rows as its memory holds, as there the launch of a kernel is what costs.
    """
    resources = parts.study.resources.of(rows)
    shape, leaves = shape_and_leaves(parts, search, activations)
    _light(parts, leaves)
    size = 4 * shape.numbers
    if isinstance(resources.pack, int) and min(resources.pack, rows) * size > MOST_BYTES:
        raise ConfigError(
            f"resources.pack: {resources.pack}; a pack of {min(resources.pack, rows)} of these networks takes about "
            f"{min(resources.pack, rows) * size / 2**30:,.0f} GB while it trains; needed: {MOST_BYTES // 2**30} at most. "
            f"Write {max(1, MOST_BYTES // size)}, or auto"
        )
    most = MOST_GPU_ROWS if resources.gpus else MOST_ROWS
    if parts.task.stacked:
        most = max(1, min(most, MOST_STACKED // places(parts.study) // numbers(parts.task)))
    elif parts.task.train.weights is not None and parts.task.train.weights.dim() == 2:  # of each row, for two splits
        most = max(1, min(most, MOST_STACKED // places(parts.study) // (2 * parts.task.train.samples)))
    if isinstance(resources.pack, int):
        if parts.task.stacked and resources.pack > most:
            raise ConfigError(
                f"resources.pack: {resources.pack}; each network of a pack over data sets has a copy of its own, and at most "
                f"{most} copies of {numbers(parts.task):,} numbers are held at once. Write {most}, or auto"
            )
        return Sizing(resources.pack, "as resources.pack says")
    known = calibration_of(resources)
    best = known.best(shape)
    fair = max(16, -(-rows // places(parts.study)))
    if resources.gpus:
        memory = memory_of("cuda")
        room = MOST_BYTES if memory is None else int(GPU_SHARE * memory * resources.gpus)
        held = int(room // (size if best is None else max(size, best.bytes)))
        if best is not None:
            return Sizing(max(1, min(most, fair, held, best.rows)), _measured(best.rows, best.nanoseconds, known.device))
        where = "16 GB, as no GPU is here" if memory is None else f"the memory of {known.device}"
        return Sizing(max(1, min(most, fair, held)), f"guessed: what {where} holds, at most {most:,} networks")
    if best is not None:
        return Sizing(min(most, fair, best.rows), _measured(best.rows, best.nanoseconds, known.device))
    return Sizing(min(most, max(8, min(fair, CACHE_BYTES // size))), "guessed from what a CPU's caches hold")


def _measured(rows: int, nanoseconds: float, device: str) -> str:
    pace = f"{nanoseconds:,.0f}" if nanoseconds >= 10 else f"{nanoseconds:.2g}"
    return f"measured on {device}: {rows:,} networks, {pace} ns for each of them and step"
