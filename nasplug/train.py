"""The training loop: K networks, one tensor program, a generator that yields a `Report` an interval.

It knows no scheduler, no tracker and no plugin: runners consume it, tests call it, notebooks iterate over it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nasplug.contracts import Holding, Params, Projected, Proximal, Regularizer, SearchMethod, Stochastic
from nasplug.errors import ContractError
from nasplug.networks import Networks
from nasplug.optimizers import Optimizer
from nasplug.replicas import clip, finite, number_of, seeds_of, take
from nasplug.schedules import Track
from nasplug.tasks import Split, Task

__all__ = ["Batches", "Report", "Search", "State", "evaluate", "start", "step", "train"]

CHUNK_FLOATS = 4_000_000  # activations held at once while scoring: stays in cache-sized pieces, whatever K and N are


@dataclass(frozen=True, slots=True)
class Search:
    """Everything a pack needs to train; nothing in it changes while it does.

    Attributes:
        task: the data, on the device and in the type to train in.
        method: parametrises the networks.
        penalties: unscaled; their levels are ``levels``.
        optimizer: shared by all rows; the learning rate is a row's own.
        seeds: long ``(K,)``.
        steps: T.
        lr, tau, levels: numbers a row and a step; one track of levels a penalty.
        batch: samples a step, or None for all.
        data_seed: the order of minibatches, shared by the pack.
        clip: largest gradient norm of a row, or None.
    """

    task: Task
    method: SearchMethod
    penalties: tuple[Regularizer, ...]
    optimizer: Optimizer
    seeds: Tensor
    steps: int
    lr: Track
    tau: Track
    levels: tuple[Track, ...]
    batch: int | None = None
    data_seed: int = 0
    clip: float | None = None

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the task's inputs, hence of everything."""
        return self.task.train.x.dtype

    def take(self, index: Tensor) -> Search:
        """The same search for the rows at ``index`` only."""
        return replace(
            self,
            seeds=self.seeds[index],
            lr=self.lr.take(index),
            tau=self.tau.take(index),
            levels=tuple(level.take(index) for level in self.levels),
        )


@dataclass(frozen=True, slots=True)
class State:
    """Where training stands: enough to go on exactly.

    Noise and batch order are functions of the step, so there is no generator to keep.
    """

    params: Params
    moments: dict[str, Tensor]
    step: int

    def take(self, index: Tensor) -> State:
        """The rows at ``index``; to stop a replica, remove its row."""
        return State(take(self.params, index), take(self.moments, index), self.step)


@dataclass(frozen=True, slots=True)
class Report:
    """One interval: metrics of all rows, each ``(K,)``, and the state to save. ``healthy``: bool ``(K,)``, all finite."""

    step: int
    steps: int
    metrics: Mapping[str, Tensor]
    healthy: Tensor
    state: State


def start(search: Search) -> State:
    """Parameters from the rows' seeds and a fresh optimizer."""
    params = {name: p.to(search.dtype).clone() for name, p in search.method.init(search.task, search.seeds).items()}
    return State(params, search.optimizer.start(params), 0)


class Batches:
    """Minibatches shared by all rows: a function of ``(data_seed, step)``, without memory.

    Each epoch is a fresh permutation; a last, smaller batch is dropped so that shapes never change.
    """

    def __init__(self, split: Split, batch: int | None, data_seed: int) -> None:
        self.split = split
        self.size = split.samples if batch is None else min(batch, split.samples)
        self.per_epoch = split.samples // self.size
        self.data_seed = data_seed
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.long)

    def at(self, step: int) -> Split:
        """The batch of a step: ``x (I, B)`` and its targets."""
        if self.size == self.split.samples:
            return self.split
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed((self.data_seed * 1_000_003 + epoch) % 2**63)
            self._order = torch.randperm(self.split.samples, generator=generator).to(self.split.x.device)
            self._epoch = epoch
        return self.split.columns(self._order[position * self.size : (position + 1) * self.size])


