"""A network: nodes and edges, or a heat map of each block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nasplug.compact import CompactNetwork
from nasplug.drawing.reading import Edge, drawn_blocks, hidden_kinds, shorten, strengths
from nasplug.drawing.style import INK, MUTED, NEGATIVE, PAPER, POSITIVE, Array, new_figure, styled
from nasplug.records import output_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_network"]

MOST_NODES = 60  # above this a drawing of nodes and edges is a hairball, and a heat map of the blocks says more
MOST_EDGES = 150  # likewise
MOST_WEIGHTS = 16  # up to this many edges have their weight written on them
MOST_NAMES = 80  # rows of a heat map that still have names


def draw_network(network: CompactNetwork) -> Figure:
    """The network, inputs left: edges as wide as |weight|, blue where positive, orange where negative; skip edges as arcs.

    Only what survived is drawn. What was made of one column of the table is one input, its edge the norm of its numbers.
    Above `MOST_NODES` nodes or `MOST_EDGES` edges: a heat map of each block.
    """
    nodes = len(network.columns) + sum(network.widths[1:])
    few = nodes <= MOST_NODES and sum(int((w != 0).sum()) for w in drawn_blocks(network).values()) <= MOST_EDGES
    with styled():
        return _draw_graph(network) if few else _draw_blocks(network)


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
Arcs = dict[tuple[int, int, int, int], tuple[Point, Point, float]]
"""Skip edges, ``(to, from, row, column)``, as Bezier curves: their ends, and the height of what controls them."""


def _arcs(blocks: Mapping[Edge, Array], places: Sequence[Array], reach: float) -> Arcs:
    """Skip edges over or under the layers between, wherever there is room."""
    found: Arcs = {}
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
    blocks = drawn_blocks(network)
    places = _places(_order(network, blocks))
    reach = max(float(np.abs(p).max()) if len(p) else 0.0 for p in places)
    arcs = _arcs(blocks, places, reach)
    names = [shorten(n, 32) for n, _ in network.columns]
    outputs = [shorten(n, 24) for n in output_names(network.record)]
    left = -(BAR + 0.9) - 0.21 * max([len(n) for n in names], default=0)
    right = STEP * (len(places) - 1) + 0.5 + 0.22 * max(len(n) for n in outputs)
    peaks = [0.125 * (start[1] + end[1]) + 0.75 * height for start, end, height in arcs.values()]
    top, bottom = max([reach + 1.2, *(p + 0.6 for p in peaks)]), min([-reach - 0.7, *(p - 0.6 for p in peaks)])
    row = 0.30
    figure = new_figure(min(max((right - left) * 0.32, 6.4), 11.0), max((top - bottom) * row, 1.4) + 0.3)
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    largest = max((float(np.abs(w).max()) for w in blocks.values()), default=1.0)
    _draw_edges(axes, blocks, places, arcs, largest)
    _draw_nodes(axes, network, places, names, outputs)
    if names:
        axes.text(-0.35 - BAR, reach + 0.8, "strength", ha="left", va="center", fontsize=7.5, color=MUTED)
    else:
        axes.text(left, 0, "no input is left:\nthe output is constant", ha="left", va="center", fontsize=9, color=MUTED)
    if blocks:
        _weight_key(figure, largest)
    return figure


def _draw_edges(axes: Axes, blocks: Mapping[Edge, Array], places: Sequence[Array], arcs: Arcs, largest: float) -> None:
    """Lines between neighbouring layers, curves for skip edges; a few have their weight written on them."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Curve

    written = sum(int((w != 0).sum()) for w in blocks.values()) <= MOST_WEIGHTS
    patch = {"boxstyle": "round,pad=0.12", "fc": PAPER, "ec": "none", "alpha": 0.85}
    words: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7, "bbox": patch, "zorder": 5}
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
                axes.text(*middle, f"{weight:+.2f}".replace("-", "\u2212"), **words)


def _draw_nodes(
    axes: Axes, network: CompactNetwork, places: Sequence[Array], names: Sequence[str], outputs: Sequence[str]
) -> None:
    """Inputs with their names and strengths, hidden neurons with their activations, outputs with their names."""
    found = strengths(network)
    most = max((s.value for s in found), default=1.0) or 1.0
    for strength in found:
        name, height = names[strength.place], float(places[0][strength.place])
        axes.plot([0.0], [height], "o", ms=6, color=INK, zorder=3)
        length = BAR * strength.value / most
        axes.barh([height], [length], left=-0.35 - BAR, height=0.42, color=MUTED, alpha=0.45, lw=0)
        axes.text(-0.6 - BAR, height, name, ha="right", va="center", fontsize=8.5)
    for layer, kinds in enumerate(hidden_kinds(network.record), start=1):
        for kind, height in zip(kinds, places[layer], strict=True):
            box = {"boxstyle": "round,pad=0.35", "fc": PAPER, "ec": INK, "lw": 1.0}
            axes.text(STEP * layer, height, kind, ha="center", va="center", fontsize=7.5, bbox=box, zorder=4)
    for name, height in zip(outputs, places[-1], strict=True):
        at = STEP * (len(places) - 1)
        axes.plot([at], [height], "s", ms=7, color=INK, zorder=3)
        axes.text(at + 0.35, height, name, ha="left", va="center", fontsize=9, fontweight="bold")


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

    record, blocks = network.record, drawn_blocks(network)
    hidden = hidden_kinds(record)
    last = len(network.widths) - 1
    mixed = [len(set(kinds)) > 1 for kinds in hidden]
    words = [
        "stem" if network.stem else "inputs",
        *(f"layer {i}" + ("" if mixed[i - 1] else f" ({hidden[i - 1][0]})") for i in range(1, last)),
        "output",
    ]
    names = [name for name, _ in network.columns]
    rows = [s.place for s in strengths(network)]
    tallest = max(w.shape[1] for w in blocks.values())
    height = min(max(0.15 * tallest, 3.0), 11.0) + 0.8
    widths = [max(0.6, min(network.widths[to] * 0.12, 5.0)) for to, _ in blocks]
    width = min(max(sum(widths) + 1.3 * len(widths) + 2.5, 6.0), 13.0)
    figure = new_figure(width, height)
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
            axes.set_yticks(range(len(rows)), [shorten(names[i], 28) for i in rows], fontsize=7)
        elif source > 0 and mixed[source - 1] and len(cells) <= MOST_NAMES:
            axes.set_yticks(range(len(cells)), hidden[source - 1], fontsize=7)
        axes.set_xticks([])
        if to == last and cells.shape[1] <= 12:
            axes.set_xticks(range(cells.shape[1]), [shorten(n, 20) for n in output_names(record)], rotation=90, fontsize=7)
    _weight_key(figure, largest)
    figure.legends[0].remove()
    figure.supxlabel(
        f"blue: positive, orange: negative, pale: small (full colour: |weight| = {largest:.3g}); inputs by strength",
        fontsize=7.5,
        color=MUTED,
    )
    return figure
