"""Fronts of several studies in one picture, for a page and for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from nasplug.console import padded
from nasplug.drawing.curves import log_axis
from nasplug.drawing.style import DASHES, PAPER, Array, is_wide, new_figure, shades, styled
from nasplug.drawing.terminal import COLUMNS, edge_ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_fronts", "fronts_picture"]

MARKS = "○●△▲□■◇◆"
SEVERAL = "*"
DOTS = "osv^DP*X"
TALL = 14  # lines


def draw_fronts(fronts: Mapping[str, Array], ylabel: str) -> Figure:
    """A step line for each study.

    Args:
        fronts: name -> parameters and error of its networks, fewest parameters first, ``(N, 2)``.
        ylabel: what the error is.
    """
    every = np.concatenate(list(fronts.values()))
    with styled():
        figure = new_figure(8.2, 4.4)
        axes = figure.add_subplot()
        most = float(every[:, 0].max())
        for place, ((name, points), colour) in enumerate(zip(fronts.items(), shades(max(len(fronts), 2)), strict=False)):
            line = np.vstack([points, [most, points[-1, 1]]])
            style = {"drawstyle": "steps-post", "ls": DASHES[place % len(DASHES)], "lw": 1.5}
            axes.plot(*line.T, color=colour, zorder=3, **style)
            axes.plot(
                *points.T,
                DOTS[place % len(DOTS)],
                color=colour,
                ms=max(9.0 - 2.0 * place, 5.0),
                mec=PAPER,
                mew=0.6,
                zorder=4,
                label=name,
            )
        if is_wide(every[:, 0]):
            log_axis(axes, "x")
        axes.set_xlabel("parameters")
        axes.set_ylabel(ylabel)
        axes.legend(loc="upper right")
    return figure


def fronts_picture(fronts: Mapping[str, Array], words: str, columns: int = COLUMNS) -> str:
    """The same for a terminal: a mark for each network of a front, at most 72 cells wide; a star where two studies meet."""
    every = np.concatenate(list(fronts.values()))
    log = is_wide(every[:, 0])

    def scale(x: Array) -> Array:
        return np.log10(np.maximum(x, 0.5)) if log else x

    margin = 8
    wide = min(COLUMNS, columns) - margin - 1
    low, high = float(scale(every[:, 0]).min()), float(scale(every[:, 0]).max())
    best, top = float(every[:, 1].min()), float(every[:, 1].max())
    cells = [[" "] * wide for _ in range(TALL)]
    for place, points in enumerate(fronts.values()):
        across = np.rint((scale(points[:, 0]) - low) / max(high - low, 1e-9) * (wide - 1)).astype(int)
        down = np.rint((top - points[:, 1]) / max(top - best, 1e-12) * (TALL - 1)).astype(int)
        for i, j in zip(across, down, strict=True):
            mark = MARKS[place % len(MARKS)]
            cells[j][i] = mark if cells[j][i] in (" ", mark) else SEVERAL
    lines = [words]
    for number, row in enumerate(cells):
        value = top - (top - best) * number / (TALL - 1)
        label = f"{value:.3g}" if number % 4 == 0 or number == TALL - 1 else ""
        lines.append(f"{label:>{margin - 1}} │" + "".join(row).rstrip())
    lines.append(" " * margin + "└" + "─" * wide)
    lines.append(" " * margin + edge_ticks(float(every[:, 0].min()), float(every[:, 0].max()), log, wide + 1))
    names = "  ".join(f"{MARKS[i % len(MARKS)]} {padded(name, 24).rstrip()}" for i, name in enumerate(fronts))
    several = f"  {SEVERAL} several" if any(SEVERAL in row for row in cells) else ""
    lines.append(" " * margin + f" parameters · {names}{several}")
    return "\n".join(lines)