def step(
    search: Search,
    params: Params,
    moments: dict[str, Tensor],
    batch: tuple[Tensor, Tensor],
    lr: Tensor,
    tau: Tensor,
    levels: tuple[Tensor, ...],
    noise: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """One optimizer step of all rows, in place: task loss ``(K,)`` and penalty ``(K,)`` before the step.

    ``total_k = loss_k + sum_p level_pk penalty_pk``; the sum over k is taken in the last line only, where it separates
    again: row k's gradient depends on row k alone. Proximal penalties have no gradient; they move the rows afterwards.
    """
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    nets = search.method.relax(leaves, tau, noise)
    loss = search.task.losses(search.method.forward(nets, batch[0]), batch[1])  # (K,)
    penalty = torch.zeros_like(loss)
    for regularizer, level in zip(search.penalties, levels, strict=True):
        value = level * regularizer(nets)
        penalty = penalty + (value.detach() if isinstance(regularizer, Proximal) else value)
    found = torch.autograd.grad((loss + penalty).sum(), list(leaves.values()), allow_unused=True, materialize_grads=True)
    gradients = dict(zip(leaves, found, strict=True))
    with torch.no_grad():
        if search.clip is not None:
            gradients = clip(gradients, search.clip)
        search.optimizer.update(params, gradients, moments, lr)
        for regularizer, level in zip(search.penalties, levels, strict=True):
            if isinstance(regularizer, Proximal):
                shrunk = regularizer.shrink(search.method.relax(params, tau, noise), lr * level)
                for name, leaf in _holding(search.method).hold(shrunk).items():
                    params[name].copy_(leaf)
    return loss.detach(), penalty.detach()


def _holding(method: SearchMethod) -> Holding:
    if not isinstance(method, Holding):
        raise ContractError(f"{method!r} holds no parts of its networks; a proximal penalty has nothing to move")
    return method


def compile_step() -> Callable[..., tuple[Tensor, Tensor]]:
    """`step` as one compiled program: forward, losses, penalties, gradients and the optimizer fused.

    The gradient is traced into the same graph, which torch leaves out by default.
    """
    import torch._dynamo.exc  # most of a second, and most packs are never compiled

    torch.compiler.reset()  # a process trains many packs; without this the eighth program would not be compiled
    # Dynamo cannot look into zlib; without this a method that draws noise would not be compiled.
    torch.compiler.assume_constant_result(number_of)  # type: ignore[no-untyped-call]
    program = torch.compile(step, dynamic=False, fullgraph=True)

    broken = False

    def advance(*arguments: Any) -> tuple[Tensor, Tensor]:
        nonlocal broken
        if not broken:
            try:
                with torch._dynamo.config.patch(trace_autograd_ops=True):
                    return program(*arguments)
            except torch._dynamo.exc.TorchDynamoException as error:  # raised before anything ran: the state is whole
                broken = True
                first = str(error).splitlines()[0]
                warnings.warn(f"torch cannot compile this step ({first}); it goes on uncompiled", stacklevel=2)
        return step(*arguments)

    return advance


def train(search: Search, state: State | None = None, *, every: int = 100, compiled: bool = False) -> Iterator[Report]:
    """Train all rows from ``state`` (or from their seeds) and yield a `Report` after every ``every`` steps and at the end.

    Args:
        search: what to train.
        state: where to go on; its tensors are updated in place. None starts afresh.
        every: steps between reports.
        compiled: run each step as one compiled program (`torch.compile`); worth it when many steps are left.

    Yields:
        Reports with ``train_loss`` and ``penalty`` of the last step, ``valid_loss`` and ``valid_error`` of the soft networks.
    """
    state = start(search) if state is None else state
    params, moments = state.params, state.moments
    batches = Batches(search.task.train, search.batch, search.data_seed)
    advance = compile_step() if compiled else step
    stochastic = isinstance(search.method, Stochastic) and search.method.stochastic
    for t in range(state.step, search.steps):
        batch = batches.at(t)
        noise = seeds_of(search.seeds, f"step {t}") if stochastic else None
        levels = tuple(level.at(t) for level in search.levels)
        loss, penalty = advance(search, params, moments, (batch.x, batch.y), search.lr.at(t), search.tau.at(t), levels, noise)
        if isinstance(search.method, Projected):
            params = search.method.project(params, t + 1, search.steps)
        if (t + 1) % every == 0 or t + 1 == search.steps:
            with torch.no_grad():
                nets = search.method.relax(params, search.tau.at(t), noise)
                scores = evaluate(search.task, search.task.valid, nets, search.method.forward)
            metrics = {
                "train_loss": loss,
                "penalty": penalty,
                "valid_loss": scores["loss"],
                "valid_error": scores["error"],
            }
            yield Report(t + 1, search.steps, metrics, finite(params), State(params, moments, t + 1))


@torch.no_grad()
def evaluate(task: Task, split: Split, nets: Networks, forward: Callable[[Networks, Tensor], Tensor]) -> dict[str, Tensor]:
    """Metrics of all rows on a split, ``{name: (K,)}``, a few rows at a time so that large K and N fit in memory."""
    rows = max(1, CHUNK_FLOATS // (sum(nets.widths[1:]) * split.samples))
    found: dict[str, list[Tensor]] = {}
    for first in range(0, nets.replicas, rows):
        part = nets.map(lambda t, first=first: t[first : first + rows])  # type: ignore[misc]
        for name, values in task.metrics(forward(part, split.x), split.y).items():
            found.setdefault(name, []).append(values)
    return {name: torch.cat(values) for name, values in found.items()}
