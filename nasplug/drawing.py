"""Pictures of a study: the front, a network, curves. For a page (SVG that follows light and dark), a file (PNG), a terminal.

Figures are made without pyplot, so that nothing global is touched, and matplotlib is imported when the first one is made.
Colours are from Okabe and Ito's palette and from viridis: they can be told apart with any colour vision.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from nasplug.compact import CompactNetwork

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Strength",
    "draw_curves",
    "draw_cut",
    "draw_front",
    "draw_network",
    "front_picture",
    "network_picture",
    "save_png",
    "strengths",
    "svg",
]

Array = npt.NDArray[np.float64]
Edge = tuple[int, int]  # (to, from), positions in the compact network

INK, MUTED, RULE, PAPER = "#1b1f24", "#5c6570", "#c9ced6", "#fefefe"
POSITIVE, NEGATIVE, CHOSEN = "#0071b2", "#d45e00", "#cc3311"
THEME = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    PAPER: "--paper",
    POSITIVE: "--positive",
    NEGATIVE: "--negative",
    CHOSEN: "--chosen",
}
"""Each of these colours becomes a variable of the page's style sheet; a PNG has them as they are."""

MOST_NODES = 60  # above this a drawing of nodes and edges is a hairball, and a heat map of the blocks says more
MOST_WEIGHTS = 16  # up to this many edges have their weight written on them
MOST_DOTS = 3000  # above this dots are drawn as pixels, also in an SVG
MOST_NAMES = 80  # rows of a heat map that still have names
WIDE = 20.0  # a range of sizes with this ratio gets a logarithmic axis
MONOTONE = frozenset({"identity", "relu", "leaky_relu", "tanh", "sigmoid", "elu", "softplus"})

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.color": INK,
    "text.parse_math": False,  # a feature may be called "price ($)"
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9.5,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "grid.alpha": 0.6,
    "legend.fontsize": 8.0,
    "legend.facecolor": PAPER,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "svg.fonttype": "none",
    "svg.hashsalt": "nasplug",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
}


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib as mpl

    with mpl.rc_context(cast(Any, STYLE)):
        yield


def svg(figure: Figure, name: str) -> str:
    """The figure as an ``<svg>`` element to stand in a page: colours are the page's variables, ids begin with ``name``."""
    buffer = io.StringIO()
    with _style():
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\sid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>',
        r'<svg viewBox="\1" role="img" xmlns:xlink="http://www.w3.org/1999/xlink">',
        text,
        count=1,
    )
    for colour, variable in THEME.items():
        text = text.replace(colour, f"var({variable})")
    return text


def save_png(figure: Figure, path: Path) -> None:
    """The figure on white, 150 pixels an inch."""
    with _style():
        figure.savefig(path, format="png", dpi=150, facecolor="white")


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


# -- words and scales --------------------------------------------------------------------------------------------------


def _power(value: float) -> str:
    """``1e-05`` as ``10⁻⁵``; other numbers in their shortest form."""
    if value > 0 and not 0.001 <= value < 10000:
        exponent = math.floor(math.log10(value) + 1e-9)
        lead = f"{value / 10**exponent:.3g}"
        digits = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return f"10{digits}" if lead == "1" else f"{lead}·10{digits}"
    return f"{value:.4g}"


def _is_wide(values: Array) -> bool:
    positive = values[np.isfinite(values) & (values > 0)]
    return len(positive) > 0 and bool(positive.max() / positive.min() > WIDE)


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


def _log_axis(axes: Axes, which: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    low, high = getattr(axes, f"get_{which}lim")()
    few = high / low < 30
    axis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda v, _: _power(v)))
    axis.set_minor_formatter(NullFormatter())


def _error(frame: pd.DataFrame) -> tuple[float, str]:
    """Factor and words of an error: labels have an accuracy beside it, regression has none."""
    if "valid_accuracy" in frame.columns:
        return 100.0, "wrong labels (%)"
    return 1.0, "mean squared error (of the standardised target)"


# -- the front ---------------------------------------------------------------------------------------------------------


