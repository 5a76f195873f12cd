"""`l1`: the sum of absolute effective weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from nasplug.contracts import Norms, Regularizer
from nasplug.errors import ConfigError
from nasplug.networks import Networks
from nasplug.replicas import total
from nasplug_regularizers.groups import by_layer

__all__ = ["L1", "l1"]


@dataclass(frozen=True, slots=True)
class L1(Regularizer):
    """See `l1`."""

    layers: tuple[float, ...] | None = None
    needs: ClassVar[frozenset[str]] = frozenset({"blocks"})

    def __call__(self, nets: Networks) -> Tensor:
        """``(K,)``."""
        if self.layers is None:
            return total(nets.block(edge).abs().sum((1, 2)) for edge in nets.blocks)
        return total(self.layers[edge[0] - 1] * nets.block(edge).abs().sum((1, 2)) for edge in nets.blocks)

    def norms(self, nets: Networks) -> Sequence[Norms]:
        """Each weight alone."""
        factors = self.layers or (1.0,) * nets.depth
        return [Norms(layer, "each", factor) for layer, factor in enumerate(factors, 1)]

    def accept(self, nets: Networks) -> None:
        """Refuse another number of ``layers`` than the networks have.

        Raises:
            ConfigError: with both.
        """
        if self.layers is not None and len(self.layers) != nets.depth:
            raise ConfigError(
                f"l1 has {len(self.layers)} layers for {nets.depth} (widths {nets.widths}); give one number per hidden layer, "
                "first to last, and one for the output layer"
            )


def l1(*, layers: Sequence[float] | None = None) -> Regularizer:
    """The sum of absolute weights of a network, edge gates included.

    ``sum over blocks (l, m) and their entries of |blocks * edge_gates|``, shape ``(K,)``, range [0, inf); the gradient at
    a weight of exactly 0 is 0. Biases are not penalised: they cost no connection. Of a column that became several inputs each
    number is penalised, so that a linear effect costs less than ramps. ``layers``: one factor >= 0 per layer that weights
    enter, hidden layers first to last and then the output layer (default 1 each).

    Fails when weights can be small without being unimportant: a scale that moves from one layer to the next (ReLU) changes
    the penalty and not the function. It shrinks what it keeps: finish without it.

    Source: Structure-Aware Backpropagation, ``task + lambda * sum |w|``. We differ: the paper's subgradient
    ``lambda sign(w)`` is the same; effective weights instead of raw ones, so that gates and weights share one penalty.

    Raises:
        ConfigError: for ``layers`` that are empty, negative, not finite or all zero.
    """
    return L1(by_layer("l1", layers, "layer"))
