"""`closest`: a mixture becomes the candidate that is nearest to it, judged by what the network puts out; `least`: by labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from nasplug.contracts import Certifying, Discretizer, Score
from nasplug.networks import Networks, decided, shares
from nasplug_mixture.certificate import Certificate
from nasplug_mixture.sites import Layer, Site, certificates, losses
from nasplug_mixture.tuples import Tuples, tuples
from nasplug_mixture.verdict import certify, verdicts

__all__ = ["Closest", "Least", "closest", "least", "one_hot"]


def one_hot(index: Tensor, like: Tensor) -> Tensor:
    """``index (K, S)`` as choices ``(K, S, A)``; a site that is hard already stays what it is."""
    hard = like.amax(-1) == 1.0  # False for NaN
    return F.one_hot(torch.where(hard, like.argmax(-1), index), like.shape[-1]).to(like)


@dataclass(frozen=True, slots=True)
class Closest(Certifying):
    """See `closest`."""

    needs: ClassVar[frozenset[str]] = frozenset({"choices"})

    def __call__(self, nets: Networks, score: Score) -> Networks:
        """Choices one-hot; of ``score`` only the training inputs are read."""
        return _hardened(nets, certificates(nets, score.task), tuples(nets, score.task))

    def certified(self, nets: Networks, score: Score) -> tuple[Networks, Sequence[Mapping[str, Any]]]:
        """The same, and what is proven of it; see `nasplug_mixture.certify`."""
        found, together = certificates(nets, score.task), tuples(nets, score.task)
        return _hardened(nets, found, together), verdicts(nets, score.task, found, together)


def _hardened(nets: Networks, found: Sequence[tuple[Site, Certificate]], together: Tuples | None) -> Networks:
    chosen = {site: some.closest for site, some in found}
    if together is not None:
        chosen |= {site: together.chosen[:, at : at + 1] for at, site in enumerate(together.edges)}
    return _put(nets, list(chosen.items()))


def _put(nets: Networks, chosen: Sequence[tuple[Site, Tensor]]) -> Networks:
    """Networks with these candidates, long ``(K, S)`` of each site; what is hard already stays."""
    picked: list[Tensor | None] = [None] * len(nets.alternatives)
    choices = dict(nets.choices)
    for site, index in chosen:
        if isinstance(site, Layer):
            choices[site.layer] = one_hot(index, choices[site.layer])
        else:
            share = shares(nets)[site.group]
            picked[site.group] = torch.where(share.amax(1) == 1.0, share.argmax(1), index.squeeze(1))
    return decided(replace(nets, choices=choices), picked)


def closest() -> Discretizer:
    """Each mixture becomes the candidate, an activation or an operation, whose network is closest to the mixed one.

    ``argmin_i Q_i``, ``Q_i = E (f_i - f_a)^2 / 2`` over the training inputs (all of them before the readout, 1,024 evenly
    spread ones elsewhere), ``f_i`` the outputs with candidate i at that site alone, ``f_a`` those of the network as it is. No
    label is read, no threshold set. Operations on edges into the output are decided together, as the closest tuple (they are
    one site, `nasplug_mixture.joint`), other sites one by one; then all are discretized. On a tie the larger share, then the
    first; what is hard stays. A row whose outputs are not finite takes its largest shares.

    It comes with a certificate (``certificate`` in the results): at a stationary point of the search, for one mixed site
    before a linear readout and the squared loss, the closest candidate has the least loss with the shared weights, while the
    largest share need not.

    Fails off stationarity, by as much as the certificate's gap says; for several sites, which are discretized together; and it
    costs A forward passes per site (of layers before another hidden layer; the last one's are cheap). Candidates that a search
    dropped for good are not chosen.

    Source: ours, from the identity behind Theorem 7 of Understanding NAS by its architecture parameters. We differ from
    DARTS in taking Q and not the share.
    """
    return Closest()


@dataclass(frozen=True, slots=True)
class Least(Certifying):
    """See `least`."""

    needs: ClassVar[frozenset[str]] = frozenset({"choices"})

    def __call__(self, nets: Networks, score: Score) -> Networks:
        """Choices one-hot; of ``score`` only the training samples are read."""
        found = losses(nets, score.task)
        return _put(nets, [(site, _lowest(loss, site.shares(nets), site.left(nets))) for site, loss in found])

    def certified(self, nets: Networks, score: Score) -> tuple[Networks, Sequence[Mapping[str, Any]]]:
        """The same, and what is proven of the closest candidates beside it; see `nasplug_mixture.certify`."""
        return self(nets, score), certify(nets, score)


def _lowest(loss: Tensor, choice: Tensor, left: Tensor) -> Tensor:
    """argmin over the last axis of what is left, NaN the worst; the largest share where no loss is finite."""
    loss = torch.where(left, torch.nan_to_num(loss, nan=torch.inf, posinf=torch.inf), torch.inf)
    return torch.where(torch.isfinite(loss).any(-1), loss.argmin(-1), choice.argmax(-1))


def least() -> Discretizer:
    """Argmin L: each mixture becomes the candidate with the least training loss, all other sites left mixed.

    The task's own loss with candidate i at that site alone and the shared weights, over the training samples (all of them
    before the readout, 1,024 evenly spread ones elsewhere). It costs as much as `closest`, and reads labels. Sites are decided
    one by one, then all made hard. On a tie the first; what is hard stays, and what a search dropped for good is not chosen. A
    site without a finite loss takes its largest share.

    Fails for several sites, which are discretized together; and it knows no other samples: where a search has not converged it
    is the better choice, and where it has `closest` is as good on new samples.

    Source: ranking by the supernet's loss is the last step of one-shot search (Bender et al. 2018). `ranked` asks the
    validation split, and for architectures in full.
    """
    return Least()
