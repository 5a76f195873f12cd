"""The data of the paper's first two experiments."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nasplug.errors import ConfigError
from nasplug.replicas import normal, orthogonal, uniform
from nasplug.tasks import Split, Task, counts, unscaled

__all__ = ["sparcs_teacher", "sparcs_transition"]


def _rotation(seed: int, stream: str, rows: int, columns: int) -> Tensor:
    """Random directions, ``(rows, columns)`` float64: a rotation where square, else `nasplug.replicas.orthogonal`'s sets."""
    q = orthogonal(torch.tensor([seed]), stream, rows, columns)[0]
    if rows == columns:
        q[0] *= torch.linalg.det(q).sign()
    return q


def _regression(name: str, x: Tensor, y: Tensor, source: str) -> Task:
    """``x (I, N)``, ``y (O, N)`` as they are: 80 % to train, 10 % to validate, 10 % to test."""
    return unscaled(name, Split(x, y).cut(x.shape[1] // 10), source=source)


def sparcs_teacher(
    *, inputs: int = 20, hidden: Sequence[int] | None = None, noise: float = 0.0, samples: int = 25_000, seed: int = 0
) -> Task:
    """A teacher without biases, ``y = R2 relu(R1 x)``, R1 and R2 random rotations; x uniform on [-1, 1].

    ``hidden``: neurons of each hidden layer of the teacher, ``[inputs]`` if it is not given. Of ``[20, 40]`` it is ``R3 relu(R2
    relu(R1 x))``, with as many outputs as inputs. A matrix that is not square has orthonormal rows, in groups of at most as
    many as it has columns. ``noise``: N(0, (noise s)^2) on every target of all three splits, s the root mean square of the
    clean targets about their means; so no network has more than R2 ``1 / (1 + noise^2)``. ``samples``: 80 % to train, 10 % to
    validate, 10 % to test. The best linear fit of the default has R2 about 0.74. Source: Spectral Architecture Search,
    experiment 2, which has one hidden layer, no noise and 100,000 points; the rest is ours.

    Raises:
        ConfigError: for fewer than 10 samples or 2 inputs, hidden layers that are missing or out of range, or noise that is
            negative or not finite.
    """
    where = "sparcs_teacher"
    counts(where, least=2, most=1000, inputs=inputs)  # for a rotation, which is of inputs^2 numbers
    counts(where, least=10, samples=samples)  # for three splits
    counts(where, most=10**7, numbers=inputs * samples)
    widths = [inputs] if hidden is None else list(hidden)
    if not widths:
        raise ConfigError(f"{where}: hidden=[]; needed: at least one hidden layer, for example [20] or [20, 40]")
    for width in widths:
        counts(where, least=1, most=1000, hidden=width)
    if not (math.isfinite(noise) and noise >= 0.0):
        raise ConfigError(f"{where}: noise={noise}; needed: a finite number >= 0, a share of the targets' spread")
    x = uniform(torch.tensor([seed]), "sparcs/teacher x", (inputs, samples), -1.0, 1.0)[0]
    y = x
    for i, (source, to) in enumerate(itertools.pairwise((inputs, *widths, inputs)), start=1):
        y = _rotation(seed, f"sparcs/teacher R{i}", to, source) @ (y if i == 1 else torch.relu(y))
    if noise:
        spread = (y - y.mean(1, keepdim=True)).square().mean().sqrt()
        y = y + noise * spread * normal(torch.tensor([seed]), "sparcs/teacher noise", (inputs, samples))[0]
    layers = f", hidden {widths}" if hidden is not None else ""
    said = f", noise {noise:g}" if noise else ""
    return _regression(where, x, y, f"R2 relu(R1 x){layers}{said}, {samples} points, seed {seed}")


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
