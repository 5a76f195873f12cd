"""Rows that are copies of others: where one trains, and another validates or tests, scores look better than they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from nasplug.data.encoder import ColumnKind

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["copies_in"]

LEAST = 0.01  # of the rows: fewer copies change no score that is shown


def copies_in(inputs: pd.DataFrame, targets: pd.DataFrame, kinds: Mapping[str, ColumnKind]) -> str:
    """What is said of rows that agree with another one in all columns; empty where there are less than 1 % of them.

    Only a table with a column of numbers that are not all whole, or of dates, is looked at: rows of a few words and counts
    agree by chance.
    """
    measured = [place for place, kind in enumerate(kinds.values()) if kind == "date" or _measured(inputs.iloc[:, place])]
    if not measured:
        return ""
    alike = np.ones(len(inputs), dtype=np.bool_)
    for place in measured:  # column by column, as in most tables no row is left after the first
        rows = np.flatnonzero(alike)
        alike[rows] = inputs.iloc[rows, place].duplicated(keep=False).to_numpy()
        if not alike.any():
            return ""
    rows = np.flatnonzero(alike)
    both = inputs.iloc[rows].assign(**{f"\0{place}": column.iloc[rows] for place, (_, column) in enumerate(targets.items())})
    count = int(both.duplicated().sum())
    if count < max(LEAST * len(inputs), 1.0):
        return ""
    return (
        f"{count:,} of {len(inputs):,} rows are copies of others, in all columns that are used: where one trains and its copy "
        "validates or tests, scores look better than they are for new rows. Remove them, or keep them together with validation "
        "'groups'"
    )


def _measured(column: pd.Series[float]) -> bool:
    """Whether a column holds numbers that are not all whole."""
    if column.dtype.kind != "f":
        return False
    x = column.to_numpy()
    return bool((x[np.isfinite(x)] % 1.0 != 0.0).any())
