"""Tables of networks, for the page and the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nasplug import results
from nasplug.plan import Axis, task_places
from nasplug.report.finished import Finished
from nasplug.tasks import Task

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

__all__ = ["Column", "choices_table", "columns_of", "front_table", "heading_of", "listed", "number_text", "thinned"]

ROWS = 30  # of the front in a terminal; the page has all


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table of the front: its heading, what that means, how a row shows it."""

    heading: str
    meaning: str
    cell: Callable[[Any], str]


def heading_of(axis: Axis, axes: Sequence[Axis]) -> str:
    """``penalties.0.level`` as ``level`` where there is only one, ``train.lr`` as ``lr``; other places as they are."""
    if axis.path == "train.lr":
        return "lr"
    if axis.path.startswith("temperature."):
        return "tau " + axis.path.removeprefix("temperature.")
    place, _, last = axis.path.rpartition(".")
    rivals = [other for other in axes if other is not axis and other.path.rpartition(".")[2] == last]
    if place.startswith(("penalties.", "method", "train")) and not rivals:
        return last
    return axis.path


def number_text(value: Any) -> str:
    """A cell: three digits of a number with a fraction, nothing for NaN, anything else as it is."""
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.3g}"
    return str(value)


def columns_of(study: Finished, task: Task, frame: pd.DataFrame) -> list[Column]:
    """The columns of a table of networks; ``task`` is that of all of them, or of one where the study varies its task."""
    axes, labels = study.axes, task.kind != "regression"  # data sets of one study are of one kind
    swept = bool(task_places(axes))

    def error(part: str) -> Callable[[Any], str]:
        def cell(row: Any) -> str:
            value = float(row[f"{part}_error"])
            if not labels:
                return f"{value:.4g}"
            own = study.task_of(str(row["replica"])) if swept else task  # each data set has its own N
            return f"{100 * value:.2f} ± {100 * own.standard_error(value, getattr(own, part)):.2f}"

        return cell

    def samples(part: str, words: str) -> str:
        return f"{words} samples of its data set" if swept else f"{getattr(task, part).samples:,} {words} samples"

    def plain(name: str) -> Callable[[Any], str]:
        return lambda row: number_text(row[name])

    def whole(name: str) -> Callable[[Any], str]:
        return lambda row: f"{int(row[name]):,}"

    unit = "% wrong labels ± one standard error, sqrt(e (1 - e) / N)" if labels else "mean squared error, standardised target"
    found = [
        Column("edges", "weights on a path from an input to an output", whole("edges")),
        Column("neurons", "hidden neurons", whole("neurons")),
        Column("inputs", "features in use" + ("" if swept else f", of {task.inputs}"), whole("inputs")),
        Column("params", "edges plus biases that are not zero", whole("parameters")),
        Column("valid error" + (" %" if labels else ""), f"{unit}, {samples('valid', 'validation')}", error("valid")),
        Column(
            "test error" + (" %" if labels else ""),
            f"{unit}, {samples('test', 'test')}; never used to choose",
            error("test"),
        ),
    ]
    if "test_r2" in frame.columns:
        found.append(Column("test R²", "1 - mean squared error / variance of the target", plain("test_r2")))
    found += [Column(heading_of(a, axes), f"varied: {a.path}", plain(a.path)) for a in axes if a.path in frame.columns]
    found.append(Column("seed", "of initial weights and noise", lambda row: str(int(row["seed"]))))
    found.append(Column("replica", "pack/row: its name in every table", plain("replica")))
    return found


def front_table(study: Finished) -> Table:
    """The front for a terminal, smallest network first; the chosen one is marked."""
    from rich.table import Table

    frame = study.frame
    front, chosen = results.front(frame), str(results.choose(frame, study.task_of)["replica"])
    shown = thinned(front, chosen, ROWS)
    rest = "" if len(shown) == len(front) else f"{len(shown)} of {len(front)} networks; all are in {study.folder / 'front.csv'}"
    table = Table(title=f"Front of {study.config.study!r}: no network is both smaller and better (▶ chosen)", caption=rest)
    columns = columns_of(study, study.task_of(chosen), frame)
    table.add_column("")
    for column in columns:
        table.add_column(column.heading, justify="left" if column.heading == "replica" else "right", no_wrap=True)
    for _, row in shown.iterrows():
        mark = row["replica"] == chosen
        table.add_row("▶" if mark else "", *(c.cell(row) for c in columns), style="bold" if mark else "")
    return table


def listed(frame: pd.DataFrame, columns: Sequence[Column], chosen: str) -> list[tuple[bool, list[str]]]:
    """Rows of a table of networks, the chosen one marked."""
    return [(row["replica"] == chosen, [column.cell(row) for column in columns]) for _, row in frame.iterrows()]


def choices_table(study: Finished) -> Table:
    """The chosen network of each data set for a terminal."""
    from rich.table import Table

    each = study.choices().sort_values(task_places(study.axes), kind="stable")
    rest = "" if len(each) <= ROWS else f"{ROWS} of {len(each)} data sets; all are in {study.folder / 'choices.csv'}"
    table = Table(title="Each data set's own: errors of different data sets do not compare", caption=rest)
    columns = columns_of(study, study.task, each)
    for column in columns:
        table.add_column(column.heading, justify="left" if column.heading == "replica" else "right", no_wrap=True)
    for _, cells in listed(each.head(ROWS), columns, ""):
        table.add_row(*cells)
    return table


def thinned(front: pd.DataFrame, chosen: str, most: int) -> pd.DataFrame:
    """At most ``most`` rows, evenly over the front; its ends and the chosen network stay."""
    if len(front) <= most:
        return front
    kept = {int(i) for i in np.linspace(0, len(front) - 1, most - 1).round()}
    kept |= {int(i) for i in np.flatnonzero((front["replica"] == chosen).to_numpy())}
    return front.iloc[sorted(kept)]