def draw_front(
    frame: pd.DataFrame,
    front: pd.DataFrame,
    chosen: str,
    *,
    slack: float = 0.0,
    colour: tuple[str, str] | None = None,
    baseline: tuple[str, Sequence[tuple[float, float]]] | None = None,
) -> Figure:
    """Validation error against edges: every finished replica a dot, the front a step line, the chosen network marked.

    Args:
        frame: the table of replicas.
        front: its Pareto set.
        chosen: name of the chosen replica.
        slack: how much worse than the best still counts as good (drawn as a band).
        colour: column that colours the dots, and what to call it.
        baseline: name and ``(edges, validation error)`` of other models to compare with.
    """
    from matplotlib.ticker import MaxNLocator

    factor, words = _error(frame)
    dots = frame[frame["status"] == "finished"]
    kept = ["edges", "valid_error", *([colour[0]] if colour else [])]
    dots = dots[kept].drop_duplicates()  # dots that cover each other exactly are drawn once
    x, y = dots["edges"].to_numpy(float), factor * dots["valid_error"].to_numpy(float)
    line_x, line_y = front["edges"].to_numpy(float), factor * front["valid_error"].to_numpy(float)
    with _style():
        figure = _figure(8.2, 4.6)
        axes = figure.add_subplot()
        best = float(line_y.min())
        top = max(float(np.quantile(y, 0.98)), float(line_y[-1]) * 1.2, best + 2 * factor * slack)
        top = min(max(top, float(np.quantile(line_y, 0.5))), float(y.max()))
        top += 0.06 * (top - best) or 1e-9
        bottom = best - 0.08 * (top - best)
        hidden = int((frame.loc[frame["status"] == "finished", "valid_error"] * factor > top).sum())
        low, high = float(x.min()), float(x.max())
        if baseline is not None:
            inside = [(e, factor * v) for e, v in baseline[1] if factor * v <= top]
            high = max([high, *(e for e, _ in inside)])
        if _is_wide(x):
            _log_size_axis(axes, low, high)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_xlim(low - 0.04 * (high - low) - 0.5, high + 0.04 * (high - low) + 0.5)
        _scatter(figure, axes, x, y, dots[colour[0]].to_numpy(float) if colour else None, colour[1] if colour else "")
        right = axes.get_xlim()[1]
        if slack > 0:
            label = "as good as the best, within the slack"
            axes.axhspan(best, best + factor * slack, color=MUTED, alpha=0.10, lw=0, label=label, zorder=1)
        axes.plot([*line_x, right], [*line_y, line_y[-1]], drawstyle="steps-post", color=INK, lw=1.3, zorder=4, label="front")
        axes.plot(line_x, line_y, "o", ms=4.0, color=INK, zorder=4.5)
        if baseline is not None and inside:
            bx, by = zip(*inside, strict=True)
            axes.plot(
                [*bx, right],
                [*by, by[-1]],
                drawstyle="steps-post",
                ls=(0, (3, 2)),
                lw=1.2,
                color=POSITIVE,
                zorder=3,
                label=baseline[0],
            )
        mark = front[front["replica"] == chosen]
        if len(mark):
            point = mark.iloc[0]
            where = ([float(point["edges"])], [factor * float(point["valid_error"])])
            axes.plot(
                *where,
                "D",
                ms=9,
                mfc=CHOSEN,
                mec=PAPER,
                mew=1.2,
                ls="none",
                zorder=6,
                label=f"chosen: {int(point['edges'])} edges",
            )
        axes.set_ylim(bottom, top)
        axes.set_xlabel("edges (weights on a path from an input to an output)")
        axes.set_ylabel(f"validation error: {words}" if factor > 1 else f"validation {words}")
        axes.legend(loc="upper right")
        if hidden:
            words = f"not shown, above: {hidden:,} of {int((frame['status'] == 'finished').sum()):,} finished networks"
            axes.set_title(words, color=MUTED, loc="left", fontsize=8)
    return figure


