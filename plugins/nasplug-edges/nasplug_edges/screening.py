"""Pairs of columns that a sum over columns leaves something of: found on training samples, before any network is trained."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from nasplug.tasks import Task

__all__ = ["BINS", "screened"]

BINS = 4
"""Of each column, with as many samples each; a pair has as many cells squared."""
RIDGE = 1e-6


def screened(task: Task, rows: int, most: int) -> Tensor:
    """Of each row the ``most`` pairs of columns that promise most, long ``(K, P, 2)``, in the order of the columns.

    Each column is cut into `BINS` bins. The residual of a least-squares sum over the bins of all columns is averaged in the
    cells of each pair; what these means explain of it, ``sum_cells (sum_n w_n r_n)^2 / sum_n w_n``, less what noise would, is
    the pair's score. Only training samples are read, each with its weight in that row: held-out ones do not count. Labels
    are taken as 0 and 1, outputs are pooled in units of their variance.

    Fails: bins of a column of words are its words in the order of their features, so of more than `BINS` some share one. What
    changes faster than bins is not seen. Of two correlated columns either may stand in the pair.

    Source: FAST (Lou, Caruana, Gehrke, Hooker 2013, KDD). We differ: fixed cuts instead of the best two.
    """
    split = task.train
    found: dict[bytes, Tensor] = {}
    every = torch.tensor(list(combinations(range(len(task.columns)), 2)))
    told = []
    for k in range(rows):
        x = split.x[k] if split.x.dim() == 3 else split.x
        y = split.y[k] if split.x.dim() == 3 else split.y
        weights = torch.ones_like(x[0]) if split.weights is None else split.weights
        w = weights[k] if weights.dim() == 2 else weights
        key = w.cpu().numpy().tobytes() + (bytes(f"{k}", "ascii") if split.x.dim() == 3 else b"")
        if key not in found:
            scores = _scores(x.cpu().double(), _targets(task, y.cpu()), w.cpu().double(), task.groups)
            best = scores[every[:, 0], every[:, 1]].sort(descending=True, stable=True).indices[:most]
            found[key] = every[best.sort().values]
        told.append(found[key])
    return torch.stack(told) if told else every[:most].expand(0, -1, -1)


def _targets(task: Task, y: Tensor) -> Tensor:
    """Float64 ``(O, N)``."""
    if y.is_floating_point():
        return y.double()
    return torch.nn.functional.one_hot(y, task.outputs).T.double()


def _bins(x: Tensor, groups: tuple[int, ...]) -> Tensor:
    """Indicators of the bins of all columns, float64 ``(C * BINS, N)``.

    A column of several inputs is read as ``sum_i i x_i``: ramps rise with their number, and each word has a value of its own.
    """
    of = torch.tensor(groups)
    before = torch.tensor([groups[:place].count(group) for place, group in enumerate(groups)])
    values = torch.zeros(1 + max(groups), x.shape[1], dtype=torch.float64).index_add(0, of, x * (1.0 + before).unsqueeze(1))
    found = []
    for value in values:
        distinct = value.unique()
        if len(distinct) > BINS:
            cuts = torch.quantile(_thin(value), torch.arange(1, BINS, dtype=torch.float64) / BINS)
        else:
            cuts = (distinct[1:] + distinct[:-1]) / 2
        found.append(torch.nn.functional.one_hot(torch.searchsorted(cuts, value), BINS))
    return torch.stack(found).transpose(1, 2).flatten(0, 1).double()


def _thin(value: Tensor) -> Tensor:
    """As many evenly spaced samples as `torch.quantile` takes."""
    return value[:: 1 + len(value) // 2**20]


def _scores(x: Tensor, y: Tensor, w: Tensor, groups: tuple[int, ...]) -> Tensor:
    """``(C, C)``; see `screened`."""
    bins = _bins(x, groups)
    w = w / w.sum()
    weighted = bins * w
    gram = weighted @ bins.T  # (C B, C B): the weight of each cell
    solved = torch.linalg.solve(gram + RIDGE * torch.eye(len(gram), dtype=gram.dtype), weighted @ y.T)
    residual = y - solved.T @ bins  # (O, N)
    noise = w.square().sum()  # 1 / N where all count the same
    columns = 1 + max(groups)
    total = torch.zeros(columns, columns, dtype=torch.float64)
    for r in residual:
        spread = (w * r.square()).sum()
        squares = ((bins * (w * r)) @ bins.T).square() / gram.clamp(min=1e-300)
        kept = torch.where(gram > 0, squares - noise * spread, torch.zeros_like(gram))
        cells = kept.view(columns, BINS, columns, BINS).sum((1, 3))
        total += cells / (spread + 1e-12)
    return total
