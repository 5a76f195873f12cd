"""A pack whose networks do not all fit in memory: its rows in portions, one after another, from where training stands.

Rows do not depend on each other, so each network ends as it would have in the whole pack, in its own place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from nasplug.errors import NasplugError
from nasplug.machine import give_back, out_of_memory
from nasplug.networks import Networks, join
from nasplug.packs.stored import Standing
from nasplug.train import Engine, Report, Search, State, train

__all__ = ["HOME", "Portions", "begun", "in_turn", "moved", "on", "steps", "together", "within_memory"]

HOME = "cpu"  # where rows wait whose turn it is not

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Portions:
    """How many portions the rows of a pack are worked on in; of several, the others wait in the CPU's memory.

    Attributes:
        device: where they are worked on.
        count: of portions; 1: all rows at once, which stay on the device.
    """

    device: str
    count: int = 1

    @property
    def home(self) -> str:
        """Where what is needed of all rows is kept."""
        return self.device if self.count == 1 else HOME

    def of(self, rows: int) -> list[Tensor]:
        """Places of the rows of each portion."""
        return [index for index in torch.arange(rows).tensor_split(self.count) if len(index)]

    def after(self, error: BaseException, rows: int) -> Portions:
        """Twice as many, where the error is one of memory; else it is raised.

        Raises:
            NasplugError: where a portion is one network.
        """
        if not out_of_memory(error):
            raise error
        if self.count >= rows:
            raise NasplugError(
                f"one network of this pack does not fit in the memory of {self.device} ({_first(error)}); take narrower "
                "layers, fewer samples per step (train.batch), or a device with more memory"
            ) from None
        return replace(self, count=min(rows, 2 * self.count))


def _first(error: BaseException) -> str:
    """The first sentences of an allocator's message, which name the bytes."""
    text = " ".join(str(error).split()) or type(error).__name__
    return ". ".join(re.sub(r"^\[enforce fail[^\]]*\][^.]*\. ", "", text).split(". ")[:2])[:200].rstrip(".")


def within_memory(work: Callable[[Portions], T], portions: Portions, rows: int) -> tuple[T, Portions]:
    """What ``work`` returns, in as many portions as it takes; it is called again with twice as many where memory ends.

    Raises:
        NasplugError: where one network alone does not fit.
    """
    while True:
        try:
            return work(portions), portions
        except (RuntimeError, MemoryError) as error:
            portions = portions.after(error, rows)
        give_back(portions.device)  # here: the error holds what its frames hold


def on(search: Search, index: Tensor, device: str) -> Search:
    """The search of the rows at ``index``, on a device."""
    part = search.take(index.to(search.seeds.device))
    if part.seeds.device == torch.device(device):
        return part
    return replace(
        part,
        task=part.task.to(device, part.dtype),
        seeds=part.seeds.to(device),
        lr=part.lr.to(device, part.dtype),
        tau=part.tau.to(device, part.dtype),
        levels=tuple(level.to(device, part.dtype) for level in part.levels),
        architect=None if part.architect is None else replace(part.architect, lr=part.architect.lr.to(device)),
        fixed=tuple((what, key, tensor.to(device)) for what, key, tensor in part.fixed),
    )


def moved(state: State, device: str) -> State:
    """The same state on a device."""

    def there(leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: leaf.to(device) for name, leaf in leaves.items()}

    return State(there(state.params), there(state.moments), state.step, there(state.best))


def _joined(states: Sequence[State]) -> State:
    """The rows of all states, one after the other; what is of no row (a count of steps) is the same in all."""

    def whole(part: str) -> dict[str, Tensor]:
        each: list[Mapping[str, Tensor]] = [getattr(state, part) for state in states]
        return {name: torch.cat([one[name] for one in each]) if leaf.dim() else leaf for name, leaf in each[0].items()}

    return State(whole("params"), whole("moments"), states[0].step, whole("best"))


def begun(search: Search, start: Callable[[Search], State], portions: Portions) -> State:
    """Where all rows begin, at home."""
    if portions.count == 1:
        return start(search)
    return _joined([moved(start(on(search, i, portions.device)), HOME) for i in portions.of(len(search.seeds))])


def steps(
    search: Search,
    state: State,
    portions: Portions,
    *,
    every: int,
    compiled: bool,
    room: int,
    until: int,
    engine: Engine | None = None,
) -> Iterator[Report]:
    """As `nasplug.train.train`; of several portions each trains up to the next report in its turn."""
    if portions.count == 1:
        yield from train(search, state, every=every, compiled=compiled, room=room, until=until, engine=engine)
        return
    parts = portions.of(len(search.seeds))
    size = len(parts[0]) if compiled else 0  # one program for all
    while state.step < until:
        stop = min(until, (state.step // every + 1) * every)
        found: list[Report] = []
        for index in parts:
            own = moved(state.take(index), portions.device)
            mine = on(search, index, portions.device)
            (report,) = train(mine, own, every=every, compiled=compiled, room=size, until=stop, engine=engine)
            found.append(
                replace(
                    report,
                    metrics={name: values.to(HOME) for name, values in report.metrics.items()},
                    healthy=report.healthy.to(HOME),
                    state=moved(report.state, HOME),
                )
            )
        state = _joined([report.state for report in found])
        metrics = {name: torch.cat([report.metrics[name] for report in found]) for name in found[0].metrics}
        yield replace(found[0], metrics=metrics, healthy=torch.cat([report.healthy for report in found]), state=state)


def of_portion(now: Standing, index: Tensor, device: str) -> Standing:
    """Where the rows at ``index``, of those that still train, stand."""
    return replace(now, state=moved(now.state.take(index), device), rows=now.rows[index.numpy()])


Hardened = tuple[Networks, dict[str, Any]]


def in_turn(search: Search, now: Standing, portions: Portions, work: Callable[[Search, Standing], T]) -> list[T]:
    """What ``work`` makes of each portion of the rows that still train, on the device."""
    if portions.count == 1:
        return [work(search, now)]
    device = portions.device
    return [work(on(search, index, device), of_portion(now, index, device)) for index in portions.of(len(now.rows))]


def together(found: Sequence[Hardened]) -> Hardened:
    """Networks and columns of all portions."""
    if len(found) == 1:
        return found[0]
    nets = join([nets.map(lambda t: t.to(HOME)) for nets, _ in found])
    columns = {name: _column([one[name] for _, one in found]) for name in found[0][1]}
    return nets, columns


def _column(parts: Sequence[Any]) -> Any:
    return pa.concat_arrays(parts) if isinstance(parts[0], pa.Array) else np.concatenate(parts)
