"""Further training of hard networks: fine-tuning, retraining from scratch, and refitting on another task."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nasplug.contracts import Params, Regularizer, Schedule, SearchMethod
from nasplug.errors import ConfigError
from nasplug.networks import Edge, Networks, where
from nasplug.optimizers import Adam
from nasplug.replicas import seeds_of, uniform
from nasplug.schedules import Track, cosine, tabulate
from nasplug.stems import drawn, leaves, parts
from nasplug.tasks import Task
from nasplug.train import Search, losses, train

__all__ = ["Fresh", "Frozen", "better", "finetune", "fits", "refit", "retrain"]


@dataclass(frozen=True, slots=True)
class Frozen(SearchMethod):
    """A search method with nothing left to search: gates and choices are fixed, blocks, biases and kernels train.

    It lets fine-tuning use the one training loop. Weights off the paths have gate 0, hence gradient 0, hence stay 0.
    Running statistics of norms follow as in a search.
    """

    nets: Networks

    def init(self, task: Task, seeds: Tensor) -> Params:
        """The weights as they stand."""
        blocks = {f"block {to} {source}": self.nets.blocks[to, source].clone() for to, source in self._edges()}
        kernels = {name: leaf.clone() for name, leaf in leaves(self.nets).items()}
        return blocks | kernels | {f"bias {layer}": self.nets.biases[layer].clone() for layer in self._layers()}

    def _edges(self) -> list[Edge]:
        """Of the blocks that are learned."""
        kept = set(self.nets.constants)
        return [edge for edge in self.nets.blocks if not set(edge) & set(self.nets.passes) and edge not in kept]

    def _layers(self) -> list[int]:
        """Layers whose biases are learned."""
        return [layer for layer in self.nets.biases if layer not in self.nets.passes]

    def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
        """The frozen architecture with these weights."""
        return replace(
            self.nets,
            blocks={**self.nets.blocks, **{(to, source): params[f"block {to} {source}"] for to, source in self._edges()}},
            biases={**self.nets.biases, **{layer: params[f"bias {layer}"] for layer in self._layers()}},
            **self._stem(params),
        )

    def _stem(self, params: Params) -> dict[str, Any]:
        """The stem's parts; what is 0 in a kernel that chose its size stays 0."""
        found, stem = parts(self.nets.stem, params), self.nets.stem
        chose = [n for n, layer in enumerate(stem.layers if stem else (), start=1) if layer.sizes is not None]
        for n in chose:
            kernels = found["kernels"][n]
            found["kernels"][n] = kernels * (self.nets.kernels[n] != 0).to(kernels)
        return found


@dataclass(frozen=True, slots=True)
class Fresh(Frozen):
    """`Frozen`, from fresh weights instead of those of the search."""

    def init(self, task: Task, seeds: Tensor) -> Params:
        """Uniform weights and biases, as large as a neuron's number of kept edges allows; what was cut stays 0."""
        kept = {edge: (self.nets.block(edge) != 0).to(w) for edge, w in self.nets.blocks.items()}
        like = next(iter(kept.values()))
        params: Params = {}
        for layer, width in enumerate(self.nets.widths):
            count = like.new_zeros(len(seeds), width)  # (K, H)
            for (to, _), mask in kept.items():
                count = count + mask.sum(2) if to == layer else count
            bound = count.clamp(min=1.0).rsqrt()
            for (to, source), mask in kept.items():
                if to == layer and (to, source) in self._edges():
                    noise = uniform(seeds, f"retrain/block {to} {source}", tuple(mask.shape[1:]), -1.0, 1.0)
                    params[f"block {to} {source}"] = noise.to(mask) * mask * bound.unsqueeze(-1)
            if layer in self._layers():
                params[f"bias {layer}"] = uniform(seeds, f"retrain/bias {layer}", (width,), -1.0, 1.0).to(like) * bound
        for name, fresh in drawn(self.nets.stem and self.nets.stem.settled(), seeds_of(seeds, "retrain")).items():
            *_, number = name.split()
            kernel = self.nets.kernels[int(number)]
            used = (kernel != 0) if fresh.dim() > 2 else (kernel != 0).flatten(2).any(2)
            params[name] = fresh.to(like) * used
        return params


def finetune(search: Search, nets: Networks, steps: int, lr: Tensor) -> Networks:
    """Train the weights of hard networks with their architecture frozen: no penalty, fresh Adam, learning rate to 0 by cosine.

    A row keeps its old weights if the new ones are worse on the validation split.

    Args:
        search: the task, batch size and data order.
        nets: hard networks in direct space.
        steps: number of steps; 0 returns ``nets``.
        lr: ``(K,)``, the initial learning rate; it goes to 0 by cosine.
    """
    return better(search.task, _trained(search, Frozen(nets), steps, lr), nets) if steps else nets


