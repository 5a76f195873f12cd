"""From soft networks to hard ones: run the discretizers in order, remove what is dead, fine-tune what is left, score it all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from nasplug.contracts import Certifying, Discretizer, Params, Score
from nasplug.errors import ConfigError, ContractError
from nasplug.networks import Networks, alive, forward, harden, where
from nasplug.optimizers import Adam
from nasplug.replicas import seeds_of, uniform
from nasplug.schedules import Track, cosine, tabulate
from nasplug.stems import drawn
from nasplug.tasks import Task
from nasplug.train import Search, evaluate, train

__all__ = ["Certificates", "Fresh", "Frozen", "ValidationLoss", "better", "discretize", "finetune", "refit", "retrain"]

Certificates = Sequence[Mapping[str, Any]]
"""One a network; empty where no discretizer is `nasplug.contracts.Certifying`."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """A search method with nothing left to search: gates and choices are fixed, blocks, biases and kernels train.

    It lets fine-tuning use the one training loop. Weights off the paths have gate 0, hence gradient 0, hence stay 0.
    """

    nets: Networks
    architecture: ClassVar[frozenset[str]] = frozenset()

    def init(self, task: Task, seeds: Tensor) -> Params:
        """The weights as they stand."""
        blocks = {f"block {to} {source}": w.clone() for (to, source), w in self.nets.blocks.items()}
        kernels = {f"kernel {layer}": w.clone() for layer, w in self.nets.kernels.items()}
        kernels |= {f"kernel bias {layer}": b.clone() for layer, b in self.nets.kernel_biases.items()}
        return blocks | kernels | {f"bias {layer}": b.clone() for layer, b in self.nets.biases.items()}

    def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
        """The frozen architecture with these weights."""
        return replace(
            self.nets,
            blocks={(to, source): params[f"block {to} {source}"] for to, source in self.nets.blocks},
            biases={layer: params[f"bias {layer}"] for layer in self.nets.biases},
            kernels={layer: params[f"kernel {layer}"] for layer in self.nets.kernels},
            kernel_biases={layer: params[f"kernel bias {layer}"] for layer in self.nets.kernel_biases},
        )

    def forward(self, nets: Networks, x: Tensor) -> Tensor:
        """The canonical forward."""
        return forward(nets, x)

    def direct(self, nets: Networks) -> Networks:
        """Already direct."""
        return nets


@dataclass(frozen=True, slots=True)
class Fresh(Frozen):
    """`Frozen`, from weights that know nothing of the search."""

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
                if to == layer:
                    noise = uniform(seeds, f"retrain/block {to} {source}", tuple(mask.shape[1:]), -1.0, 1.0)
                    params[f"block {to} {source}"] = noise.to(mask) * mask * bound.unsqueeze(-1)
            if layer in self.nets.biases:
                params[f"bias {layer}"] = uniform(seeds, f"retrain/bias {layer}", (width,), -1.0, 1.0).to(like) * bound
        for name, fresh in drawn(self.nets.stem, seeds_of(seeds, "retrain")).items():
            *_, number = name.split()
            kernel = self.nets.kernels[int(number)]
            used = (kernel != 0) if fresh.dim() > 2 else (kernel != 0).flatten(2).any(2)
            params[name] = fresh.to(like) * used
        return params


@dataclass(frozen=True, slots=True)
class ValidationLoss:
    """The `nasplug.contracts.Score` of a task."""

    task: Task

    def take(self, index: Tensor) -> Score:
        """Of the networks at ``index``."""
        return ValidationLoss(self.task.take(index))

    def __call__(self, nets: Networks) -> Tensor:
        """``(K,)``."""
        return evaluate(self.task, self.task.valid, nets, forward)["loss"]


@torch.no_grad()
def discretize(task: Task, nets: Networks, discretizers: Sequence[Discretizer]) -> tuple[Networks, Certificates]:
    """``nets`` in direct space -> hard networks with nothing off their input-output paths, and their certificates.

    Discretizers run in the order of the config, each scored on the validation split; what they leave soft is rounded; then
    dead weights and neurons are removed exactly (`nasplug.networks.alive`). The first discretizer that certifies is asked,
    about the networks that it is given.

    Raises:
        ContractError: when a discretizer changes the number of replicas or the skeleton, or its record does not fit itself, or
            it does not certify each network.
    """

    score = ValidationLoss(task)
    certificates: Certificates = ()
    for discretizer in discretizers:
        if isinstance(discretizer, Certifying) and not certificates:
            harder, certificates = discretizer.certified(nets, score)
            if len(certificates) != nets.replicas or not all("verdict" in one for one in certificates):
                raise ContractError(
                    f"discretizer {discretizer!r} gave {len(certificates)} certificates for {nets.replicas} networks; it must "
                    "give each one, with a verdict"
                )
        else:
            harder = discretizer(nets, score)
        if harder.replicas != nets.replicas or harder.widths != nets.widths:
            raise ContractError(
                f"discretizer {discretizer!r} returned {harder.replicas} networks of widths {harder.widths} for "
                f"{nets.replicas} of {nets.widths}; it must keep both (cut gates instead of shapes)"
            )
        harder.check()  # gates of the wrong shape would spread over rows
        nets = harder
    return alive(harden(nets)), certificates


def finetune(search: Search, nets: Networks, steps: int, lr: Tensor) -> Networks:
    """Train the weights of hard networks with their architecture frozen: no penalty, fresh Adam, learning rate to 0 by cosine.

    A row keeps its old weights where the new ones are not better on the validation split: fine-tuning never costs.

    Args:
        search: the task, batch size and data order.
        nets: hard networks in direct space.
        steps: how many; 0 returns ``nets``.
        lr: ``(K,)``, where the cosine starts.
    """
    return better(search.task, _trained(search, Frozen(nets), steps, lr), nets) if steps else nets


def retrain(search: Search, nets: Networks, steps: int, lr: Tensor) -> Networks:
    """The same architectures with weights trained from scratch: as `finetune`, but from fresh weights, which are kept.

    Fresh weights and biases of a neuron with F kept edges are ``U(-1, 1) / sqrt(F)``, from the row's seed.
    """
    return _trained(search, Fresh(nets), steps, lr)


def refit(task: Task, nets: Networks, steps: int, lr: float, *, batch: int | None = None, data_seed: int = 0) -> Networks:
    """`finetune` for a plugin that has networks and a task, and no search: weights that are 0 stay 0, biases are all trained.

    Args:
        task: with splits on the networks' device and in their type.
        nets: hard networks.
        steps: of Adam; 0 returns ``nets``.
        lr: > 0, where the cosine starts, for all rows.
        batch: samples a step; None: all of the training split.
        data_seed: the order of minibatches.

    Raises:
        ConfigError: for numbers out of range.
    """
    if steps < 0 or not (math.isfinite(lr) and lr > 0.0) or (batch is not None and batch < 1):
        raise ConfigError(
            f"refit: steps={steps}, lr={lr}, batch={batch}; needed: steps >= 0, a finite lr > 0, batch >= 1 or None"
        )
    if steps == 0:
        return nets
    like = next(iter(nets.blocks.values()))
    rates = torch.full((nets.replicas,), lr, dtype=like.dtype, device=like.device)
    still = Track(tabulate([lambda progress: 1.0], steps).to(rates), torch.zeros_like(rates, dtype=torch.long), rates)
    kept = {edge: (nets.block(edge) != 0).to(w) for edge, w in nets.blocks.items()}
    held = replace(nets, blocks={edge: nets.block(edge) for edge in nets.blocks}, edge_gates=kept)
    search = Search(
        task=task,
        method=Frozen(held),
        penalties=(),
        optimizer=Adam(),
        seeds=torch.zeros_like(rates, dtype=torch.long),
        steps=steps,
        lr=still,
        tau=still,
        levels=(),
        batch=None if batch is None else min(batch, task.train.samples),
        data_seed=data_seed,
    )
    with torch.enable_grad():
        return replace(finetune(search, held, steps, rates), edge_gates=nets.edge_gates)


def better(task: Task, new: Networks, old: Networks) -> Networks:
    """Row by row ``new`` where its validation loss is not larger, else ``old``; never a broken one for a sound one."""
    losses = [evaluate(task, task.valid, nets, forward)["loss"] for nets in (new, old)]  # each (K,)
    return where((losses[0] <= losses[1]) | (torch.isfinite(losses[0]) & ~torch.isfinite(losses[1])), new, old)


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
    )
    *_, last = train(tuning, every=steps)
    return method.relax(last.state.params, lr)
