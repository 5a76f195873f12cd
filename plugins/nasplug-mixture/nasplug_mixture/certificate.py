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

Rounding. Two numbers are told apart only beyond a bound on what rounding did to *them*; how large a third candidate is never
enters. ``v = 2^-53`` is float64's unit roundoff, ``n = O N`` the numbers in a mean, everything to first order in ``n v``.

1. f, a, y are the numbers they are given as. A float32 is a float64, so nothing is lost at the door, and all that follows is
   float64. What float32 arithmetic did *before*, some 6e-8 of an output, makes it an output of a network slightly different;
   a loss that is taken in float32 may differ by ``6e-8 |f_i| sqrt(2 L_i)`` and rank what is closer than that as it likes. That
   is why `nasplug_mixture.certificates` runs the networks in float64.
2. A difference, product or quotient is exact to v of itself, and a sum of n numbers, in any order, to ``(n - 1) v`` of the sum
   of their sizes. So a mean of n squared differences is exact to ``(n + 3) v`` of itself: L_i; Q_i of the f_a at hand. By
   Cauchy and Schwarz ``E (f_i - f_a) r`` is exact to ``(n + 3) v 2 sqrt(Q_i R)``, ``R = E r^2 / 2``. ``relative = (n + 8) v``
   covers these, the three steps more in ``(1 - a_i) C_i``, and the second order.
3. The identity holds for any f_a, so what rounding does to f_a cannot make it lie: `Certificate.sure` needs 2 alone.
4. On paper f_a is the sum and shares sum to 1. As computed the sum is off by at most ``A v sum_k a_k |f_k|`` (Minkowski, |.|
   the root of the mean square), and the shares sum to 1 up to ``A v``; let the largest share, l, make up for it. So
   ``f_i - f_a`` is off by at most ``blur = (A + 1) v (sum_k a_k |f_k| + |f_l|)``, Q_i by ``relative Q_i + sqrt(2 Q_i) blur +
   blur^2 / 2``, and D_i by that over ``(1 - a_i)^2`` and ``2 (A + 1) v D_i / (1 - a_i)``. A candidate with a share of 0 enters
   no other candidate's bound.

Source: Understanding NAS by its architecture parameters, Condition 6 and Theorems 1 and 7. We differ: Q, the identity and
what follows from them are ours; realisability (r = 0) is not needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Certificate", "certificate"]

UNIT = 2.0**-53
"""Float64's unit roundoff: one operation is exact to this share of its result."""

