"""What `packing.py` and `gpu.py` train: four shapes of network and data, and the stand-in method and penalty.

It imports what a training step needs and nothing else: it also runs where few of nasplug's dependencies are installed.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from nasplug.activations import function_of
from nasplug.contracts import Norms, Params, Regularizer, SearchMethod
from nasplug.networks import Networks
from nasplug.optimizers import Adam
from nasplug.replicas import total, uniform
from nasplug.tasks import Split, Task, unscaled
from nasplug.train import Search

__all__ = ["L1", "LEARNING_RATE", "LEVEL", "MIXTURE", "WORKLOADS", "Constant", "Dense", "Module", "Workload", "data", "search"]

LEARNING_RATE = 1e-3
LEVEL = 1e-3
MIXTURE = ("sigmoid", "tanh", "leaky_relu")


@dataclass(frozen=True)
class Workload:
    """One shape of network and data."""

    name: str
    words: str
    widths: tuple[int, ...]
    samples: int
    mixture: bool = False


WORKLOADS = (
    Workload("xor", "XOR [2,4,1], 4 samples", (2, 4, 1), 4),
    Workload("breast_cancer", "[30,32,2], batch 64", (30, 32, 2), 64),
    Workload("mixture", "four layers of 7, three-way activation mixture, 1000 samples", (2, 7, 7, 7, 7, 1), 1000, True),
    Workload("wide", "[3,300,1], batch 100", (3, 300, 1), 100),
)


@dataclass(frozen=True)
class Dense(SearchMethod):
    """The stand-in search method: plain weights as torch.nn.Linear makes them, with or without mixed activations."""

    widths: tuple[int, ...]
    mixture: bool

    def init(self, task: Task, seeds: Tensor) -> Params:
        params: Params = {}
        for layer, (source, to) in enumerate(zip(self.widths, self.widths[1:], strict=False), start=1):
            bound = source**-0.5
            params[f"weight {layer}"] = uniform(seeds, f"weight {layer}", (to, source), -bound, bound)  # (K, to, from)
            params[f"bias {layer}"] = uniform(seeds, f"bias {layer}", (to,), -bound, bound)  # (K, to)
            if self.mixture and layer < len(self.widths) - 1:
                params[f"logits {layer}"] = torch.zeros(
                    len(seeds), to, len(MIXTURE), dtype=torch.float64, device=seeds.device
                )  # (K, to, A)
        return params

    def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
        layers = range(1, len(self.widths))
        choices = (
            {layer: torch.softmax(params[f"logits {layer}"] / tau.view(-1, 1, 1), -1) for layer in layers[:-1]}
            if self.mixture
            else {}
        )
        return Networks(
            self.widths,
            {(layer, layer - 1): params[f"weight {layer}"] for layer in layers},
            {layer: params[f"bias {layer}"] for layer in layers},
            choices=choices,
            candidates=MIXTURE if self.mixture else ("relu",),
        )


class Module(nn.Module):
    """The same network as people write it."""

    def __init__(self, widths: tuple[int, ...], mixture: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.logits = nn.ParameterList(nn.Parameter(torch.zeros(w, len(MIXTURE))) for w in widths[1:-1]) if mixture else None

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i == len(self.layers) - 1:
                return x
            if self.logits is None:
                x = torch.relu(x)
            else:
                choice = torch.softmax(self.logits[i], -1)
                x = sum(choice[:, c] * function_of(name)(x) for c, name in enumerate(MIXTURE))  # type: ignore[assignment]
        return x

    def penalty(self) -> Tensor:
        return torch.stack([layer.weight.abs().sum() for layer in self.layers]).sum()  # type: ignore[union-attr,operator]


class L1(Regularizer):
    needs: ClassVar[frozenset[str]] = frozenset({"blocks"})

    def __call__(self, nets: Networks) -> Tensor:
        return total(nets.block(edge).abs().sum((1, 2)) for edge in nets.blocks)  # (K,)

    def norms(self, nets: Networks) -> list[Norms]:
        return [Norms(layer, "each", 1.0) for layer in range(1, nets.depth + 1)]


@dataclass(frozen=True)
class Constant:
    """A track of one value for any number of steps."""

    values: Tensor

    def at(self, step: int | Tensor) -> Tensor:
        return self.values

    def between(self, first: int, end: int) -> Tensor:
        return self.values.expand(end - first, -1)


def data(work: Workload) -> tuple[Tensor, Tensor]:
    """Noise of that shape, samples as rows."""
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(work.samples, work.widths[0], generator=generator),
        torch.randn(work.samples, work.widths[-1], generator=generator),
    )


def search(work: Workload, seeds: Tensor, dtype: torch.dtype = torch.float32) -> Search:
    """What trains a network for each of the ``seeds`` (long, ``(K,)``), on their device, for any number of steps."""
    x, y = (t.T.contiguous().to(seeds.device, dtype) for t in data(work))
    split = Split(x, y)

    def constant(value: float) -> Constant:
        return Constant(torch.full(seeds.shape, value, dtype=dtype, device=seeds.device))

    return Search(
        unscaled("benchmark", (split, split, split)), Dense(work.widths, work.mixture), (L1(),), Adam(), seeds, 10**9,
        constant(LEARNING_RATE), constant(1.0), (constant(LEVEL),),  # type: ignore[arg-type]
    )  # fmt: skip
