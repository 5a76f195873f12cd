"""Bounds on false selections by complementary pairs (Shah and Samworth 2013), from counts alone.

A procedure selects ``q`` of ``p`` items from a half sample, on average. ``Pi(k)`` is how often item k was selected from 2B half
samples that are B complementary pairs, and ``S(tau) = {k: Pi(k) >= tau}``. Whatever the procedure and the data,

    E |S(tau) & L(theta)| <= theta / (2 tau - 1) E |S_half & L(theta)|,    1/2 < tau <= 1    (their Theorem 1)

with ``L(theta)`` the items that a half sample selects with a chance of at most ``theta``, and ``S_half`` what one half sample
selects. With ``theta = q / p`` and ``E |S_half & L| <= q`` the right side is ``q^2 / (p (2 tau - 1))``. Items that have
nothing to do with the target are in ``L(q / p)`` where a procedure does not prefer them to the average item.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["concave", "unimodal", "worst"]

Array = npt.NDArray[np.float64]
SMALLEST, LARGEST = 1e-6, 1e6  # of a, where the tails of r-concave distributions are looked for
POINTS = 12_800  # of all n grids between two bounds of a: these are the narrower, the larger n is
EPS = 1e-9


def worst(q: float, p: int, tau: float) -> float:
    """The most items of ``L(q / p)`` that are expected in ``S(tau)``, without any assumption; at most ``p``.

    Args:
        q: items that one half sample selects, on average, in [0, p].
        p: items.
        tau: a frequency; up to 1/2 nothing is bounded, and the answer is ``p``.
    """
    if p == 0 or q == 0.0:
        return 0.0
    return float(p) if tau <= 0.5 else min(float(p), q * q / (p * (2.0 * tau - 1.0)))


def unimodal(q: float, p: int, tau: float, pairs: int) -> float:
    """The same where, for each item of L, the share of pairs that select it twice has a unimodal distribution (Theorem 2).

    ``C(tau, B) q^2 / p`` with ``C = 1 / (2 (2 tau - 1 - 1/(2B)))`` up to ``tau = 3/4`` and ``4 (1 - tau + 1/(2B)) / (1 + 1/B)``
    above; for ``theta = q / p <= 1/sqrt(3)`` and ``tau > min(1/2 + theta^2, 1/2 + 1/(2B) + 3/4 theta^2)``. It is proven for
    ``tau`` that are multiples of ``1/(2B)`` from ``1/2 + 1/B`` on; another is rounded up, as no frequency lies between.
    Elsewhere, and where `worst` is smaller, the answer is that of `worst`.
    """
    most = worst(q, p, tau)
    if pairs < 1 or p == 0:
        return most
    b, theta = float(pairs), q / p
    tau = math.ceil(tau * 2 * pairs - EPS) / (2 * pairs)
    low = min(0.5 + theta**2, 0.5 + 1.0 / (2.0 * b) + 0.75 * theta**2)
    if theta > 1.0 / math.sqrt(3.0) or tau <= low or tau < 0.5 + 1.0 / b - EPS:
        return most
    if tau <= 0.75 + EPS:
        factor = 1.0 / (2.0 * (2.0 * tau - 1.0 - 1.0 / (2.0 * b)))
    else:
        factor = 4.0 * (1.0 - tau + 1.0 / (2.0 * b)) / (1.0 + 1.0 / b)
    return min(most, factor * q * q / p)


def concave(q: float, p: int, tau: float, pairs: int) -> float:
    """The same where frequencies have distributions that fall off no faster than r-concave ones (their equation 8).

    ``min(D(theta^2, 2 tau - 1, B, -1/2), D(theta, tau, 2B, -1/4)) p`` with ``theta = q / p``: the share of pairs that select
    an item of L twice is assumed to be -1/2-concave, its frequency -1/4-concave, which the authors found in examples.
    ``D`` is `tails`. Never more than `worst`.
    """
    most = worst(q, p, tau)
    if pairs < 1 or p == 0 or tau <= 0.5:
        return most
    theta = q / p
    twice = math.ceil(tau * 2 * pairs - EPS)  # the least count of half samples at tau
    both, each = tails(theta**2, pairs, -0.5), tails(theta, 2 * pairs, -0.25)
    return min(most, p * min(float(both[twice - pairs]), float(each[twice])))


@lru_cache(maxsize=256)
def tails(mean: float, n: int, r: float) -> Array:
    """``D`` for t = 0, ..., n: the largest ``P(X >= t)`` of an r-concave X on ``0, ..., n`` with ``E X <= mean n``, -1 < r < 0.

    A distribution is r-concave if ``P(X = i)^r`` is convex in i where it is above 0. The extreme ones are
    ``P(X = i) = c (a + i)^(1/r)`` up to some k, and at ``k + 1`` at most what would go on in this way (Shah and Samworth 2013,
    appendix A.4). For each k the best a is taken of a logarithmic grid between the two that need no more and all of it at
    ``k + 1``, so that the answer is below the true one by less than 1e-4 of it. Where a uniform distribution up to
    ``t - 1`` has a larger mean already, nothing is excluded, and the answer is 1.
    """
    total = mean * n
    found = np.zeros(n + 1)
    found[: min(n, math.ceil(2.0 * total - EPS)) + 1] = 1.0
    if mean <= 0.0 or found[-1] == 1.0:
        return found
    ends, points = _scales(total, n, r), max(8, POINTS // n)
    for k in range(math.ceil(2.0 * total - EPS), n + 1):
        a = np.geomspace(ends[k + 1] if k < n else ends[k], ends[k], points)
        places = np.arange(k + 1)
        laws = (1.0 + places / a[:, None]) ** (1.0 / r)
        laws /= laws.sum(1, keepdims=True)
        means = laws @ places
        more = np.clip((total - means) / (k + 1 - means), 0.0, 1.0)[:, None]  # at k + 1
        above = (1.0 - more) * laws[:, ::-1].cumsum(1)[:, ::-1] + more
        found[: k + 1] = np.maximum(found[: k + 1], above.max(0))
        if k < n:
            found[k + 1] = max(found[k + 1], float(more.max()))
    return np.minimum(found, 1.0)


def _scales(total: float, n: int, r: float) -> Array:
    """For each k the a whose distribution up to k has the mean ``total``: means rise with a, up to k / 2."""
    places = np.arange(n + 1)
    kept = places[None] <= places[:, None]  # (k, i)
    low, high = np.full(n + 1, math.log(SMALLEST)), np.full(n + 1, math.log(LARGEST))
    for _ in range(60):
        middle = (low + high) / 2.0
        laws = np.where(kept, (1.0 + places[None] / np.exp(middle)[:, None]) ** (1.0 / r), 0.0)
        under = laws @ places < total * laws.sum(1)
        low, high = np.where(under, middle, low), np.where(under, high, middle)
    return np.asarray(np.exp((low + high) / 2.0))
