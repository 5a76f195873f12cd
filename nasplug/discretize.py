"""From soft networks to hard ones: run the discretizers in order, remove what is dead, fine-tune what is left, score it all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from nasplug.contracts import Certifying, Discretizer, Params
from nasplug.errors import ContractError
from nasplug.networks import Networks, alive, forward, harden
from nasplug.optimizers import Adam
from nasplug.schedules import Track, cosine, tabulate
from nasplug.tasks import Task
from nasplug.train import Search, evaluate, train

__all__ = ["Certificates", "Frozen", "ValidationLoss", "discretize", "finetune"]

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
class ValidationLoss:
    """The `nasplug.contracts.Score` of a task."""

    task: Task

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
            certificates = discretizer.certify(nets, score)
            if len(certificates) != nets.replicas or not all("verdict" in one for one in certificates):
                raise ContractError(
                    f"discretizer {discretizer!r} gave {len(certificates)} certificates for {nets.replicas} networks; it must "
                    "give each one, with a verdict"
                )
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
    if steps == 0:
        return nets
    k = nets.replicas
    row = torch.zeros(k, dtype=torch.long, device=lr.device)
    table = tabulate([cosine(), lambda progress: 1.0], steps).to(lr)
    tuning = replace(
        search,
        method=Frozen(nets),
        penalties=(),
        optimizer=Adam(),
        steps=steps,
        lr=Track(table, row, lr),
        tau=Track(table, row + 1, torch.ones_like(lr)),
        levels=(),
    )
    *_, last = train(tuning, every=steps)
    tuned = Frozen(nets).relax(last.state.params, lr)
    before = evaluate(search.task, search.task.valid, nets, forward)["loss"]
    better = evaluate(search.task, search.task.valid, tuned, forward)["loss"] <= before  # (K,); False for NaN

    def pick(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(better.view(-1, *[1] * (new.dim() - 1)), new, old)

    return replace(
        nets,
        blocks={edge: pick(tuned.blocks[edge], w) for edge, w in nets.blocks.items()},
        biases={layer: pick(tuned.biases[layer], b) for layer, b in nets.biases.items()},
        kernels={layer: pick(tuned.kernels[layer], w) for layer, w in nets.kernels.items()},
        kernel_biases={layer: pick(tuned.kernel_biases[layer], b) for layer, b in nets.kernel_biases.items()},
    )
