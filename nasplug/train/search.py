"""What a pack trains, where its training stands, and the samples of each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from nasplug.activations import FUNCTIONS, Function
from nasplug.contracts import Params, Regularizer, SearchMethod, Traits
from nasplug.monotone import constrain, reflect
from nasplug.networks import Networks, forward
from nasplug.optimizers import Optimizer
from nasplug.replicas import take
from nasplug.schedules import Track
from nasplug.stems import mixed, observed, shared
from nasplug.tasks import Split, Task

__all__ = [
    "ARCHITECTURE",
    "OBJECTIVE",
    "Architect",
    "Batch",
    "Batches",
    "Engine",
    "Fixed",
    "Keep",
    "Report",
    "Search",
    "State",
    "halves",
    "put",
    "start",
]

Batch = tuple[Tensor, ...]
"""Inputs, targets, and weights where there are some (`nasplug.tasks.Split.batch`)."""

Keep = Literal["last", "best"]
OBJECTIVE = "/objective"  # beside the best leaves
ARCHITECTURE = "architecture/"  # before the names of what the architect's optimizer remembers


Fixed = tuple[Literal["choices", "gates", "edge_gates", "kernel_shares"], Any, Tensor]
"""A part of `nasplug.networks.Networks`, its key (a layer, or an edge) and its tensor, ``(K, ...)``."""


def put(nets: Networks, fixed: Sequence[Fixed]) -> Networks:
    """Networks with these parts, of which no operation and no size of a kernel is left to choose."""
    parts: dict[str, Any] = {part: dict(getattr(nets, part)) for part, _, _ in fixed}
    for part, key, tensor in fixed:
        parts[part][key] = tensor
    if shares := parts.pop("kernel_shares", {}):
        found = {n: mixed(share, nets.kernel_parts[n]) for n, share in shares.items()}
        parts |= {"kernels": {**nets.kernels, **found}, "kernel_shares": {}, "kernel_parts": {}}
    kept = {} if nets.alternatives or "choices" in parts else nets.kept
    return replace(nets, **parts, alternatives=(), kept=kept)


@dataclass(frozen=True, slots=True)
class Architect:
    """Who moves the architecture, where that is not the optimizer of the weights.

    Attributes:
        optimizer: of the leaves in `nasplug.contracts.Traits.architecture`.
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
        lr, tau, levels: numbers per row and step; one track of levels per penalty.
        batch: samples per step, or None for all.
        data_seed: the order of minibatches, shared by the pack.
        clip: largest gradient norm of a row, or None; with an architect that of its weights.
        architect: moves the architecture, or None: then all leaves follow ``optimizer`` and ``lr``.
        keep: the ``last`` iterate, or the ``best``: see `train`.
        functions: what the activations of the networks mean in this run.
        monotone: direction of each input (`nasplug.networks.Networks.monotone`), or empty.
        fixed: part of the networks, its key and what stands there in place of what the method would search for: one-hot
            ``choices``, ``gates`` and ``edge_gates`` of operations, ``kernel_shares`` of a stem. The leaves of what is chosen
            then stay as they are. Empty: it searches.
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
    functions: Mapping[str, Function] = field(default_factory=lambda: FUNCTIONS, repr=False)
    monotone: tuple[int, ...] = ()
    fixed: tuple[Fixed, ...] = ()
    traits: Traits = field(init=False)
    """The method's, asked once."""
    renamed: bool = field(init=False)
    """Whether activations may mean something else than in `nasplug.activations.FUNCTIONS`."""
    groups: tuple[int, ...] = field(init=False)
    """Those of the task, where inputs share a column."""
    plain: bool = field(init=False)
    """Whether what the method relaxes is in direct space already."""
    projected: bool = field(init=False)
    """Whether parameters are projected to the signs that they may have."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "traits", self.method.traits)
        object.__setattr__(self, "plain", type(self.method).direct is SearchMethod.direct)
        object.__setattr__(self, "projected", bool(self.monotone) and self.plain and self.traits.convex)
        object.__setattr__(self, "renamed", self.functions is not FUNCTIONS)  # here: Dynamo cannot compare mappings
        object.__setattr__(self, "groups", self.task.groups if len(self.task.columns) < self.task.inputs else ())

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
            fixed=tuple((part, key, tensor[index]) for part, key, tensor in self.fixed),
        )

    def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
        """The method's soft networks (`nasplug.contracts.SearchMethod.relax`), with the activations of this run.

        With `monotone` plain weights have the signs that they may have; of others `direct` sees to it. Those of a convex method
        (`nasplug.contracts.Traits`) are projected, here and after each step. The others change their sign and keep their
        magnitude, so that none is lost to training.
        """
        nets = self.method.relax(params, tau, noise)
        nets = put(nets, self.fixed) if self.fixed else nets
        nets = replace(nets, functions=self.functions) if self.renamed else nets
        nets = replace(nets, groups=self.groups) if self.groups and nets.stem is None else nets  # penalties count by column
        if not (self.monotone and self.plain):
            return nets
        made = constrain(nets, self.monotone) if self.projected else reflect(nets, self.monotone)
        return replace(made, monotone=())  # nothing is left for the forward to hold, which costs time in each step

    def direct(self, nets: Networks) -> Networks:
        """What `relax` made, in direct space (`nasplug.contracts.SearchMethod.direct`), with the directions of its inputs."""
        nets = self.method.direct(nets)
        nets = replace(nets, groups=self.groups) if self.groups and nets.stem is None else nets
        if not self.monotone:
            return nets
        return replace(nets, monotone=self.monotone) if self.plain else reflect(nets, self.monotone)

    def forward(self, nets: Networks, x: Tensor) -> Tensor:
        """Outputs of what `relax` made, ``(K, O, B)``: the method's own form, or with `monotone` the canonical one."""
        if not self.monotone:
            return self.method.forward(nets, x)
        return forward(nets if self.plain else self.direct(nets), x)

    def weights(self, params: Params) -> Params:
        """The leaves that ``optimizer`` moves."""
        held = self.traits.architecture if self.architect is not None or self.fixed else ()
        still = any(part == "kernel_shares" for part, _, _ in self.fixed)
        return {n: p for n, p in self.trained(params).items() if not (n in held or (still and shared(n)))}

    def architecture(self, params: Params) -> Params:
        """The leaves that the architect moves."""
        return {n: p for n, p in params.items() if self.architect is not None and n in self.traits.architecture}

    def trained(self, params: Params) -> Params:
        """The leaves that gradients move; the others are observed (`nasplug.networks.observing`), or the method's to move."""
        return {n: p for n, p in params.items() if not (observed(n) or n in self.traits.untrained)}


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

    def copy(self) -> State:
        """The same, in memory of its own."""

        def own(leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: leaf.detach().clone() for name, leaf in leaves.items()}

        return State(own(self.params), own(self.moments), self.step, own(self.best))