def retrain(search: Search, nets: Networks, steps: int, lr: Tensor) -> Networks:
    """The same architectures, trained from scratch: as `finetune`, but from fresh weights; the result is always kept.

    Fresh weights and biases of a neuron with F kept edges are ``U(-1, 1) / sqrt(F)``, from the row's seed.
    """
    return _trained(search, Fresh(nets), steps, lr)


def refit(task: Task, nets: Networks, steps: int, lr: float, *, batch: int | None = None, data_seed: int = 0) -> Networks:
    """`finetune` for plugins that have networks and a task, but no search. Weights that are 0 stay 0; all biases are trained.

    Args:
        task: on any device, of any floating-point type.
        nets: hard networks.
        steps: steps of Adam; 0 returns ``nets``.
        lr: > 0, the initial learning rate of all rows; it goes to 0 by cosine.
        batch: samples per step; None: all of the training split.
        data_seed: sets the order of minibatches.

    Raises:
        ConfigError: for numbers out of range.
    """
    if steps == 0:
        return nets
    like = next(iter(nets.blocks.values()))
    task = task.to(like.device, like.dtype)
    *_, tuned = fits(task, nets, steps, lr, every=max(steps, 1), batch=batch, data_seed=data_seed)
    return better(task, tuned, nets)


@torch.enable_grad()
def fits(
    task: Task,
    nets: Networks,
    steps: int,
    lr: float,
    *,
    every: int,
    schedule: Schedule = cosine(),  # noqa: B008 - a function
    penalties: Sequence[Regularizer] = (),
    batch: int | None = None,
    data_seed: int = 0,
) -> Iterator[Networks]:
    """Train as `refit` does, and yield the networks after every ``every`` steps; earlier ones are not kept.

    ``schedule`` multiplies ``lr``. ``penalties`` are added to the loss without a level. A plugin may change their targets
    between two yields, to alternate between training and a step of its own.

    Raises:
        ConfigError: for numbers out of range.
    """
    if steps < 0 or not (math.isfinite(lr) and lr > 0.0) or (batch is not None and batch < 1):
        raise ConfigError(
            f"refit: steps={steps}, lr={lr}, batch={batch}; needed: steps >= 0, a finite lr > 0, batch >= 1 or None"
        )
    like = next(iter(nets.blocks.values()))
    whole = {edge: nets.block(edge) for edge in nets.blocks}
    # Blocks without an edge in any row add nothing: a layer that is off everywhere costs nothing.
    blocks = {edge: w for edge, w in whole.items() if bool((w != 0).any())} or whole
    kept = {edge: (w != 0).to(w) for edge, w in blocks.items()}
    method = Frozen(replace(nets, blocks=blocks, edge_gates=kept, alternatives=()))
    rates = torch.full((nets.replicas,), lr, dtype=like.dtype, device=like.device)
    row = torch.zeros_like(rates, dtype=torch.long)
    table = tabulate([schedule, lambda progress: 1.0], steps).to(rates)
    one = Track(table, row + 1, torch.ones_like(rates))
    search = Search(
        task=task.to(like.device, like.dtype),
        method=method,
        penalties=tuple(penalties),
        optimizer=Adam(),
        seeds=row,
        steps=steps,
        lr=Track(table, row, rates),
        tau=one,
        levels=(one,) * len(penalties),
        batch=None if batch is None else min(batch, task.train.samples),
        data_seed=data_seed,
        functions=nets.functions,
        monotone=nets.monotone,
    )
    for report in train(search, every=every):
        found = search.direct(search.relax(report.state.params, rates))
        yield replace(found, blocks={**whole, **found.blocks}, edge_gates=nets.edge_gates, alternatives=nets.alternatives)


def better(task: Task, new: Networks, old: Networks) -> Networks:
    """Row by row ``new`` where its validation loss is not larger, else ``old``; never a broken one for a sound one."""
    now, before = (losses(task, task.valid, nets) for nets in (new, old))  # each (K,)
    return where((now <= before) | (torch.isfinite(now) & ~torch.isfinite(before)), new, old)


def _trained(search: Search, method: Frozen, steps: int, lr: Tensor) -> Networks:
    row = torch.zeros(len(lr), dtype=torch.long, device=lr.device)
    table = tabulate([cosine(), lambda progress: 1.0], steps).to(lr)
    tuning = replace(
        search,
        method=method,
        penalties=(),
        optimizer=Adam(),
        steps=steps,
        lr=Track(table, row, lr),
        tau=Track(table, row + 1, torch.ones_like(lr)),
        levels=(),
        architect=None,
        keep="last",
        fixed=(),  # the hard networks have it
    )
    *_, last = train(tuning, every=steps)
    return tuning.direct(tuning.relax(last.state.params, lr))
