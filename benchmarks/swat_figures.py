"""Pictures of a comparison: each function's error and size, the levels, and error against size by depth.

Colours are Okabe and Ito's and every label has a marker of its own, so that labels can be told apart with any colour vision.
matplotlib is imported when one is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from swat_tables import BEST, FLOOR, NO_LEVEL, in_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PICTURES", "depths", "draw", "functions", "levels"]

PICTURES = ("functions.png", "levels.png", "depths.png")
COLOURS = ("#0072b2", "#009e73", "#cc79a7", "#d55e00", "#000000", "#e69f00", "#56b4e9", "#8c8c8c")
MARKERS = "o^sDXvPp"
INK, RULE = "#3c444d", "#d5d9df"
ERROR = "test MSE / variance of the target"


def _looks(labels: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each label: the same in every picture of one comparison."""
    return {
        label: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        for i, label in enumerate(in_order(labels))
    }


def _plain(axes: Axes, grid: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(RULE)
    axes.tick_params(colors=INK, labelsize=8, which="both", length=2)
    axes.grid(axis="both" if grid == "both" else "x" if grid == "x" else "y", color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)


def _under(figure: Figure, handles: Sequence[Any]) -> None:
    """The legend under all panels, where it covers nothing."""
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4), fontsize=8, frameon=False)


def _name(each: pd.DataFrame, label: str) -> str:
    """A label with its depth where it has one alone: then nothing was chosen."""
    found = each.loc[(each["mode"] == label) & (each["depth"] != BEST), "depth"].unique()
    return f"{label} ({_layers(found[0])})" if len(found) == 1 else label


def _layers(depth: int) -> str:
    return f"{depth} hidden layer{'' if depth == 1 else 's'}"


def functions(each: pd.DataFrame, against: str = "direct") -> Figure:
    """Error and non-zeros of each function at the chosen depth, sorted by error: `latent` and the baselines (figures 5 and 6).

    One level: ``medium`` where it is there, else the first. Where there is no baseline the label ``against`` stands beside
    `latent`, and all labels are shown where there is no `latent` either. Errors below 1e-4 stand at 1e-4.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    looks = _looks(each["mode"])
    best = each[each["depth"] == BEST].assign(error=lambda frame: frame["error"].clip(lower=FLOOR))
    sizes = in_order(best["size"])
    level = "medium" if "medium" in sizes else sizes[0]
    best = best[best["size"].isin([level, NO_LEVEL])]
    there, baselines = in_order(best["mode"]), in_order(best.loc[best["size"] == NO_LEVEL, "mode"])
    shown = [label for label in there if label == "latent" or label in baselines]
    if len(shown) < 2:
        shown = [label for label in there if label in {*shown, against}]
    if len(shown) < 2:
        shown = there
    wide = {name: best.pivot(index="function", columns="mode", values=name)[shown] for name in ("error", "parameters")}
    order = wide["error"].sort_values(shown, ascending=False).index  # by the first label; the easiest function at the top
    rows = range(len(order))
    figure = Figure(figsize=(8.4, 2.0 + 0.165 * len(order)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    handles = []
    for axes, name in ((left, "error"), (right, "parameters")):
        values = wide[name].loc[order]
        axes.hlines(rows, values.min(axis=1), values.max(axis=1), color=RULE, linewidth=1.0, zorder=1)
        for label in shown:
            axes.plot(values[label], rows, linestyle="none", markersize=4.5, alpha=0.85, zorder=3, **looks[label])
            axes.axvline(values[label].median(), color=looks[label]["color"], linewidth=0.9, linestyle=":", zorder=2)
        _plain(axes, "x")
    for label in shown:
        handles.append(Line2D([], [], linestyle="none", markersize=5, label=_name(each, label), **looks[label]))
    handles.append(Line2D([], [], color=INK, linewidth=0.9, linestyle=":", label="median over functions"))
    left.set_xscale("log")
    left.set_yticks(list(rows), order, fontsize=7)
    left.set_ylim(-0.8, len(order) - 0.2)
    left.set_xlabel(ERROR, fontsize=9)
    right.set_xlabel("non-zeros (weights and biases)", fontsize=9)
    right.set_xlim(left=0)
    at = "" if level == NO_LEVEL else f" at level {level}"
    figure.suptitle(f"Error and size of each function's network{at}, depth chosen on validation data", fontsize=10)
    _under(figure, handles)
    return figure


def levels(each: pd.DataFrame) -> Figure:
    """Error, active neurons and non-zeros over functions by level and label, at the chosen depth (figure 9)."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    looks = _looks(each["mode"])
    best = each[each["depth"] == BEST].assign(error=lambda frame: frame["error"].clip(lower=FLOOR))
    groups = [(size, in_order(best.loc[best["size"] == size, "mode"])) for size in in_order(best["size"])]
    boxes = sum(len(labels) for _, labels in groups)
    figure = Figure(figsize=(max(5.0, 2.0 + 0.36 * (boxes + len(groups))), 7.6), layout="constrained")
    panels = figure.subplots(3, 1, sharex=True)
    ticks: list[float] = []
    place = 0
    for size, labels in groups:
        ticks.append(place + (len(labels) - 1) / 2)
        for label in labels:
            part = best[(best["size"] == size) & (best["mode"] == label)]
            for axes, name in zip(panels, ("error", "neurons", "parameters"), strict=True):
                axes.boxplot(
                    part[name].dropna(),
                    positions=[place],
                    widths=0.72,
                    whis=(5, 95),
                    showfliers=False,
                    patch_artist=True,
                    manage_ticks=False,
                    boxprops={"facecolor": looks[label]["color"], "alpha": 0.55, "edgecolor": looks[label]["color"]},
                    medianprops={"color": "black", "linewidth": 1.4},
                    whiskerprops={"color": looks[label]["color"]},
                    capprops={"color": looks[label]["color"]},
                )
            place += 1
        place += 1  # a gap between levels
    for axes, words in zip(panels, (ERROR, "active neurons", "non-zeros (weights, biases)"), strict=True):
        axes.set_ylabel(words, fontsize=9)
        _plain(axes, "y")
    panels[0].set_yscale("log")
    for axes in panels[1:]:
        axes.set_ylim(bottom=0)
    panels[2].set_xticks(ticks, ["no level" if size == NO_LEVEL else f"level {size}" for size, _ in groups], fontsize=9)
    many = best["function"].nunique()
    figure.suptitle(
        f"{many} functions by level, depth chosen on validation data\nbox: middle half, line: median, whiskers: 5 % to 95 %",
        fontsize=10,
    )
    _under(figure, [Patch(facecolor=looks[label]["color"], alpha=0.55, label=_name(each, label)) for label in looks])
    return figure


