"""How far the front of a study has come, as one number: its hypervolume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nasplug.folds import FOLD, outcomes
from nasplug.packs.ranking import hypervolume
from nasplug.tasks import Facts

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ERROR", "LARGEST", "SIZE", "leading", "volume"]

LARGEST = 2**22  # edges: more than a network may have
ERROR, SIZE = "valid_error", "edges"


def volume(frame: pd.DataFrame, places: Sequence[str], facts_of: Callable[[str], Facts]) -> float:
    """The share of all that could be had which the front has: in [0, 1], of several data sets and losses their sum.

    The hypervolume of validation error as a share of a constant network's, and ``log(1 + edges) / log(1 + 2^22)``, to the
    corner (1, 1): fixed by the data alone. Networks on folds count as configurations, by their means over folds and seeds, once
    each fold has one that finished.

    Args:
        frame: one row per replica.
        places: that tell data sets and losses apart.
        facts_of: what a replica was trained on.
    """
    groups = [part for _, part in frame.groupby(list(places), sort=False, dropna=False)] if places else [frame]
    return sum(_of_one(part[part["status"] == "finished"], facts_of) for part in groups)


def leading(
    frame: pd.DataFrame, places: Sequence[str], facts_of: Callable[[str], Facts], coming: Callable[[int], bool]
) -> pd.DataFrame:
    """The rows of a table on which its `volume` depends, also beside others that come: the fronts of data sets and losses.

    On folds other rows may change the means of a configuration. Those of which rows are ``coming`` stay whole; of the others
    those on the front of means stay.
    """
    import pandas as pd

    finished = frame[frame["status"] == "finished"]
    groups = [part for _, part in finished.groupby(list(places), sort=False, dropna=False)] if places else [finished]
    fronts = [_leading(part, facts_of, coming) for part in groups if len(part)]
    return pd.concat(fronts) if fronts else finished


def _leading(rows: pd.DataFrame, facts_of: Callable[[str], Facts], coming: Callable[[int], bool]) -> pd.DataFrame:
    if FOLD not in rows or not rows[FOLD].notna().any():
        return _front(rows[np.isfinite(rows[ERROR])].sort_values([ERROR, SIZE], kind="stable"))
    later = rows["configuration"].isin([number for number in rows["configuration"].unique() if coming(int(number))])
    means = _means(rows[~later], facts_of(str(rows["replica"].iloc[0])))
    best = _front(means.sort_values([ERROR, SIZE], kind="stable")).index
    return rows[later | rows["configuration"].isin(best)]


def _means(rows: pd.DataFrame, facts: Facts) -> pd.DataFrame:
    """Of each configuration, once each fold has one that finished, error and size: means over folds and seeds."""
    whole = rows.groupby("configuration")[FOLD].nunique() == facts.resamples
    return outcomes(rows[rows["configuration"].isin(whole.index[whole])], [ERROR, SIZE])


def _front(rows: pd.DataFrame) -> pd.DataFrame:
    """Of rows by error, those that are smaller than all before."""
    sizes = rows[SIZE].to_numpy(dtype=np.float64)
    return rows[sizes < np.minimum.accumulate(np.concatenate([[np.inf], sizes[:-1]]))]


def _of_one(rows: pd.DataFrame, facts_of: Callable[[str], Facts]) -> float:
    if rows.empty:
        return 0.0
    facts = facts_of(str(rows["replica"].iloc[0]))
    trivial = facts.trivial.get(ERROR, 0.0)
    if FOLD in rows and rows[FOLD].notna().any():
        rows = _means(rows, facts)
    if not trivial > 0.0:
        return 0.0  # a constant network makes no error: there is nothing to gain
    values = rows[[ERROR, SIZE]].to_numpy(dtype=np.float64)
    return hypervolume(np.stack([values[:, 0] / trivial, np.log1p(values[:, 1]) / np.log1p(LARGEST)], axis=1), (1.0, 1.0))
