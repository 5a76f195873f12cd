"""Pictures made of characters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len

from nasplug.compact import CompactNetwork
from nasplug.console import one_line, padded
from nasplug.drawing.reading import strengths
from nasplug.drawing.style import Array, error_words, is_wide
from nasplug.folds import candidates
from nasplug.records import output_names

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "edge_ticks", "front_picture", "network_picture"]

COLUMNS, LINES = 72, 18  # cells, at most
BRAILLE = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # [row][column] of a cell of 4 x 2 dots


def front_picture(frame: pd.DataFrame, chosen: str = "", columns: int = COLUMNS, front: pd.DataFrame | None = None) -> str:
    """The front for a terminal, at most 72 x 18 characters: ``○`` is on the front, ``◆`` is chosen, dots are the others.

    Args:
        frame: the table of replicas.
        chosen: name of the chosen replica; without one none is marked.
        columns: cells that a line of the terminal has.
        front: the networks to mark as the front; None: those of validation error and edges.
    """
    from nasplug.results import front as pareto

    frame = candidates(frame)
    finished = frame[frame["status"] == "finished"]
    if finished.empty:
        return "no network finished"
    factor, words = error_words(frame)
    front = pareto(frame) if front is None else front
    x, y = finished["edges"].to_numpy(float), factor * finished["valid_error"].to_numpy(float)
    log = is_wide(x)

    def scale(edges: Array) -> Array:
        return np.log10(np.maximum(edges, 0.5)) if log else edges

    best = float(y.min())
    top = max(float(np.quantile(y, 0.95)), best + 1e-9 + 0.1 * abs(best))
    low, high = float(scale(x).min()), float(scale(x).max())
    high = max(high, low + 1e-9)
    margin = 8
    wide, tall = min(COLUMNS, columns) - margin - 1, LINES - 5
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
    lines.append(" " * margin + edge_ticks(float(x.min()), float(x.max()), log, wide + 1))
    lines.append(" " * margin + " edges · " + ("◆ chosen  " if chosen else "") + "○ front  ⠿ other networks")
    return "\n".join(lines)


def edge_ticks(low: float, high: float, log: bool, wide: int) -> str:
    """Numbers below an axis of ``wide`` cells."""
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


def network_picture(network: CompactNetwork, most: int = 24, columns: int = COLUMNS) -> str:
    """The network for a terminal: its layers, and a bar for each feature that survived (see `Strength`), at most ``most``.

    No bar is longer than a line of ``columns`` cells.
    """
    record, widths = network.record, network.widths
    size = record["sizes"]
    outputs = ", ".join(map(one_line, output_names(record)[:4])) + (", …" if widths[-1] > 4 else "")
    of = len(record.get("columns", record["features"]))
    layers = [f"{len(network.columns)} of {of} features"]
    if network.stem is not None:
        image, *shapes = [" x ".join(map(str, shape)) for shape in network.stem.shapes]
        kernels = [f"kernels {rows} x {columns}" for rows, columns in (layer.window for layer in network.stem.layers)]
        layers = [image, *(f"{shape} ({kernel})" for shape, kernel in zip(shapes, kernels, strict=True))]
        layers += [f"{widths[0]} of {network.stem.features} features"]
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
    room = min(COLUMNS, columns)
    name_width = min(max(cell_len(one_line(s.feature)) for s in found[:most]), 32, room // 2)
    bar_width = max(room - name_width - 14, 3)
    for s in found[:most]:
        eighths = round(8 * bar_width * s.value / found[0].value) if found[0].value else 0
        bar = "█" * (eighths // 8) + (chr(0x2590 - eighths % 8) if eighths % 8 else "")
        lines.append(f"{padded(s.feature, name_width, right=True)} {s.sign:1} {bar or '▏'} {s.value:.3g}")
    if len(found) > most:
        lines.append(f"{'':>{name_width}}   and {len(found) - most} weaker ones")
    lines.append("")
    lines.append("bar: sum over paths to the output of the product of |weights|")
    if widths[-1] == 1:
        lines.append("+ the output never falls as the feature grows, - never rises, ± depends")
    return "\n".join(lines)
