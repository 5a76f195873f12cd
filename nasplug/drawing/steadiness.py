"""How often inputs are kept over half samples, against the level of a penalty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasplug.drawing.curves import log_axis
from nasplug.drawing.reading import shorten
from nasplug.drawing.style import CHOSEN, INK, MUTED, PAPER, Array, new_figure, shades, styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["draw_frequencies"]

NAMED = 12  # inputs whose lines have their names
LOG = 3.0  # from this ratio of levels on their axis is logarithmic
APART = 0.045  # of frequency, between two names


def draw_frequencies(table: pd.DataFrame, level: str, chosen: float, threshold: float) -> Figure | None:
    """The frequency of each input over the levels, lines named; None where there are fewer than two levels.

    Args:
        table: rows with ``item``, ``frequency`` and the column ``level``, one per input and level.
        level: the column of levels, > 0.
        chosen: the level of the chosen network, which is marked.
        threshold: the frequency from which an input is called stable.
    """
    lines = table.pivot_table(index=level, columns="item", values="frequency", sort=False).sort_index()
    lines = lines[lines.index > 0]
    if len(lines) < 2:
        return None
    # those that hold out longest first: the mean over the levels
    order = lines.mean().sort_values(ascending=False, kind="stable").index
    named = list(order[:NAMED])
    colours = shades(len(named))
    x: Array = lines.index.to_numpy(float)
    with styled():
        figure = new_figure(8.2, 4.2)
        axes = figure.add_subplot()
        for name in order[NAMED:]:
            axes.plot(x, lines[name], color=MUTED, lw=0.7, alpha=0.5, zorder=2)
        for name, shade in zip(named, colours, strict=True):
            axes.plot(x, lines[name], "o-", ms=3.0, color=shade, lw=1.5, zorder=3)
        right = lines[named].iloc[-1].std() >= lines[named].iloc[0].std()  # names stand where lines are apart
        ends = [float(lines[name].iloc[-1 if right else 0]) for name in named]
        for name, end, height, shade in zip(named, ends, _spread(ends), colours, strict=True):
            axes.annotate(
                shorten(str(name), 18),
                (x[-1] if right else x[0], end),
                xytext=(1.03 if right else -0.03, height),
                textcoords=("axes fraction", "data"),
                ha="left" if right else "right",
                va="center",
                fontsize=8,
                color=INK,
                arrowprops={"arrowstyle": "-", "color": shade, "lw": 0.8},
                annotation_clip=False,
            )
        axes.axhline(threshold, color=INK, lw=0.8, ls=(0, (3, 2)), zorder=1, label=f"threshold {threshold:g}")
        axes.axvline(chosen, color=CHOSEN, lw=1.2, zorder=1, label="chosen level")
        axes.set_ylim(-0.03, 1.03)
        if not right:
            axes.yaxis.tick_right()
            axes.yaxis.set_label_position("right")
        axes.set_ylabel("share of half samples that keep the input")
        if x.max() / x.min() > LOG:
            log_axis(axes, "x")
        axes.set_xlabel("penalty level λ")
        axes.legend(loc="best", facecolor=PAPER)
    return figure


def _spread(heights: list[float]) -> list[float]:
    """Heights for names, at least `APART` from each other, the highest first; near the lines' own."""
    order = sorted(range(len(heights)), key=lambda at: -heights[at])
    found = list(heights)
    above = 1.03 + APART
    for at in order:
        found[at] = min(heights[at], above - APART)
        above = found[at]
    below = -0.03 - APART
    for at in reversed(order):  # names that were pushed out at the bottom push the others up again
        found[at] = max(found[at], below + APART)
        below = found[at]
    return found
