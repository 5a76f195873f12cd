"""Optimizers whose learning rate is one number per row, ``(K,)``. State is a dict of tensors beside the parameters.

Each ``update`` moves parameters and state in place (they belong to the loop) and is a pure tensor program, so that
a whole training step can be compiled. torch's own optimizers take one learning rate for a tensor, hence ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol

import torch
from pydantic import Field
from torch import Tensor

from nasplug.replicas import column

__all__ = ["OPTIMIZERS", "SGD", "Adam", "Exponentiated", "Optimizer", "adam", "adamw", "exponentiated", "sgd"]


class Optimizer(Protocol):
    """Two functions and no state of its own."""

    def start(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Fresh state for ``params``; leaves are ``(K, ...)`` or a zero-dimensional counter."""
        ...

    def update(self, params: Mapping[str, Tensor], grads: Mapping[str, Tensor], state: dict[str, Tensor], lr: Tensor) -> None:
        """One step in place; ``lr (K,)``."""
        ...


@dataclass(frozen=True, slots=True)
class Adam:
    """``p -= lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)`` (Kingma & Ba 2015), row by row.

    ``weight_decay`` is the L2 term in the gradient when ``decoupled`` is false (Adam), and ``p *= 1 - lr wd`` when true
    (AdamW, Loshchilov & Hutter 2019).
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    decoupled: bool = False

    def start(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """First and second moments at zero, and the step counter."""
        any_leaf = next(iter(params.values()))
        state = {"count": any_leaf.new_zeros(())}
        for name, p in params.items():
            state["m/" + name] = torch.zeros_like(p)
            state["v/" + name] = torch.zeros_like(p)
        return state

    def update(self, params: Mapping[str, Tensor], grads: Mapping[str, Tensor], state: dict[str, Tensor], lr: Tensor) -> None:
        """One step in place."""
        count = state["count"].add_(1.0)
        correct1 = 1.0 / (1.0 - self.beta1**count)
        correct2 = 1.0 / (1.0 - self.beta2**count)
        rate = lr * correct1  # (K,)
        for name, p in params.items():
            g, m, v = grads[name], state["m/" + name], state["v/" + name]
            if self.weight_decay and not self.decoupled:
                g = g + self.weight_decay * p
            m.lerp_(g, 1.0 - self.beta1)
            v.mul_(self.beta2).addcmul_(g, g, value=1.0 - self.beta2)
            step = m * column(rate, p) / (v * correct2).sqrt_().add_(self.eps)
            if self.weight_decay and self.decoupled:
                p.mul_(1.0 - column(lr, p) * self.weight_decay)
            p.sub_(step)


@dataclass(frozen=True, slots=True)
class SGD:
    """``b = momentum b + g + wd p; p -= lr b`` (torch's convention), row by row."""

    momentum: float = 0.0
    weight_decay: float = 0.0

    def start(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One momentum buffer per leaf, if there is momentum."""
        return {"b/" + name: torch.zeros_like(p) for name, p in params.items()} if self.momentum else {}

    def update(self, params: Mapping[str, Tensor], grads: Mapping[str, Tensor], state: dict[str, Tensor], lr: Tensor) -> None:
        """One step in place."""
        for name, p in params.items():
            g = grads[name]
            if self.weight_decay:
                g = g + self.weight_decay * p
            if self.momentum:
                g = state["b/" + name].mul_(self.momentum).add_(g)
            p.sub_(column(lr, p) * g)


@dataclass(frozen=True, slots=True)
class Exponentiated:
    """``p <- normalise(max(normalise(p exp(-lr g)), floor))`` over the last axis: gradient descent that stays on the simplex.

    Source: GAEA (Li et al. 2021), exponentiated gradient of Kivinen & Warmuth 1997. We differ: normalised before the floor
    too, so that a slope common to all entries moves nothing.
    """

    floor: float = 1e-5

    def start(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Nothing to remember."""
        return {}

    def update(self, params: Mapping[str, Tensor], grads: Mapping[str, Tensor], state: dict[str, Tensor], lr: Tensor) -> None:
        """One step in place."""
        for name, p in params.items():
            moved = torch.softmax(p.log() - column(lr, p) * grads[name], -1).clamp(min=self.floor)
            p.copy_(moved / moved.sum(-1, keepdim=True))


Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


def adam(*, beta1: Share = 0.9, beta2: Share = 0.999, eps: Positive = 1e-8, weight_decay: NotNegative = 0.0) -> Optimizer:
    """Adam with one learning rate per row."""
    return Adam(beta1, beta2, eps, weight_decay)


def adamw(*, beta1: Share = 0.9, beta2: Share = 0.999, eps: Positive = 1e-8, weight_decay: NotNegative = 0.01) -> Optimizer:
    """Adam with decoupled weight decay."""
    return Adam(beta1, beta2, eps, weight_decay, decoupled=True)


def sgd(*, momentum: Share = 0.0, weight_decay: NotNegative = 0.0) -> Optimizer:
    """Stochastic gradient descent, with momentum if asked."""
    return SGD(momentum, weight_decay)


def exponentiated(*, floor: Annotated[float, Field(gt=0, le=0.01)] = 1e-5) -> Optimizer:
    """Exponentiated gradient, for leaves that live on the simplex."""
    return Exponentiated(floor)


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adam": adam, "adamw": adamw, "exponentiated": exponentiated, "sgd": sgd}