FEW = 8
"""Operations around a mean, rounded up; see Rounding in the module's text."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The quantities of one mixed site in each of some networks; `certificate` makes it.

    Any number of leading axes (networks, sites) stand for ``...``; losses are in units of the target squared.

    Of the candidates some may have been dropped for good (``left``): nothing below speaks of them but their own numbers. As
    their share is 0, all that is said above holds for the others alone.

    Attributes:
        a: shares ``(..., A)``.
        q: distance to the mixture ``(..., A)``.
        d: Condition 6's distance ``(..., A)``; NaN for a share of 1, which leaves no rest to be far from.
        loss: of each candidate ``(..., A)``, or None without targets.
        c: ``C_i (..., A)``, or None; NaN for a share of 1.
        residual: ``E r^2 / 2 (...)``, or None.
        blur: what rounding may have done to ``f_i - f_a``, root mean square ``(...)``.
        relative: what it may have done to a mean of squares, as a share of it.
        left: candidates that may still be chosen, bool ``(..., A)``.
    """

    a: Tensor
    q: Tensor
    d: Tensor
    loss: Tensor | None
    c: Tensor | None
    residual: Tensor | None
    blur: Tensor
    relative: float
    left: Tensor

    @property
    def largest(self) -> Tensor:
        """argmax: the candidate of the largest share, the first on a tie; long ``(...)``."""
        return torch.where(self.left, self.a, -1.0).argmax(-1)

    @property
    def q_rounding(self) -> Tensor:
        """How far each Q may be from the one on paper, ``(..., A)``."""
        blur = self.blur.unsqueeze(-1)
        return self.relative * self.q + (2.0 * self.q).sqrt() * blur + blur.square() / 2

    @property
    def closest(self) -> Tensor:
        """argmin Q: long ``(...)``. On a tie the larger share, then the first; the largest share where Q is not finite.

        A tie is a difference from the least Q that rounding of the two could have made.
        """
        least = torch.where(self.left, self.q, torch.inf).argmin(-1, keepdim=True)
        rounding = self.q_rounding
        tied = self.left & (self.q - self.q.gather(-1, least) <= rounding + rounding.gather(-1, least))
        found = torch.where(tied, self.a, -1.0).argmax(-1)
        return torch.where(self.finite, found, self.largest)

    @property
    def finite(self) -> Tensor:
        """Whether each Q that counts is, bool ``(...)``."""
        return (torch.isfinite(self.q) | ~self.left).all(-1)

    @property
    def best(self) -> Tensor | None:
        """argmin L: long ``(...)``, the closest where rounding cannot tell it from the least; None without targets."""
        if self.loss is None:
            return None
        closest, loss = self.closest.unsqueeze(-1), torch.nan_to_num(self.loss, nan=torch.inf, posinf=torch.inf)
        loss = torch.where(self.left, loss, torch.inf)
        least = loss.argmin(-1, keepdim=True)
        mine, lowest = loss.gather(-1, closest), loss.gather(-1, least)
        return torch.where(mine - lowest <= self.relative * (mine + lowest), closest, least).squeeze(-1)

    @property
    def least(self) -> Tensor:
        """min a ``(...)``: how far inside the simplex the mixture is."""
        return torch.where(self.left, self.a, 1.0).amin(-1)

    @property
    def margin(self) -> Tensor:
        """By how much the closest candidate is closer than the next: ``(...)``, >= 0; infinite for an only one."""
        if self.q.shape[-1] == 1:
            return torch.full_like(self.q[..., 0], torch.inf)
        two = torch.where(self.left, self.q, torch.inf).topk(2, -1, largest=False).values
        return two[..., 1] - two[..., 0]

    @property
    def gap(self) -> Tensor | None:
        """The stationarity gap ``max |C_i| (...)``; None without targets."""
        return None if self.c is None else torch.where(self.left, torch.nan_to_num(self.c.abs(), nan=0.0), 0.0).amax(-1)

    @property
    def asked(self) -> Tensor | None:
        """Pairs ``(..., i, j)`` that Condition 6 asks about, ``L_i < L_j``; bool, None without targets."""
        if self.loss is None:
            return None
        low, high = self.loss.unsqueeze(-1), self.loss.unsqueeze(-2)
        return (high - low > self.relative * (high + low)) & self.left.unsqueeze(-1) & self.left.unsqueeze(-2)

    @property
    def passes(self) -> Tensor | None:
        """Condition 6, ``D_i >= D_j`` where ``L_i < L_j``: bool ``(..., i, j)``, true where nothing is asked; or None."""
        asked = self.asked
        return None if asked is None else ~asked | (self.lead >= 0)

    @property
    def lead(self) -> Tensor:
        """``D_i - D_j (..., i, j)``; 0 where rounding of the two could have made it: with two candidates D_1 = D_2 on paper."""
        rest = 1.0 - self.a
        rounding = self.q_rounding / rest.square() + 2.0 * (self.a.shape[-1] + 1) * UNIT * self.d / rest  # NaN for a share of 1
        difference = self.d.unsqueeze(-1) - self.d.unsqueeze(-2)
        equal = difference.abs() <= rounding.unsqueeze(-1) + rounding.unsqueeze(-2)
        return torch.where(equal, torch.zeros_like(difference), difference)

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
        return ((self.lead.gather(-2, k).squeeze(-2) <= 0) | ~self.left).all(-1)

    @property
    def sure(self) -> Tensor | None:
        """Whether the gap is too small to matter: bool ``(...)``; then no candidate has less loss than the closest one.

        For all j, k the closest: ``Q_j - Q_k > (1 - a_j) max(C_j, 0) + (1 - a_k) max(-C_k, 0)`` by more than rounding, or L_j
        and L_k are equal up to rounding; and never where L_k is above L_j beyond rounding. At an exact stationary point,
        inside or on the boundary with ``a_k > 0``, the right side is 0. None without targets.
        """
        if self.c is None or self.loss is None or self.residual is None:
            return None
        k = self.closest.unsqueeze(-1)
        pull = torch.nan_to_num((1.0 - self.a) * self.c, nan=0.0)  # (..., A): E (f_i - f_a) r
        against = pull.clamp(min=0.0) + (-pull.gather(-1, k)).clamp(min=0.0)
        rounding = self.relative * (self.q + 2.0 * (self.q * self.residual.unsqueeze(-1)).sqrt())
        ahead = self.q - self.q.gather(-1, k) - against > rounding + rounding.gather(-1, k)
        above = self.loss.gather(-1, k) - self.loss  # (..., A)
        equal = self.relative * (self.loss.gather(-1, k) + self.loss)
        proven = (ahead & (above <= equal)) | (above.abs() <= equal)
        return (proven | ~self.left).all(-1) & self.finite

    @classmethod
    def joined(cls, parts: Sequence[Certificate]) -> Certificate:
        """Certificates of some networks after those of others, on as many samples."""

        def whole(tensors: list[Tensor | None]) -> Tensor | None:
            some = [t for t in tensors if t is not None]
            return torch.cat(some) if some else None

        return cls(
            a=torch.cat([p.a for p in parts]),
            q=torch.cat([p.q for p in parts]),
            d=torch.cat([p.d for p in parts]),
            loss=whole([p.loss for p in parts]),
            c=whole([p.c for p in parts]),
            residual=whole([p.residual for p in parts]),
            blur=torch.cat([p.blur for p in parts]),
            relative=max(p.relative for p in parts),
            left=torch.cat([p.left for p in parts]),
        )


