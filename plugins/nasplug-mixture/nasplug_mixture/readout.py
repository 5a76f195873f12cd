"""Any operations before a linear readout: from the columns that they put out to what a certificate asks for.

A site is where A operations are mixed: ``u_a = sum_k a_k u_k``, ``a`` on the simplex, ``u_k (H, N)`` whatever operation k puts
out for the N samples: an activation, a map with its own weights, a copy of another one, zeros. The outputs are ``f_a = past +
V u_a``, where ``V`` and ``past`` read no share of the site. As shares sum to 1, ``f_a = sum_k a_k f_k`` with ``f_k = past + V
u_k``, the outputs with operation k alone. Nothing else is asked in `nasplug_mixture.certificate`: its identity, what follows
where C = 0, Condition 6 and ``sure`` hold for any such site. Weights inside an operation are held as they are.

Several sites that enter one readout, ``f = past + sum_s V_s u_s``, are together one site: its candidates are the tuples of
operations, its shares their products. It is stationary where each of them is, so that the closest tuple has the least loss;
the tuple of closest operations need not (docs/certificate.md has the smallest example).

Source: ours; the identity is that of `nasplug_mixture.certificate`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nasplug.errors import ConfigError

__all__ = ["MOST_TUPLES", "joint", "read"]

MOST_TUPLES = 4096
"""Tuples of operations that `joint` makes at most; each is as large as the outputs."""


def read(columns: Tensor, readout: Tensor, past: Tensor | None = None) -> Tensor:
    """``f_k = past + V u_k``: what comes out with each operation alone, ``(..., A, O, N)``.

    Args:
        columns: what the operations put out, ``u (..., A, H, N)``.
        readout: ``V (..., O, H)``.
        past: what reaches the outputs on other ways, ``(..., O, N)``; None: nothing.
    """
    found = torch.einsum("...oh,...ahn->...aon", readout, columns)
    return found if past is None else found + past.unsqueeze(-3)


def joint(parts: Sequence[Tensor], shares: Sequence[Tensor], past: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Several sites before one readout as the one site that they are: outputs ``(..., A_1 ... A_S, O, N)`` and shares.

    The last site's candidates come fastest: tuple ``(k_1, k_2)`` of two sites is candidate ``k_1 A_2 + k_2``.

    Args:
        parts: of each site what its operations add to the outputs, ``V_s u_s (..., A_s, O, N)``.
        shares: of each site, ``(..., A_s)``.
        past: what reaches the outputs on other ways, ``(..., O, N)``; None: nothing.

    Raises:
        ConfigError: for no site, sites without shares, or more than `MOST_TUPLES` tuples.
    """
    count = math.prod(part.shape[-3] for part in parts)
    if not parts or len(parts) != len(shares) or count > MOST_TUPLES:
        raise ConfigError(
            f"joint: {len(parts)} sites with shares of {len(shares)}, {count:,} tuples of operations; needed: a site at least, "
            f"shares of each, and {MOST_TUPLES:,} tuples at most"
        )
    f, a = parts[0], shares[0]
    for part, share in zip(parts[1:], shares[1:], strict=True):
        f = (f.unsqueeze(-3) + part.unsqueeze(-4)).flatten(-4, -3)
        a = (a.unsqueeze(-1) * share.unsqueeze(-2)).flatten(-2)
    return (f if past is None else f + past.unsqueeze(-3)), a
