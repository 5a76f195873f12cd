"""Examples: random networks, a score and tasks, each a pure function of plain data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nasplug import networks
from nasplug.contracts import Score
from nasplug.errors import ConfigError
from nasplug.networks import PARTS, Networks
from nasplug.replicas import normal, uniform
from nasplug.stems import NORMS, Convolution, Stem, drawn
from nasplug.stems import parts as stem_parts
from nasplug.tasks import Kind, Split, Task, unscaled

__all__ = [
    "CANDIDATES",
    "SKELETONS",
    "ExampleScore",
    "example_networks",
    "example_score",
    "example_task",
    "grouped",
    "weighted",
]

SKELETONS = ((3, 4, 1), (2, 3, 4, 2))
"""Widths the kits try: one hidden layer and one output; two hidden layers and two outputs (with skips)."""

CANDIDATES = ("tanh", "relu", "identity")


def example_networks(
    seed: int = 0,
    k: int = 5,
    widths: tuple[int, ...] = SKELETONS[1],
    parts: Iterable[str] = PARTS,
    *,
    skips: bool = True,
    dtype: torch.dtype = torch.float64,
) -> Networks:
    """Random soft networks with exactly these parts (blocks always): row j depends on ``seed + j`` alone.

    Weights and biases are normal, gates and edge gates uniform in [0, 1], eigenvalues normal on all layers 0..D. Choices
    are uniform points of the simplex, one per neuron in odd layers and one per layer in even ones, over three candidates.
    Concentrations are exponential, of as many sites; with ``kept`` some candidates but the first are dropped there. ``skips``
    joins every pair of layers, else only neighbours. With ``kernels`` or ``kernel_biases`` they have a stem, 2 and 1 channels
    on images of one row, which leaves as many features as there are inputs; with parts of a norm its first layer has one.

    Raises:
        ConfigError: for a part that is not in `nasplug.networks.PARTS`.
    """
    wanted = frozenset(parts) | {"blocks"}
    if unknown := wanted - set(PARTS):
        raise ConfigError(f"example_networks: unknown parts {sorted(unknown)}; known: {', '.join(PARTS)}")
    seeds = torch.arange(seed, seed + k)
    depth = len(widths) - 1
    edges = [(to, source) for to in range(1, depth + 1) for source in range(to) if skips or source == to - 1]

    def gaussian(name: str, *shape: int) -> Tensor:
        return normal(seeds, name, shape).to(dtype)

    def unit(name: str, *shape: int) -> Tensor:
        return uniform(seeds, name, shape).to(dtype)

    def weight(name: str, layer: int) -> Tensor:
        """Exponential."""
        return -torch.log1p(-uniform(seeds, name, (widths[layer] if layer % 2 else 1, len(CANDIDATES))))

    def left(layer: int) -> Tensor:
        some = uniform(seeds, f"kept/{layer}", (widths[layer] if layer % 2 else 1, len(CANDIDATES))) > 0.3
        return some.index_fill(-1, torch.tensor(0), True).to(dtype)

    def simplex(layer: int) -> Tensor:
        share = weight(f"choices/{layer}", layer) * (left(layer) if "kept" in wanted else 1.0)
        return (share / share.sum(-1, keepdim=True)).to(dtype)

    hidden = range(1, depth)
    normed = bool(wanted & set(NORMS))
    one = Convolution(channels=2, kernel=(1, 3), activation="tanh", norm="batch" if normed else None)
    stem = Stem(image=(1, 1, widths[0]), layers=(one, Convolution(channels=1, kernel=(1, 3), activation="tanh")))
    stem_of = {name: leaf.to(dtype) for name, leaf in drawn(stem, seeds).items()}
    if normed:
        stem_of |= {f"{NORMS[part]} 1": unit(f"{part}/1", 2) for part in NORMS}
    return Networks(
        widths=tuple(widths),
        blocks={(to, source): gaussian(f"block/{to}/{source}", widths[to], widths[source]) for to, source in edges},
        biases={layer: gaussian(f"bias/{layer}", widths[layer]) for layer in range(1, depth + 1)} if "biases" in wanted else {},
        gates={layer: unit(f"gate/{layer}", widths[layer]) for layer in hidden} if "gates" in wanted else {},
        edge_gates={(to, source): unit(f"edge_gate/{to}/{source}", widths[to], widths[source]) for to, source in edges}
        if "edge_gates" in wanted
        else {},
        choices={layer: simplex(layer) for layer in hidden} if "choices" in wanted else {},
        eigenvalues={layer: gaussian(f"eigenvalue/{layer}", widths[layer]) for layer in range(depth + 1)}
        if "eigenvalues" in wanted
        else {},
        concentrations={layer: weight(f"concentration/{layer}", layer).to(dtype) for layer in hidden}
        if "concentrations" in wanted
        else {},
        kept={layer: left(layer) for layer in hidden} if "kept" in wanted else {},
        candidates=CANDIDATES if "choices" in wanted else CANDIDATES[:1],
        **(stem_parts(stem, stem_of) if normed or wanted & {"kernels", "kernel_biases"} else {}),
    )


def grouped(nets: Networks) -> Networks:
    """The same networks, of inputs each two of which were made of one column (`Networks.groups`)."""
    return replace(nets, groups=tuple(place // 2 for place in range(nets.widths[0])))


@dataclass(frozen=True, slots=True)
class ExampleScore:
    """The validation loss of networks on a task, whatever their type."""

    task: Task

    def take(self, index: Tensor) -> Score:
        """Of the networks at ``index``."""
        return ExampleScore(self.task.take(index))

    def __call__(self, nets: Networks) -> Tensor:
        """``(K,)``."""
        like = next(iter(nets.blocks.values()))
        valid = self.task.valid
        weights = None if valid.weights is None else valid.weights.to(like)
        return self.task.losses(networks.forward(nets, valid.x.to(like)), valid.y.to(like), weights)


def example_score(widths: tuple[int, ...], samples: int = 16, seed: int = 0) -> Score:
    """A score for networks of these widths: mean squared distance to ``sin(2 x_1 + output)`` at the points of ``seed``.

    Its ``task`` has twice as many training samples.
    """

    def split(seed: int, samples: int) -> Split:
        x = uniform(torch.tensor([seed]), "probe", (widths[0], samples), -1.0, 1.0)[0]  # (I, B)
        return Split(x, torch.sin(2.0 * x[:1] + torch.arange(widths[-1]).unsqueeze(1)))  # (O, B)

    train, valid, test = (split(number + 100 * seed, size) for number, size in ((8, 2 * samples), (7, samples), (9, samples)))
    return ExampleScore(unscaled("example score", (train, valid, test), source="nasplug.testing"))


def example_task(kind: Kind = "regression", *, seed: int = 0, inputs: int = 3, samples: int = 24) -> Task:
    """A small task of that kind in float64: regression of one target, one logit, or three classes; inputs in [-1, 1]."""

    def split(number: int) -> Split:
        x = uniform(torch.tensor([seed]), f"split/{number}", (inputs, samples), -1.0, 1.0)[0]  # (I, N)
        value = torch.sin(2.0 * x[:1]) + x.square().mean(0, keepdim=True)  # (1, N)
        if kind == "regression":
            return Split(x, value)
        if kind == "binary":
            return Split(x, (value > 0.3).double())
        return Split(x, ((value > -0.2).long() + (value > 0.8).long())[0])

    train, valid, test = (split(number) for number in range(3))
    names: dict[Kind, tuple[str, ...]] = {"regression": ("y",), "binary": ("no", "yes"), "classes": ("low", "middle", "high")}
    return unscaled(f"example {kind}", (train, valid, test), kind=kind, targets=names[kind], source="nasplug.testing")


def weighted(task: Task, k: int, seed: int = 0) -> Task:
    """The task with weights ``(K, N)`` on its training and validation samples: a third of them 0, the others uniform up to 2.

    Row j depends on ``seed + j`` alone.
    """
    seeds = torch.arange(seed, seed + k)

    def own(split: Split, name: str) -> Split:
        drawn = uniform(seeds, f"weights/{name}", (split.samples,), -1.0, 2.0)  # (K, N)
        return replace(split, weights=drawn.clamp(min=0.0).to(split.x))

    return replace(task, train=own(task.train, "train"), valid=own(task.valid, "valid"))
