"""The page of several studies side by side, and what a terminal shows of them."""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from nasplug import files
from nasplug.drawing import draw_fronts, fronts_picture, svg
from nasplug.drawing.style import Array
from nasplug.errors import scrub
from nasplug.report.comparing import Comparison, budget_grid, difference_grid, study_grid
from nasplug.report.paper import Grid, render

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["shown_fronts", "table_of", "write_comparison"]


def _fronts(found: Comparison) -> tuple[dict[str, Array], str]:
    """Parameters and errors of each front, and what the error is."""
    labels = found.facts.kind != "regression"
    fronts = {side.name: side.front[["parameters", "valid_error"]].to_numpy(float) for side in found.sides}
    if labels:
        fronts = {name: points * [1.0, 100.0] for name, points in fronts.items()}
    unit = "wrong labels (%)" if labels else "mean squared error (of the first study's scaled target)"
    return fronts, f"validation error: {unit}"


def shown_fronts(found: Comparison, columns: int) -> str:
    """All fronts as text."""
    fronts, words = _fronts(found)
    return fronts_picture(fronts, words, columns)


def table_of(grid: Grid) -> Table:
    """A table of a page for a terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=grid.caption)
    for place, heading in enumerate(grid.headings):
        table.add_column(Text(heading), justify="left" if place == 0 or grid.text else "right", overflow="fold")
    for _, cells in grid.rows:
        table.add_row(*map(Text, cells))
    return table


def write_comparison(found: Comparison, path: Path) -> None:
    """One HTML page that loads nothing."""
    from markupsafe import Markup

    fronts, words = _fronts(found)
    ends = [
        f"{name}: {len(points)} networks, from {points[0, 0]:,.0f} parameters with {points[0, 1]:.4g} to "
        f"{points[-1, 0]:,.0f} with {points[-1, 1]:.4g}"
        for name, points in fronts.items()
    ]
    page = render(
        "compare.html",
        names=[side.name for side in found.sides],
        words=found.words,
        picture=Markup(svg(draw_fronts(fronts, words), "fronts", f"Fronts, {words} against parameters. {'; '.join(ends)}.")),
        studies=study_grid(found),
        budgets=budget_grid(found),
        differences=difference_grid(found),
        folders=[(side.name, str(side.study.folder)) for side in found.sides],
        version=version("nasplug"),
        written=time.strftime("%Y-%m-%d %H:%M"),
    )
    files.write_text(path, scrub(page))
