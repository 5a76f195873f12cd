"""How long steps of packs take on this machine: measured and kept per device, and told from sizes where nothing was.

Every pack that trains leaves its pace in one small file of the user's cache folder, per device and version of torch. It may be
deleted at any time. What is in it decides how networks are put into packs and what is told before a study, never a result.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from nasplug import files
from nasplug.config import Resources
from nasplug.machine import device_name
from nasplug.places import cache_folder
from nasplug.plan.building import Components

__all__ = [
    "GPU_SECONDS_PER_NUMBER",
    "SECONDS_PER_NUMBER",
    "Calibration",
    "Pace",
    "Shape",
    "calibration_of",
    "keep_best",
    "keep_pace",
    "shape_of",
]

SECONDS_PER_NUMBER = 1e-9  # measured on one core with eager steps, good to a factor of two
GPU_SECONDS_PER_NUMBER = 1e-11  # not measured: 4 bytes at 400 GB/s
GPU_SECONDS_PER_STEP = 4e-4  # not measured: 60 to 80 kernels are launched, whatever K
SAME = 0.1  # a pace that differs by less from what is kept is not written again
MOST_SHAPES = 500  # of a file; the oldest is forgotten


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides how long a network's step takes, beside the machine and the networks that are trained with it.

    Attributes:
        kind: method, optimizer, penalties and type of the numbers, by name.
        parameters: of one network while it is searched.
        units: activations of one network, for one sample.
        samples: of a step.
    """

    kind: str
    parameters: int
    units: int
    samples: int

    @property
    def numbers(self) -> int:
        """What a step reads and writes of one network, about: parameters, moments, gradients; activations and theirs."""
        return 8 * self.parameters + 4 * self.samples * self.units

    def __str__(self) -> str:
        return f"{self.kind}, {self.parameters} parameters, {self.units} units, {self.samples} samples"


def shape_of(parts: Components, params: Mapping[str, Tensor], activations: int) -> Shape:
    """The shape of a pack's networks: ``params`` are its leaves ``(K, ...)``, ``activations`` those of one network."""
    study = parts.study
    names = [study.method.use, *(penalty.use for penalty in study.penalties), study.train.optimizer.use, study.train.dtype]
    names += ["tf32"] if study.train.allow_tf32 else []
    count = sum(math.prod(leaf.shape[1:]) for leaf in params.values())
    return Shape(" ".join(names), count, activations, parts.batch or parts.task.train.samples)


class Pace(NamedTuple):
    """Nanoseconds per network and step; ``measured`` for this shape, ``scaled`` from others on this device, or ``guessed``."""

    nanoseconds: float
    source: Literal["measured", "scaled", "guessed"]


class Best(NamedTuple):
    """How many networks a pack is best made of, as far as was tried; their pace; bytes of memory per network, 0 if unknown."""

    rows: int
    nanoseconds: float
    bytes: float


def _way(*, compiled: bool) -> str:
    return "compiled" if compiled else "eager"


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is known of one device: shape -> way of stepping -> rows of a pack -> nanoseconds per network and step.

    Attributes:
        device: its name; of a CPU with the threads of a pack.
        gpu: whether it is one.
        shapes: plain data, as in the file.
    """

    device: str
    gpu: bool = False
    shapes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def pace(self, shape: Shape, rows: int, *, compiled: bool) -> Pace:
        """How long a step of ``rows`` networks takes for each of them."""
        way = _way(compiled=compiled)
        if known := self._times(str(shape), way):
            return Pace(self._at(known, rows), "measured")
        others = [
            self._at(times, rows) / entry["numbers"] for key, entry in self.shapes.items() if (times := self._times(key, way))
        ]
        if others:
            return Pace(statistics.median(others) * shape.numbers, "scaled")
        if self.gpu:
            return Pace(1e9 * (GPU_SECONDS_PER_NUMBER * shape.numbers + GPU_SECONDS_PER_STEP / rows), "guessed")
        return Pace(1e9 * SECONDS_PER_NUMBER * shape.numbers, "guessed")

    def best(self, shape: Shape) -> Best | None:
        """The size of packs that `nasplug.plan.measuring.measure` found; None where it was not asked."""
        found = self.shapes.get(str(shape), {}).get("best")
        return None if found is None else Best(**found)

    def _times(self, key: str, way: str) -> dict[int, float]:
        return {int(rows): float(ns) for rows, ns in self.shapes.get(key, {}).get(way, {}).items()}

    def _at(self, times: Mapping[int, float], rows: int) -> float:
        """Between two sizes a straight line of logarithms. Smaller packs of a GPU take as long; others as long per network."""
        below, above = max((k for k in times if k <= rows), default=None), min((k for k in times if k >= rows), default=None)
        if below is None or above is None:
            end = min(times) if below is None else max(times)
            return times[end] * (end / rows if self.gpu and below is None else 1.0)
        if below == above:
            return times[rows]
        share = math.log(rows / below) / math.log(above / below)
        return math.exp((1 - share) * math.log(times[below]) + share * math.log(times[above]))


def _path(device: str) -> Path:
    return cache_folder() / "paces" / f"{re.sub(r'[^A-Za-z0-9.]+', '-', f'{device} torch {torch.__version__}')}.json"


def calibration_of(resources: Resources, device: str | None = None) -> Calibration:
    """What is known of the device that packs of these resources train on, here; of a GPU that is not here, nothing."""
    wanted = device or ("cpu" if resources.device == "cpu" or (resources.device == "auto" and not resources.gpus) else "cuda")
    name, gpu = device_name(wanted, resources.threads), wanted.startswith("cuda")
    with suppress(OSError, files.DamageError, LookupError, TypeError):
        return Calibration(name, gpu, files.read_json(_path(name))["shapes"])
    return Calibration(name, gpu)  # nothing kept yet, or what was kept is damaged: it is made again


def _write(known: Calibration, shape: Shape, entry: Mapping[str, Any]) -> None:
    """Two processes that write at once lose the one entry or the other, and train on."""
    shapes = {key: value for key, value in known.shapes.items() if key != str(shape)}
    kept = dict([*shapes.items(), (str(shape), {"numbers": shape.numbers, **entry})][-MOST_SHAPES:])
    with suppress(OSError):  # no place to keep it
        path = _path(known.device)
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(path, {"device": known.device, "torch": torch.__version__, "shapes": kept})


def keep_pace(resources: Resources, device: str, shape: Shape, rows: int, nanoseconds: float, *, compiled: bool) -> None:
    """Keep what a step of ``rows`` networks took for each of them, where it is news."""
    known, way = calibration_of(resources, device), _way(compiled=compiled)
    entry = dict(known.shapes.get(str(shape), {}))
    times = dict(entry.get(way, {}))
    before = times.get(str(rows))
    if before is None or abs(nanoseconds - before) > SAME * before:
        _write(known, shape, entry | {way: times | {str(rows): float(f"{nanoseconds:.4g}")}})


def keep_best(resources: Resources, device: str, shape: Shape, best: Best) -> None:
    """Keep the size of packs that was found to be best."""
    known = calibration_of(resources, device)
    _write(known, shape, dict(known.shapes.get(str(shape), {})) | {"best": best._asdict()})
