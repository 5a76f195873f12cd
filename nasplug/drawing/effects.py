"""Effect curves of a network: a panel for each column."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nasplug.drawing.reading import ends_of, short
from nasplug.drawing.style import DASHES, INK, MUTED, PAPER, POSITIVE, RULE, Array, new_figure, shades, styled
from nasplug.explain import Curve, Effect

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MOST_EFFECTS", "draw_effects"]

MOST_EFFECTS = 12  # panels
ACROSS = 3  # of them
MOST_WORDS = 10  # points of a category
MOST_LINES = 6  # outputs
LETTERS = 30  # of a name above a panel
SHORT = 11  # of a word below one
BARS = 24  # of a histogram
FEW = 12  # distinct numbers: each is a point with a bar of its own


def draw_effects(
    effects: Sequence[Effect], ylabel: str, outputs: Sequence[str], bands: Mapping[str, Sequence[Curve]] | None = None
) -> Figure | None:
    """What each column adds to the mean output, the most important first; None where no column has a curve.

    Numbers are a line over the histogram of the background; words are points, with their shares of it. A shaded band is the
    range over other networks.

    Args:
        effects: of the network (`nasplug.explain.effects`).
        ylabel: what the axis is.
        outputs: their names; of more than 6 the first 6 are drawn.
        bands: column -> the curves of other networks on the same grid, drawn where there is one output.
    """
    shown = [effect for effect in effects if len(effect.grid.numbers) + len(effect.grid.words)][:MOST_EFFECTS]
    if not shown:
        return None
    rows = math.ceil(len(shown) / ACROSS)
    with styled():
        figure = new_figure(9.6, 0.4 + 2.15 * rows)
        panels = figure.subplots(rows, min(ACROSS, len(shown)), squeeze=False).ravel()
        low, high = math.inf, -math.inf
        for axes, effect in zip(panels, shown, strict=False):
            others = list((bands or {}).get(effect.grid.column, [])) if len(outputs) == 1 else []
            _panel(axes, effect, others, outputs[:MOST_LINES])
            for part in (effect.curve.numbers, effect.curve.words, *(one.numbers for one in others)):
                if part.size:
                    low, high = min(low, float(part.min())), max(high, float(part.max()))
        room = 0.08 * ((high - low) or 1.0)
        for axes, _ in zip(panels, shown, strict=False):
            axes.set_ylim(low - 2.5 * room, high + room)  # one scale: what matters more looks so; below it the histogram
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        figure.supylabel(short(ylabel, 60), fontsize=8.5)
        if len(outputs) > 1:
            handles, names = panels[0].get_legend_handles_labels()
            figure.legend(handles, names, loc="outside upper center", ncols=min(6, len(names)))
    return figure


def _panel(axes: Axes, effect: Effect, others: Sequence[Curve], outputs: Sequence[str]) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    grid, curve = effect.grid, effect.curve
    axes.set_title(short(grid.column, LETTERS), fontsize=9)
    axes.axhline(0.0, color=RULE, lw=0.9, zorder=1)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    colours = shades(len(outputs))
    names = [short(name, 18) for name in outputs]
    if len(grid.numbers):
        x = grid.numbers
        _histogram(axes, grid.seen)
        if len(others) > 1:
            every = np.stack([one.numbers[:, 0] for one in others])
            axes.fill_between(x, every.min(0), every.max(0), color=POSITIVE, alpha=0.18, lw=0, zorder=2)
        few = len(x) <= FEW
        for place, colour in enumerate(colours):
            marker: dict[str, Any] = {"marker": "o", "ms": 3.5} if few else {}
            dashes = DASHES[place % len(DASHES)]
            axes.plot(x, curve.numbers[:, place], color=colour, ls=dashes, lw=1.6, zorder=4, label=names[place], **marker)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=few and bool((x == np.round(x)).all())))
        if grid.kind == "date":
            axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: _day(v)))
        if grid.words:
            _aside(axes, effect, others, colours)
        return
    order = np.argsort(-grid.shares, kind="stable")[:MOST_WORDS]
    order = np.sort(order)
    x = np.arange(len(order), dtype=np.float64)
    axes.bar(
        x, grid.shares[order] / max(float(grid.shares.max()), 1e-12), width=0.7, color=MUTED, alpha=0.22, lw=0, **_below(axes)
    )
    for place, colour in enumerate(colours):
        if len(others) > 1:
            every = np.stack([one.words[order, 0] for one in others])
            axes.vlines(x, every.min(0), every.max(0), color=POSITIVE, alpha=0.35, lw=5, zorder=2)
        axes.plot(x, curve.words[order, place], "o", ms=5, color=colour, mec=PAPER, mew=0.6, zorder=4, label=names[place])
    turned: dict[str, Any] = {"rotation": 35, "fontsize": 7, "ha": "right", "rotation_mode": "anchor"} if len(order) > 3 else {}
    axes.set_xticks(x, [ends_of(grid.words[place], SHORT) for place in order], **turned)
    axes.set_xlim(-0.6, len(order) - 0.4)
    if len(grid.words) > len(order):
        axes.set_xlabel(f"{len(grid.words) - len(order)} rarer words are not shown", fontsize=7, color=MUTED)


def _below(axes: Axes) -> dict[str, Any]:
    """Bars as tall as a sixth of the panel, whatever its scale."""
    from matplotlib.transforms import Affine2D, blended_transform_factory

    down = Affine2D().scale(1.0, 0.16) + axes.transAxes
    return {"transform": blended_transform_factory(axes.transData, down), "zorder": 1.5}


def _histogram(axes: Axes, seen: Array) -> None:
    values = seen[np.isfinite(seen)]
    if len(values) == 0:
        return
    distinct, often = np.unique(values, return_counts=True)
    if len(distinct) <= FEW:
        gap = float(np.diff(distinct).min()) if len(distinct) > 1 else 1.0
        axes.bar(distinct, often / often.max(), 0.7 * gap, color=MUTED, alpha=0.22, lw=0, **_below(axes))
        axes.set_xlim(distinct[0] - 0.5 * gap, distinct[-1] + 0.5 * gap)
        return
    low, high = np.quantile(values, [0.01, 0.99])
    inside = values[(values >= low) & (values <= high)]
    counts, edges = np.histogram(inside, bins=min(BARS, max(1, len(np.unique(inside)))))
    axes.bar(edges[:-1], counts / counts.max(), np.diff(edges), align="edge", color=MUTED, alpha=0.22, lw=0, **_below(axes))
    span = float(edges[-1] - edges[0])
    axes.set_xlim(edges[0] - 0.03 * span, edges[-1] + 0.03 * span)


def _aside(axes: Axes, effect: Effect, others: Sequence[Curve], colours: Sequence[Any]) -> None:
    """A point right of the numbers for rows without one."""
    left, right = axes.get_xlim()
    at = right + 0.09 * (right - left)
    if len(others) > 1:
        every = np.array([one.words[0, 0] for one in others])
        axes.vlines(at, every.min(), every.max(), color=POSITIVE, alpha=0.35, lw=5, zorder=2)
    for place, colour in enumerate(colours):
        axes.plot([at], [effect.curve.words[0, place]], "D", ms=4.5, color=colour, mec=PAPER, mew=0.6, zorder=4)
    first = float(effect.curve.words[0].max())
    where: dict[str, Any] = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center", "va": "bottom"}
    axes.annotate("missing", (at, first), fontsize=6.5, color=INK, zorder=5, **where)
    axes.set_xlim(left, at + 0.1 * (right - left))


def _day(seconds: float) -> str:
    return str(np.datetime64(round(seconds), "s").astype("datetime64[D]"))
