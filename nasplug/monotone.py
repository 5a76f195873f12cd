"""Monotone networks: directions of inputs, weights that keep to them, and the proof that a network does.

`nasplug.signs` has the rule. `nasplug.networks.Networks.block` applies it, so that whatever is done to the weights of a record
with directions, its outputs keep to them exactly, whichever discretizer or further training made them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nasplug.activations import non_decreasing
from nasplug.errors import ConfigError, did_you_mean
from nasplug.networks import Edge, Networks
from nasplug.signs import held, reflected
from nasplug.tasks import Task

__all__ = ["accept", "certified", "constrain", "directions", "holds", "reflect", "told"]


def directions(task: Task, wanted: Mapping[str, int]) -> tuple[int, ...]:
    """The direction of each input, ``(I,)`` of {-1, 0, +1}: feature or column -> +1 or -1; empty where none is wanted.

    With +1 every output rises with the feature or stays: a target, or the probability of the second of two labels.

    Raises:
        ConfigError: for more than two labels, names that are no feature, and columns of words.
    """
    if not wanted:
        return ()
    if task.kind == "classes":
        raise ConfigError(
            f"monotone: task {task.name!r} has the classes {', '.join(task.targets[:4])}, whose probabilities cannot all rise; "
            "needed: kind regression, or binary (the probability of the second label). Remove monotone, or change the target"
        )
    found = [0] * task.inputs
    for name, way in wanted.items():
        for place in _places(task, name):
            found[place] = way
    return tuple(found)


def _places(task: Task, name: str) -> list[int]:
    """The features that a name stands for: those of a column that rise with it, or one feature.

    Raises:
        ConfigError: for a name that is neither, and a column of words.
    """
    from nasplug.data.encoder import Encoder  # training alone must not need what reads tables

    columns = () if task.encoder is None else Encoder.from_plain(task.encoder).columns
    at = 0
    for column in columns:
        if column.name == name and column.kind == "category":
            raise ConfigError(
                f"monotone.{name}: a column of words, which have no order; needed: a column of numbers. Name one of its words "
                f"({column.features[0]!r} is 0 or 1), or remove it"
            )
        if column.name == name:
            return list(range(at, at + column.width - column.gap))  # the value and its ramps; whether it is missing is free
        at += column.width
    if name in task.features:
        return [task.features.index(name)]
    known = [column.name for column in columns if column.kind != "category"] or list(task.features)
    some = ", ".join(known[:8]) + (f" and {len(known) - 8} more" if len(known) > 8 else "")
    raise ConfigError(
        f"monotone.{name}: not a feature of task {task.name!r}; numbers among its features: {some}.{did_you_mean(name, known)}"
    )


def told(wanted: Mapping[str, int]) -> str:
    """The directions in words: ``rises or stays with area, falls or stays with age``; empty where there are none."""
    ways = {"rises": 1, "falls": -1}
    found = {word: [name for name, way in wanted.items() if way == sign] for word, sign in ways.items()}
    return ", ".join(f"{word} or stays with {', '.join(names)}" for word, names in found.items() if names)


def accept(nets: Networks, method: str) -> None:
    """Check networks (K = 1) when a study is planned; return nothing if they can be monotone. ``method`` names who made them.

    Raises:
        ConfigError: for a stem, or an activation that may decrease.
    """
    if nets.stem is not None:
        raise ConfigError(
            f"monotone: {method} has a stem, whose kernels have no fixed signs; remove the stem, or remove monotone"
        )
    wrong = [name for name in nets.candidates if not non_decreasing(name, nets.functions)]
    if wrong:
        allowed = [name for name in nets.functions if non_decreasing(name, nets.functions)]
        raise ConfigError(
            f"monotone: {method} has the activation{'s' if len(wrong) > 1 else ''} {', '.join(wrong)}, which may decrease; "
            f"needed: {', '.join(allowed)}"
        )


def reflect(nets: Networks, directions: Sequence[int]) -> Networks:
    """Networks with directions in which each weight has its allowed sign and its own magnitude."""
    ways = tuple(directions)
    return replace(nets, blocks={edge: reflected(w, edge, nets.widths, ways) for edge, w in nets.blocks.items()}, monotone=ways)


def constrain(nets: Networks, directions: Sequence[int]) -> Networks:
    """The same networks with directions: weights whose sign is not allowed are 0. Idempotent, row by row."""
    nets = replace(nets, monotone=tuple(directions))
    return replace(nets, blocks={edge: held(w, edge, nets.widths, nets.monotone) for edge, w in nets.blocks.items()})


def holds(nets: Networks) -> Tensor:
    """Rows whose weights prove that every output keeps to their directions, bool ``(K,)``.

    It reads the weights as they stand: not what the forward would leave out of them, nor by which rule they were made.
    """
    weights = {edge: w * nets.edge_gates[edge] if edge in nets.edge_gates else w for edge, w in nets.blocks.items()}
    weights = {
        (to, source): w * nets.gates[source].unsqueeze(1) if source in nets.gates else w for (to, source), w in weights.items()
    }
    if not all(non_decreasing(name, nets.functions) for name in nets.candidates):
        return torch.zeros(nets.replicas, dtype=torch.bool, device=next(iter(weights.values())).device)
    return certified(weights, nets.widths, nets.monotone)


def certified(weights: Mapping[Edge, Tensor], widths: Sequence[int], directions: Sequence[int]) -> Tensor:
    """Rows in which every path from an input with a direction to an output has the sign of that direction: bool ``(K,)``.

    ``weights``: blocks ``(K, H_to, H_from)``. A sufficient condition where no activation decreases: the slope of an output in
    an input is a sum over paths of products of weights and of slopes >= 0. Weights that are not finite have no sign.
    """
    first = next(iter(weights.values()))
    k, depth = first.shape[0], len(widths) - 1
    rises = {depth: torch.ones(k, widths[depth], dtype=torch.bool, device=first.device)}  # a path of sign +1 leads to an output
    falls = {depth: torch.zeros_like(rises[depth])}
    for layer in range(depth - 1, -1, -1):
        up = torch.zeros(k, widths[layer], dtype=torch.bool, device=first.device)
        down = torch.zeros_like(up)
        for (to, source), w in weights.items():
            if source == layer:
                onward, back = rises[to].unsqueeze(2), falls[to].unsqueeze(2)  # (K, H_to, 1)
                up |= (((w > 0) & onward) | ((w < 0) & back)).any(1)
                down |= (((w > 0) & back) | ((w < 0) & onward)).any(1)
        rises[layer], falls[layer] = up, down
    way = torch.tensor(list(directions), device=first.device)  # (I,)
    return ~((falls[0] & (way > 0)) | (rises[0] & (way < 0))).any(1)
