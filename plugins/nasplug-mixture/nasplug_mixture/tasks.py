"""Data whose best activation is known: random teachers of two layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from nasplug.activations import function_of
from nasplug.errors import ConfigError
from nasplug.replicas import normal
from nasplug.tasks import Split, Task, counts, unscaled

__all__ = ["mixture_teacher"]


def mixture_teacher(
    *,
    activations: Sequence[str] = ("tanh",),
    inputs: int = 4,
    hidden: int = 8,
    noise: float = 0.0,
    samples: int = 640,
    seed: int = 0,
) -> Task:
    """A random teacher of one hidden layer, ``y = v^T s(W x) + noise``; a student can be told which activation it has.

    ``W`` and ``v`` are normal, rows of W of length about 1.5; s is the mean of ``activations``, so that one of them can be
    right or none. x is standard normal; y has variance 1 over the training samples, before noise. 80 % of the ``samples``
    are to train, 10 % to validate, 10 % to test. Source: the setting of Understanding NAS by its architecture parameters.

    Raises:
        ConfigError: for fewer than 10 samples, no input or hidden unit, no or an unknown activation, negative noise.
    """
    counts("mixture_teacher", most=10_000, inputs=inputs, hidden=hidden)
    counts("mixture_teacher", least=10, samples=samples)  # for three splits
    counts("mixture_teacher", most=10**7, numbers=max(inputs, hidden) * samples * max(len(activations), 1))
    if not activations:
        raise ConfigError("mixture_teacher: activations=[]; needed: at least one, such as [tanh]")
    if not (math.isfinite(noise) and noise >= 0.0):
        raise ConfigError(f"mixture_teacher: noise={noise}; needed: a finite number >= 0, in standard deviations of y")
    one = torch.tensor([seed])
    x = normal(one, "mixture/teacher x", (inputs, samples))[0]
    w = normal(one, "mixture/teacher W", (hidden, inputs))[0] * (1.5 / math.sqrt(inputs))
    v = normal(one, "mixture/teacher v", (1, hidden))[0]
    z = w @ x  # (H, N)
    y = v @ torch.stack([function_of(name)(z) for name in activations]).mean(0)  # (1, N)
    held = samples // 10
    trained = y[:, : samples - 2 * held]
    y = (y - trained.mean()) / trained.std().clamp(min=1e-12)
    y = y + noise * normal(one, "mixture/teacher noise", (1, samples))[0]
    source = f"teacher of {hidden} units, {' + '.join(activations)}, {samples} points, seed {seed}"
    return unscaled("mixture_teacher", Split(x, y).cut(held), targets=("y",), source=source)