def _scatter(figure: Figure, axes: Axes, x: Array, y: Array, value: Array | None, label: str) -> None:
    import matplotlib as mpl
    from matplotlib.colors import ListedColormap, LogNorm, Normalize
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    many = len(x) > MOST_DOTS
    style: dict[str, Any] = {"s": 4 if many else 13, "alpha": 0.4 if many else 0.55, "lw": 0, "zorder": 2, "rasterized": many}
    if value is None or not np.isfinite(value).any() or np.nanmin(value) == np.nanmax(value):
        axes.scatter(x, y, color=MUTED, **style)
        return
    middle = ListedColormap(mpl.colormaps["viridis"](np.linspace(0.22, 0.92, 256)))  # both ends show on white and on black
    low, high = float(np.nanmin(value)), float(np.nanmax(value))
    log = low > 0 and high / low >= 5
    norm = LogNorm(low, high) if log else Normalize(low, high)
    points = axes.scatter(x, y, c=value, cmap=middle, norm=norm, **style)
    bar = figure.colorbar(points, ax=axes, pad=0.02, aspect=30)
    bar.solids.set_alpha(1.0)  # type: ignore[union-attr]
    bar.outline.set_visible(False)
    bar.set_label(label)
    if log:
        bar.ax.yaxis.set_major_locator(LogLocator(10, subs=(1.0,) if high / low >= 100 else (1.0, 2.0, 5.0)))
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: _power(v)))
        bar.ax.yaxis.set_minor_formatter(NullFormatter())


# -- a network ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Strength:
    """How much an input matters.

    Attributes:
        place: its position among the inputs that survived.
        feature: its name.
        value: the sum, over all paths from it to an output, of the product of the path's |weights|, on standardised inputs.
        sign: ``+`` when every path's product is positive (the output never falls as the feature grows), ``-`` when every one
            is negative, ``±`` otherwise and where an activation is not monotone; empty with more than one output.
    """

    place: int
    feature: str
    value: float
    sign: str


def _blocks(network: CompactNetwork) -> dict[Edge, Array]:
    state = network.state_dict()
    return {(to, source): state[f"weight_{to}_{source}"].double().numpy() for to, source in network.edges}


def _hidden(record: Mapping[str, Any]) -> list[list[str]]:
    return [[name for name, count in layer for _ in range(count)] for layer in record["activations"]]


def _outputs(record: Mapping[str, Any]) -> list[str]:
    targets, width = [str(t) for t in record["targets"]], int(record["widths"][-1])
    if width == 1 and len(targets) == 2:
        return [f"P({targets[1]})" if record["link"] == "sigmoid" else f"score of {targets[1]}"]
    return [f"P({t})" for t in targets] if record["link"] == "softmax" else targets


def _path_sums(blocks: Mapping[Edge, Array], widths: Sequence[int]) -> Array:
    """``(O, I)``: over all paths, the sum of the product of their weights."""
    total: list[Array] = [np.eye(widths[0])]
    for layer in range(1, len(widths)):
        here = np.zeros((widths[layer], widths[0]))
        for (to, source), w in blocks.items():
            if to == layer:
                here += w @ total[source]
        total.append(here)
    return total[-1]


def strengths(network: CompactNetwork) -> list[Strength]:
    """Every feature that survived, strongest first."""
    widths, blocks = network.widths, _blocks(network)
    signed = _path_sums(blocks, widths).sum(0)
    strength = _path_sums({edge: np.abs(w) for edge, w in blocks.items()}, widths).sum(0)
    monotone = all(name in MONOTONE for layer in _hidden(network.record) for name in layer)

    def sign(i: int) -> str:
        if widths[-1] > 1:
            return ""
        if not monotone or abs(signed[i]) < strength[i] * (1 - 1e-9):
            return "±"
        return "+" if signed[i] > 0 else "-"

    found = [Strength(i, name, float(strength[i]), sign(i)) for i, name in enumerate(network.first_names)]
    return sorted(found, key=lambda s: -s.value)


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def draw_network(network: CompactNetwork) -> Figure:
    """The network, inputs left: edges as wide as |weight|, blue where positive, orange where negative; skip edges as arcs.

    Only what survived is drawn. Above `MOST_NODES` nodes: a heat map of each block.
    """
    with _style():
        return _draw_graph(network) if sum(network.widths) <= MOST_NODES else _draw_blocks(network)


