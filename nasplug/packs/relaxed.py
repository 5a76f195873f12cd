"""What networks were before they were made hard, beside what was made of them: shares of choices, gates, weights.

Kept of the rows that may stand on the study's front, as JSON in the pack's own table: of the others nobody asks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from nasplug.networks import Networks, shares, take
from nasplug.packs.stored import RELAXED, SHARES
from nasplug.plan import Pack
from nasplug.train import Search

__all__ = ["MOST_SHARES", "MOST_WEIGHTS", "relaxed_of", "shares_of"]

MOST_SHARES = 512  # of one network; beyond, nobody can train all that it chose from
MOST_WEIGHTS = 10_000  # of one network; a picture of more says nothing


def relaxed_of(
    pack: Pack, rows: np.ndarray, columns: Mapping[str, Any], soft: Networks, hard: Networks, score: np.ndarray
) -> dict[str, Any]:
    """The column `RELAXED`; none for a pack of networks on folds or half samples, which are never served.

    Args:
        pack: the pack.
        rows: which of its rows these are.
        columns: their scores and sizes.
        soft: networks in direct space.
        hard: what was made of them, before fine-tuning.
        score: what networks are chosen by, ``(n,)``, less is better.
    """
    if pack.halved or (pack.folds and not pack.refitted):
        return {}
    texts: list[str | None] = [None] * len(rows)
    for at in _standing(pack, rows, columns, score):
        index = torch.tensor([at], device=next(iter(soft.blocks.values())).device)
        texts[at] = json.dumps(_record(take(soft, index), take(hard, index)), separators=(",", ":"))
    return {RELAXED: pa.array(texts, pa.string())}


def shares_of(search: Search, soft: Networks) -> dict[str, Any]:
    """The column `SHARES` of a search: of each network its shares of kernels, layer by layer, then layer by layer and site by
    site, or edge by edge.
    """
    sites = [soft.kernel_shares[number] for number in sorted(soft.kernel_shares)]
    if search.traits.architecture:
        sites += shares(soft) if soft.alternatives else [soft.choices[layer].flatten(1) for layer in sorted(soft.choices)]
    numbers = sum(site[0].numel() for site in sites)
    if search.fixed or not 0 < numbers <= MOST_SHARES:
        return {}
    flat = torch.cat(sites, 1)  # (K, numbers)
    return {SHARES: pa.array(list(flat.detach().cpu().float().numpy()), pa.list_(pa.float32()))}


def _standing(pack: Pack, rows: np.ndarray, columns: Mapping[str, Any], score: np.ndarray) -> list[int]:
    """Rows that may stand on the study's front: those on the front (`nasplug.results.front`) of their pack and data set.

    Of refitted networks the scores are those of their configuration over its folds, which no pack knows: the row with the
    smallest loss of each configuration, which is the one that is picked (`nasplug.folds.picked`).
    """
    size, loss = (score, score) if pack.fitted else (np.asarray(columns["edges"]), np.asarray(columns["valid_loss"]))
    _, group = np.unique(np.asarray(pack.configurations if pack.fitted else pack.tasks)[rows], return_inverse=True)
    order = np.lexsort((loss, score, size))
    order = order[np.isfinite(score[order])]
    found: list[int] = []
    for own in range(group.max(initial=-1) + 1):
        mine = order[group[order] == own]
        best = np.minimum.accumulate(np.concatenate([[np.inf], score[mine]]))[:-1]
        found += mine[score[mine] < best].tolist()
    return found


def _record(soft: Networks, hard: Networks) -> dict[str, Any]:
    """Plain data of one network, K = 1. Shares and gates have three decimals, weights three digits."""
    layers = []
    for layer in range(1, soft.depth):
        shares, gates = soft.choices.get(layer), soft.gates.get(layer)
        if shares is None and gates is None:
            continue
        layers.append(
            {
                "layer": layer,
                "shares": None if shares is None else _rounded(shares[0]),
                "gates": None if gates is None else _rounded(gates[0]),
                "choices": hard.choices[layer][0].argmax(-1).tolist() if layer in hard.choices else None,
                "kept": (hard.gates[layer][0] > 0).int().tolist(),
            }
        )
    weights = sum(w[0].numel() for w in soft.blocks.values())
    blocks = []
    for edge in soft.blocks if weights <= MOST_WEIGHTS else ():
        before = soft.block(edge)[0].abs()
        after = hard.block(edge)[0] != 0 if edge in hard.blocks else torch.zeros_like(before)
        digits = [[float(f"{value:.3g}") for value in row] for row in before.tolist()]
        blocks.append({"to": edge[0], "from": edge[1], "before": digits, "kept": after.int().tolist()})
    return {"candidates": list(soft.candidates), "layers": layers, "weights": weights, "blocks": blocks}


def _rounded(values: torch.Tensor) -> Any:
    return np.round(values.detach().cpu().double().numpy(), 3).tolist()