@dataclass(frozen=True, slots=True)
class Report:
    """One interval: metrics of all rows, each ``(K,)``, and the state to save. ``healthy``: bool ``(K,)``, all finite.

    It is a copy: the steps that follow do not change it, and what is done to it changes no training. ``eager``: why steps run
    one by one where others are replayed (`nasplug.train.replaying`); empty where nothing is to be said.
    """

    step: int
    steps: int
    metrics: Mapping[str, Tensor]
    healthy: Tensor
    state: State
    eager: str = ""


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

    @property
    def whole(self) -> bool:
        """Whether a batch is all samples, in their order."""
        return self.size == self.split.samples

    def order(self, first: int, end: int) -> Tensor:
        """Which samples each step from ``first`` up to ``end`` is shown: long ``(end - first, B)``, on the host."""
        epochs = range(first // self.per_epoch, -(-end // self.per_epoch))
        shown = torch.cat([self._epoch(epoch) for epoch in epochs])
        return shown[first - epochs.start * self.per_epoch :][: end - first]

    def _epoch(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed((self.data_seed * 1_000_003 + epoch) % 2**63)
        order = torch.randperm(self.split.samples, generator=generator)
        return order[: self.per_epoch * self.size].view(self.per_epoch, self.size)

    def at(self, step: int) -> Split:
        """The batch of a step: ``x (I, B)``, its targets and weights, the same samples in all rows."""
        return self.split if self.whole else self.split.columns(self.order(step, step + 1)[0].to(self.split.x.device))


Engine = Callable[[Search, Params, dict[str, Tensor], int, int], tuple[Tensor, Tensor] | None]
"""Makes many steps at once, in place: those from a first up to an end, as `step` would one by one.

Returns task loss and penalty, ``(K,)``, before the last of them. None: it has made none, and makes none later.
"""
