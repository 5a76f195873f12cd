"""The training loop: K networks, one tensor program, a generator that yields a `Report` an interval.

It knows no scheduler, no tracker and no plugin: runners consume it, tests call it, notebooks iterate over it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from nasplug.contracts import Holding, Params, Projected, Proximal, Regularizer, SearchMethod, Stochastic
from nasplug.errors import ContractError
from nasplug.networks import Networks
from nasplug.optimizers import Optimizer
from nasplug.replicas import clip, column, finite, norm, number_of, seeds_of, take
from nasplug.schedules import Track
from nasplug.tasks import Split, Task

__all__ = [
    "OBJECTIVE",
    "Architect",
    "Batches",
    "Keep",
    "Report",
    "Search",
    "State",
    "alternate",
    "evaluate",
    "halves",
    "start",
    "step",
    "train",
]

Batch = tuple[Tensor, Tensor]
Keep = Literal["last", "best"]
OBJECTIVE = "/objective"  # beside the best leaves
ARCHITECTURE = "architecture/"  # before the names of what the architect's optimizer remembers

MOST_FLOATS = 64_000_000  # of one network
CHUNK_FLOATS = 4_000_000  # activations held at once while scoring: stays in cache-sized pieces, whatever K and N are


@dataclass(frozen=True, slots=True)
class Architect:
    """Who moves the architecture, where that is not the optimizer of the weights.

    Attributes:
        optimizer: of the leaves in `nasplug.contracts.SearchMethod.architecture`.
        lr: ``(K,)``.
        share: of the training samples that are held for the architecture's gradient (`halves`); 0 is the single-level
            search, in which weights and architecture follow one gradient.
        order: 1 takes the weights as they are; 2 looks one weight step ahead (`alternate`).
    """

    optimizer: Optimizer
    lr: Tensor
    share: float = 0.0
    order: int = 1


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
        clip: largest gradient norm of a row, or None; with an architect that of its weights.
        architect: moves the architecture, or None: then all leaves follow ``optimizer`` and ``lr``.
        keep: the ``last`` iterate, or the ``best``: see `train`.
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
    architect: Architect | None = None
    keep: Keep = "last"

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the task's inputs, hence of everything."""
        return self.task.train.x.dtype

    def take(self, index: Tensor) -> Search:
        """The same search for the rows at ``index`` only."""
        return replace(
            self,
            task=self.task.take(index),
            seeds=self.seeds[index],
            lr=self.lr.take(index),
            tau=self.tau.take(index),
            levels=tuple(level.take(index) for level in self.levels),
            architect=replace(self.architect, lr=self.architect.lr[index]) if self.architect else None,
        )

    def weights(self, params: Params) -> Params:
        """The leaves that ``optimizer`` moves."""
        return {n: p for n, p in params.items() if self.architect is None or n not in self.method.architecture}

    def architecture(self, params: Params) -> Params:
        """The leaves that the architect moves."""
        return {n: p for n, p in params.items() if self.architect is not None and n in self.method.architecture}


@dataclass(frozen=True, slots=True)
class State:
    """Where training stands: enough to go on exactly.

    Noise and batch order are functions of the step, so there is no generator to keep.
    """

    params: Params
    moments: dict[str, Tensor]
    step: int
    best: Params = field(default_factory=dict)
    """Of `Search.keep` ``best``: the leaves with the smallest objective so far, and that objective as `OBJECTIVE`, ``(K,)``."""

    @property
    def kept(self) -> Params:
        """The leaves to go on with when training is over."""
        return {name: p for name, p in self.best.items() if name != OBJECTIVE} or self.params

    def take(self, index: Tensor) -> State:
        """The rows at ``index``; to stop a replica, remove its row."""
        return State(take(self.params, index), take(self.moments, index), self.step, take(self.best, index))


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
    moments = search.optimizer.start(search.weights(params))
    if search.architect is not None:
        found = search.architect.optimizer.start(search.architecture(params))
        moments |= {ARCHITECTURE + name: t for name, t in found.items()}
    return State(params, moments, 0)


