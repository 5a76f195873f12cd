"""Curves of training and discretizing, for the networks of the front."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from nasplug.drawing.style import CHOSEN, MUTED, NEGATIVE, PAPER, POSITIVE, WIDE, Array, new_figure, power_text, scale, styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_curves", "draw_cut", "log_axis"]

ABREAST = 4  # panels in one row


def log_axis(axes: Axes, which: str) -> None:
    """Make an axis, ``x`` or ``y``, logarithmic: few ticks, with plain numbers or powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    low, high = getattr(axes, f"get_{which}lim")()
    few = high / low < 30
    axis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda v, _: power_text(v)))
    axis.set_minor_formatter(NullFormatter())


def draw_curves(histories: pd.DataFrame, chosen: str, temperature: Array | None = None) -> Figure | None:
    """Losses, penalty, edges and entropy of choices over the steps, one line per network, coloured by edges; None without any.

    ``temperature``: the chosen network's at each step, which gets a panel of its own, beside that of the entropy. More than
    `ABREAST` panels stand in two rows.

    Of networks that were refitted the loss on all development samples takes the place of the validation loss.
    ``histories`` has ``replica``, ``edges`` and the list columns ``history_*``.
    """
    panels = {
        "history_train_loss": "training loss",
        "history_valid_loss": "validation loss",
        "history_fitted_loss": "loss on all development samples",
        "history_penalty": "penalty (level x regularizer)",
        "history_edges": "edges (|weight| at least 0.01)",
        "history_entropy": "entropy of choices (1: undecided)",
    }
    panels = {name: words for name, words in panels.items() if name in histories and histories[name].notna().any()}
    if "history_step" not in histories.columns or not panels or histories.empty:
        return None
    edges = np.log1p(histories["edges"].to_numpy(float))
    span = float(edges.max() - edges.min()) or 1.0
    colours = scale()((edges - edges.min()) / span)
    with styled():
        count = len(panels) + (temperature is not None)
        rows = 1 if count <= ABREAST else 2
        figure = new_figure(9.6, 0.6 + 2.6 * rows)
        every_place = figure.subplots(rows, math.ceil(count / rows), squeeze=False).flatten()
        places = every_place[:count]
        for nothing in every_place[count:]:
            nothing.set_axis_off()
        if temperature is not None:
            places[-1].plot(np.arange(1, len(temperature) + 1), temperature, color=CHOSEN, lw=2.2)
            places[-1].set_ylim(bottom=0.0)
            places[-1].set_title("temperature of the chosen")
            places[-1].set_xlabel("step")
        for axes, (column, words) in zip(places, panels.items(), strict=False):
            drawn: list[Array] = []
            for (_, row), shade in zip(histories.iterrows(), colours, strict=True):
                if row[column] is None or row["history_step"] is None:
                    continue
                steps, values = np.asarray(row["history_step"]), np.asarray(row[column], dtype=float)
                drawn.append(values)
                if row["replica"] == chosen:
                    axes.plot(steps, values, color=CHOSEN, lw=2.2, zorder=4, label="chosen")
                else:
                    axes.plot(steps, values, color=shade, lw=1.1)
            every = np.concatenate(drawn) if drawn else np.ones(1)
            if column == "history_entropy":
                axes.set_ylim(-0.03, 1.03)
            elif np.nanmin(every) > 0 and np.nanmax(every) / np.nanmin(every) > WIDE / 4:
                log_axis(axes, "y")
            axes.set_title(words)
            axes.set_xlabel("step")
            if axes.get_legend_handles_labels()[0]:
                axes.legend(loc="best")
        few, many = int(histories["edges"].min()), int(histories["edges"].max())
        if few < many:
            figure.supxlabel(f"networks of the front, from {few} edges (blue) to {many} edges (amber)", fontsize=8, color=MUTED)
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
    with styled():
        figure = new_figure(8.2, 3.0)
        axes = figure.add_subplot()
        x = np.arange(len(front))
        columns = {name: front[name].to_numpy(float) for name in stages}
        for aside, (name, (words, marker, colour)) in zip((-0.14, 0.0, 0.14), stages.items(), strict=True):
            axes.plot(
                x + aside, columns[name], marker, ms=6, color=colour, mec=PAPER, mew=0.6, ls="none", label=words, zorder=3
            )
        every = np.concatenate(list(columns.values()))
        if every.min() > 0 and every.max() / every.min() > WIDE / 4:
            log_axis(axes, "y")
        shown = x[:: max(1, math.ceil(len(x) / 24))]
        axes.set_xticks(shown, [str(int(front["edges"].iloc[i])) for i in shown])
        for place in np.flatnonzero((front["replica"] == chosen).to_numpy()):
            axes.axvspan(place - 0.4, place + 0.4, color=CHOSEN, alpha=0.12, lw=0, label="chosen", zorder=0)
        axes.set_xlabel("edges of the networks of the front")
        axes.set_ylabel("validation loss")
        axes.set_xlim(-0.7, len(front) - 0.3)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure
