"""`soft_count`: a smooth count of the connections that are kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from nasplug.contracts import Regularizer
from nasplug.errors import ConfigError, ContractError
from nasplug.groups import norms, shares
from nasplug.networks import Networks
from nasplug.replicas import total

__all__ = ["GateCount", "WeightCount", "soft_count"]


@dataclass(frozen=True, slots=True)
class GateCount(Regularizer):
    """The sum of edge gates; see `soft_count`."""

    needs: ClassVar[frozenset[str]] = frozenset({"edge_gates"})

    def __call__(self, nets: Networks) -> Tensor:
        """``(K,)``.

        Raises:
            ContractError: for networks without edge gates.
        """
        if not nets.edge_gates:
            raise ContractError("soft_count of 'gates' got networks without edge_gates; use of='weights'")
        gates = [shares(g, nets.groups) if nets.groups and edge[1] == 0 else g for edge, g in nets.edge_gates.items()]
        return total(gate.sum((1, 2)) for gate in gates)


@dataclass(frozen=True, slots=True)
class WeightCount(Regularizer):
    """The sum of ``sigmoid(sharpness (|w| - threshold))``; see `soft_count`."""

    threshold: float
    sharpness: float
    needs: ClassVar[frozenset[str]] = frozenset({"blocks"})

    def __call__(self, nets: Networks) -> Tensor:
        """``(K,)``."""
        blocks = {edge: nets.block(edge) for edge in nets.blocks}
        sizes = [norms(w, nets.groups) if nets.groups and edge[1] == 0 else w.abs() for edge, w in blocks.items()]
        return total(torch.sigmoid(self.sharpness * (size - self.threshold)).sum((1, 2)) for size in sizes)


def soft_count(
    *, threshold: float | None = None, sharpness: float | None = None, of: Literal["gates", "weights"] = "gates"
) -> Regularizer:
    """A smooth count of the connections that are kept, by their gates or by their weights.

    ``gates``: ``sum of edge_gates``, the expected number of kept edges when a gate is the probability of being kept.
    Needs ``edge_gates``; edges without a gate are not counted.
    ``weights``: ``sum of sigmoid(sharpness (|w| - threshold))`` over effective weights; ``threshold`` (default 0.01) in units
    of a weight, ``sharpness`` (default 20) in 1 / weight. Both belong to ``weights`` alone.
    Shape ``(K,)``, range [0, number of edges]. What was made of one column of a table (`nasplug.networks.Networks.groups`) is
    one edge per neuron: for gates the chance that any is kept, ``1 - prod (1 - g)``; for weights, ``|w|`` is their norm.

    Fails, for ``weights``: at the default sharpness a weight of exactly 0 still counts sigmoid(-0.2) = 0.45, and the
    gradient dies as ``exp(-sharpness |w|)``: weights above ~0.5 feel nothing. Combine it with `l1`.

    Raises:
        ConfigError: for a negative threshold, a sharpness that is not positive, or either of them with ``of='gates'``.

    Source: SWAT-NN, equations 6-10, ``sigmoid(20 (|W| - t))``. We differ: t is fixed (the paper learns it), padding
    is not counted, and gates can be counted instead.
    """
    if of == "gates":
        if threshold is not None or sharpness is not None:
            raise ConfigError(
                f"soft_count: threshold={threshold}, sharpness={sharpness} with of='gates', which reads neither; "
                "leave them out or use of='weights'"
            )
        return GateCount()
    t = 0.01 if threshold is None else threshold
    s = 20.0 if sharpness is None else sharpness
    if not (math.isfinite(t) and t >= 0.0):
        raise ConfigError(f"soft_count: threshold={t}; needed: a finite number >= 0 (weights below it count less than half)")
    if not (math.isfinite(s) and s > 0.0):
        raise ConfigError(f"soft_count: sharpness={s}; needed: a finite number > 0 (the steepness of the count, 20 in SWAT-NN)")
    return WeightCount(t, s)