def halves(split: Split, share: float, data_seed: int) -> tuple[Split, Split]:
    """Training samples for the weights, and the ``share`` of them that is held for the architecture.

    Drawn by ``data_seed`` and kept in the order of the data; the validation split stays for choosing.
    """
    generator = torch.Generator().manual_seed(data_seed)
    order = torch.randperm(split.samples, generator=generator).to(split.x.device)
    held = round(share * split.samples)
    return split.columns(order[held:].sort().values), split.columns(order[:held].sort().values)


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
        """The batch of a step: ``x (I, B)`` and its targets, the same samples in all rows."""
        if self.size == self.split.samples:
            return self.split
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed((self.data_seed * 1_000_003 + epoch) % 2**63)
            self._order = torch.randperm(self.split.samples, generator=generator).to(self.split.x.device)
            self._epoch = epoch
        return self.split.columns(self._order[position * self.size : (position + 1) * self.size])


def slope(
    search: Search,
    params: Params,
    wanted: Params,
    batch: Batch,
    tau: Tensor,
    levels: tuple[Tensor, ...],
    noise: Tensor | None,
) -> tuple[Tensor, Tensor, Params]:
    """Task loss ``(K,)``, penalty ``(K,)`` and the gradients of their sum in the ``wanted`` leaves.

    ``total_k = loss_k + sum_p level_pk penalty_pk``; the sum over k is taken in the last line only, where it separates
    again: row k's gradient depends on row k alone. Proximal penalties have no gradient.
    """
    leaves = {name: p.detach().requires_grad_() for name, p in wanted.items()}
    nets = search.method.relax(params | leaves, tau, noise)
    loss = search.task.losses(search.method.forward(nets, batch[0]), batch[1])  # (K,)
    penalty = torch.zeros_like(loss)
    for regularizer, level in zip(search.penalties, levels, strict=True):
        value = level * regularizer(nets)
        penalty = penalty + (value.detach() if isinstance(regularizer, Proximal) else value)
    found = torch.autograd.grad((loss + penalty).sum(), list(leaves.values()), allow_unused=True, materialize_grads=True)
    return loss.detach(), penalty.detach(), dict(zip(leaves, found, strict=True))


def _move_weights(search: Search, params: Params, gradients: Params, moments: dict[str, Tensor], lr: Tensor) -> None:
    """The optimizer's step, in place."""
    weights = search.weights(params)
    mine = {name: gradients[name] for name in weights}
    search.optimizer.update(weights, clip(mine, search.clip) if search.clip is not None else mine, moments, lr)


def _move_architecture(search: Search, params: Params, gradients: Params, moments: dict[str, Tensor]) -> None:
    """The architect's step, in place."""
    if search.architect is not None:
        leaves = search.architecture(params)
        mine = {name.removeprefix(ARCHITECTURE): t for name, t in moments.items() if name.startswith(ARCHITECTURE)}
        search.architect.optimizer.update(leaves, {name: gradients[name] for name in leaves}, mine, search.architect.lr)


def _shrink(search: Search, params: Params, lr: Tensor, tau: Tensor, levels: tuple[Tensor, ...], noise: Tensor | None) -> None:
    """The proximal penalties' steps, in place."""
    for regularizer, level in zip(search.penalties, levels, strict=True):
        if isinstance(regularizer, Proximal):
            shrunk = regularizer.shrink(search.method.relax(params, tau, noise), lr * level)
            for name, leaf in _holding(search.method).hold(shrunk).items():
                params[name].copy_(leaf)


