"""`swat_piece`: what a piece of a saved network does, as data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nasplug.errors import ConfigError
from nasplug.networks import forward, values
from nasplug.replicas import uniform
from nasplug.tasks import Split, Task, counts, unscaled
from nasplug_swat.search import cut_out, in_raw_units, opened, units_of

__all__ = ["as_task", "swat_piece"]


def swat_piece(
    *,
    network: str,
    first: int = 0,
    last: int | None = None,
    reach: float = 1.0,
    train: int = 3750,
    test: int = 1250,
    valid: float = 0.2,
    seed: int = 0,
) -> Task:
    """What a piece of a saved network does, as data: from the values of one layer to the sums of another.

    ``network`` is the folder of a saved network. Its inputs are drawn uniform on ``[-reach, reach]`` in the units it was
    trained in (after its own scaling). x: the values of layer ``first`` (0: the inputs), scaled to [-1, 1]; targets: what
    layer ``last`` (None: the outputs, before a link) sums, scaled to mean 0 and variance 1. ``train`` samples, of which the
    share ``valid`` is held back, and ``test`` others.

    Raises:
        ConfigError: for a folder that holds no network, layers that are not there, or counts and shares out of range.
    """
    where = "task 'swat_piece'"
    counts(where, train=train, test=test)
    module = opened(network)
    nets = in_raw_units(module)
    end = nets.depth if last is None else last
    held = round(valid * train)
    if not 1 <= held <= train - 2:
        raise ConfigError(f"{where}: train={train}, valid={valid}, test={test}; needed: samples in each of the three splits")
    if not (math.isfinite(reach) and reach > 0.0):
        raise ConfigError(f"{where}: reach={reach}; needed: a finite number > 0")
    piece = cut_out(nets, first, end)
    shift, scale = units_of(module)
    pairs = []
    for stream, count in (("train", train), ("test", test)):
        points = uniform(torch.tensor([seed]), f"swat/piece {stream}", (nets.widths[0], count), -reach, reach)[0]
        x = values(nets, points * scale.unsqueeze(-1) + shift.unsqueeze(-1), first)[first].reshape(-1, count)
        pairs.append((x, forward(piece, x)[0]))
    (x, y), tested = pairs
    task = as_task(
        f"piece {first}-{end}",
        [(x[:, held:], y[:, held:]), (x[:, :held], y[:, :held]), tested],
        inputs=(shift, reach * scale) if first == 0 else None,
        source=f"layers {first} to {end} of the network in {network}, {train} + {test} points within {reach:g}, seed {seed}",
    )
    what = "output" if end == nets.depth else f"sum {end}"
    features = module.record["features"] if first == 0 else [f"neuron {first}.{i + 1}" for i in range(len(x))]
    return replace(task, features=tuple(features), targets=tuple(f"{what}.{i + 1}" for i in range(len(y))))


def as_task(
    name: str, pairs: Sequence[tuple[Tensor, Tensor]], *, inputs: tuple[Tensor, Tensor] | None = None, source: str = ""
) -> Task:
    """Regression on raw pairs ``x (I, N)``, ``y (O, N)`` for training, validation and test.

    Scaled by the training pair: x to [-1, 1], unless ``inputs`` gives shift and scale, y to mean 0 and variance 1. What does
    not vary keeps its unit.
    """
    x, y = pairs[0]
    low, high = x.min(1).values, x.max(1).values
    shift, scale = inputs or ((high + low) / 2.0, _unit((high - low) / 2.0))
    mean, spread = y.mean(1), _unit(y.std(1, correction=0))

    def split(pair: tuple[Tensor, Tensor]) -> Split:
        x, y = pair
        x, y = (x - shift.unsqueeze(-1)) / scale.unsqueeze(-1), (y - mean.unsqueeze(-1)) / spread.unsqueeze(-1)
        return Split(x.float().contiguous(), y.float().contiguous())

    train, valid, test = (split(pair) for pair in pairs)
    return replace(
        unscaled(name, (train, valid, test), source=source),
        input_shift=shift.float(),
        input_scale=scale.float(),
        output_shift=mean.float(),
        output_scale=spread.float(),
    )


def _unit(scale: Tensor) -> Tensor:
    """Columns that do not vary keep their unit."""
    return torch.where(scale > 1e-9, scale, torch.ones_like(scale))
