"""Steps one by one, or on a GPU captured once as a graph and replayed: the same step either way."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nasplug.contracts import Params
from nasplug.train.timetable import Timetable
from nasplug.train.touches import touches

__all__ = ["Steps", "recorder"]

Move = Callable[[Params, dict[str, Tensor], Tensor], tuple[Tensor, Tensor]]
Record = Callable[[Move, Params, dict[str, Tensor], Tensor], Callable[[], tuple[Tensor, Tensor]]]

WARM, LOOKED_AT = 3, 2  # steps before one is captured: libraries start, programs compile, memory is found


def recorder(device: torch.device) -> Record | None:
    """What captures a step on a device; None where steps are run one by one."""
    return _graph if device.type == "cuda" else None


def _graph(move: Move, params: Params, moments: dict[str, Tensor], clock: Tensor) -> Callable[[], tuple[Tensor, Tensor]]:
    """A step as a CUDA graph, of which nothing runs yet; each replay moves the same tensors and writes over its results."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = move(params, moments, clock)

    def replay() -> tuple[Tensor, Tensor]:
        graph.replay()
        return results

    return replay


class Steps:
    """One step after the other, in place; GPUs replay what was captured once.

    The first `WARM` steps are run as they are, and the second is looked at (the first may make what is kept): a step that asks
    the host something cannot be captured. Where leaves are put in another's place, or zeros begin to be frozen, it is
    captured anew.

    Attributes:
        reason: why steps run one by one where they could be replayed; empty where they are replayed, or no device replays.
    """

    def __init__(self, timetable: Timetable, plain: Callable[..., tuple[Tensor, Tensor]]) -> None:
        """``plain``: the step that ``timetable`` advances by, as it is where that is compiled."""
        self._timetable, self._plain = timetable, plain
        self._device = timetable.search.seeds.device
        self._record = recorder(self._device)
        self._replay: Callable[[], tuple[Tensor, Tensor]] | None = None
        self._of: list[object] = []
        self._warm = 0
        self.reason = ""
        if self._record is not None and not timetable.search.traits.capturable:
            self._refuse(f"the method {type(timetable.search.method).__name__} is not capturable (Traits)", tell=False)

    def __call__(self, params: Params, moments: dict[str, Tensor], clock: Tensor, held: bool) -> tuple[Tensor, Tensor]:
        """One step in place, as `Timetable.step`. Results may be overwritten by the next one."""
        if self._record is None:
            return self._timetable.step(params, moments, clock, held)
        of = [held, *params.values(), *moments.values()]
        if not _same(of, self._of):
            self._of, self._replay, self._warm = of, None, 0
        if self._replay is None:
            if self._warm < WARM:
                self._warm += 1
                return self._begin(params, moments, clock, held)
            self._capture(self._record, params, moments, clock, held)
        return self._timetable.step(params, moments, clock, held) if self._replay is None else self._replay()

    def settle(self, params: Params, moved: Params) -> Params:
        """What a method made of its leaves: where steps are replayed, written into the leaves that they read."""
        if self._record is None or moved.keys() != params.keys():
            return moved
        fresh = {name: p.clone() for name, p in moved.items() if p is not params[name]}  # it may be a view of another leaf
        if any(p.shape != params[name].shape or p.dtype != params[name].dtype for name, p in fresh.items()):
            return moved
        with torch.no_grad():
            for name, p in fresh.items():
                params[name].copy_(p)
        return params

    def _begin(self, params: Params, moments: dict[str, Tensor], clock: Tensor, held: bool) -> tuple[Tensor, Tensor]:
        """A step before capture, on a stream of its own as torch asks."""
        if self._warm != LOOKED_AT:
            return _aside(self._device, lambda: self._timetable.step(params, moments, clock, held))
        watched = replace(self._timetable, advance=self._plain)  # of a compiled one nothing would be seen
        with touches() as found:
            results = _aside(self._device, lambda: watched.step(params, moments, clock, held))
        if found:
            self._refuse(f"a step asks the host for values: {found[0]}")
        return results

    def _capture(self, record: Record, params: Params, moments: dict[str, Tensor], clock: Tensor, held: bool) -> None:
        def move(params: Params, moments: dict[str, Tensor], clock: Tensor) -> tuple[Tensor, Tensor]:
            return self._timetable.step(params, moments, clock, held)

        try:
            self._replay = record(move, params, moments, clock)
        except RuntimeError as error:  # nothing of a step ran: the state is whole
            self._refuse(textwrap.shorten(str(error), 200))
        if not _same([held, *params.values(), *moments.values()], self._of):
            self._refuse("the optimizer puts new tensors in the place of its own")

    def _refuse(self, reason: str, *, tell: bool = True) -> None:
        self.reason, self._record, self._replay = reason, None, None
        if tell:
            warnings.warn(f"steps cannot be captured ({reason}); they run one by one", stacklevel=4)


def _same(some: Sequence[object], others: Sequence[object]) -> bool:
    """Whether these are the very same objects; what is compared with is held, so that its place is not taken by another."""
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))


def _aside(device: torch.device, move: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    if device.type != "cuda":
        return move()
    mine, aside = torch.cuda.current_stream(device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    aside.wait_stream(mine)
    with torch.cuda.stream(aside):
        results = move()
    mine.wait_stream(aside)
    return results
