"""The errors of all architectures of a space, the best first, and where those that searches chose are among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nasplug.drawing.reading import shorten
from nasplug.drawing.style import INK, MUTED, PAPER, Array, is_wide, new_figure, shades, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_ranks"]

MARKS = "oDs^vPX*"


def draw_ranks(errors: Array, spread: Array, chosen: Mapping[str, Sequence[int]], words: str) -> Figure:
    """Errors over ranks, with a mark for each run of each search.

    Args:
        errors: ``(N,)``, any order; those that are not finite are left out.
        spread: standard errors ``(N,)``, NaN where there are none.
        chosen: search -> the places in ``errors`` of what its runs chose.
        words: what the error is.
    """
    order = np.argsort(errors, kind="stable")
    order = order[np.isfinite(errors[order])]
    ranks = np.arange(1, len(order) + 1)
    place = {int(at): int(rank) for at, rank in zip(order, ranks, strict=True)}
    with styled():
        figure = new_figure(8.2, 4.0)
        axes = figure.add_subplot()
        mean, wide = errors[order], np.nan_to_num(spread[order])
        axes.fill_between(ranks, mean - wide, mean + wide, color=MUTED, alpha=0.25, lw=0, zorder=1)
        axes.plot(ranks, mean, color=INK, lw=1.4, zorder=2, label=f"all {len(order):,} architectures, ± one standard error")
        for at, ((name, places), shade) in enumerate(zip(chosen.items(), shades(len(chosen)), strict=True)):
            there = [place[one] for one in places if one in place]
            axes.plot(
                there,
                [errors[order[rank - 1]] for rank in there],
                MARKS[at % len(MARKS)],
                color=shade,
                ms=7,
                mec=PAPER,
                mew=0.6,
                zorder=3 + at,
                label=shorten(name, 40),
            )
        if is_wide(mean):
            axes.set_yscale("log")
        axes.set_xlim(0.5 - 0.01 * len(order), len(order) * 1.01 + 0.5)
        axes.set_xlabel("architectures, the best first")
        axes.set_ylabel(words)
        axes.legend(loc="upper left", facecolor=PAPER)
    return figure
