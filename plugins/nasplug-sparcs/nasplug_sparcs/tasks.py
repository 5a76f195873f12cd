"""The data of the paper's first two experiments."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nasplug.errors import ConfigError
from nasplug.replicas import orthogonal, uniform
from nasplug.tasks import Split, Task, counts, unscaled

__all__ = ["sparcs_teacher", "sparcs_transition"]


def _rotation(seed: int, stream: str, size: int) -> Tensor:
    """A random rotation, ``(size, size)`` float64: orthonormal, determinant 1."""
    q = orthogonal(torch.tensor([seed]), stream, size, size)[0]
    q[0] *= torch.linalg.det(q).sign()
    return q


def _regression(name: str, x: Tensor, y: Tensor, source: str) -> Task:
    """``x (I, N)``, ``y (O, N)`` as they are: 80 % to train, 10 % to validate, 10 % to test."""
    return unscaled(name, Split(x, y).cut(x.shape[1] // 10), source=source)


def sparcs_teacher(*, inputs: int = 20, samples: int = 25_000, seed: int = 0) -> Task:
    """A teacher of one hidden layer, ``y = R2 relu(R1 x)``, R1 and R2 random rotations; x uniform on [-1, 1].

    ``samples``: 80 % to train, 10 % to validate, 10 % to test. The best linear fit has R2 about 0.74 for 20 inputs. Source:
    Spectral Architecture Search, experiment 2, which has 100,000 points.

    Raises:
        ConfigError: for fewer than 10 samples or 2 inputs.
    """
    counts("sparcs_teacher", least=2, most=1000, inputs=inputs)  # for a rotation, which is of inputs^2 numbers
    counts("sparcs_teacher", least=10, samples=samples)  # for three splits
    counts("sparcs_teacher", most=10**7, numbers=inputs * samples)
    x = uniform(torch.tensor([seed]), "sparcs/teacher x", (inputs, samples), -1.0, 1.0)[0]
    first, second = (_rotation(seed, f"sparcs/teacher R{i}", inputs) for i in (1, 2))
    return _regression("sparcs_teacher", x, second @ torch.relu(first @ x), f"R2 relu(R1 x), {samples} points, seed {seed}")


def sparcs_transition(*, alpha: float = 1.0, beta: float = 5.0, samples: int = 10_000, seed: int = 42) -> Task:
    """From linear to quadratic: ``y = (1 - t) / 2 mean(x) + (1 + t) / 2 mean(x^2)``, ``t = tanh(beta (alpha - 0.5))``.

    x is uniform on [-1, 1]^2; 80 % to train, 10 % to validate, 10 % to test. At alpha 0 (and beta large) a perceptron is
    enough, at alpha 1 it is not. Source: Spectral Architecture Search, experiment 1. Take a method with ``bias_input``: the
    paper gives the network a third input that is always 1.

    Raises:
        ConfigError: for fewer than 10 samples, or numbers that are not finite.
    """
    if not (math.isfinite(alpha) and math.isfinite(beta)):
        raise ConfigError(f"sparcs_transition: alpha={alpha}, beta={beta}; needed: finite numbers")
    counts("sparcs_transition", least=10, samples=samples)  # for three splits
    x = uniform(torch.tensor([seed]), "sparcs/transition x", (2, samples), -1.0, 1.0)[0]
    t = math.tanh(beta * (alpha - 0.5))
    y = (1.0 - t) / 2.0 * x.mean(0, keepdim=True) + (1.0 + t) / 2.0 * x.square().mean(0, keepdim=True)
    return _regression("sparcs_transition", x, y, f"alpha {alpha:g}, beta {beta:g}, {samples} points, seed {seed}")
