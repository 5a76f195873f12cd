"""What networks of the front were before they were made hard, and what hardening made of them: tables and words of the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nasplug import results
from nasplug.drawing import draw_magnitudes
from nasplug.packs import MOST_WEIGHTS
from nasplug.report.finished import Finished
from nasplug.report.paper import Grid
from nasplug.report.tables import thinned

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["SHADES", "Softened", "softened"]

SHADES = 10  # of cells, the last one as strong as `nasplug.drawing.STRONGEST`: classes of the style sheet
LISTED = 24  # networks of the front in the table of numbers
MAPPED = 6  # of which the shares are shown, beside the chosen one
NEURONS = 40  # rows of one network's shares


@dataclass(frozen=True, slots=True)
class Softened:
    """How soft networks of the front were before they were made hard.

    Attributes:
        numbers: one row per network.
        chosen: shares and gates of the chosen one; None where it had none.
        others: those of others.
        picture: weights of the chosen one before, and which were kept; None where none was cut, or it had too many.
        seen: the picture in words.
        missing: what is not shown, and why.
    """

    numbers: Grid | None
    chosen: Grid | None
    others: list[Grid]
    picture: Figure | None
    seen: str
    missing: list[str]


def softened(study: Finished, front: pd.DataFrame, chosen: str, inputs: Sequence[str]) -> Softened:
    """Of the networks of the front, evenly over it, the chosen one among them; ``inputs``: names of its layer 0, or none."""
    names = [str(name) for name in thinned(front, chosen, LISTED)["replica"]]
    found = results.relaxed(study.folder, names)
    mine = found.get(chosen)
    missing = []
    if gone := [name for name in names if name not in found]:
        some = ", ".join([*gone[:4], *(["..."] if len(gone) > 4 else [])])
        missing.append(
            f"Of {len(gone)} of {len(names)} networks ({some}) this was not kept. It is kept of networks that stand on the "
            "front of their own pack, by the score that chooses."
        )
    grids = {name: _shares(name, one, marked=name == chosen) for name, one in found.items()}
    mapped = [name for name in names if name != chosen and grids.get(name) is not None]
    spread = sorted({round(i) for i in np.linspace(0, len(mapped) - 1, MAPPED)}) if mapped else []
    picture, seen = None, ""
    if mine is not None and not mine["blocks"]:
        missing.append(
            f"The chosen network has {mine['weights']:,} weights; which were cut is shown of up to {MOST_WEIGHTS:,}."
        )
    elif mine is not None:
        before, kept = _weights(mine)
        if kept.all():
            missing.append("Hardening cut no weight of the chosen network.")
        else:
            last = max(block["to"] for block in mine["blocks"])
            picture, seen = draw_magnitudes(mine["blocks"], inputs, last), _words(before, kept)
    return Softened(
        numbers=_numbers(names, found, chosen) if found else None,
        chosen=grids.get(chosen),
        others=[grid for i in spread if (grid := grids[mapped[i]]) is not None],
        picture=picture,
        seen=seen,
        missing=missing,
    )


def _weights(one: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes before, and which were kept, all blocks side by side."""
    before = np.concatenate([np.ravel(block["before"]) for block in one["blocks"]])
    kept = np.concatenate([np.ravel(block["kept"]) for block in one["blocks"]]) > 0
    return before, kept


def _words(before: np.ndarray, kept: np.ndarray) -> str:
    cut, left = before[~kept], before[kept]
    smallest = f"; the smallest that was kept has {left.min():.3g}" if len(left) else ""
    return (
        f"Heat maps of the chosen network's weights before hardening, one per block, each beside the {int(kept.sum()):,} of "
        f"{len(kept):,} weights that were kept. The largest that was cut has the magnitude {cut.max():.3g}{smallest}."
    )