def _order(network: CompactNetwork, blocks: Mapping[Edge, Array]) -> list[list[int]]:
    """Rows of each layer from the top: inputs by strength, hidden neurons near what they read, outputs as they are."""
    orders = [[s.place for s in strengths(network)]]
    last = len(network.widths) - 1
    for layer in range(1, len(network.widths)):
        width = network.widths[layer]
        if layer == last:
            orders.append(list(range(width)))
            continue
        pull, mass = np.zeros(width), np.full(width, 1e-12)
        for (to, source), w in blocks.items():
            if to == layer:
                place = np.empty(len(orders[source]))
                place[orders[source]] = np.linspace(0, 1, len(place)) if len(place) > 1 else 0.5
                pull += np.abs(w) @ place
                mass += np.abs(w).sum(1)
        orders.append([int(i) for i in np.argsort(pull / mass, kind="stable")])
    return orders


def _places(orders: Sequence[Sequence[int]]) -> list[Array]:
    """Height of each node of each layer; layers are centred, at least 1 apart and at most 2.2."""
    tallest = max(len(order) for order in orders)
    found = []
    for order in orders:
        gap = min(2.2, max(1.0, (tallest - 1) / max(len(order), 1))) if len(order) > 1 else 0.0
        heights = np.empty(len(order))
        heights[list(order)] = gap * ((len(order) - 1) / 2 - np.arange(len(order)))
        found.append(heights)
    return found


STEP = 3.8  # between two layers, in rows
BAR = 1.5  # the longest bar of strength


Point = tuple[float, float]


def _arcs(
    blocks: Mapping[Edge, Array], places: Sequence[Array], reach: float
) -> dict[tuple[int, int, int, int], tuple[Point, Point, float]]:
    """Skip edges as Bezier curves over or under the layers between: ``(to, from, row, column)`` -> ends, height of control."""
    found: dict[tuple[int, int, int, int], tuple[Point, Point, float]] = {}
    for side in (1.0, -1.0):
        here: list[tuple[int, float, float, tuple[int, int, int, int]]] = []
        for (to, source), w in blocks.items():
            for t, s in zip(*np.nonzero(w), strict=True):
                start, end = float(places[source][s]), float(places[to][t])
                if to - source > 1 and (start >= 0) == (side > 0):
                    here.append((to - source, side * start, side * end, (to, source, int(t), int(s))))
        gap = min(0.8, 4.0 / max(len(here), 1))  # between two arcs, in rows, where they are highest
        for rank, (span, start, end, key) in enumerate(sorted(here)):
            peak = reach + 0.5 + 0.3 * span + gap * rank
            height = (peak - 0.125 * (start + end)) / 0.75
            found[key] = ((STEP * key[1], side * start), (STEP * key[0], side * end), side * height)
    return found


