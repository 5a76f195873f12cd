"""Weights before a network was made hard, beside the connections that were kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasplug.drawing.reading import shorten
from nasplug.drawing.style import INK, MUTED, POSITIVE, Array, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["STRONGEST", "draw_magnitudes"]

MOST_BLOCKS = 4
MOST_NAMES = 60  # rows that still have names
LEAST_SEEN = 0.001  # of the largest weight: what is smaller is as good as white
MOST_WRITTEN = 12  # columns up to which numbers are written on cells
STRONGEST = 0.7
"""Opacity of the largest number: black text on it still has a contrast of 4.5:1 on a white page, white text on a dark one."""


def draw_magnitudes(blocks: Sequence[Mapping[str, Any]], inputs: Sequence[str], last: int) -> Figure | None:
    """A heat map of each block of weights before hardening, and beside it what was kept; None without any.

    Args:
        blocks: each has ``to`` and ``from`` (layers), ``before`` (magnitudes) and ``kept`` (0 or 1), ``(H_to, H_from)``.
            The `MOST_BLOCKS` of which most was kept are drawn.
        inputs: names of layer 0, or none.
        last: the layer of the outputs.
    """
    if not blocks:
        return None
    order = sorted(range(len(blocks)), key=lambda at: (-int(np.sum(blocks[at]["kept"])), -float(np.max(blocks[at]["before"]))))
    shown = [blocks[at] for at in sorted(order[:MOST_BLOCKS])]
    parts = [(np.asarray(b["before"], dtype=float).T, np.asarray(b["kept"], dtype=float).T) for b in shown]
    largest = max(max(float(before.max()) for before, _ in parts), 1e-12)
    seen = [_seen(b, before, kept, largest) for b, (before, kept) in zip(shown, parts, strict=True)]
    parts = [(before[rows], kept[rows]) for rows, (before, kept) in zip(seen, parts, strict=True)]
    blank = sum(int((~rows).sum()) for rows in seen)
    tallest = max(len(before) for before, _ in parts)
    widths = [max(1.0, min(0.12 * before.shape[1], 3.0)) for before, _ in parts for _ in range(2)]
    with styled():
        figure = new_figure(
            min(max(sum(widths) + 0.5 * len(widths) + 1.5, 5.0), 11.0), min(max(0.16 * tallest, 1.8), 9.0) + 0.9
        )
        panels = figure.subplots(1, len(widths), squeeze=False, gridspec_kw={"width_ratios": widths})[0]
        for at, ((before, kept), block, rows) in enumerate(zip(parts, shown, seen, strict=True)):
            names = ["inputs" if place == 0 else "output" if place == last else f"layer {place}" for place in _ends(block)]
            named = [shorten(name, 24) for name, row in zip(inputs, rows, strict=False) if row] if block["from"] == 0 else []
            _panel(panels[2 * at], STRONGEST * np.sqrt(before / largest), f"{names[0]} → {names[1]}\nbefore", named)
            _panel(panels[2 * at + 1], STRONGEST * kept, f"kept: {int(kept.sum())}\nof {np.size(block['kept'])}", [])
            if before.shape[1] <= MOST_WRITTEN and before.size <= MOST_WRITTEN * 16:
                _written(panels[2 * at], before, min(widths[2 * at] / before.shape[1], 0.5))
        more = f"; {len(blocks) - len(shown)} more blocks are not drawn" if len(blocks) > len(shown) else ""
        more += f"\n{blank} inputs without a weight that can be seen are left out" if blank else ""
        figure.supxlabel(
            f"columns: neurons. Full colour: |weight| = {largest:.3g}, pale: small; right: blank is cut{more}",
            fontsize=7.5,
            color=MUTED,
        )
    return figure


def _seen(block: Mapping[str, Any], before: Array, kept: Array, largest: float) -> npt.NDArray[np.bool_]:
    """Which rows are drawn: of inputs those with a weight that can be seen or was kept, of hidden layers all."""
    seen: npt.NDArray[np.bool_] = np.any((before > LEAST_SEEN * largest) | (kept > 0), axis=1)
    return seen if block["from"] == 0 and seen.any() else np.ones_like(seen)


def _ends(block: Mapping[str, Any]) -> tuple[int, int]:
    return block["from"], block["to"]


def _panel(axes: Axes, strength: Array, title: str, names: Sequence[str]) -> None:
    """Cells as blue as they are strong."""
    from matplotlib.colors import to_rgb

    picture = np.zeros((*strength.shape, 4))
    picture[..., :3], picture[..., 3] = to_rgb(POSITIVE), strength
    axes.imshow(picture, aspect="auto", interpolation="nearest")
    axes.grid(visible=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)
    axes.set_title(title, fontsize=8)
    axes.set_xticks([])
    axes.set_yticks([])
    if names and len(names) == len(strength) and len(names) <= MOST_NAMES:
        axes.set_yticks(range(len(names)), names, fontsize=7)


def _written(axes: Axes, values: Array, room: float) -> None:
    """Numbers on the cells, where there is room for two digits."""
    if room < 0.2:
        return
    for (row, column), value in np.ndenumerate(values):
        if value > 0:
            text = f"{value:.2g}".removeprefix("0") if value < 1 else f"{value:.2g}"
            axes.text(column, row, text, ha="center", va="center", fontsize=6, color=INK)
