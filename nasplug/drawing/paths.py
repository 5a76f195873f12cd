"""Error and size along a penalty's level."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasplug.drawing.curves import log_axis
from nasplug.drawing.style import CHOSEN, INK, POSITIVE, WIDE, error_words, new_figure, styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["draw_path", "path_of"]

LEAST = 3  # levels
SHARES = {"low": 0.25, "middle": 0.5, "high": 0.75}


def path_of(frame: pd.DataFrame, level: str) -> pd.DataFrame:
    """Quarters of ``valid_error`` and ``edges`` of the finished networks of each level; columns ``(score, share)``."""
    import pandas as pd

    finished = frame[(frame["status"] == "finished") & frame[level].notna()]
    by = finished.groupby(level)[["valid_error", "edges"]]
    return pd.concat({name: by.quantile(share) for name, share in SHARES.items()}, axis=1).swaplevel(axis=1)


def draw_path(frame: pd.DataFrame, path: pd.DataFrame, chosen: float | None) -> Figure | None:
    """Two panels over the level: validation error, edges; medians, a band from quarter to quarter. None for few levels.

    Args:
        frame: the table of replicas, for the unit of its errors.
        path: what `path_of` makes of it.
        chosen: the chosen network's level; None where it has none.
    """
    if len(path) < LEAST:
        return None
    factor, words = error_words(frame)
    x = path.index.to_numpy(float)
    with styled():
        figure = new_figure(8.2, 2.9)
        left, right = figure.subplots(1, 2)
        panels = ((left, "valid_error", factor, f"validation error: {words}" if factor > 1 else "validation error"),)
        for axes, column, times, label in (*panels, (right, "edges", 1.0, "edges")):
            low, middle, high = (times * path[column, share].to_numpy(float) for share in SHARES)
            colour = INK if column == "edges" else POSITIVE
            axes.fill_between(x, low, high, color=colour, alpha=0.18, lw=0)
            axes.plot(x, middle, "o-", color=colour, lw=1.5, ms=3.5)
            if chosen is not None:
                axes.axvline(chosen, color=CHOSEN, lw=1.4, ls=(0, (4, 2)), label="the chosen network's level")
                axes.legend(loc="best")
            if x.min() > 0 and x.max() / x.min() > WIDE / 4:
                log_axis(axes, "x")
            if column == "edges" and low.min() > 0 and high.max() / low.min() > WIDE / 4:
                log_axis(axes, "y")
            else:
                axes.set_ylim(bottom=min(0.0, float(low.min())))
            axes.set_xlabel("penalty level λ")
            axes.set_ylabel(label)
    return figure