def _draw_graph(network: CompactNetwork) -> Figure:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Curve

    record, blocks = network.record, _blocks(network)
    places = _places(_order(network, blocks))
    reach = max(float(np.abs(p).max()) if len(p) else 0.0 for p in places)
    arcs = _arcs(blocks, places, reach)
    names = [_shorten(n, 32) for n in network.first_names]
    outputs = [_shorten(n, 24) for n in _outputs(record)]
    left = -(BAR + 0.9) - 0.21 * max([len(n) for n in names], default=0)
    right = STEP * (len(places) - 1) + 0.5 + 0.22 * max(len(n) for n in outputs)
    peaks = [0.125 * (start[1] + end[1]) + 0.75 * height for start, end, height in arcs.values()]
    top, bottom = max([reach + 1.2, *(p + 0.6 for p in peaks)]), min([-reach - 0.7, *(p - 0.6 for p in peaks)])
    row = 0.30
    figure = _figure(min(max((right - left) * 0.32, 6.4), 11.0), max((top - bottom) * row, 1.4) + 0.3)
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    largest = max((float(np.abs(w).max()) for w in blocks.values()), default=1.0)
    written = sum(int((w != 0).sum()) for w in blocks.values()) <= MOST_WEIGHTS
    patch = {"boxstyle": "round,pad=0.12", "fc": PAPER, "ec": "none", "alpha": 0.85}
    for (to, source), w in blocks.items():
        for t, s in zip(*np.nonzero(w), strict=True):
            weight = float(w[t, s])
            share = abs(weight) / largest
            start, end = (STEP * source, float(places[source][s])), (STEP * to, float(places[to][t]))
            style: dict[str, Any] = {
                "color": POSITIVE if weight > 0 else NEGATIVE,
                "lw": 0.4 + 4.0 * share,
                "alpha": 0.35 + 0.55 * share,
                "zorder": 1,
            }
            if to - source == 1:
                axes.plot([start[0], end[0]], [start[1], end[1]], solid_capstyle="round", **style)
                along = 0.36 if source == 0 else 0.5
                middle = (start[0] + along * (end[0] - start[0]), start[1] + along * (end[1] - start[1]))
            else:
                _, _, height = arcs[to, source, int(t), int(s)]
                third = (end[0] - start[0]) / 3
                points = [start, (start[0] + third, height), (end[0] - third, height), end]
                codes = [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4]
                axes.add_patch(PathPatch(Curve(points, codes), fill=False, capstyle="round", **style))
                middle = (start[0] + 1.5 * third, 0.125 * (start[1] + end[1]) + 0.75 * height)
            if written:
                axes.text(
                    *middle,
                    f"{weight:+.2f}".replace("-", "\u2212"),
                    ha="center",
                    va="center",
                    fontsize=7,
                    bbox=patch,
                    zorder=5,
                )
    found = strengths(network)
    most = max((s.value for s in found), default=1.0) or 1.0
    for strength in found:
        name, height = names[strength.place], float(places[0][strength.place])
        axes.plot([0.0], [height], "o", ms=6, color=INK, zorder=3)
        length = BAR * strength.value / most
        axes.barh([height], [length], left=-0.35 - BAR, height=0.42, color=MUTED, alpha=0.45, lw=0)
        axes.text(-0.6 - BAR, height, name, ha="right", va="center", fontsize=8.5)
    for layer, kinds in enumerate(_hidden(record), start=1):
        for kind, height in zip(kinds, places[layer], strict=True):
            box = {"boxstyle": "round,pad=0.35", "fc": PAPER, "ec": INK, "lw": 1.0}
            axes.text(STEP * layer, height, kind, ha="center", va="center", fontsize=7.5, bbox=box, zorder=4)
    for name, height in zip(outputs, places[-1], strict=True):
        at = STEP * (len(places) - 1)
        axes.plot([at], [height], "s", ms=7, color=INK, zorder=3)
        axes.text(at + 0.35, height, name, ha="left", va="center", fontsize=9, fontweight="bold")
    if names:
        axes.text(-0.35 - BAR, reach + 0.8, "strength", ha="left", va="center", fontsize=7.5, color=MUTED)
    else:
        axes.text(left, 0, "no input is left:\nthe output is constant", ha="left", va="center", fontsize=9, color=MUTED)
    if blocks:
        _weight_key(figure, largest)
    return figure


def _weight_key(figure: Figure, largest: float) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=POSITIVE, lw=3, label="positive weight"),
        Line2D([], [], color=NEGATIVE, lw=3, label="negative weight"),
        Line2D([], [], color=MUTED, lw=4.4, label=f"|weight| = {largest:.3g}"),
        Line2D([], [], color=MUTED, lw=1.4, label=f"|weight| = {largest / 4:.2g}"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=7.5)


