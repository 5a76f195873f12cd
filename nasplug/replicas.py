"""What is done to K replicas at once without mixing them: seeded noise, taking rows, clipping and watching row by row."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

__all__ = ["clip", "column", "finite", "norm", "normal", "number_of", "orthogonal", "seeds_of", "take", "total", "uniform"]

_GOLDEN = -7046029254386353131  # 2^64 / golden ratio, odd, as a signed 64-bit integer
_MIX_1 = -4658895280553007687  # the two multipliers of splitmix64 (Steele, Lea, Flood 2014)
_MIX_2 = -7723592293110705685


SQUARE = 256  # columns up to which whole square matrices are drawn


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical (unsigned) right shift of int64: a tensor of its own."""
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _scramble(z: Tensor) -> Tensor:
    """The splitmix64 finaliser: a bijection of 64-bit integers whose output bits look independent."""
    z = _shift(z, 30).bitwise_xor_(z).mul_(_MIX_1)
    z = _shift(z, 27).bitwise_xor_(z).mul_(_MIX_2)
    return _shift(z, 31).bitwise_xor_(z)


def number_of(stream: str) -> int:
    """A stream's name as a number: what a compiled step takes as a constant (`nasplug.train.compile_step` says so)."""
    number = _GOLDEN * (zlib.crc32(stream.encode()) + 1) % 2**64
    return number - 2**64 if number >= 2**63 else number  # as a signed 64-bit integer: sums wrap as they should


def _bits(seeds: Tensor, stream: str | Tensor, count: int) -> Tensor:
    """``seeds (K,)`` -> ``(K, count)`` random 64-bit integers; a row depends on its own seed and the stream's name alone."""
    if not len(seeds):  # shapes alone are asked for, of networks that may be too large to make
        return torch.empty(0, count, dtype=torch.long, device=seeds.device)
    number = number_of(stream) if isinstance(stream, str) else stream
    key = _scramble(_scramble(seeds.long()) + number)  # (K,)
    index = torch.arange(1, count + 1, device=seeds.device)
    return _scramble(key.unsqueeze(-1) + _GOLDEN * index)  # (K, count)


def uniform(seeds: Tensor, stream: str, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Tensor:
    """Uniform noise on [low, high): ``seeds`` long ``(K,)`` -> float64 ``(K, *shape)``.

    Row k is a pure function of ``seeds[k]``, ``stream`` and ``shape``: the same alone or in any pack, on any device.
    There is no generator to save: give each use its own stream name.
    """
    bits = _bits(seeds, stream, math.prod(shape))
    unit = _shift(bits, 11).double().mul_(2.0**-53)
    return unit.mul_(high - low).add_(low).view(len(seeds), *shape)


def normal(seeds: Tensor, stream: str, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise (Box-Muller): ``seeds`` long ``(K,)`` -> float64 ``(K, *shape)``; see `uniform`."""
    radius = uniform(seeds, stream + "/radius", shape).neg_().log1p_().mul_(-2.0).sqrt_()
    return uniform(seeds, stream + "/angle", shape).mul_(2.0 * math.pi).cos_().mul_(radius)


def orthogonal(seeds: Tensor, stream: str, rows: int, columns: int) -> Tensor:
    """Random ``(K, rows, columns)`` float64 whose rows are orthonormal in groups of at most ``columns``.

    With more rows than columns each further group of ``columns`` rows is a fresh orthonormal set. The distribution is Haar's.
    Of more than `SQUARE` columns no more is drawn than the rows that are wanted: a square matrix of 5,000 is 200 MB per seed.
    """
    if rows < columns and columns > SQUARE:
        tall = normal(seeds, stream, (columns, rows))
        return _orthonormal(tall).transpose(1, 2).contiguous()
    groups = -(-rows // columns)
    gaussian = normal(seeds, stream, (groups, columns, columns))  # (K, groups, columns, columns)
    stacked: Tensor = _orthonormal(gaussian).reshape(-1, groups * columns, columns)
    return stacked[:, :rows]


def _orthonormal(gaussian: Tensor) -> Tensor:
    """Q of ``gaussian = Q R`` with a positive diagonal in R, ``(..., n, m)``, ``m <= n``: unique, hence reproducible."""
    q, r = torch.linalg.qr(gaussian)
    found: Tensor = q * torch.diagonal(r, dim1=-2, dim2=-1).sign().unsqueeze(-2)
    return found


def seeds_of(seeds: Tensor, stream: str | Tensor) -> Tensor:
    """One derived seed per row: long ``(K,)``, for noise that must differ between uses (steps, restarts).

    ``stream``: its name, or that name's `number_of`, long ``(1,)``, where the name changes on the device.
    """
    return _shift(_bits(seeds, stream, 1).squeeze(-1), 1)


def column(values: Tensor, like: Tensor) -> Tensor:
    """``(K,)`` shaped to broadcast against ``like (K, ...)``."""
    return values.view(-1, *[1] * (like.dim() - 1))


def take(tensors: Mapping[str, Tensor], index: Tensor) -> dict[str, Tensor]:
    """Rows ``index`` of every tensor; zero-dimensional ones (step counters) are shared and stay."""
    return {name: t.index_select(0, index) if t.dim() else t for name, t in tensors.items()}


def finite(tensors: Mapping[str, Tensor]) -> Tensor:
    """Which rows are finite in every leaf: bool ``(K,)``."""
    rows = [torch.isfinite(t).reshape(len(t), -1).all(1) for t in tensors.values() if t.dim()]
    return torch.stack(rows).all(0)


def total(values: Iterable[Tensor]) -> Tensor:
    """The sum of a value per layer or block, each ``(K,)``: what most penalties end in.

    Added one by one. torch 2.13 cannot compile a step for the CPU that stacks sums of what the same step moves.
    """
    return functools.reduce(torch.add, values)


def norm(leaves: Mapping[str, Tensor]) -> Tensor:
    """Each row's Euclidean norm over all leaves: ``(K,)``."""
    return torch.stack([leaf.square().reshape(len(leaf), -1).sum(1) for leaf in leaves.values()]).sum(0).sqrt()


def clip(gradients: Mapping[str, Tensor], limit: float) -> dict[str, Tensor]:
    """Each row's gradient scaled to a global norm of at most ``limit`` over all leaves of that row.

    The usual clipping reduces over the whole program, so one wild network would slow all others; here rows never meet.
    """
    scale = (limit / norm(gradients).clamp(min=1e-12)).clamp(max=1.0)
    return {name: g * column(scale, g) for name, g in gradients.items()}
