"""What can be proven of replacing a mixture by one candidate: pure functions on what the candidates put out.

With candidate outputs ``f_k``, shares ``a_k`` and the mixture's output ``f_a = sum_k a_k f_k``, targets y and the residual
``r = y - f_a``, E the mean over outputs and samples:

- ``Q_i = E (f_i - f_a)^2 / 2``: how far candidate i is from the mixture; no labels.
- ``g_i = (f_a - a_i f_i) / (1 - a_i)``: the mixture without i; ``D_i = E (f_i - g_i)^2 / 2 = Q_i / (1 - a_i)^2``; no labels.
- ``L_i = E (y - f_i)^2 / 2``: the loss of candidate i with the shared weights.
- ``C_i = E (f_i - g_i) r``: 0 for all i where a is an interior stationary point of the loss.

They are tied by ``L_i = Q_i - (1 - a_i) C_i + E r^2 / 2`` for any a and y. So where C is 0, or where ``r = 0``, Q ranks the
candidates as L does. At a stationary point on the boundary, ``C_i <= 0`` where ``a_i = 0``: a candidate that the search has
dropped can only be worse than its Q says.

Scope: this is about one mixed site before a linear readout (else ``f_a`` is not ``sum_k a_k f_k``, and nothing is known of
C), the squared loss, and shared weights. It says nothing of the loss after training again.

Source: Understanding NAS by its architecture parameters, Condition 6 and Theorems 1 and 7. We differ: Q, the identity and
what follows from them are ours; realisability (r = 0) is not needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Certificate", "certificate"]

EQUAL = 1e-9
"""Numbers that differ by less than this share of the largest are equal: with two candidates D_1 = D_2 on paper."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The quantities of one mixed site in each of some networks; `certificate` makes it.

    Any number of leading axes (networks, sites) stand for ``...``; losses are in units of the target squared.

    Attributes:
        a: shares ``(..., A)``.
        q: distance to the mixture ``(..., A)``.
        d: Condition 6's distance ``(..., A)``; NaN for a share of 1, which leaves no rest to be far from.
        loss: of each candidate ``(..., A)``, or None without targets.
        c: ``C_i (..., A)``, or None; NaN for a share of 1.
        residual: ``E r^2 / 2 (...)``, or None.
    """

    a: Tensor
    q: Tensor
    d: Tensor
    loss: Tensor | None
    c: Tensor | None
    residual: Tensor | None

    @property
    def largest(self) -> Tensor:
        """argmax: the candidate of the largest share, the first on a tie; long ``(...)``."""
        return self.a.argmax(-1)

    @property
    def closest(self) -> Tensor:
        """argmin Q: long ``(...)``. On a tie the larger share, then the first; the largest share where Q is not finite."""
        tied = self.q <= self.q.amin(-1, keepdim=True) + EQUAL * self.q.amax(-1, keepdim=True)
        found = torch.where(tied, self.a, -1.0).argmax(-1)
        return torch.where(torch.isfinite(self.q).all(-1), found, self.largest)

    @property
    def best(self) -> Tensor | None:
        """argmin L: long ``(...)``; None without targets."""
        return None if self.loss is None else self.loss.argmin(-1)

    @property
    def least(self) -> Tensor:
        """min a ``(...)``: how far inside the simplex the mixture is."""
        return self.a.amin(-1)

    @property
    def margin(self) -> Tensor:
        """By how much the closest candidate is closer than the next: ``(...)``, >= 0; infinite for an only one."""
        if self.q.shape[-1] == 1:
            return torch.full_like(self.q[..., 0], torch.inf)
        two = self.q.topk(2, -1, largest=False).values
        return two[..., 1] - two[..., 0]

    @property
    def gap(self) -> Tensor | None:
        """The stationarity gap ``max |C_i| (...)``; None without targets."""
        return None if self.c is None else torch.nan_to_num(self.c.abs(), nan=0.0).amax(-1)

    @property
    def asked(self) -> Tensor | None:
        """Pairs ``(..., i, j)`` that Condition 6 asks about, ``L_i < L_j``; bool, None without targets."""
        if self.loss is None:
            return None
        low, high = self.loss.unsqueeze(-1), self.loss.unsqueeze(-2)
        return low < high - EQUAL * self.loss.abs().amax(-1)[..., None, None]

    @property
    def passes(self) -> Tensor | None:
        """Condition 6, ``D_i >= D_j`` where ``L_i < L_j``: bool ``(..., i, j)``, true where nothing is asked; or None."""
        asked = self.asked
        return None if asked is None else ~asked | (self.lead >= 0)

    @property
    def lead(self) -> Tensor:
        """``D_i - D_j (..., i, j)``; what is 0 up to rounding is 0."""
        difference = self.d.unsqueeze(-1) - self.d.unsqueeze(-2)
        rounding = EQUAL * torch.nan_to_num(self.d, nan=0.0).amax(-1)[..., None, None]
        return torch.where(difference.abs() <= rounding, torch.zeros_like(difference), difference)

    @property
    def condition6(self) -> Tensor | None:
        """Condition 6 for every pair: bool ``(...)``. With C = 0 the shares then rank the candidates as L does (Theorem 7)."""
        passes = self.passes
        return None if passes is None else passes.all(-1).all(-1)

    @property
    def label_free(self) -> Tensor:
        """argmax's own certificate, without labels: ``D_k <= D_j`` for all j, k the largest share; bool ``(...)``.

        Then ``Q_k = (1 - a_k)^2 D_k`` is the least Q as well.
        """
        k = self.largest[..., None, None].expand(*self.lead.shape[:-2], 1, self.a.shape[-1])
        return (self.lead.gather(-2, k).squeeze(-2) <= 0).all(-1)

    @property
    def sure(self) -> Tensor | None:
        """Whether the gap is too small to matter: bool ``(...)``; then the closest candidate has the least loss.

        ``Q_j - Q_k >= (1 - a_j) max(C_j, 0) + (1 - a_k) max(-C_k, 0)`` for all j, k the closest. At an exact stationary
        point, inside or on the boundary with ``a_k > 0``, the right side is 0. None without targets.
        """
        if self.c is None:
            return None
        k = self.closest.unsqueeze(-1)
        weighed = torch.nan_to_num((1.0 - self.a) * self.c, nan=0.0)  # (..., A)
        against = weighed.clamp(min=0.0) + (-weighed.gather(-1, k)).clamp(min=0.0)
        ahead = self.q - self.q.gather(-1, k) >= against - EQUAL * self.q.amax(-1, keepdim=True)
        return ahead.scatter(-1, k, True).all(-1) & torch.isfinite(self.q).all(-1)


def certificate(f: Tensor, a: Tensor, y: Tensor | None = None, mixture: Tensor | None = None) -> Certificate:
    """The certificate of mixed sites.

    Args:
        f: what the networks put out with each candidate alone at the site, ``(..., A, O, N)``.
        a: shares ``(..., A)``.
        y: targets, broadcast to ``(..., O, N)``, or None.
        mixture: what they put out as they are, ``(..., O, N)``; ``sum_k a_k f_k`` unless given (it is that before a linear
            readout; elsewhere give it, and C tells nothing).
    """
    if mixture is None:
        mixture = (a[..., None, None] * f).sum(-3)  # (..., O, N)
    away = f - mixture.unsqueeze(-3)  # (..., A, O, N)
    q = away.square().mean((-1, -2)) / 2  # (..., A)
    rest = 1.0 - a
    hard = rest == 0
    d = torch.where(hard, torch.nan, q / rest.square())
    if y is None:
        return Certificate(a, q, d, None, None, None)
    r = y - mixture  # (..., O, N)
    loss = (y.unsqueeze(-3) - f).square().mean((-1, -2)) / 2
    c = torch.where(hard, torch.nan, (away * r.unsqueeze(-3)).mean((-1, -2)) / rest)
    residual = (r.square().mean((-1, -2)) / 2).expand(q.shape[:-1])
    return Certificate(a, q, d, loss, c, residual)
