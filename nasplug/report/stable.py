"""How stable the chosen network's inputs are, for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nasplug import stability
from nasplug.drawing import draw_frequencies
from nasplug.report.finished import Finished
from nasplug.report.paper import Grid
from nasplug.report.seen import steady_words

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["Steadiness", "steadiness"]

INPUTS, PAIRS = 30, 15  # rows of the tables
HEADINGS = ("kept in", "share", "false at most", "if unimodal", "if r-concave")


@dataclass(frozen=True, slots=True)
class Steadiness:
    """What the page says of half samples.

    Attributes:
        inputs: most frequent first.
        pairs: those that meet in a neuron; None without any.
        rest: how often each depth and activation was kept, in words.
        picture: frequencies over the levels; None for a single level.
        seen: what the picture shows.
    """

    inputs: Grid
    pairs: Grid | None
    rest: list[str]
    picture: Figure | None
    seen: str


def steadiness(study: Finished, chosen: pd.Series[Any]) -> Steadiness | None:
    """Of the chosen network's configuration; None where nothing was counted."""
    given = study.config.counted
    if given is None or not (study.folder / stability.FREQUENCIES).exists():
        return None
    table = stability.read(study.folder)
    mine = table[table["configuration"] == int(chosen["configuration"])] if len(table) else table
    if mine.empty:
        return None
    level, along = stability.path_of(study.frame, chosen, study.axes)
    picture = None
    if level:
        inputs = table[(table["kind"] == "input") & table["configuration"].isin(along)]
        picture = draw_frequencies(inputs, level, float(chosen[level]), given.threshold)
    by = {kind: rows.sort_values("frequency", ascending=False, kind="stable") for kind, rows in mine.groupby("kind")}
    none = mine.iloc[:0]
    rows, pairs = _rows(by.get("input", none).head(INPUTS)), _rows(by.get("pair", none).head(PAIRS))
    return Steadiness(
        Grid("kept-inputs", "Inputs, the most often kept first", ["input", *HEADINGS], rows, sortable=True),
        Grid("kept-pairs", "Pairs, the most often kept first", ["pair", *HEADINGS], pairs, sortable=True) if pairs else None,
        [_words(kind, by[kind]) for kind in ("depth", "activation") if kind in by],
        picture,
        steady_words(level, given.threshold),
    )


def _rows(items: pd.DataFrame) -> list[tuple[bool, list[str]]]:
    found = []
    for _, row in items.iterrows():
        name = f"{row['item']} and {row['other']}" if row["kind"] == "pair" else str(row["item"])
        bounds = [row[column] for column in ("bound", "bound_unimodal", "bound_concave")]
        shown = ["" if np.isnan(bound) else f"{bound:.2g}" for bound in bounds]
        found.append((False, [name, f"{row['kept']} of {row['networks']}", f"{row['frequency']:.2f}", *shown]))
    return found


def _words(kind: str, items: pd.DataFrame) -> str:
    """``Hidden layers: 1 in 98, 2 in 2 of 100 half samples``."""
    kept: Sequence[str] = [f"{row['item']} in {row['kept']}" for _, row in items.iterrows() if row["kept"]]
    head = "Hidden layers with a neuron" if kind == "depth" else "Activations"
    return f"{head}: {', '.join(kept)} of {items.iloc[0]['networks']} half samples."
