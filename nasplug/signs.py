"""Which signs the weights of a monotone network may have: a rule that holds for all weights it allows.

``d_j`` in {-1, 0, +1} is the direction of neuron j of layer 0 (0: free). Each hidden neuron h has a fixed sign ``s_h``, +1 and
-1 by turns along its layer; each output has +1. A weight from j to h may only have the sign ``d_j s_h``, one from a hidden
neuron h to a neuron g only ``s_h s_g``. Then every path from j to an output has the sign ``d_j``. With activations that never
decrease, no slope of an output in ``x_j`` has another sign.

Source: sign constraints as in Sill 1998 and in partial monotone networks (Daniels & Velikova 2010). We differ: both kinds of
hidden neurons, so that convex and concave functions can be made of a ReLU; free inputs may have any weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["held", "reflected"]


def held(w: Tensor, edge: tuple[int, int], widths: Sequence[int], directions: Sequence[int]) -> Tensor:
    """Weights of the block ``edge``, ``(K, H_to, H_from)``, with 0 for those whose sign is not allowed; NaN stays NaN."""
    return torch.where(_against(w, edge, widths, directions), torch.zeros_like(w), w)


def reflected(w: Tensor, edge: tuple[int, int], widths: Sequence[int], directions: Sequence[int]) -> Tensor:
    """Weights of the block ``edge``, ``(K, H_to, H_from)``, each with its allowed sign, their magnitudes as they are.

    At 0 the slope is 1, so that a weight which starts at 0 can grow.
    """
    return torch.where(_against(w, edge, widths, directions), -w, w)


def _against(w: Tensor, edge: tuple[int, int], widths: Sequence[int], directions: Sequence[int]) -> Tensor:
    """Where a weight has a sign that is not allowed, bool."""
    make = _signs if torch.compiler.is_compiling() else _kept_signs  # a compiled step has them as constants
    return w * make(edge, tuple(widths), tuple(directions), w.device, w.dtype) < 0


def _signs(
    edge: tuple[int, int], widths: tuple[int, ...], directions: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> Tensor:
    """The allowed sign of each weight, ``(H_to, H_from)``; 0: any."""

    def of(layer: int) -> Tensor:
        if layer == 0:
            return torch.tensor(directions, dtype=dtype, device=device)
        turns = 1 - 2 * (torch.arange(widths[layer], device=device) % 2)  # 1, -1, 1, ...
        return (torch.ones_like(turns) if layer == len(widths) - 1 else turns).to(dtype)

    return of(edge[0]).unsqueeze(1) * of(edge[1])


@lru_cache(maxsize=256)
def _kept_signs(*of: Any) -> Tensor:
    with torch.inference_mode(mode=False):  # what is kept is used with gradients, too
        return _signs(*of)
