"""What hard networks keep: inputs, pairs of inputs that meet, activations and depth; how many of several networks keep each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nasplug.additive import reached
from nasplug.networks import Networks, alive, take

__all__ = ["MOST_PAIRED", "Tally", "inputs_of", "tally", "whole_pairs"]

MOST_PAIRED = 500  # columns: of more, pairs are not counted (there are 124,750)
MOST_FLOATS = 2**24  # numbers that are held at once


@dataclass(frozen=True, slots=True)
class Tally:
    """How many of some networks keep each item.

    Attributes:
        networks: how many were looked at.
        inputs: long ``(C,)``, of the user's columns: one that is on a path to an output.
        pairs: long ``(C, C)``, symmetric: two columns that reach one hidden neuron; no others can interact, as the outputs sum
            what neurons say. None for more than `MOST_PAIRED` columns.
        activations: long ``(A,)``: candidates that a kept neuron has. None where there is one candidate.
        depths: long ``(D,)``: networks with 0, 1, ..., D - 1 hidden layers that have a kept neuron.
    """

    networks: int
    inputs: Tensor
    pairs: Tensor | None
    activations: Tensor | None
    depths: Tensor

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.networks + other.networks,
            self.inputs + other.inputs,
            None if self.pairs is None or other.pairs is None else self.pairs + other.pairs,
            None if self.activations is None or other.activations is None else self.activations + other.activations,
            self.depths + other.depths,
        )


def whole_pairs(finished: set[int]) -> set[int]:
    """Half samples whose complement is there, too: of 0 and 1, 2 and 3, and so on those of which both are ``finished``."""
    return {half for half in finished if half ^ 1 in finished}


def inputs_of(nets: Networks) -> Tensor:
    """Which of the user's columns each network reads, bool ``(K, C)``, as `nasplug.networks.sizes` counts them."""
    rows = torch.arange(nets.replicas)
    return torch.cat([_from_inputs(part, alive(part))[:, -1] for part in _pieces(nets, rows)])


def tally(nets: Networks, rows: Tensor) -> Tally:
    """Counts over the networks at ``rows`` (long); ``nets`` are hard and have no stem."""
    first, *others = (_tally(part) for part in _pieces(nets, rows))
    for part in others:
        first = first + part
    return first


def _pieces(nets: Networks, rows: Tensor) -> Iterator[Networks]:
    """The networks at ``rows``, as many at a time as memory is taken for."""
    columns = _columns(nets)
    size = sum(nets.widths) * max(columns, 1) + (columns * columns if columns <= MOST_PAIRED else 0)
    for some in torch.split(rows, max(1, MOST_FLOATS // size)):
        yield take(nets, some)


def _columns(nets: Networks) -> int:
    return 1 + max(nets.groups) if nets.groups else nets.widths[0]


def _tally(nets: Networks) -> Tally:
    hard, k = alive(nets), nets.replicas
    reach = _from_inputs(nets, hard)  # (K, H + 1, C), the last place for the outputs
    columns = reach.shape[-1]
    pairs = None
    if columns <= MOST_PAIRED:
        hidden = reach[:, :-1].float()
        pairs = (hidden.transpose(1, 2) @ hidden > 0).sum(0)
        pairs.fill_diagonal_(0)
    some = torch.stack([hard.gates[layer].bool().any(1) for layer in range(1, nets.depth)] or [torch.zeros(k).bool()])
    depths = torch.bincount(some.sum(0), minlength=nets.depth)
    return Tally(k, reach[:, -1].sum(0), pairs, _activations(hard), depths)


def _from_inputs(nets: Networks, hard: Networks) -> Tensor:
    """Which columns reach each kept hidden neuron, and any output: bool ``(K, H + 1, C)``."""
    reach = reached(hard.edge_gates, nets.widths, nets.groups)
    return torch.cat([*(reach[layer] for layer in range(1, nets.depth)), reach[nets.depth].any(1, keepdim=True)], 1)


def _activations(hard: Networks) -> Tensor | None:
    if len(hard.candidates) < 2 or not hard.choices:
        return None
    used = [((choice > 0) & (hard.gates[layer] > 0).unsqueeze(-1)).any(1) for layer, choice in hard.choices.items()]
    return torch.stack(used).any(0).sum(0)


def finished_halves(configurations: list[int], folds: list[int], status: list[str]) -> dict[int, set[int]]:
    """Configuration -> its half samples whose network finished."""
    found: dict[int, set[int]] = {}
    for number, fold, how in zip(configurations, folds, status, strict=True):
        if how == "finished":
            found.setdefault(number, set()).add(fold)
    return found
