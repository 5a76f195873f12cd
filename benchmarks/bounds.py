"""What benchmarks share that count and compare: bounds that hold 90 %."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["mean", "ratio", "share"]

Z90 = 1.6448536269514722


def share(count: int, of: int) -> tuple[float, float] | None:
    """Wilson's bounds of a share, in [0, 1]; None of nothing."""
    if of == 0:
        return None
    p, n, z = count / of, of, Z90
    middle, wide = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (max(0.0, (middle - wide) / (1 + z * z / n)), min(1.0, (middle + wide) / (1 + z * z / n)))


def ratio(mine: Any, other: Any, draws: int = 2000, seed: int = 0) -> tuple[float, float, float] | None:
    """Geometric mean of ``mine / other`` over pairs, all > 0, and its bounds (bootstrap over pairs); None of no pair."""
    gaps = np.log(np.asarray(mine, float)) - np.log(np.asarray(other, float))
    if not len(gaps):
        return None
    drawn = gaps[np.random.default_rng(seed).integers(0, len(gaps), (draws, len(gaps)))].mean(1)
    low, high = np.exp(np.quantile(drawn, [0.05, 0.95]))
    return float(np.exp(gaps.mean())), float(low), float(high)


def mean(values: Any) -> tuple[float, float, float]:
    """The mean of values and its bounds (Student's t); of one value, or of equal ones, the bounds are the mean."""
    from scipy.stats import t

    x = np.asarray(values, float)
    wide = 0.0 if len(x) < 2 else float(t.ppf(0.95, len(x) - 1)) * float(x.std(ddof=1)) / math.sqrt(len(x))
    return float(x.mean()), float(x.mean()) - wide, float(x.mean()) + wide
