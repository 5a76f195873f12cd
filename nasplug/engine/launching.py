"""One launch of the kernel: its tables from a search, the leaves side by side, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from nasplug.contracts import Params
from nasplug.engine.fitting import Canonical
from nasplug.engine.sizes import sizes
from nasplug.optimizers import Adam
from nasplug.tasks import CrossEntropy, Split
from nasplug.tasks.losses import Huber
from nasplug.train import Batches, Search

__all__ = ["absolute_of", "compiled_in", "families_of", "launch"]

MOST_NUMBERS = 2**26  # of a table of steps and rows: 256 MB

Moments = dict[str, Tensor]


def launch(
    plan: Canonical, search: Search, params: Params, moments: Moments, batches: Batches, first: int, until: int
) -> tuple[Tensor, Tensor]:
    """Steps ``first`` to ``until - 1`` of all rows, in place: loss and penalty ``(K,)`` before the last one."""
    from nasplug.engine.kernel import many_steps  # here alone Triton is needed

    rows, device = len(search.seeds), search.seeds.device
    names = ("", "m/", "v/")
    whole = params | moments
    leaves = torch.stack([torch.cat([whole[n + leaf].flatten(1) for leaf in plan.leaves], 1) for n in names])  # (3, K, P)
    x, y, weights = _data(plan, search, batches.split)
    told = leaves.new_empty(2, rows)
    absolute, families = absolute_of(plan).to(device), families_of(plan)[0].to(device)
    fixed, warps = compiled_in(plan, search, batches)
    loss, ordered = search.task.loss, batches.size < batches.split.samples
    each = max(1, MOST_NUMBERS // max((2 + len(plan.norms)) * rows, batches.size))
    for start in range(first, until, each):
        end = min(start + each, until)
        order = batches.order(start, end) if ordered else None
        many_steps[(rows,)](
            leaves,
            x,
            y,
            x if weights is None else weights,
            told if order is None else order.to(device, torch.int32),
            _numbers(plan, search, params, start, end),
            _corrections(cast(Adam, search.optimizer), moments["count"], end - start),
            absolute,
            families,
            told,
            end - start,
            rows,
            batches.size,
            x[0].numel() if x.dim() == 3 else 0,
            y[0].numel() if y.dim() == 3 else 0,
            weights.shape[-1] if weights is not None and weights.dim() == 2 else 0,
            loss.delta if isinstance(loss, Huber) else 1.0,
            loss.smoothing if isinstance(loss, CrossEntropy) else 0.0,
            1.0 if search.clip is None else search.clip,
            **fixed,
            num_warps=warps,
            num_stages=1,
            enable_fp_fusion=True,
        )
        moments["count"].add_(end - start)
    for n, part in zip(names, leaves, strict=True):
        pieces = part.split([whole[leaf][0].numel() for leaf in plan.leaves], 1)
        for leaf, piece in zip(plan.leaves, pieces, strict=True):
            whole[n + leaf].copy_(piece.view_as(whole[n + leaf]))
    return told[0], told[1]


def compiled_in(plan: Canonical, search: Search, batches: Batches) -> tuple[dict[str, Any], int]:
    """The constants of the kernel, and its warps."""
    adam = cast(Adam, search.optimizer)
    layout = sizes(plan.widths, batches.size)
    _, *counts = families_of(plan)
    widths, padded = ([*each, 1, 1][:4] for each in (plan.widths, layout.padded))
    fixed = {
        "BETA1": adam.beta1,
        "BETA2": adam.beta2,
        "EPS": adam.eps,
        "DECAY": adam.weight_decay,
        "DEPTH": plan.depth,
        **{f"D{layer}": width for layer, width in enumerate(widths)},
        **{f"E{layer}": width for layer, width in enumerate(padded)},
        "BIASED": bool(plan.biases),
        "CHUNK": layout.chunk,
        "KIND": plan.kind,
        "SHARED": plan.shared,
        "LOSS": plan.loss,
        "WEIGHTED": batches.split.weights is not None,
        "ORDERED": batches.size < batches.split.samples,
        "PENALTIES": len(plan.norms),
        "ABSOLUTE": any(part.of == "each" for norms in plan.norms for part in norms),
        **{f"F{layer}": count for layer, count in enumerate(counts)},
        "CLIPPED": search.clip is not None,
        "DECOUPLED": adam.decoupled,
    }
    return fixed, layout.warps


def absolute_of(plan: Canonical) -> Tensor:
    """What each penalty multiplies the absolute weights that enter a layer by, ``(P, D)``."""
    found = torch.zeros(max(1, len(plan.norms)), plan.depth)
    for number, norms in enumerate(plan.norms):
        for part in norms:
            if part.of == "each":
                found[number, part.layer - 1] += part.factor
    return found


def families_of(plan: Canonical) -> tuple[Tensor, int, int, int]:
    """Groups of neurons, ``(F, 5)``: number of the penalty, entering, leaving, factor, unit; and how many of layers 0, 1, 2."""
    found: list[list[Sequence[float]]] = [[], [], []]
    for number, norms in enumerate(plan.norms):
        for part in norms:
            if part.of != "each":
                sides = float(part.of != "leaving"), float(part.of != "entering")
                found[part.layer].append((float(number), *sides, part.factor, part.unit or 0.0))
    rows = [row for layer in found for row in layer]
    return torch.tensor(rows or [[0.0] * 5]), len(found[0]), len(found[1]), len(found[2])


def _data(plan: Canonical, search: Search, split: Split) -> tuple[Tensor, Tensor, Tensor | None]:
    """Samples as rows, labels as probabilities: ``(N, I)``, ``(N, O)``, ``(N,)``, each with K in front where rows differ."""
    y = split.y
    if not y.is_floating_point():
        y = F.one_hot(y, plan.widths[-1]).mT.to(split.x.dtype)
    weights = None if split.weights is None else split.weights.contiguous()
    return split.x.mT.contiguous(), y.mT.contiguous(), weights


def _numbers(plan: Canonical, search: Search, params: Params, first: int, until: int) -> Tensor:
    """Learning rate, share of the identity and levels: ``(steps, 2 + P, K)``."""
    lr = search.lr.between(first, until)
    share = torch.zeros_like(lr)
    if plan.shared:
        # The share is a function of the temperature alone, row by row: rows of all steps are asked for at once.
        tau = search.tau.between(first, until).flatten()
        one = {name: p[:1].expand(len(tau), *p.shape[1:]) for name, p in params.items()}
        choice = search.relax(one, tau).choices[1]
        share = choice[:, 0, 1].reshape(lr.shape)
    levels = [level.between(first, until) for level in search.levels]
    return torch.stack([lr, share, *levels], 1).contiguous()


def _corrections(adam: Adam, count: Tensor, steps: int) -> Tensor:
    """Adam's ``1 / (1 - b^t)`` of each step, ``(steps, 2)``."""
    counts = count + torch.arange(1, steps + 1, device=count.device)
    return torch.stack([1.0 / (1.0 - adam.beta1**counts), 1.0 / (1.0 - adam.beta2**counts)], 1).to(count.dtype)
