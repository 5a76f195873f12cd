"""`neuron_mask` and `spectral`: neurons are kept or switched off."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from nasplug.contracts import Discretizer, Score
from nasplug.cuts import check_tolerance, limits, most, neurons_cut, ranks
from nasplug.errors import ConfigError, ContractError
from nasplug.networks import Networks

__all__ = ["NeuronMask", "SpectralCut", "neuron_mask", "spectral"]


@dataclass(frozen=True, slots=True)
class NeuronMask(Discretizer):
    """See `neuron_mask`."""

    cut: float
    needs: ClassVar[frozenset[str]] = frozenset({"gates"})

    def __call__(self, nets: Networks, score: Score) -> Networks:
        """Gates 0 or 1; ``score`` is not asked."""
        return replace(nets, gates={layer: (g >= self.cut).to(g.dtype) for layer, g in nets.gates.items()})


def neuron_mask(*, cut: float = 0.5) -> Discretizer:
    """A neuron is on if its gate is at least ``cut``, else off.

    ``gates (K, H)`` -> ``1 if g >= cut else 0``, with 0 < cut <= 1. A gate that is NaN is off.

    Fails for gates in the middle: 0.6 becomes 1 and the function changes. Anneal the temperature, or penalise with
    `compactness`, and look at the scores before and after.

    Raises:
        ConfigError: for a ``cut`` outside (0, 1]: at 0 every neuron would stay, and what is off would come back.

    Source: SWAT-NN, mask < 0.5 is off.
    """
    if not 0.0 < cut <= 1.0:
        raise ConfigError(f"neuron_mask: cut={cut}; needed: 0 < cut <= 1 (gates at least this open are kept)")
    return NeuronMask(cut)


@dataclass(frozen=True, slots=True)
class SpectralCut(Discretizer):
    """See `spectral`."""

    tolerance: float
    needs: ClassVar[frozenset[str]] = frozenset({"eigenvalues"})

    def __call__(self, nets: Networks, score: Score) -> Networks:
        """Gates 0 or 1 in hidden layers with eigenvalues.

        Raises:
            ContractError: for networks without eigenvalues of a hidden layer.
        """
        layers = [layer for layer in range(1, nets.depth) if layer in nets.eigenvalues]
        if not layers:
            raise ContractError("spectral got networks without eigenvalues of a hidden layer; it needs a spectral method")
        values = torch.cat([nets.eigenvalues[layer] for layer in layers], 1)  # (K, N)
        present = [nets.gates.get(layer, torch.ones_like(nets.eigenvalues[layer])) for layer in layers]
        gates = torch.cat(present, 1)  # (K, N)
        on = gates >= 0.5
        rank = ranks(torch.where(on, values.abs(), torch.full_like(values, -1.0)))  # what is off goes first

        def cut(dropped: Tensor) -> Networks:
            kept = (on & (rank >= dropped.unsqueeze(1))).to(values.dtype)
            parts = kept.split_with_sizes([nets.widths[layer] for layer in layers], 1)
            return replace(nets, gates={**nets.gates, **dict(zip(layers, parts, strict=True))})

        # The measure is the loss with rounded gates: with soft ones a second run would start from another loss.
        none = torch.zeros(len(values), dtype=torch.long, device=values.device)
        dropped = most(cut, values.shape[1], score, limits(cut(none), score, self.tolerance))  # (K,)
        settled = neurons_cut(nets) | ~torch.isfinite(values).all(1)
        return cut(torch.where(settled, none, dropped))


def spectral(*, tolerance: float = 0.02) -> Discretizer:
    """Keep the neurons with the largest eigenvalues, as few as the validation loss allows.

    Hidden neurons of a row are ranked by ``|eigenvalue|`` over all hidden layers; the n smallest get the gate 0, the others
    1. n is found by bisection of all rows at once, ``3 + log2(N)`` scorings: with n off the validation loss is at most
    ``loss + tolerance * max(loss, 0.001 * trivial)`` (as in `threshold`), with n + 1 off it is more. Eigenvalues stay.
    Gates that were there are rounded at 1/2 first (``loss`` is the loss after that), and what is off stays off.

    A row whose gates are all 0 or 1, one of them 0, was cut before and is left as it is. So is one with an
    eigenvalue or a loss that is not finite.

    Fails where the eigenvalue does not tell the role: adding a constant to all of them changes no function (fix the
    input's to 0), and a neuron with eigenvalue 0 may carry signal through the next layer's. That is why the loss
    decides how many go; in which order is still the spectrum's word.

    Raises:
        ConfigError: for a tolerance that is negative or not finite.

    Source: Spectral Architecture Search, experiment 2: neurons by eigenvalue at a loss increase of 5 %. We differ: gates in
    direct space instead of eigenvalues set to 0, the limit of `threshold` for nearly exact networks, 2 % by default.
    """
    check_tolerance("spectral", tolerance)
    return SpectralCut(tolerance)
