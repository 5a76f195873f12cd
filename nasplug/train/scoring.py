"""Scores of all rows on a split, in pieces that fit in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nasplug.contracts import Score
from nasplug.networks import Networks, forward
from nasplug.tasks import Split, Task

__all__ = ["CONSTANT", "Portion", "ValidationLoss", "evaluate", "kept", "losses", "portioned"]

CONSTANT = "constant"
"""Beside the scores of `evaluate`: which rows say the same for every sample."""

Portion = tuple[int, int, Split]

MOST_FLOATS = 64_000_000  # of one network
CHUNK_FLOATS = 4_000_000  # activations held at once while scoring: stays in cache-sized pieces, whatever K and N are


@torch.no_grad()
def evaluate(
    task: Task,
    split: Split,
    nets: Networks,
    forward: Callable[[Networks, Tensor], Tensor],
    *,
    final: bool = True,
    constant: bool = False,
    portions: Sequence[Portion] | None = None,
) -> dict[str, Tensor]:
    """Metrics of all rows on a split (`Task.metrics`), ``{name: (K,)}``; a few rows at a time: large K and N fit in memory.

    Of images even one row's activations may not: then also some samples at a time. Rows with weights of their own are scored
    on the samples that count to them, neighbours with the same weights together: of five folds each costs a fifth.

    Args:
        task: scores.
        split: on which samples.
        nets: K rows.
        forward: what networks put out, ``(K, O, B)``.
        final: see `Task.metrics`.
        constant: also `CONSTANT`, bool: rows that say the same for every sample, one label or one number, and so repeat the
            majority or the mean.
        portions: what `portioned` made of the split, where it is asked again and again.
    """
    found: dict[str, list[Tensor]] = {}
    for own, outputs, data in _pieces(task, split, nets, forward, portions):
        values = own.metrics(outputs, *data.batch[1:], final=final)
        for name, value in (values | ({CONSTANT: _constant(task, outputs)} if constant else {})).items():
            found.setdefault(name, []).append(value)
    return {name: torch.cat(values) for name, values in found.items()}


@torch.no_grad()
def losses(task: Task, split: Split, nets: Networks) -> Tensor:
    """The loss of all rows on a split, ``(K,)``, as `evaluate` has it beside other scores."""
    return torch.cat([own.losses(outputs, *data.batch[1:]) for own, outputs, data in _pieces(task, split, nets, forward, None)])


def _pieces(
    task: Task,
    split: Split,
    nets: Networks,
    forward: Callable[[Networks, Tensor], Tensor],
    portions: Sequence[Portion] | None,
) -> Iterator[tuple[Task, Tensor, Split]]:
    """A few rows at a time: what scores them, their outputs ``(k, O, B)``, and the samples that these are of."""
    columns = max(1, MOST_FLOATS // nets.activations)
    for start, stop, here in portioned(split, nets.replicas) if portions is None else portions:
        rows = max(1, CHUNK_FLOATS // (nets.activations * max(here.samples, 1)))
        for first in range(start, stop, rows):
            end = min(first + rows, stop)
            data = here.rows(first - start, end - start)
            part = nets.map(lambda t, first=first, end=end: t[first:end])  # type: ignore[misc]
            pieces = torch.split(data.x, columns, -1)
            outputs = torch.cat([forward(part, x) for x in pieces], -1) if len(pieces) > 1 else forward(part, data.x)
            yield task.rows(first, end), outputs, data


def portioned(split: Split, replicas: int) -> list[Portion]:
    """Rows from a first up to an end, and the samples to score them on: those that have a weight to them."""
    own = split.weights is not None and split.weights.shape[:-1] == (replicas,)
    if split.weights is None or not own:
        return [(0, replicas, split)]
    _, counts = torch.unique_consecutive(split.weights, dim=0, return_counts=True)
    found: list[Portion] = []
    for start, stop in itertools.pairwise([0, *counts.cumsum(0).tolist()]):
        here = split.rows(start, stop)
        used = torch.nonzero(here.weights[0]).flatten() if here.weights is not None else torch.arange(here.samples)
        found.append((start, stop, here.columns(used) if len(used) < here.samples else here))
    return found


def kept(split: Split, replicas: int) -> list[Portion] | None:
    """`portioned`, where what it copies takes little memory, as of folds; None where not: of many bootstraps."""
    found = portioned(split, replicas)
    copies = sum(here.samples for _, _, here in found if here.x.data_ptr() != split.x.data_ptr())
    return found if copies <= 2 * split.samples else None


def _constant(task: Task, outputs: Tensor) -> Tensor:
    """Rows whose outputs ``(K, O, B)`` say the same for every sample, bool ``(K,)``."""
    said = task.loss.point(outputs)
    if task.kind != "regression":
        said = said > 0.5 if said.shape[1] == 1 else said.argmax(1, keepdim=True)
    return (said == said[..., :1]).flatten(1).all(1)


@dataclass(frozen=True, slots=True)
class ValidationLoss:
    """The `nasplug.contracts.Score` of a task."""

    task: Task

    def take(self, index: Tensor) -> Score:
        """Of the networks at ``index``."""
        return ValidationLoss(self.task.take(index))

    def __call__(self, nets: Networks) -> Tensor:
        """``(K,)``."""
        return losses(self.task, self.task.valid, nets)
