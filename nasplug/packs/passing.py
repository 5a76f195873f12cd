"""A pack whose rows passed through levels: what trained, as the networks at each level; its history, as theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from nasplug.networks import Networks, take
from nasplug.packs.stored import Standing
from nasplug.packs.training import Work
from nasplug.plan import Paths
from nasplug.train import Search, State

__all__ = ["at_levels", "in_order", "of_members"]


def at_levels(work: Work) -> Iterator[tuple[Search, Standing, list[int]]]:
    """What trained, where it stood at the end of each level, and which networks of the pack that are.

    Where no level is passed through, all at once, as it stands now.
    """
    paths, now, device = work.paths, work.now, work.search.seeds.device
    if not paths.ends:
        yield work.here, now, now.rows.tolist()
        return
    for number, end in enumerate(now.ends):
        members = paths.members(number)
        if members:
            rows = torch.tensor([paths.path[row] for row in members])
            params = {name: p[rows].to(device) for name, p in end.items()}
            there = replace(now, state=State(params, {}, paths.ends[number]), rows=rows.numpy())
            yield paths.at(work.search, number).take(rows.to(device)), there, members


def in_order(nets: Networks, columns: Mapping[str, Any], members: list[int]) -> tuple[Networks, dict[str, Any]]:
    """Networks and columns of ``members``, in the order of the pack's rows."""
    order = np.argsort(members)
    if (np.diff(order) == 1).all():
        return nets, dict(columns)

    def ordered(column: Any) -> Any:
        return column.take(pa.array(order)) if isinstance(column, pa.Array) else np.asarray(column)[order]

    device = next(iter(nets.blocks.values())).device
    return take(nets, torch.from_numpy(order).to(device)), {name: ordered(column) for name, column in columns.items()}


def of_members(history: Mapping[str, list[np.ndarray]], paths: Paths) -> dict[str, list[np.ndarray]]:
    """The history of what trained -> that of each network: of its path, up to its own level."""
    if not paths.ends:
        return dict(history)
    path, last = np.asarray(paths.path), np.asarray(paths.ends)[list(paths.number)]
    there = [steps[path] <= last for steps in history["step"]]

    def own(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
        return np.where(kept, values[path], np.nan if values.dtype.kind == "f" else 0)

    return {name: [own(v, kept) for v, kept in zip(reports, there, strict=True)] for name, reports in history.items()}