def step(
    search: Search,
    params: Params,
    moments: dict[str, Tensor],
    batch: Batch,
    lr: Tensor,
    tau: Tensor,
    levels: tuple[Tensor, ...],
    noise: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """One step of all rows, in place: task loss ``(K,)`` and penalty ``(K,)`` before the step.

    Weights and architecture follow one gradient (`slope`); then proximal penalties move the rows.
    """
    loss, penalty, gradients = slope(search, params, params, batch, tau, levels, noise)
    with torch.no_grad():
        _move_weights(search, params, gradients, moments, lr)
        _move_architecture(search, params, gradients, moments)
        _shrink(search, params, lr, tau, levels, noise)
    return loss, penalty


def alternate(
    search: Search,
    params: Params,
    moments: dict[str, Tensor],
    batch: tuple[Batch, Batch],
    lr: Tensor,
    tau: Tensor,
    levels: tuple[Tensor, ...],
    noise: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """One bilevel step of all rows, in place: the architecture on the held batch, then the weights on theirs.

    ``batch``: the weights' and the held one. With L the loss and penalties, order 1 follows ``grad_a L_held(w, a)``. Order 2
    looks one plain step ahead, ``w' = w - lr grad_w L(w, a)``, and follows ``grad_a L_held(w', a) - lr (grad_a L(w+, a) -
    grad_a L(w-, a)) / 2r`` with ``v = grad_w' L_held(w', a)``, ``w+- = w +- r v`` and a row's own ``r = .01 / |v|``.

    With a clip the step ahead is as short as the weights' own.

    Source: DARTS (Liu et al. 2019), equations 5-8. We differ: the step ahead is the gradient's alone, without momentum and
    weight decay; what is held are training samples, so that the validation split still chooses.

    Returns:
        Loss and penalty of the weights' step.
    """
    inner, held = batch
    architect = search.architect
    if architect is None:
        raise ContractError("alternate: the search has no architect; take step")
    leaves, weights = search.architecture(params), search.weights(params)
    if architect.order == 1:
        *_, toward = slope(search, params, leaves, held, tau, levels, noise)
    else:
        *_, ahead = slope(search, params, weights, inner, tau, levels, noise)
        pace = lr if search.clip is None else lr * (search.clip / norm(ahead).clamp(min=1e-12)).clamp(max=1.0)  # (K,)
        looked = {name: w - column(pace, w) * ahead[name] for name, w in weights.items()}
        *_, found = slope(search, params | looked, params | looked, held, tau, levels, noise)
        radius = 0.01 / norm({name: found[name] for name in weights}).clamp(min=1e-12)  # (K,)

        def curve(sign: float) -> Params:
            moved = {name: w + sign * column(radius, w) * found[name] for name, w in weights.items()}
            return slope(search, params | moved, leaves, inner, tau, levels, noise)[2]

        plus, minus = curve(1.0), curve(-1.0)
        rate = pace / (2.0 * radius)
        toward = {name: found[name] - column(rate, p) * (plus[name] - minus[name]) for name, p in leaves.items()}
    with torch.no_grad():
        _move_architecture(search, params, toward, moments)
    loss, penalty, gradients = slope(search, params, weights, inner, tau, levels, noise)
    with torch.no_grad():
        _move_weights(search, params, gradients, moments, lr)
    return loss, penalty


def _holding(method: SearchMethod) -> Holding:
    if not isinstance(method, Holding):
        raise ContractError(f"{method!r} holds no parts of its networks; a proximal penalty has nothing to move")
    return method


def compile_step(
    step: Callable[..., tuple[Tensor, Tensor]] = step,
) -> Callable[..., tuple[Tensor, Tensor]]:
    """`step` (or `alternate`) as one compiled program: forward, losses, penalties, gradients and the optimizer fused.

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

    With ``search.keep`` ``best`` each report also keeps the iterates whose validation loss plus penalty is the smallest yet.
    Only reports count at which a row's temperature and levels have their last values: before, objectives do not compare.
    """
    state = start(search) if state is None else state
    params, moments, best = state.params, state.moments, state.best
    architect = search.architect
    held: Batches | None = None
    mine = search.task.train
    if architect is not None and architect.share > 0:
        mine, other = halves(search.task.train, architect.share, search.data_seed)
        held = Batches(other, search.batch, search.data_seed + 1)
    batches = Batches(mine, search.batch, search.data_seed)
    once: Callable[..., tuple[Tensor, Tensor]] = step if held is None else alternate
    advance = compile_step(once) if compiled else once
    stochastic = isinstance(search.method, Stochastic) and search.method.stochastic
    freezing = _freezing(search)
    for t in range(state.step, search.steps):
        batch = batches.at(t).pair
        given = batch if held is None else (batch, held.at(t).pair)
        noise = seeds_of(search.seeds, f"step {t}") if stochastic else None
        levels = tuple(level.at(t) for level in search.levels)
        support = _support(search, params, t, freezing)
        loss, penalty = advance(search, params, moments, given, search.lr.at(t), search.tau.at(t), levels, noise)
        for name, mask in support.items():
            params[name].mul_(mask)
        if isinstance(search.method, Projected):
            params = search.method.project(params, t + 1, search.steps)
        if (t + 1) % every == 0 or t + 1 == search.steps:
            with torch.no_grad():
                nets = search.method.relax(params, search.tau.at(t))  # without noise, as it will be made hard
                scores = evaluate(search.task, search.task.valid, nets, search.method.forward)
                if search.keep == "best":
                    best = _best(search, best, params, t, scores["loss"], nets)
            metrics = {
                "train_loss": loss,
                "penalty": penalty,
                "valid_loss": scores["loss"],
                "valid_error": scores["error"],
            }
            yield Report(t + 1, search.steps, metrics, finite(params), State(params, moments, t + 1, best))


def _freezing(search: Search) -> Tensor | None:
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


@torch.no_grad()
def _support(search: Search, params: Params, t: int, freezing: Tensor | None) -> Params:
    """What a step must leave at 0: leaves of ones, and of zeros where a frozen row's leaf is exactly 0; none for most steps."""
    if freezing is None or t < int(freezing.min()):
        return {}
    frozen = freezing <= t  # (K,)
    held = _holding(search.method).hold(search.method.relax(params, search.tau.at(t)))
    return {name: ((leaf != 0) | ~column(frozen, leaf)).to(leaf) for name, leaf in held.items()}


def _best(search: Search, best: Params, params: Params, t: int, loss: Tensor, nets: Networks) -> Params:
    """The better of two iterates of each row, with its objective."""
    last = search.steps - 1
    objective, settled = loss, search.tau.at(t) == search.tau.at(last)  # (K,)
    for regularizer, level in zip(search.penalties, search.levels, strict=True):
        objective = objective + level.at(t) * regularizer(nets)
        settled = settled & (level.at(t) == level.at(last))
    objective = torch.where(settled & torch.isfinite(objective), objective, torch.inf)
    if best.keys() - {OBJECTIVE} != params.keys():  # the first time, or a method has put other leaves in their place
        return {OBJECTIVE: objective, **{name: p.clone() for name, p in params.items()}}
    better = (objective < best[OBJECTIVE]) | ~torch.isfinite(best[OBJECTIVE])  # nothing to lose yet: the later one
    kept = {name: torch.where(column(better, p), p, best[name]) for name, p in params.items()}
    return {OBJECTIVE: torch.where(better, objective, best[OBJECTIVE]), **kept}


@torch.no_grad()
def evaluate(task: Task, split: Split, nets: Networks, forward: Callable[[Networks, Tensor], Tensor]) -> dict[str, Tensor]:
    """Metrics of all rows on a split, ``{name: (K,)}``, a few rows at a time so that large K and N fit in memory.

    Of images even one row's activations may not: then also some samples at a time.
    """
    rows = max(1, CHUNK_FLOATS // (nets.activations * split.samples))
    columns = max(1, MOST_FLOATS // nets.activations)
    found: dict[str, list[Tensor]] = {}
    for first in range(0, nets.replicas, rows):
        part = nets.map(lambda t, first=first: t[first : first + rows])  # type: ignore[misc]
        data = split if split.x.dim() == 2 else Split(split.x[first : first + rows], split.y[first : first + rows])
        pieces = torch.split(data.x, columns, -1)
        outputs = torch.cat([forward(part, x) for x in pieces], -1) if len(pieces) > 1 else forward(part, data.x)
        for name, values in task.metrics(outputs, data.y).items():
            found.setdefault(name, []).append(values)
    return {name: torch.cat(values) for name, values in found.items()}
