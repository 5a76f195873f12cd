"""The shape that all modes share, and the three ways its weights may start."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nasplug.contracts import Params
from nasplug.networks import Edge, Networks
from nasplug.replicas import normal, orthogonal, uniform
from nasplug.stems import Stem, drawn, entrance, parts
from nasplug.tasks import Task

__all__ = ["Skeleton", "blocks_of", "linear", "mirrored", "nothing", "small"]

Draw = Callable[[Tensor, str, int, int], Tensor]
"""seeds ``(K,)``, stream, H_to, H_from -> ``(K, H_to, H_from)``."""


def linear(seeds: Tensor, stream: str, to: int, source: int) -> Tensor:
    """``U[-1, 1] / sqrt(H_from)``, as `torch.nn.Linear` draws."""
    bound = 1.0 / math.sqrt(source)
    return uniform(seeds, stream, (to, source), -bound, bound)


def small(seeds: Tensor, stream: str, to: int, source: int) -> Tensor:
    """``N(0, 0.1)``."""
    return 0.1 * normal(seeds, stream, (to, source))


def mirrored(seeds: Tensor, stream: str, to: int, source: int) -> Tensor:
    """Rows in pairs ``+q, -q``, the q orthonormal: together the two sides of each kink see every sample."""
    q = orthogonal(seeds, stream, -(-to // 2), source)  # (K, ceil(H_to / 2), H_from)
    return torch.stack((q, -q), 2).flatten(1, 2)[:, :to]


def nothing(seeds: Tensor, stream: str, to: int, source: int) -> Tensor:
    """Zeros: such an edge starts without a weight."""
    return torch.zeros(len(seeds), to, source, dtype=torch.float64, device=seeds.device)


def blocks_of(nets: Networks) -> Params:
    """The leaves that a record's blocks are."""
    return {f"block {to} {source}": w for (to, source), w in nets.blocks.items()}


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Hidden widths, skip blocks, biases, activation and a stem; input and output widths come from the task."""

    hidden: tuple[int, ...]
    skips: bool
    activation: str
    bias: bool
    stem: Stem | None = None

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Every block ``(to, from)``, in the order of the layers."""
        layers = range(1, len(self.hidden) + 2)
        return tuple((to, source) for to in layers for source in range(to) if self.skips or source == to - 1)

    def accept(self, task: Task) -> None:
        """Any task will do.

        Raises:
            ConfigError: never; what inherits it may refuse some.
        """

    def masks(self, params: Params) -> Mapping[Edge, Tensor]:
        """Where a weight may be, of the blocks where it may not be everywhere: none."""
        return {}

    def draw(self, task: Task, seeds: Tensor, rule: Callable[[Edge], Draw], *, biased: bool) -> Params:
        """Fresh float64 blocks, ``block <to> <from> (K, H_to, H_from)``, and biases, ``bias <layer> (K, H)``.

        A stem's leaves are those of `nasplug.stems.drawn`.
        ``rule`` says how a block starts; biases start as those of `torch.nn.Linear` if ``biased``, else at 0.
        """
        widths = (entrance(self.stem, task), *self.hidden, task.outputs)
        params: Params = drawn(self.stem, seeds)
        for to, source in self.edges:
            name = f"block {to} {source}"
            params[name] = rule((to, source))(seeds, f"edges/{name}", widths[to], widths[source])
        for layer in range(1, len(widths)) if self.bias else ():
            name = f"bias {layer}"
            bound = 1.0 / math.sqrt(widths[layer - 1]) if biased else 0.0
            params[name] = uniform(seeds, f"edges/{name}", (widths[layer],), -bound, bound)
        return params

    def networks(self, params: Params) -> Networks:
        """Plain weights as a record."""
        blocks = {(to, source): params[f"block {to} {source}"] for to, source in self.edges}
        depth = len(self.hidden) + 1
        first, last = blocks[1, 0], blocks[depth, depth - 1]
        return Networks(
            widths=(first.shape[2], *self.hidden, last.shape[1]),
            blocks=blocks,
            biases={layer: params[f"bias {layer}"] for layer in range(1, depth + 1)} if self.bias else {},
            candidates=(self.activation,),
            **parts(self.stem, params),
        )
