"""What several tests need: random records of networks, and a search method, penalties and a search, all plain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from nasplug.contracts import Params, Regularizer, SearchMethod, Traits
from nasplug.networks import Edge, Networks
from nasplug.optimizers import Adam, Optimizer
from nasplug.replicas import normal, uniform
from nasplug.schedules import cosine, geometric, linear, track
from nasplug.tasks import Kind, Task
from nasplug.testing import example_task
from nasplug.train import Search

MIXTURES = (
    ("relu",),
    ("sigmoid",),
    ("relu", "identity"),
    ("softplus", "tanh"),
    ("sin", "gelu", "silu"),
    ("square", "sigmoid"),
    ("identity", "relu", "elu", "leaky_relu", "sigmoid"),
)
"""Candidates that the tests mix: with and without ``f(0) = 0``, the fast pair, and more than two."""


@st.composite
def records(
    draw: st.DrawFn, *, hard: bool = False, dtype: torch.dtype = torch.float64, candidates: Sequence[tuple[str, ...]] = MIXTURES
) -> Networks:
    """Random networks: any skeleton, any parts, weights and gates that are exactly zero; ``hard`` has gates in {0, 1}.

    The skeleton is drawn, so that a failure shrinks to a small one; the numbers are noise.
    """
    k = draw(st.integers(1, 3), label="replicas")
    widths = tuple(draw(st.lists(st.integers(1, 4), min_size=2, max_size=5), label="widths"))
    depth = len(widths) - 1
    edges = [(to, source) for to in range(1, depth + 1) for source in range(to)]
    joined = draw(st.lists(st.sampled_from(edges), min_size=1, unique=True), label="blocks")
    zeros = draw(st.sampled_from([0.0, 0.3, 0.7]), label="share of zeros")
    seeds = torch.arange(k) + 100 * draw(st.integers(0, 1000), label="seed")
    names = draw(st.sampled_from(list(candidates)), label="candidates")
    hidden = range(1, depth)

    def some(of: Any, label: str) -> list[Any]:
        of = list(of)
        return draw(st.lists(st.sampled_from(of), unique=True), label=label) if of else []

    def kept(name: str, *shape: int) -> Tensor:
        return (uniform(seeds, name + "/kept", shape) >= zeros).to(dtype)

    def number(name: str, *shape: int) -> Tensor:
        return normal(seeds, name, shape).to(dtype) * kept(name, *shape)

    def gate(name: str, *shape: int) -> Tensor:
        return kept(name, *shape) if hard else uniform(seeds, name, shape).to(dtype) * kept(name, *shape)

    def choice(layer: int) -> Tensor:
        rows = draw(st.sampled_from([1, widths[layer]]), label=f"choices of layer {layer}")
        share = uniform(seeds, f"choice/{layer}", (rows, len(names))).to(dtype) + 1e-3
        if hard:
            return torch.nn.functional.one_hot(share.argmax(-1), len(names)).to(dtype)
        return share / share.sum(-1, keepdim=True)

    return Networks(
        widths=widths,
        blocks={(to, source): number(f"block/{to}/{source}", widths[to], widths[source]) for to, source in joined},
        biases={layer: number(f"bias/{layer}", widths[layer]) for layer in some(range(1, depth + 1), "biases")},
        gates={layer: gate(f"gate/{layer}", widths[layer]) for layer in some(hidden, "gates")},
        edge_gates={(a, b): gate(f"edge/{a}/{b}", widths[a], widths[b]) for a, b in some(joined, "edge gates")},
        choices={layer: choice(layer) for layer in hidden} if len(names) > 1 else {},
        candidates=names,
    )


def inputs(nets: Networks, samples: int = 5, *, own: bool = False, seed: int = 0) -> Tensor:
    """Noise to feed: ``(I, B)``, or a replica's own ``(K, I, B)``."""
    like = next(iter(nets.blocks.values()))
    rows = nets.replicas if own else 1
    x = normal(torch.arange(seed, seed + rows), "inputs", (nets.widths[0], samples)).to(like)
    return x if own else x[0]