def _numbers(names: Sequence[str], found: Mapping[str, Mapping[str, Any]], chosen: str) -> Grid:
    """What can be said of each network in a row."""
    rows = []
    for name in names:
        if (one := found.get(name)) is None:
            continue
        shares = [np.asarray(layer["shares"]) for layer in one["layers"] if layer["shares"] is not None]
        cells = ["-", "-", "-", "-"]
        if shares:
            entropies = np.concatenate([-(np.where(p > 0, p * np.log(np.maximum(p, 1e-12)), 0.0)).sum(-1) for p in shares])
            cells[0] = f"{entropies.mean() / math.log(len(one['candidates'])):.3f}"
            cells[1] = f"{min(float(p.max(-1).min()) for p in shares):.3f}"
        if one["blocks"]:
            before, kept = _weights(one)
            cells[2] = "none cut" if kept.all() else f"{before[~kept].max():.3g}"
            cells[3] = f"{before[kept].min():.3g}" if kept.any() else "none kept"
        rows.append((name == chosen, [name, *cells]))
    headings = ["network", "entropy", "least decided", "largest cut", "smallest kept"]
    there = [at for at in range(len(headings)) if any(cells[at] != "-" for _, cells in rows)]
    meanings = [
        ("entropy", "of its choices, as a share of the largest possible one: 0 decided, 1 undecided"),
        ("least decided", "the largest share of a candidate, in the choice where that is smallest"),
        ("largest cut", "the largest |weight| times gate that hardening cut, dead neurons' among them"),
        ("smallest kept", "the smallest |weight| times gate that it kept"),
    ]
    return Grid(
        "soft-table",
        "Networks of the front before hardening",
        [headings[at] for at in there],
        [(mark, [cells[at] for at in there]) for mark, cells in rows],
        sortable=True,
        meanings=[meanings[at - 1] for at in there if at],
    )


def _shares(name: str, one: Mapping[str, Any], *, marked: bool) -> Grid | None:
    """Shares of candidates and gates, one row per neuron (or per layer that shares a choice), and what was made of them."""
    layers, candidates = one["layers"], one["candidates"]
    choosing = any(layer["shares"] is not None for layer in layers)
    gated = any(layer["gates"] is not None for layer in layers)
    rows: list[tuple[bool, list[str], list[str]]] = []  # whether kept, cells, how they look
    for layer in layers:
        shares, gates, kept = layer["shares"], layer["gates"], layer["kept"]
        alone = shares is not None and len(shares) < len(kept) and gates is None  # one choice for all neurons
        for neuron in range(1 if alone else len(kept)):
            alive = any(kept) if alone else bool(kept[neuron])
            at = 0 if shares is None or len(shares) == 1 else neuron
            made = "" if shares is None or layer["choices"] is None else candidates[layer["choices"][at]]
            cells = [f"layer {layer['layer']}, " + (f"all {len(kept)}" if alone else f"neuron {neuron + 1}")]
            looks = [""]
            for place in range(len(candidates)) if choosing else ():
                share = None if shares is None else float(shares[at][place])
                cells.append("-" if share is None else f"{share:.2f}")
                looks.append(_look(share, alive and candidates[place] == made))
            if gated:
                gate = None if gates is None else float(gates[neuron])
                cells.append("-" if gate is None else f"{gate:.2f}")
                looks.append(_look(gate, marked=False))
            rows.append((alive, [*cells, (made or "kept") if alive else "removed"], [*looks, ""]))
    if not rows:
        return None
    shown = sorted(sorted(range(len(rows)), key=lambda i: not rows[i][0])[:NEURONS])
    rest = f"; {len(shown)} of {len(rows)} neurons, those that were kept first" if len(shown) < len(rows) else ""
    what = " and ".join([*(["shares of activations"] if choosing else []), *(["gates"] if gated else [])])
    headings = ["neuron", *(candidates if choosing else []), *(["gate"] if gated else []), "hardened to"]
    return Grid(
        "shares-" + name.replace("/", "-"),
        f"{name}{' (chosen)' if marked else ''}: {what} before hardening, and what it made of them{rest}",
        headings,
        [(False, rows[i][1]) for i in shown],
        looks=[rows[i][2] for i in shown],
    )


def _look(share: float | None, marked: bool) -> str:
    """The class of a cell: how blue it is, and whether it is what hardening chose."""
    shade = f"s{round(SHADES * min(max(share, 0.0), 1.0))}" if share is not None and share >= 0.5 / SHADES else ""
    return f"{shade} kept".strip() if marked else shade
