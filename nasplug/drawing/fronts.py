"""The front of a study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasplug.drawing.style import (
    CHOSEN,
    INK,
    MUTED,
    PAPER,
    POSITIVE,
    Array,
    error_words,
    is_wide,
    new_figure,
    power_text,
    scale,
    styled,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_front"]

MOST_DOTS = 3000  # above this dots are drawn as pixels, also in an SVG


def _log_size_axis(axes: Axes, low: float, high: float) -> None:
    """Edges on a logarithmic axis with room for networks of no edge at all."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("symlog", linthresh=1.0, linscale=0.4)
    ticks = [0.0] if low <= 0 else []
    for exponent in range(8):
        ticks += [m * 10.0**exponent for m in (1, 2, 5)]
    axes.xaxis.set_major_locator(FixedLocator([t for t in ticks if low * 0.8 <= t <= high * 1.25]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
    axes.set_xlim(low * 0.85 if low > 0 else -0.25, high * 1.2)


def _highest(dots: Array, line: Array, slack: float) -> float:
    """The top of the picture: all of the front that matters, the slack and most dots; far ones would flatten the rest."""
    best = float(line.min())
    top = max(float(np.quantile(dots, 0.98)), float(line[-1]) * 1.2, best + 2 * slack)
    top = min(max(top, float(np.quantile(line, 0.5))), float(dots.max()))
    return top + (0.06 * (top - best) or 1e-9)


def draw_front(
    frame: pd.DataFrame,
    front: pd.DataFrame,
    chosen: str,
    *,
    slack: float = 0.0,
    colour: tuple[str, str] | None = None,
    lines: Array | None = None,
    spread: tuple[Array, str] | None = None,
) -> Figure:
    """Validation error against edges: a dot for each finished replica, the front as a step line, the chosen network marked.

    Args:
        frame: the table of replicas.
        front: its Pareto set.
        chosen: name of the chosen replica.
        slack: how much worse than the best still counts as good (drawn as a band).
        colour: column that colours the dots, and what to call it.
        lines: edges and validation errors of the front of linear networks alone, ``(N, 2)``.
        spread: of each network of the front the ends of a bar, ``(N, 2)`` validation errors, NaN for none; and what it is.
    """
    from matplotlib.ticker import MaxNLocator

    from nasplug.results import METHOD

    factor, words = error_words(frame)
    dots = frame[frame["status"] == "finished"]
    kept = ["edges", "valid_error", *([colour[0]] if colour else []), *([METHOD] if METHOD in dots else [])]
    dots = dots[kept].drop_duplicates()  # dots that cover each other exactly are drawn once
    straight = (dots[METHOD] == "linear").to_numpy(bool) if METHOD in dots else np.zeros(len(dots), dtype=bool)
    value = dots[colour[0]].to_numpy(float) if colour else None
    x, y = dots["edges"].to_numpy(float), factor * dots["valid_error"].to_numpy(float)
    line_x, line_y = front["edges"].to_numpy(float), factor * front["valid_error"].to_numpy(float)
    best, top = float(line_y.min()), _highest(y, line_y, factor * slack)
    inside = [] if lines is None else [(float(e), float(factor * v)) for e, v in lines if factor * v <= top]
    with styled():
        figure = new_figure(8.2, 4.6)
        axes = figure.add_subplot()
        hidden = int((frame.loc[frame["status"] == "finished", "valid_error"] * factor > top).sum())
        low, high = float(x.min()), max([float(x.max()), *(e for e, _ in inside)])
        if is_wide(x):
            _log_size_axis(axes, low, high)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_xlim(low - 0.04 * (high - low) - 0.5, high + 0.04 * (high - low) + 0.5)
        _scatter(figure, axes, x, y, value, colour[1] if colour else "", straight)
        right = axes.get_xlim()[1]
        if slack > 0:
            label = "counts as equal to the best"
            axes.axhspan(best, best + factor * slack, color=MUTED, alpha=0.10, lw=0, label=label, zorder=1)
        axes.plot([*line_x, right], [*line_y, line_y[-1]], drawstyle="steps-post", color=INK, lw=1.3, zorder=4, label="front")
        axes.plot(line_x, line_y, "o", ms=4.0, color=INK, zorder=4.5)
        if spread is not None and np.isfinite(spread[0]).any():
            ends = np.minimum(factor * spread[0], top)
            axes.vlines(line_x, ends[:, 0], ends[:, 1], color=INK, lw=4.0, alpha=0.25, zorder=3.5, label=spread[1])
        if inside:
            bx, by = zip(*inside, strict=True)
            dashed: dict[str, Any] = {"drawstyle": "steps-post", "ls": (0, (3, 2)), "lw": 1.2, "color": POSITIVE, "zorder": 3}
            axes.plot([*bx, right], [*by, by[-1]], label="linear networks alone", **dashed)
        for _, point in front[front["replica"] == chosen].iterrows():
            diamond: dict[str, Any] = {"ms": 9, "mfc": CHOSEN, "mec": PAPER, "mew": 1.2, "ls": "none", "zorder": 6}
            label = f"chosen: {int(point['edges'])} edges"
            axes.plot([float(point["edges"])], [factor * float(point["valid_error"])], "D", label=label, **diamond)
        lowest = best if spread is None else min(best, factor * float(np.nanmin(np.append(spread[0][:, 0], best / factor))))
        axes.set_ylim(lowest - 0.08 * (top - lowest), top)
        axes.set_xlabel("edges (weights on a path from an input to an output)")
        axes.set_ylabel(f"validation error: {words}" if factor > 1 else f"validation {words}")
        axes.legend(loc="upper right")
        if hidden:
            words = f"not shown, above: {hidden:,} of {int((frame['status'] == 'finished').sum()):,} finished networks"
            axes.set_title(words, color=MUTED, loc="left", fontsize=8)
    return figure


def _scatter(
    figure: Figure, axes: Axes, x: Array, y: Array, value: Array | None, label: str, straight: npt.NDArray[np.bool_]
) -> None:
    """Dots, those of linear networks (``straight``, or without a value, as these have levels of their own) as triangles."""
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    many = len(x) > MOST_DOTS
    style: dict[str, Any] = {"s": 4, "lw": 0, "rasterized": True} if many else {"s": 15, "lw": 0.4, "edgecolors": PAPER}
    style |= {"zorder": 2}
    straight = straight if value is None else straight | ~np.isfinite(value)
    if straight.any() and not straight.all():
        axes.scatter(x[straight], y[straight], color=MUTED, marker="^", label="a linear network", **style)
        x, y, value = x[~straight], y[~straight], None if value is None else value[~straight]
    if value is None or not np.isfinite(value).any() or np.nanmin(value) == np.nanmax(value):
        axes.scatter(x, y, color=MUTED, **style)
        return
    low, high = float(np.nanmin(value)), float(np.nanmax(value))
    log = low > 0 and high / low >= 5
    norm = LogNorm(low, high) if log else Normalize(low, high)
    points = axes.scatter(x, y, c=value, cmap=scale(), norm=norm, **style)
    bar = figure.colorbar(points, ax=axes, pad=0.02, aspect=30)
    bar.outline.set_visible(False)
    bar.set_label(label)
    if log:
        bar.ax.yaxis.set_major_locator(LogLocator(10, subs=(1.0,) if high / low >= 100 else (1.0, 2.0, 5.0)))
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: power_text(v)))
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
