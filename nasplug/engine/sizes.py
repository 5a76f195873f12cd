"""How a network is laid out on the chip: padded widths, samples at once, warps. From sizes alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Sizes", "sizes"]

SMALLEST_PRODUCT = 16  # of each side, of what the units for products take
MOST_SPREAD = 4096  # numbers of a product that is spread out, multiplied and summed; larger ones go to the units
MOST_CHUNK = 64
WARPS = ((4096, 1), (16384, 2), (98304, 4))  # multiplications of a chunk, up to which so many warps do; else 8


@dataclass(frozen=True, slots=True)
class Sizes:
    """What is compiled in.

    Attributes:
        padded: widths of layers 0 to D, powers of two.
        chunk: samples that are on the chip at once, a power of two.
        warps: of 32 threads each, for one network.
    """

    padded: tuple[int, ...]
    chunk: int
    warps: int


def sizes(widths: Sequence[int], batch: int) -> Sizes:
    """The layout for networks of these widths and a batch of so many samples."""
    padded = [_power(width) for width in widths]
    chunk = min(_power(batch), MOST_CHUNK if max(padded) * 2 <= MOST_CHUNK else MOST_CHUNK // 2)
    for _ in padded:  # one that grows may make its neighbours grow
        for layer in range(1, len(padded)):
            if padded[layer] * padded[layer - 1] * chunk > MOST_SPREAD:
                padded[layer - 1 : layer + 1] = [max(SMALLEST_PRODUCT, side) for side in padded[layer - 1 : layer + 1]]
                chunk = max(SMALLEST_PRODUCT, chunk)
    work = chunk * sum(a * b for a, b in itertools.pairwise(padded))
    return Sizes(tuple(padded), chunk, next((warps for most, warps in WARPS if work <= most), 8))


def _power(count: int) -> int:
    """The smallest power of two that is not below."""
    return 1 << (count - 1).bit_length()
