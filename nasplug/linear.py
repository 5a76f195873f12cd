"""The network without hidden layers, `linear`, and `lasso`, the penalty that makes its weights exactly 0."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from nasplug.contracts import Params, Proximal, Regularizer, SearchMethod, Traits
from nasplug.hookspecs import Register, hookimpl
from nasplug.networks import Networks
from nasplug.replicas import column, normal, total
from nasplug.tasks import Task

__all__ = ["Accelerated", "Lasso", "Linear", "lasso", "linear"]

BLOCK, BIAS = "block 1 0", "bias 1"
SMALL = 0.01  # of the weights that it starts from: the problem is convex, and where it starts does not matter


@dataclass(frozen=True, slots=True)
class Linear(SearchMethod):
    """See `linear`."""

    traits = Traits(holds=frozenset({"blocks"}), convex=True)

    def init(self, task: Task, seeds: Tensor) -> Params:
        """``block 1 0 (K, O, I)`` from N(0, 0.01), ``bias 1 (K, O)`` at 0."""
        block = SMALL * normal(seeds, f"linear/{BLOCK}", (task.outputs, task.inputs))
        return {BLOCK: block, BIAS: torch.zeros_like(block[..., 0])}

    def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
        """The weights as they are; ``tau`` and ``noise`` play no part."""
        block = params[BLOCK]
        return Networks(widths=(block.shape[2], block.shape[1]), blocks={(1, 0): block}, biases={1: params[BIAS]})

    def hold(self, nets: Networks) -> Params:
        """The block."""
        return {BLOCK: nets.blocks[1, 0]}


@dataclass(frozen=True, slots=True)
class Accelerated(Linear):
    """The same with Nesterov's momentum around each step; see `linear`.

    Beside block and bias stand the last iterate (``last ...``), the point that the step began from (``from ...``) and
    ``momentum (K,)``. They have no gradient.
    """

    def init(self, task: Task, seeds: Tensor) -> Params:
        """As `Linear`, with nothing behind it yet."""
        leaves = Linear.init(self, task, seeds)
        behind = {f"{word} {name}": leaf.clone() for word in ("last", "from") for name, leaf in leaves.items()}
        return leaves | behind | {"momentum": torch.ones(len(seeds), dtype=torch.float64, device=seeds.device)}

    def project(self, params: Params, step: int, steps: int) -> Params:
        """``y = x + (t - 1) / t' (x - last x)``, t' = (1 + sqrt(1 + 4 t^2)) / 2; t = 1 again where the step went back.

        After the last step x itself, in which zeros are exact.
        """
        if step == steps:
            return params
        names = (BLOCK, BIAS)
        moved = {name: params[name] - params[f"last {name}"] for name in names}
        back = total((moved[name] * (params[f"from {name}"] - params[name])).flatten(1).sum(1) for name in names) > 0  # (K,)
        t = torch.where(back, torch.ones_like(params["momentum"]), params["momentum"])
        after = (1.0 + (1.0 + 4.0 * t.square()).sqrt()) / 2.0
        made: Params = {"momentum": after}
        for name in names:
            ahead = params[name] + column((t - 1.0) / after, params[name]) * moved[name]
            made |= {name: ahead, f"last {name}": params[name].clone(), f"from {name}": ahead.clone()}
        return made


def linear(*, accelerate: bool = False) -> SearchMethod:
    """The network without hidden layers: a linear or logistic regression, which trains in the same pack program.

    ``y = W x + b``: one block ``(1, 0)`` ``(K, O, I)`` and biases ``(K, O)``; link and loss are the task's. Its block is a
    parameter as it is (`nasplug.contracts.Traits.holds`), so that `lasso` makes weights exactly 0.

    ``accelerate``: Nesterov's momentum with restarts around every step, for optimizer ``sgd`` at a learning rate of 1 / L, L
    the largest curvature of the loss: with `lasso` this is FISTA, which comes to the one solution of the convex problem in
    some hundred to thousand steps. Beside ``adam`` leave it off.

    Fails: it has no interactions and no bends, and of two features that say the same it keeps either.

    Source: Beck and Teboulle 2009 (FISTA), O'Donoghue and Candes 2015 (restart by gradient). We differ: each row has its own
    momentum and its own restarts.
    """
    return Accelerated() if accelerate else Linear()


@dataclass(frozen=True, slots=True)
class Lasso(Proximal):
    """See `lasso`."""

    needs: ClassVar[frozenset[str]] = frozenset({"blocks"})

    def __call__(self, nets: Networks) -> Tensor:
        """``(K,)``."""
        return total(w.abs().sum((1, 2)) for w in nets.blocks.values())

    def shrink(self, nets: Networks, amount: Tensor) -> Networks:
        """``sign(w) max(|w| - amount, 0)``, ``amount (K,)``."""
        moved = {edge: w.sign() * (w.abs() - column(amount, w)).clamp(min=0.0) for edge, w in nets.blocks.items()}
        return replace(nets, blocks=moved)


def lasso() -> Regularizer:
    """The sum of absolute weights, by its proximal map: weights become exactly 0 while training.

    ``sum over blocks and their entries of |w|``, shape ``(K,)``, range [0, inf). Biases are not penalised. Each step ends
    with ``sign(w) max(|w| - lr level, 0)`` (`nasplug.contracts.Proximal`); the method must hold its blocks as parameters, as
    `linear` does.

    Fails: it shrinks what it keeps; let its level go back to 0 (ramp ``plateau``), and what is left trains on without it.
    With Adam the zeros are exact, the solution is not that of the penalised loss: take ``sgd`` where that matters.

    Source: Tibshirani 1996; the proximal map: Daubechies et al. 2004.
    """
    return Lasso()


@hookimpl
def register_search_methods(register: Register) -> None:
    """The method that every sweep has beside its own."""
    register("linear", linear)


@hookimpl
def register_regularizers(register: Register) -> None:
    """Its penalty."""
    register("lasso", lasso)