def depths(found: pd.DataFrame) -> Figure:
    """Geometric mean error against median non-zeros, one panel per depth.

    Each label is a line through its levels, each baseline a point.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    looks = _looks(found["mode"])
    points = found.drop_duplicates(["mode", "size", "depth"])  # `table` has one row per opponent
    sizes = in_order(points["size"])
    shown = in_order(points["depth"])
    across = min(3, len(shown))
    down = -(-len(shown) // across)
    figure = Figure(figsize=(1.6 + 2.6 * across, 1.4 + 2.3 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    for axes, depth in zip(panels, shown, strict=False):
        for label, part in points[points["depth"] == depth].groupby("mode", sort=False):
            line = part.sort_values("size", key=lambda column: column.map(sizes.index))
            look = looks[str(label)]
            axes.plot(line["parameters"], line["error"], color=look["color"], linewidth=1.2, alpha=0.85)
            for size, x, y in zip(line["size"], line["parameters"], line["error"], strict=True):
                grown = 5.5 if size == NO_LEVEL else 4.0 + 1.5 * sizes.index(size)
                axes.plot(x, y, linestyle="none", markersize=grown, alpha=0.85, **look)
        axes.set_title("depth chosen on validation data" if depth == BEST else _layers(depth), fontsize=9)
        axes.margins(0.12)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_yscale("log")
        _plain(axes, "both")
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    narrow = points["error"].max() < 30 * points["error"].min()  # powers of ten alone would leave such an axis without numbers
    panels[0].yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0) if narrow else (1.0,)))
    panels[0].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panels[0].yaxis.set_minor_formatter(NullFormatter())
    for axes in panels[max(0, len(shown) - across) : len(shown)]:
        axes.set_xlabel("non-zeros (median over functions)", fontsize=8)
    figure.supylabel(f"{ERROR}, geometric mean", fontsize=9)
    levels_ = [size for size in sizes if size != NO_LEVEL]
    joined = f"; lines join the levels {', '.join(levels_)} (growing markers)" if len(levels_) > 1 else ""
    figure.suptitle(f"Error against size{joined}", fontsize=10)
    _under(figure, [Line2D([], [], markersize=5, linewidth=1.2, label=_name(found, label), **looks[label]) for label in looks])
    return figure


def draw(each: pd.DataFrame, found: pd.DataFrame, folder: Path, against: str = "direct") -> list[Path]:
    """All of `PICTURES` into a folder, which is made where it is not there; their paths.

    Args:
        each: `swat_tables.by_function`.
        found: `swat_tables.table` of it.
        folder: where to.
        against: the label that stands beside `latent` where there is no baseline.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, figure in zip(PICTURES, (functions(each, against), levels(each), depths(found)), strict=True):
        figure.savefig(folder / name, dpi=150, facecolor="white")
        drawn.append(folder / name)
    return drawn