def certificate(
    f: Tensor,
    a: Tensor,
    y: Tensor | None = None,
    mixture: Tensor | None = None,
    weights: Tensor | None = None,
    left: Tensor | None = None,
) -> Certificate:
    """The certificate of mixed sites, in float64 whatever comes in.

    Args:
        f: what the networks put out with each candidate alone at the site, ``(..., A, O, N)``.
        a: shares ``(..., A)``; they are divided by their sum, as of one near 1 it is the small rest that counts.
        y: targets, broadcast to ``(..., O, N)``, or None.
        mixture: what they put out as they are, ``(..., O, N)``; ``sum_k a_k f_k`` unless given (it is that before a linear
            readout; elsewhere give it, and C tells nothing).
        weights: of the samples in each E, broadcast to ``(..., N)``, or None. All that is said above holds for any E that is
            a weighted mean; its product is one rounding more.
        left: candidates that may still be chosen, bool ``(..., A)``; the shares of the others are 0. None: all.
    """
    f, a = f.double(), a.double() / a.double().sum(-1, keepdim=True)
    share = None if weights is None else weights.double() / weights.double().mean(-1, keepdim=True)

    def expected(values: Tensor, between: int) -> Tensor:
        """E over the last two axes, outputs and samples; ``between``: axes before them that weights do not have."""
        if share is not None:
            values = values * share[(..., *(None,) * (between + 1), slice(None))]
        return values.mean((-1, -2))

    size = expected(f.square(), 1).sqrt()  # (..., A)
    blur = (a.shape[-1] + 1) * UNIT * ((a * size).sum(-1) + size.gather(-1, a.argmax(-1, keepdim=True)).squeeze(-1))
    mixture = (a[..., None, None] * f).sum(-3) if mixture is None else mixture.double()  # (..., O, N)
    away = f - mixture.unsqueeze(-3)  # (..., A, O, N)
    relative = (away.shape[-1] * away.shape[-2] + FEW + (share is not None)) * UNIT
    q = expected(away.square(), 1) / 2  # (..., A)
    rest = 1.0 - a
    left = torch.ones_like(a, dtype=torch.bool) if left is None else left
    hard = rest == 0
    d = torch.where(hard, torch.nan, q / rest.square())
    if y is None:
        return Certificate(a, q, d, None, None, None, blur, relative, left)
    r = y.double() - mixture  # (..., O, N)
    loss = expected((y.double().unsqueeze(-3) - f).square(), 1) / 2
    c = torch.where(hard, torch.nan, expected(away * r.unsqueeze(-3), 1) / rest)
    residual = (expected(r.square(), 0) / 2).expand(q.shape[:-1])
    return Certificate(a, q, d, loss, c, residual, blur, relative, left)