def _draw_blocks(network: CompactNetwork) -> Figure:
    from matplotlib.colors import to_rgb

    record, blocks = network.record, _blocks(network)
    hidden = _hidden(record)
    last = len(network.widths) - 1
    mixed = [len(set(kinds)) > 1 for kinds in hidden]
    words = [
        "stem" if network.stem else "inputs",
        *(f"layer {i}" + ("" if mixed[i - 1] else f" ({hidden[i - 1][0]})") for i in range(1, last)),
        "output",
    ]
    names = network.first_names
    rows = [s.place for s in strengths(network)]
    tallest = max(network.widths[source] for _, source in blocks)
    height = min(max(0.15 * tallest, 3.0), 11.0) + 0.8
    widths = [max(0.6, min(network.widths[to] * 0.12, 5.0)) for to, _ in blocks]
    width = min(max(sum(widths) + 1.3 * len(widths) + 2.5, 6.0), 13.0)
    figure = _figure(width, height)
    panels = figure.subplots(1, len(blocks), squeeze=False, gridspec_kw={"width_ratios": [w + 0.4 for w in widths]})[0]
    largest = max(float(np.abs(w).max()) for w in blocks.values())
    for axes, ((to, source), w) in zip(panels, blocks.items(), strict=True):
        cells = w.T[rows] if source == 0 else w.T  # (H_from, H_to)
        picture = np.zeros((*cells.shape, 4))
        picture[cells > 0, :3], picture[cells < 0, :3] = to_rgb(POSITIVE), to_rgb(NEGATIVE)
        picture[..., 3] = np.sqrt(np.abs(cells) / largest)
        axes.imshow(picture, aspect="auto", interpolation="nearest")
        axes.grid(visible=False)
        kind = "" if to - source == 1 else " (skip)"
        axes.set_title(f"{words[source]} → {words[to]}{kind}\n{cells.shape[0]} x {cells.shape[1]}", fontsize=8.5)
        axes.set_yticks([])
        if source == 0 and len(rows) <= MOST_NAMES:
            axes.set_yticks(range(len(rows)), [_shorten(names[i], 28) for i in rows], fontsize=7)
        elif source > 0 and mixed[source - 1] and len(cells) <= MOST_NAMES:
            axes.set_yticks(range(len(cells)), hidden[source - 1], fontsize=7)
        axes.set_xticks([])
        if to == last and cells.shape[1] <= 12:
            axes.set_xticks(range(cells.shape[1]), [_shorten(n, 20) for n in _outputs(record)], rotation=90, fontsize=7)
    _weight_key(figure, largest)
    figure.legends[0].remove()
    figure.supxlabel(
        f"blue: positive, orange: negative, pale: small (full colour: |weight| = {largest:.3g}); inputs by strength",
        fontsize=7.5,
        color=MUTED,
    )
    return figure


# -- curves ------------------------------------------------------------------------------------------------------------


def draw_curves(histories: pd.DataFrame, chosen: str) -> Figure | None:
    """Training loss, validation loss and penalty over the steps, a line a network, coloured by edges; None without any.

    ``histories`` has ``replica``, ``edges`` and the list columns ``history_*``.
    """
    import matplotlib as mpl

    panels = {
        "history_train_loss": "training loss",
        "history_valid_loss": "validation loss",
        "history_penalty": "penalty (level x regularizer)",
    }
    panels = {column: words for column, words in panels.items() if column in histories.columns}
    if "history_step" not in histories.columns or not panels or histories.empty:
        return None
    edges = np.log1p(histories["edges"].to_numpy(float))
    span = float(edges.max() - edges.min()) or 1.0
    shades = mpl.colormaps["viridis"](0.22 + 0.7 * (edges - edges.min()) / span)
    with _style():
        figure = _figure(9.6, 3.2)
        for axes, (column, words) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
            drawn: list[Array] = []
            for (_, row), shade in zip(histories.iterrows(), shades, strict=True):
                if row[column] is None or row["history_step"] is None:
                    continue
                steps, values = np.asarray(row["history_step"]), np.asarray(row[column], dtype=float)
                drawn.append(values)
                if row["replica"] == chosen:
                    axes.plot(steps, values, color=CHOSEN, lw=2.2, zorder=4, label="chosen")
                else:
                    axes.plot(steps, values, color=shade, lw=1.1)
            every = np.concatenate(drawn) if drawn else np.ones(1)
            if np.nanmin(every) > 0 and np.nanmax(every) / np.nanmin(every) > WIDE / 4:
                _log_axis(axes, "y")
            axes.set_title(words)
            axes.set_xlabel("step")
            if axes.get_legend_handles_labels()[0]:
                axes.legend(loc="best")
        few, many = int(histories["edges"].min()), int(histories["edges"].max())
        if few < many:
            figure.supxlabel(
                f"networks of the front, from {few} edges (violet) to {many} edges (yellow-green)", fontsize=8, color=MUTED
            )
    return figure


