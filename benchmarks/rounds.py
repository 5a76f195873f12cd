"""What the benchmarks of steps share: sides that take turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

__all__ = ["measure"]


def measure(sides: Mapping[str, tuple[Callable[[], None], int]], rounds: int, warm: int = 2) -> dict[str, float]:
    """Median milliseconds per network and step, sides interleaved, after ``warm`` rounds; ``name -> (step, networks)``."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(warm + rounds):
        for name, (once, networks) in sides.items():
            began = time.perf_counter()
            once()
            if turn >= warm:
                seconds[name].append((time.perf_counter() - began) / networks)
    return {name: 1e3 * statistics.median(values) for name, values in seconds.items()}
