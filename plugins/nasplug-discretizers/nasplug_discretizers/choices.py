"""`argmax`: the largest share takes all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch.nn import functional as F

from nasplug.contracts import Discretizer, Score
from nasplug.networks import Networks, decided

__all__ = ["Argmax", "argmax"]


@dataclass(frozen=True, slots=True)
class Argmax(Discretizer):
    """See `argmax`."""

    needs: ClassVar[frozenset[str]] = frozenset({"choices"})

    def __call__(self, nets: Networks, score: Score) -> Networks:
        """Choices one-hot, alternatives decided; ``score`` is not asked."""
        return replace(
            decided(nets),
            choices={layer: F.one_hot(c.argmax(-1), c.shape[-1]).to(c.dtype) for layer, c in nets.choices.items()},
        )


def argmax() -> Discretizer:
    """Each mixture of activations, or of operations, becomes its largest entry alone, the first one on a tie.

    ``choices (K, H or 1, A)`` -> one-hot of ``argmax over A``. An entry that is NaN counts as the largest, so a broken row
    becomes hard as well.

    Fails when no candidate dominates, and can pick a worse candidate than another one even at the optimum of the mixture
    (more often the more candidates there are): anneal the temperature, or ask for a certificate.

    Source: the usual last step of DARTS. SWAT-NN does the same for each neuron.
    """
    return Argmax()