def draw_cut(front: pd.DataFrame, chosen: str) -> Figure | None:
    """Validation loss of each network of the front: relaxed, after its gates were cut to 0 or 1, and after fine-tuning."""
    stages = {
        "relaxed_valid_loss": ("relaxed (soft gates)", "o", MUTED),
        "cut_valid_loss": ("cut (gates 0 or 1)", "v", NEGATIVE),
        "valid_loss": ("fine-tuned", "s", POSITIVE),
    }
    if not set(stages) <= set(front.columns):
        return None
    with _style():
        figure = _figure(8.2, 3.0)
        axes = figure.add_subplot()
        x = np.arange(len(front))
        columns = {name: front[name].to_numpy(float) for name in stages}
        for aside, (name, (words, marker, colour)) in zip((-0.14, 0.0, 0.14), stages.items(), strict=True):
            axes.plot(
                x + aside, columns[name], marker, ms=6, color=colour, mec=PAPER, mew=0.6, ls="none", label=words, zorder=3
            )
        every = np.concatenate(list(columns.values()))
        if every.min() > 0 and every.max() / every.min() > WIDE / 4:
            _log_axis(axes, "y")
        shown = x[:: max(1, math.ceil(len(x) / 24))]
        axes.set_xticks(shown, [str(int(front["edges"].iloc[i])) for i in shown])
        for place in np.flatnonzero((front["replica"] == chosen).to_numpy()):
            axes.axvspan(place - 0.4, place + 0.4, color=CHOSEN, alpha=0.12, lw=0, label="chosen", zorder=0)
        axes.set_xlabel("edges of the networks of the front")
        axes.set_ylabel("validation loss")
        axes.set_xlim(-0.7, len(front) - 0.3)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


# -- in a terminal -----------------------------------------------------------------------------------------------------

COLUMNS, LINES = 72, 18
BRAILLE = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # [row][column] of a cell of 4 x 2 dots


