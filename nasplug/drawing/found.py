"""The schedule that a network of a population found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nasplug.drawing.curves import log_axis
from nasplug.drawing.style import CHOSEN, MUTED, WIDE, new_figure, styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["draw_schedule"]

MOST = 4  # panels; of many penalties the first


def draw_schedule(found: pd.DataFrame) -> Figure | None:
    """Levels, learning rate and temperature over the steps, and where the network was a copy; None where nothing ever moves.

    ``found`` is what `nasplug.results.schedule_of` makes.
    """
    names = [name for name in found.columns if name.startswith(("penalties.", "train.", "temperature"))]
    names = [name for name in names if found[name].nunique() > 1][:MOST]
    if not names:
        return None
    steps, rows = found["step"].to_numpy(), found["replica"].to_numpy()
    with styled():
        figure = new_figure(2.4 * max(2, len(names)), 2.8)
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            values = found[name].to_numpy(float)
            for step in steps[:-1][rows[:-1] != rows[1:]]:
                axes.axvline(step, color=MUTED, lw=1.0, ls=(0, (4, 2)))
            axes.plot(steps, values, color=CHOSEN, lw=2.2, marker=".", ms=5)
            if values.min() > 0 and values.max() / values.min() > WIDE / 4:
                log_axis(axes, "y")
            elif np.isfinite(values).all():
                axes.set_ylim(bottom=0.0)
            axes.set_title(name)
            axes.set_xlabel("step")
    return figure
