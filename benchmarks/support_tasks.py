"""Functions of some of their inputs, whose other inputs are noise: what `support.py` asks methods to find.

Registered as the task ``support``: ``{use: support, function: friedman1, samples: 1000, noise: 0.1, seed: 0}``.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from nasplug import hookimpl
from nasplug.data.datasets import from_arrays
from nasplug.hookspecs import Register
from nasplug.tasks import Task

__all__ = ["FUNCTIONS", "TEST", "VALID", "Function", "Plugin", "draw"]

Array = npt.NDArray[np.float64]
Pairs = frozenset[tuple[int, int]]
TEST = 2000
"""Test samples, drawn as the others are."""
VALID = 0.25
"""The share of the other samples that validates."""


@dataclass(frozen=True)
class Function:
    """A target and what is true of it.

    Attributes:
        inputs: how many there are.
        points: ``(generator, samples) -> (samples, inputs)``.
        value: of points; of labels above 0 is label 1.
        true: the inputs that it depends on.
        pairs: those of them that interact.
        kind: of the task.
        free: inputs that count neither as right nor as wrong.
    """

    inputs: int
    points: Callable[[np.random.Generator, int, int], Array]
    value: Callable[[Array], Array]
    true: frozenset[int]
    pairs: Pairs
    kind: Literal["regression", "binary"] = "regression"
    free: frozenset[int] = frozenset()


def _box(random: np.random.Generator, samples: int, inputs: int) -> Array:
    return random.uniform(-1.0, 1.0, (samples, inputs))


def _unit(random: np.random.Generator, samples: int, inputs: int) -> Array:
    return random.random((samples, inputs))


def _signs(random: np.random.Generator, samples: int, inputs: int) -> Array:
    return np.where(random.random((samples, inputs)) < 0.5, -1.0, 1.0)


def _moons(random: np.random.Generator, samples: int, inputs: int) -> Array:
    """Both moons of scikit-learn's `make_moons` with noise 0.2, the label beside them, and N(0, 1)."""
    label, angle = random.integers(0, 2, samples), math.pi * random.random(samples)
    moon = np.stack((np.where(label, 1.0 - np.cos(angle), np.cos(angle)), np.where(label, 0.5 - np.sin(angle), np.sin(angle))))
    rest = random.normal(size=(samples, inputs - 2))
    return np.concatenate((moon.T + 0.2 * random.normal(size=(samples, 2)), rest, label[:, None] - 0.5), 1)


def _friedman1(x: Array) -> Array:
    made: Array = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    return made


def _circuit(u: Array) -> tuple[Array, Array]:
    """Friedman's second and third function measure a circuit: resistance, and inductance less capacitance."""
    r, w, l, c = (low + u[:, i] * (high - low) for i, (low, high) in enumerate(RANGES))  # noqa: E741
    return r, w * l - 1.0 / (w * c)


RANGES = ((0.0, 100.0), (40 * math.pi, 560 * math.pi), (0.0, 1.0), (1.0, 11.0))


def _friedman2(u: Array) -> Array:
    made: Array = np.hypot(*_circuit(u))
    return made


def _friedman3(u: Array) -> Array:
    resistance, reactance = _circuit(u)
    made: Array = np.arctan(reactance / resistance)
    return made


def _additive(x: Array) -> Array:
    made: Array = 1.4 * np.sin(np.pi * x[:, 0]) + 3.4 * x[:, 1] ** 2 + 3.5 * np.abs(x[:, 2]) + 1.7 * x[:, 3]
    return made


def _pairwise(x: Array) -> Array:
    made: Array = 3.0 * x[:, 0] * x[:, 1] + 2.0 * np.sin(np.pi * x[:, 2] * x[:, 3]) + 1.7 * x[:, 4]
    return made


def _some(*inputs: int) -> frozenset[int]:
    return frozenset(inputs)


def _all_of(*inputs: int) -> Pairs:
    return frozenset(itertools.combinations(inputs, 2))


FUNCTIONS: Mapping[str, Function] = {
    "parity": Function(10, _signs, lambda x: x[:, :3].prod(1), _some(0, 1, 2), _all_of(0, 1, 2), "binary"),
    "products": Function(
        10, _box, lambda x: x[:, 0] * x[:, 1] + x[:, 2] * x[:, 3], _some(0, 1, 2, 3), frozenset({(0, 1), (2, 3)})
    ),
    "friedman1": Function(10, _unit, _friedman1, _some(0, 1, 2, 3, 4), _all_of(0, 1)),
    # Input 0 is .06 % of the second function's variance, input 3 less than 1e-9 of both.
    "friedman2": Function(10, _unit, _friedman2, _some(1, 2), _all_of(1, 2), free=_some(0)),
    "friedman3": Function(10, _unit, _friedman3, _some(0, 1, 2), _all_of(0, 1, 2)),
    "moons": Function(8, _moons, lambda x: x[:, -1], _some(0, 1), _all_of(0, 1), "binary"),
    **{f"additive{n}": Function(n, _box, _additive, _some(0, 1, 2, 3), frozenset()) for n in (10, 30, 50)},
    **{f"pairwise{n}": Function(n, _box, _pairwise, _some(0, 1, 2, 3, 4), frozenset({(0, 1), (2, 3)})) for n in (10, 30, 50)},
}


def draw(name: str, samples: int, noise: float, seed: int) -> tuple[Array, Array]:
    """``samples`` to learn from and then `TEST` more: points and targets.

    ``noise``: of numbers its variance, as a share of the signal's; of labels the share of them that is turned.
    """
    function = FUNCTIONS[name]
    random = np.random.default_rng([zlib.crc32(name.encode()), seed, samples])
    x = function.points(random, samples + TEST, function.inputs)
    y = function.value(x)
    x = x[:, : function.inputs]
    if function.kind == "binary":
        label = (y > 0) ^ (random.random(len(y)) < noise)
        return x, label.astype(np.float64)
    return x, y + math.sqrt(noise) * y.std() * random.normal(size=len(y))


class Plugin:
    """The task ``support``."""

    @hookimpl
    def register_tasks(self, register: Register) -> None:
        """One name."""
        register("support", support)


def support(*, function: str, samples: int = 1000, noise: float = 0.1, seed: int = 0) -> Task:
    """A function whose inputs are known: a quarter of the samples validates, 2,000 more test."""
    x, y = draw(function, samples, noise, seed)
    rows = samples + TEST
    return from_arrays(
        x,
        y,
        kind=FUNCTIONS[function].kind,
        name=function,
        validation={"use": "holdout", "share": VALID * samples / rows},
        test=TEST / rows,
        seed=seed,
    )
