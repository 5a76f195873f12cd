"""`closest`: a mixture becomes the candidate that is nearest to it, judged by what the network puts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from nasplug.contracts import Discretizer, Score
from nasplug.networks import Networks
from nasplug_mixture.certificate import Certificate
from nasplug_mixture.sites import Layer, certificates
from nasplug_mixture.verdict import verdicts

__all__ = ["Closest", "closest", "one_hot"]


def one_hot(index: Tensor, like: Tensor) -> Tensor:
    """``index (K, S)`` as choices ``(K, S, A)``; a site that is hard already stays what it is."""
    hard = like.amax(-1) == 1.0  # False for NaN
    return F.one_hot(torch.where(hard, like.argmax(-1), index), like.shape[-1]).to(like)


@dataclass(frozen=True, slots=True)
class Closest:
    """See `closest`."""

    needs: ClassVar[frozenset[str]] = frozenset({"choices"})

    def __call__(self, nets: Networks, score: Score) -> Networks:
        """Choices one-hot; of ``score`` only the training inputs are read."""
        return _hardened(nets, certificates(nets, score.task))

    def certified(self, nets: Networks, score: Score) -> tuple[Networks, Sequence[Mapping[str, Any]]]:
        """The same, and what is proven of it; see `nasplug_mixture.certify`."""
        found = certificates(nets, score.task)
        return _hardened(nets, found), verdicts(nets, score.task, found)


def _hardened(nets: Networks, found: Sequence[tuple[Layer, Certificate]]) -> Networks:
    chosen = {layer.layer: some.closest for layer, some in found}
    return replace(nets, choices={layer: one_hot(chosen[layer], c) for layer, c in nets.choices.items()})


def closest() -> Discretizer:
    """Each mixture becomes the candidate whose network is closest to the mixed one, all other sites left mixed.

    ``argmin_i Q_i``, ``Q_i = E (f_i - f_a)^2 / 2`` over the training inputs (all of them before the readout, 1,024 evenly
    spread ones elsewhere), ``f_i`` the outputs with candidate i at that site alone, ``f_a`` those of the network as it is. No
    label is read, no threshold set. Sites are decided one by one, then all made hard. On a tie the larger share, then the
    first; what is hard stays. A row whose outputs are not finite takes its largest shares.

    It comes with a certificate (``certificate`` in the results): at a stationary point of the search, for one mixed site
    before a linear readout and the squared loss, the closest candidate has the least loss with the shared weights, while the
    largest share need not.

    Fails off stationarity, by as much as the certificate's gap says; for several sites, which are hardened together; and it
    costs A forwards a site (of layers before another hidden layer; the last one's are cheap).

    Source: ours, from the identity behind Theorem 7 of Understanding NAS by its architecture parameters. We differ from
    DARTS in taking Q and not the share.
    """
    return Closest()