def front_picture(frame: pd.DataFrame, chosen: str = "") -> str:
    """The front for a terminal, at most 72 x 18 characters: ``○`` is on the front, ``◆`` is chosen, dots are the others.

    Args:
        frame: the table of replicas.
        chosen: name of the chosen replica; without one none is marked.
    """
    from nasplug.results import front as pareto

    finished = frame[frame["status"] == "finished"]
    if finished.empty:
        return "no network finished"
    factor, words = _error(frame)
    front = pareto(frame)
    x, y = finished["edges"].to_numpy(float), factor * finished["valid_error"].to_numpy(float)
    log = _is_wide(x)

    def scale(edges: Array) -> Array:
        return np.log10(np.maximum(edges, 0.5)) if log else edges

    best = float(y.min())
    top = max(float(np.quantile(y, 0.95)), best + 1e-9 + 0.1 * abs(best))
    low, high = float(scale(x).min()), float(scale(x).max())
    high = max(high, low + 1e-9)
    margin = 8
    wide, tall = COLUMNS - margin - 1, LINES - 5
    cells = np.zeros((tall, wide), dtype=int)

    def dot(edges: Array, errors: Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        across = (scale(edges) - low) / (high - low) * (2 * wide - 1)
        down = (top - errors) / (top - best) * (4 * tall - 1)
        return np.rint(across).astype(np.int64), np.rint(down).astype(np.int64)

    for i, j in np.unique(np.stack(dot(x, y)), axis=1).T:
        if j >= 0:
            cells[j // 4, i // 2] |= BRAILLE[j % 4][i % 2]
    rows = [[chr(0x2800 + int(cell)) if cell else " " for cell in line] for line in cells]
    marks = zip(
        front["replica"], *dot(front["edges"].to_numpy(float), factor * front["valid_error"].to_numpy(float)), strict=True
    )
    for replica, i, j in sorted(marks, key=lambda m: m[0] == chosen):
        if j >= 0:
            rows[j // 4][i // 2] = "◆" if replica == chosen else "○"
    lines = [f"validation error, {words}"]
    for number, row in enumerate(rows):
        value = top - (top - best) * (number + 0.5) / tall
        label = f"{value:.3g}" if number % 4 == 0 or number == tall - 1 else ""
        lines.append(f"{label:>{margin - 1}} │" + "".join(row).rstrip())
    lines.append(" " * margin + "└" + "─" * wide)
    lines.append(" " * margin + _edge_ticks(float(x.min()), float(x.max()), log, wide + 1))
    lines.append(" " * margin + " edges · " + ("◆ chosen  " if chosen else "") + "○ front  ⠿ other networks")
    return "\n".join(lines)


def _edge_ticks(low: float, high: float, log: bool, wide: int) -> str:
    line = [" "] * wide
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        if log:
            value = 10 ** (math.log10(max(low, 0.5)) * (1 - share) + math.log10(high) * share)
        else:
            value = low + share * (high - low)
        text = str(round(value)) if share or low else "0"
        at = min(round(share * (wide - 1)), wide - len(text))
        line[at : at + len(text)] = text
    return "".join(line).rstrip()


def network_picture(network: CompactNetwork, most: int = 24) -> str:
    """The network for a terminal: its layers, and a bar for each feature that survived (see `Strength`), at most ``most``."""
    record, widths = network.record, network.widths
    size = record["sizes"]
    outputs = ", ".join(_outputs(record)[:4]) + (", …" if widths[-1] > 4 else "")
    layers = [f"{widths[0]} of {record['inputs']} features"]
    if network.stem is not None:
        shapes = [" x ".join(map(str, shape)) for shape in network.stem.shapes]
        layers = [*shapes, f"{widths[0]} of {network.stem.features} features"]
    layers += [" + ".join(f"{count} {name}" for name, count in layer) for layer in record["activations"]]
    lines = [" ─▶ ".join([*layers, outputs])]
    skips = [edge for edge in network.edges if edge[0] - edge[1] > 1]
    if skips:
        words = ["features", *(f"layer {i}" for i in range(1, len(widths) - 1)), "output"]
        lines.append("skip edges: " + ", ".join(f"{words[source]} ─▶ {words[to]}" for to, source in skips))
    counts = [(size["edges"], "edge"), (size["neurons"], "hidden neuron"), (size["parameters"], "parameter")]
    lines.append(", ".join(f"{n:,} {word}{'' if n == 1 else 's'}" for n, word in counts))
    found = strengths(network)
    if not found:
        return "\n".join([*lines, "no feature is left: the output is constant"])
    lines.append("")
    name_width = min(max(len(s.feature) for s in found[:most]), 32)
    bar_width = COLUMNS - name_width - 14
    for s in found[:most]:
        eighths = round(8 * bar_width * s.value / found[0].value) if found[0].value else 0
        bar = "█" * (eighths // 8) + (chr(0x2590 - eighths % 8) if eighths % 8 else "")
        lines.append(f"{_shorten(s.feature, name_width):>{name_width}} {s.sign:1} {bar or '▏'} {s.value:.3g}")
    if len(found) > most:
        lines.append(f"{'':>{name_width}}   and {len(found) - most} weaker ones")
    lines.append("")
    lines.append("bar: sum over paths to the output of the product of |weights|")
    if widths[-1] == 1:
        lines.append("+ the output never falls as the feature grows, - never rises, ± depends")
    return "\n".join(lines)
