"""Tasks that make their data: XOR, addition, and the functions of CORNN."""

from __future__ import annotations

from typing import Literal

import numpy as np

from nasplug.data.columns import Part, Scale, assemble
from nasplug.data.cornn import find
from nasplug.data.shuffled import generator
from nasplug.errors import ConfigError
from nasplug.tasks import LOSSES, Logistic, SquaredError, Task, counts

__all__ = ["addition", "cornn", "xor"]


def xor(
    *,
    samples: int = 200,
    noise: float = 0.1,
    balanced: bool = True,
    loss: Literal["mse", "logistic"] = "mse",
    samples_valid: int = 200,
    samples_test: int = 1000,
    seed: int = 0,
) -> Task:
    """XOR: the corners of the unit square plus N(0, noise) on both inputs; the target is the xor of the clean corner, 0 or 1.

    ``balanced``: the four corners in turn; otherwise drawn at random. Train, valid and test are independent draws. Not
    scaled. ``loss``: mean squared error on 0/1, cut at 1/2, or logistic. 6 edges without bias are exact at noise 0:
    ``relu(a - b) + relu(b - a)``.
    """
    where = "task 'xor'"
    counts(where, least=2, samples=samples)
    counts(where, samples_valid=samples_valid, samples_test=samples_test)
    if noise < 0.0:
        raise ConfigError(f"{where}: noise={noise}; needed: a standard deviation >= 0")

    def draw(stream: int, n: int) -> Part:
        random = generator(where, seed, stream)
        corner = np.arange(n) % 4 if balanced else random.integers(0, 4, n)
        clean = np.stack([corner // 2, corner % 2], axis=1)  # (N, 2)
        y = (clean[:, :1] != clean[:, 1:]).astype(np.float64)
        return Part(clean + noise * random.standard_normal((n, 2)), y)

    parts = [draw(stream, n) for stream, n in enumerate((samples, samples_valid, samples_test))]
    source = f"made: xor, noise {noise}, seed {seed}"
    return assemble(
        "xor",
        "binary",
        Logistic() if loss == "logistic" else SquaredError(),
        parts,
        ("a", "b"),
        ("0", "1"),
        Scale.none(2),
        Scale.none(1),
        source,
        {},
    )


def addition(
    *,
    values: Literal["normal", "uniform"] = "normal",
    samples: int = 200,
    samples_valid: int = 200,
    samples_test: int = 1000,
    seed: int = 0,
) -> Task:
    """Addition: a and b from N(0, 1), or with ``values: uniform`` from [0, 1]; the target is a + b, exact.

    Train, valid and test are independent draws. Not scaled. Two skip edges, or 3 edges through one linear unit, are exact.
    """
    where = "task 'addition'"
    counts(where, least=2, samples=samples)
    counts(where, samples_valid=samples_valid, samples_test=samples_test)

    def draw(stream: int, n: int) -> Part:
        random = generator(where, seed, stream)
        x = random.random((n, 2)) if values == "uniform" else random.standard_normal((n, 2))
        return Part(x, x.sum(1, keepdims=True))

    parts = [draw(stream, n) for stream, n in enumerate((samples, samples_valid, samples_test))]
    source = f"made: a + b{', of [0, 1]' if values == 'uniform' else ''}, seed {seed}"
    return assemble(
        "addition", "regression", LOSSES["regression"], parts, ("a", "b"), ("a + b",), Scale.none(2), Scale.none(1), source, {}
    )


def cornn(*, function: str, train: int = 3750, test: int = 1250, valid: float = 0.2, seed: int = 0) -> Task:
    """CORNN: one of 54 functions of two variables by name (regression), e.g. Ackley, Booth, Egg Holder, Zakharov.

    ``train`` + ``test`` points uniform on the function's domain; ``valid`` is the share of the training points that is held
    back for validation (750 of 3,750; the benchmark has none). Inputs are scaled to [-1, 1] by the domain, the target by its
    smallest and largest value over all ``train`` points, so that test targets may lie a little outside. Our own draws: the
    benchmark's distribution, not its files. Source: Malan & Cleghorn 2022, arXiv:2109.05606, with its formulae, six of
    which are not the textbook's (see `nasplug.data.cornn`).
    """
    where = "task 'cornn'"
    f = find(function)
    counts(where, least=4, train=train)
    counts(where, test=test)
    held = round(valid * train)
    if not (0.0 < valid < 1.0 and 1 <= held <= train - 2):
        raise ConfigError(
            f"{where}: valid={valid} of train={train} gives {held} samples for validation; needed: a share above 0 and below 1 "
            "that leaves one there and two for training"
        )
    low, high = np.array([f.x[0], f.y[0]], dtype=np.float64), np.array([f.x[1], f.y[1]], dtype=np.float64)

    def draw(stream: int, n: int) -> Part:
        x = low + (high - low) * generator(where, seed, stream).random((n, 2))
        return Part(x, f.value(x[:, 0], x[:, 1])[:, None])

    given = draw(0, train)
    parts = [Part(given.x[held:], given.y[held:]), Part(given.x[:held], given.y[:held]), draw(1, test)]
    outputs = Scale.box(given.y.min(0), given.y.max(0))
    source = f"CORNN {f.name}, Malan & Cleghorn 2022, arXiv:2109.05606; our own draw, seed {seed}"
    return assemble(
        f.name, "regression", LOSSES["regression"], parts, ("x", "y"), ("f",), Scale.box(low, high), outputs, source, {}
    )