@dataclass(frozen=True)
class Dense(SearchMethod):
    """Blocks, biases, and if wanted edge gates ``sigmoid(logits / tau)`` with or without noise: nothing else."""

    hidden: tuple[int, ...] = (4,)
    skips: bool = False
    gated: bool = False
    biased: bool = True
    noisy: bool = False
    act: str = "tanh"

    @property
    def traits(self) -> Traits:
        """The logits of the edge gates are architecture."""
        depth = len(self.hidden) + 1
        edges = [(to, source) for to in range(1, depth + 1) for source in range(to) if self.skips or source == to - 1]
        logits = frozenset(f"logit {to} {source}" for to, source in edges) if self.gated else frozenset()
        return Traits(architecture=logits, stochastic=self.noisy)

    def widths(self, task: Task) -> tuple[int, ...]:
        return (task.inputs, *self.hidden, task.outputs)

    def init(self, task: Task, seeds: Tensor) -> Params:
        widths = self.widths(task)
        params: Params = {}
        for to in range(1, len(widths)):
            for source in range(to):
                if self.skips or source == to - 1:
                    name, shape = f"{to} {source}", (widths[to], widths[source])
                    params["weight " + name] = normal(seeds, "weight " + name, shape) / widths[source] ** 0.5
                    if self.gated:
                        params["logit " + name] = normal(seeds, "logit " + name, shape)
            if self.biased:
                params[f"bias {to}"] = 0.1 * normal(seeds, f"bias {to}", (widths[to],))
        return params

    def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
        blocks: dict[Edge, Tensor] = {}
        gates: dict[Edge, Tensor] = {}
        biases: dict[int, Tensor] = {}
        for name, value in params.items():
            kind, *where = name.split()
            if kind == "bias":
                biases[int(where[0])] = value
                continue
            edge = (int(where[0]), int(where[1]))
            if kind == "weight":
                blocks[edge] = value
                continue
            shift = 0.0 if noise is None else 0.5 * normal(noise, name, tuple(value.shape[1:])).to(value)
            gates[edge] = torch.sigmoid((value + shift) / tau.view(-1, 1, 1))
        depth = max(to for to, _ in blocks)
        widths = (blocks[1, 0].shape[2], *(blocks[layer, layer - 1].shape[1] for layer in range(1, depth + 1)))
        return Networks(widths=widths, blocks=blocks, biases=biases, edge_gates=gates, candidates=(self.act,))


@dataclass(frozen=True)
class Squares(Regularizer):
    """The sum of squared effective weights."""

    needs: frozenset[str] = field(default=frozenset({"blocks", "edge_gates"}))

    def __call__(self, nets: Networks) -> Tensor:
        return torch.stack([nets.block(edge).square().sum((1, 2)) for edge in nets.blocks]).sum(0)


@dataclass(frozen=True)
class Openness(Regularizer):
    """The sum of edge gates."""

    needs: frozenset[str] = field(default=frozenset({"edge_gates"}))

    def __call__(self, nets: Networks) -> Tensor:
        return torch.stack([gate.sum((1, 2)) for gate in nets.edge_gates.values()]).sum(0)


def search(
    method: Dense | None = None,
    *,
    rows: int = 4,
    kind: Kind = "regression",
    steps: int = 25,
    penalties: tuple[Regularizer, ...] = (),
    optimizer: Optimizer | None = None,
    dtype: torch.dtype = torch.float64,
    **rest: Any,
) -> Search:
    """Rows that differ in everything that may differ between rows: seed, learning rate, temperature and levels."""
    spread = [1.0 + 0.5 * k for k in range(rows)]
    at = [k % 2 for k in range(rows)]
    ramps: list[Callable[[float], float]] = [linear(), linear(start=1.0, end=0.5)]
    numbers = {
        "lr": track([cosine(), linear(start=1.0, end=0.1)], at, [0.01 * s for s in spread], steps),
        "tau": track([geometric(), linear(start=2.0, end=0.5)], at, spread, steps),
    }
    levels = [track(ramps, at, [1e-3 * s for s in spread], steps) for _ in penalties]
    return Search(
        task=example_task(kind).to("cpu", dtype),
        method=method or Dense(),
        penalties=penalties,
        optimizer=optimizer or Adam(),
        seeds=torch.tensor([11, -5, 2**40, 3, 8, 13][:rows]),
        steps=steps,
        lr=numbers["lr"].to("cpu", dtype),
        tau=numbers["tau"].to("cpu", dtype),
        levels=tuple(level.to("cpu", dtype) for level in levels),
        **rest,
    )
