"""What networks are trained to make small: losses per sample, all rows of a pack at once, each with the link it is served with.

All are registered by name (`nasplug.hookspecs.register_losses`); a study picks one with ``loss: {use: huber, delta: 0.5}``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from nasplug.errors import ConfigError
from nasplug.hookspecs import Register, hookimpl

__all__ = [
    "FURTHEST",
    "LOSSES",
    "CrossEntropy",
    "Kind",
    "Link",
    "Logistic",
    "Loss",
    "SquaredError",
    "linked",
    "mean",
    "one_hot",
    "register_losses",
]

Kind = Literal["regression", "binary", "classes"]
Link = Literal["identity", "sigmoid", "softmax", "exp"]

REGRESSION: frozenset[Kind] = frozenset({"regression"})
LABELS: frozenset[Kind] = frozenset({"binary", "classes"})
RARE = 1e-6  # the share that a constant predictor gives a label that never comes
FURTHEST = 30.0  # e^30: rates beyond it are no rates, and in float32 their squares overflow


def mean(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """The mean of each network over its samples: ``values (K, B)``, ``weights (B,)`` or ``(K, B)`` -> ``(K,)``.

    ``sum_n w_n v_n / sum_n w_n``. A sample without weight is not looked at, whatever its value; a network whose samples all
    have none gets 0, and a slope of 0.
    """
    if weights is None:
        return values.mean(-1)
    total = weights.sum(-1)
    counted = torch.where(weights > 0, values, torch.zeros_like(values)) * weights
    return counted.sum(-1) / torch.where(total > 0, total, torch.ones_like(total))


def linked(link: Link, outputs: Tensor) -> Tensor:
    """What a network with these outputs ``(K, O, B)`` says: numbers, probabilities or rates, in the scale of the targets."""
    if link == "sigmoid":
        return torch.sigmoid(outputs)
    if link == "softmax":
        return torch.softmax(outputs, 1)
    return outputs.clamp(max=FURTHEST).exp() if link == "exp" else outputs


def one_hot(y: Tensor, classes: int) -> Tensor:
    """Labels ``(N,)`` as probabilities ``(C, N)``; other targets as they are."""
    return y if y.is_floating_point() else F.one_hot(y, classes).mT.to(torch.get_default_dtype())


def quantile_of(y: Tensor, level: float, weights: Tensor | None = None) -> Tensor:
    """The smallest value with at least this share of the weight at or below it: ``(..., N)`` -> ``(...)``."""
    ordered, index = y.sort(-1)
    shares = torch.ones_like(ordered) if weights is None else weights.expand_as(y).gather(-1, index)
    reached = shares.cumsum(-1) >= level * shares.sum(-1, keepdim=True) * (1.0 - 1e-9)
    return ordered.gather(-1, reached.int().argmax(-1, keepdim=True)).squeeze(-1)


class Loss(ABC):
    """A loss. It holds its options and no tensors; two with the same options are the same (a frozen dataclass will do).

    Laws: the value of a sample reads that sample alone; nothing reduces over K; gradients are finite at finite outputs.
    """

    __slots__ = ()

    kinds: ClassVar[frozenset[Kind]] = REGRESSION
    """The kinds of task that it is for."""
    link: ClassVar[Link] = "identity"
    """What turns outputs into what is served: ``exp`` for logarithms of rates, ``sigmoid`` and ``softmax`` for labels."""
    shifted: ClassVar[bool] = True
    """Whether targets may be centred. Otherwise they are learned divided by their mean alone, and must be >= 0."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs that a network has for each target of a regression, ``("",)`` for one alone."""
        return ("",)

    @abstractmethod
    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Per sample: ``outputs (K, O, B)``, ``y`` as in `nasplug.tasks.Split` -> ``(K, B)``, the mean over targets."""

    def point(self, outputs: Tensor) -> Tensor:
        """One prediction per target: ``outputs (K, O, B)`` -> what metrics see, ``(K, targets, B)``, link applied."""
        return linked(self.link, outputs)

    def error(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The error of a regression per sample, ``(K, B)``: what is shown and chosen by. The default is the squared error."""
        return (self.point(outputs) - y).square().mean(1)

    def constant(self, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """The best outputs of a network that puts out the same for every sample, ``(O,)``, or ``(K, O)``.

        The default is the weighted mean of the targets, through the link backwards.
        """
        share = y.new_full(y.shape[-1:], 1.0 / y.shape[-1]) if weights is None else weights / weights.sum(-1, keepdim=True)
        middle = (y * share.unsqueeze(-2)).sum(-1)
        if self.link == "sigmoid":
            return torch.logit(middle, eps=RARE)
        return middle if self.link == "identity" else middle.clamp(min=RARE).log()

    def __str__(self) -> str:
        """Its name and its options, as they stand in tables and in the identity of a task."""
        given: list[str] = [f"{f.name}={getattr(self, f.name)}" for f in fields(self)] if is_dataclass(self) else []
        return type(self).__name__ + (f"({', '.join(given)})" if given else "")


@dataclass(frozen=True, slots=True)
class SquaredError(Loss):
    """See `mse`."""

    kinds: ClassVar[frozenset[Kind]] = frozenset({"regression", "binary"})

    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The mean over targets."""
        return (outputs - y).square().mean(1)

    def __str__(self) -> str:
        return "mse"


@dataclass(frozen=True, slots=True)
class AbsoluteError(Loss):
    """See `mae`."""

    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The mean over targets."""
        return (outputs - y).abs().mean(1)

    def constant(self, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """Medians."""
        return quantile_of(y, 0.5, None if weights is None else weights.unsqueeze(-2))

    def __str__(self) -> str:
        return "mae"


@dataclass(frozen=True, slots=True)
class Huber(Loss):
    """See `huber`."""

    delta: float

    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The mean over targets."""
        away = (outputs - y).abs()
        near = away.clamp(max=self.delta)
        return (near * (away - near / 2)).mean(1)

    def constant(self, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """From the median by steps of the mean slope, which never lead past the best."""
        found = quantile_of(y, 0.5, None if weights is None else weights.unsqueeze(-2))
        share = y.new_full(y.shape[-1:], 1.0 / y.shape[-1]) if weights is None else weights / weights.sum(-1, keepdim=True)
        for _ in range(100):
            away = (y - found.unsqueeze(-1)).clamp(-self.delta, self.delta)
            found = found + (away * share.unsqueeze(-2)).sum(-1)
        return found

    def __str__(self) -> str:
        return f"huber(delta={self.delta:g})"


@dataclass(frozen=True, slots=True)
class Pinball(Loss):
    """See `quantile` and `quantiles`."""

    levels: tuple[float, ...]

    @property
    def outputs(self) -> tuple[str, ...]:
        """One per level."""
        return ("",) if len(self.levels) == 1 else tuple(f"q{level:g}" for level in self.levels)

    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The mean over targets and levels; the outputs of a target stand together, in the order of the levels."""
        k, _, b = outputs.shape
        away = y.unsqueeze(-2) - outputs.view(k, -1, len(self.levels), b)  # (K, T, L, B)
        level = torch.cat([outputs.new_full((1, 1), level) for level in self.levels])  # (L, 1), made on the device
        return torch.maximum(level * away, (level - 1.0) * away).mean((1, 2))

    def point(self, outputs: Tensor) -> Tensor:
        """The level nearest to the median."""
        middle = min(range(len(self.levels)), key=lambda i: abs(self.levels[i] - 0.5))
        return outputs[:, middle :: len(self.levels)]

    def error(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The loss itself: a squared error would say nothing of a quantile."""
        return self(outputs, y)

    def constant(self, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """The quantiles of the targets."""
        own = None if weights is None else weights.unsqueeze(-2)
        return torch.stack([quantile_of(y, level, own) for level in self.levels], -1).flatten(-2)

    def __str__(self) -> str:
        told = ", ".join(f"{level:g}" for level in self.levels)
        return f"quantile(level={told})" if len(self.levels) == 1 else f"quantiles(levels={told})"


@dataclass(frozen=True, slots=True)
class Poisson(Loss):
    """See `poisson`."""

    link: ClassVar[Link] = "exp"
    shifted: ClassVar[bool] = False

    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The mean over targets; beyond `FURTHEST` the tangent, so that a step back is not lost."""
        beyond = 1.0 + (outputs - FURTHEST).clamp(min=0.0)
        return (linked("exp", outputs) * beyond - y * outputs).mean(1)

    def __str__(self) -> str:
        return "poisson"


@dataclass(frozen=True, slots=True)
class Logistic(Loss):
    """See `logistic`."""

    kinds: ClassVar[frozenset[Kind]] = frozenset({"binary"})
    link: ClassVar[Link] = "sigmoid"

    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        """``log(1 + e^o) - y o``, stable for both signs of o."""
        return (F.softplus(outputs) - outputs * y).mean(1)

    def __str__(self) -> str:
        return "logistic"


@dataclass(frozen=True, slots=True)
class CrossEntropy(Loss):
    """See `cross_entropy`."""

    smoothing: float = 0.0
    kinds: ClassVar[frozenset[Kind]] = frozenset({"classes"})
    link: ClassVar[Link] = "softmax"

    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Of labels ``(B,)``, or of probabilities ``(C, B)``."""
        log_normaliser = torch.logsumexp(outputs, dim=1)  # (K, B)
        k, _, b = outputs.shape
        if y.is_floating_point():
            picked = (outputs * y).sum(1)  # (K, B)
        else:
            picked = outputs.gather(1, y.view(-1, 1, b).expand(k, 1, b)).squeeze(1)
        if self.smoothing:
            picked = (1.0 - self.smoothing) * picked + self.smoothing * outputs.mean(1)
        return log_normaliser - picked

    def constant(self, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """The logarithms of the shares of the classes, those that never come nearly 0."""
        if not y.is_floating_point():
            raise ConfigError("cross_entropy: give its constant one-hot labels, (C, N)")
        return super(CrossEntropy, self).constant(y, weights)

    def __str__(self) -> str:
        return f"cross_entropy(smoothing={self.smoothing:g})" if self.smoothing else "cross_entropy"


LOSSES: Mapping[Kind, Loss] = {"regression": SquaredError(), "binary": Logistic(), "classes": CrossEntropy()}
"""The loss of a kind where none is asked for."""


def mse() -> Loss:
    """The squared error: ``(o - y)^2``, the mean over targets; of 0 and 1 for two labels, cut at 1/2. Served as it is."""
    return SquaredError()


def mae() -> Loss:
    """The absolute error: ``|o - y|``, the mean over targets; it finds medians and forgives outliers. Served as it is.

    Its slope is 1 however near it is: let the learning rate go to 0 (``train.decay``).
    """
    return AbsoluteError()


def huber(*, delta: Annotated[float, Field(gt=0)] = 1.0) -> Loss:
    """Squared near the target, absolute beyond ``delta``: ``e = |o - y|`` costs ``e^2 / 2``, then ``delta (e - delta / 2)``.

    ``delta`` is in units of the target as it is learned: 1 is one standard deviation of a standardised one. Source: Huber 1964.
    """
    return Huber(delta)


def quantile(*, level: Annotated[float, Field(gt=0, lt=1)] = 0.5) -> Loss:
    """One quantile of each target: ``max(level e, (level - 1) e)``, ``e = y - o``. Served as it is.

    Its error, by which networks are chosen, is this loss. Source: Koenker and Bassett 1978.
    """
    return Pinball((level,))


def quantiles(*, levels: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=2)]) -> Loss:
    """Several quantiles of each target, an output for each level: the mean of their `quantile` losses.

    Outputs are called ``TARGET q0.1`` and so on. Metrics see the level nearest to 0.5. Levels may cross: nothing forbids it.

    Raises:
        ConfigError: for levels that do not rise.
    """
    if sorted(set(levels)) != levels:
        raise ConfigError(f"levels: {levels}; needed: rising ones, each once, for example [0.1, 0.5, 0.9]")
    return Pinball(tuple(levels))


def poisson() -> Loss:
    """Counts and rates: ``e^o - y o``, the negative logarithm of Poisson's likelihood without its constant. Served: ``e^o``.

    Targets must be >= 0; they are divided by their mean and not centred, so outputs are logarithms of multiples of the mean.
    The error is the squared one of ``e^o``. Outputs beyond 30 are served as 30; the loss goes on there as its tangent,
    ``e^30 (1 + o - 30) - y o``, as the exponential overflows.
    """
    return Poisson()


def logistic() -> Loss:
    """Two labels by their log-odds: ``log(1 + e^o) - y o``, cut at 0. Served: the second label's probability, a sigmoid."""
    return Logistic()


def cross_entropy(*, smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0) -> Loss:
    """Classes by logits: ``log sum_c e^(o_c) - sum_c p_c o_c``. Served: probabilities, a softmax.

    ``p`` is 1 for the label, or a teacher's probabilities where the task has such columns (soft targets). ``smoothing`` of it
    is spread evenly over all classes. Source: Szegedy et al. 2016 (smoothing), Hinton et al. 2015 (soft targets).
    """
    return CrossEntropy(smoothing)


@hookimpl
def register_losses(register: Register) -> None:
    """Ours."""
    for made in (mse, mae, huber, quantile, quantiles, poisson, logistic, cross_entropy):
        register(made.__name__, made)
