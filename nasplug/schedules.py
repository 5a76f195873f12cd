"""Schedules: progress in [0, 1] -> value, and their table over the steps of a pack.

One set serves temperatures, penalty ramps and learning-rate decay. Plugins can offer more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from nasplug.contracts import Schedule
from nasplug.errors import ConfigError
from nasplug.hookspecs import Register, hookimpl

__all__ = ["Track", "constant", "cosine", "geometric", "linear", "plateau", "step", "still", "tabulate", "track"]


def _window(use: str, since: float, until: float) -> None:
    if not 0.0 <= since <= until <= 1.0:
        raise ConfigError(
            f"schedule {use!r}: since={since}, until={until}; needed: 0 <= since <= until <= 1 (shares of the steps)"
        )


def _inside(progress: float, since: float, until: float) -> float:
    """Progress through the window: 0 before ``since``, 1 from ``until`` on."""
    if progress >= until:
        return 1.0
    if progress <= since:
        return 0.0
    return (progress - since) / (until - since)


def constant(*, value: float = 1.0) -> Schedule:
    """``value`` at every step."""
    return lambda progress: value


def linear(*, start: float = 0.0, end: float = 1.0, since: float = 0.0, until: float = 1.0) -> Schedule:
    """``start`` before ``since``, ``end`` from ``until`` on, a straight line between. The default is a ramp from 0 to 1."""
    _window("linear", since, until)

    def value(progress: float) -> float:
        p = _inside(progress, since, until)
        return (1.0 - p) * start + p * end

    return value


def cosine(*, start: float = 1.0, end: float = 0.0, since: float = 0.0, until: float = 1.0) -> Schedule:
    """``end + (start - end) (1 + cos(pi p)) / 2`` through the window: flat at both ends (Loshchilov & Hutter 2017)."""
    _window("cosine", since, until)

    def value(progress: float) -> float:
        share = (1.0 + math.cos(math.pi * _inside(progress, since, until))) / 2.0
        return share * start + (1.0 - share) * end  # exact at both ends, however far apart they are

    return value


def geometric(*, start: float = 1.0, end: float = 0.05, since: float = 0.0, until: float = 1.0) -> Schedule:
    """``start (end / start)^p`` through the window; both ends must be > 0."""
    _window("geometric", since, until)
    if not (start > 0.0 and end > 0.0):
        raise ConfigError(f"schedule 'geometric': start={start}, end={end}; both must be > 0 (use 'linear' to reach 0)")
    return lambda progress: float(start * (end / start) ** _inside(progress, since, until))


def step(*, at: float = 0.5, before: float = 0.0, after: float = 1.0) -> Schedule:
    """``before`` until progress ``at``, then ``after``."""
    _window("step", at, 1.0)
    return lambda progress: after if progress >= at else before


def plateau(*, rise: float = 0.4, fall: float = 0.75) -> Schedule:
    """A straight line from 0 to 1 at ``rise``, 1 until ``fall``, then 0: for a penalty that ends before training does.

    What a proximal penalty has made 0 stays 0 after it ends (`nasplug.contracts.Proximal`).
    """
    _window("plateau", rise, fall)
    ramp = linear(until=rise)
    return lambda progress: ramp(progress) if progress < fall else 0.0


@hookimpl
def register_schedules(register: Register) -> None:
    """The schedules of nasplug, registered like a plugin's."""
    register("constant", constant)
    register("linear", linear)
    register("cosine", cosine)
    register("geometric", geometric)
    register("step", step)
    register("plateau", plateau)


def tabulate(schedules: Sequence[Schedule], steps: int) -> Tensor:
    """The value of each schedule at each step: float64 ``(T, U)``. The first step is progress 0, the last one progress 1.

    Raises:
        ConfigError: when a schedule returns something that is not a finite number.
    """
    try:
        at = (t / max(steps - 1, 1) for t in range(steps))
        table = np.fromiter((float(s(progress)) for progress in at for s in schedules), np.float64, steps * len(schedules))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"a schedule returned a value that is not a number: {error}") from error
    values = torch.from_numpy(table).view(steps, len(schedules))
    if not bool(torch.isfinite(values).all()):
        raise ConfigError("a schedule returned a value that is not finite; check its start and end")
    return values


@dataclass(frozen=True, slots=True)
class Track:
    """One number per row and step, stored as a few shared columns: ``value[t, k] = table[t, index[k]] * scale[k]``.

    A study of thousands of replicas has a handful of distinct schedules; the full ``(T, K)`` table is never made.

    Attributes:
        table: ``(T, U)``, the distinct schedules.
        index: long ``(K,)``, which schedule a row follows.
        scale: ``(K,)``, what multiplies it (a level, a learning rate).
    """

    table: Tensor
    index: Tensor
    scale: Tensor
    flat: Tensor = field(init=False, repr=False, compare=False)
    """The table, row after row."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "flat", self.table.reshape(-1))

    def at(self, step: int | Tensor) -> Tensor:
        """The values of all rows at a step (0-based): ``(K,)``. A counter, long ``(1,)``, may stand for it on the device."""
        if isinstance(step, int):
            return self.table[step].index_select(0, self.index) * self.scale
        place = step if self.table.shape[1] == 1 else torch.add(self.index, step, alpha=self.table.shape[1])
        return self.flat.index_select(0, place) * self.scale

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Track:
        """The same track on a device, in a floating-point type."""
        return Track(self.table.to(device, dtype), self.index.to(device), self.scale.to(device, dtype))

    def take(self, index: Tensor) -> Track:
        """The rows at ``index``."""
        return Track(self.table, self.index[index], self.scale[index])

    def followed(self, by: Tensor, times: int) -> Track:
        """The same track, longer: after it the rows of a table ``(R, U)``, so many times."""
        return Track(torch.cat([self.table, by.repeat(times, 1)]), self.index, self.scale)

    def between(self, first: int, end: int) -> Tensor:
        """The values of all rows at the steps from ``first`` up to ``end``: ``(end - first, K)``."""
        return self.table[first:end].index_select(1, self.index) * self.scale


def track(schedules: Sequence[Schedule], index: Sequence[int], scale: Sequence[float], steps: int) -> Track:
    """Tabulate distinct ``schedules`` over ``steps``; row k follows ``schedules[index[k]]`` times ``scale[k]``."""
    return Track(tabulate(schedules, steps), torch.tensor(index), torch.tensor(scale, dtype=torch.float64))


def still(scale: Sequence[float], steps: int) -> Track:
    """``scale`` at all ``steps``: the `track` of rows without a schedule, which costs no call per step."""
    table = torch.ones(steps, 1, dtype=torch.float64)
    return Track(table, torch.zeros(len(scale), dtype=torch.long), torch.tensor(scale, dtype=torch.float64))
