"""Tables of networks, for the page and the terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nasplug import results
from nasplug.console import one_line
from nasplug.plan import Axis, kind_words, task_places
from nasplug.report.finished import Finished
from nasplug.report.paper import Grid
from nasplug.tasks import Facts

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

__all__ = [
    "Column",
    "choices_table",
    "columns_of",
    "front_table",
    "grid_of",
    "heading_of",
    "listed",
    "number_text",
    "thinned",
    "trivial_words",
]

WIDTH = 160  # cells, where nobody says
ROWS = 30  # of the front in a terminal
MOST_LISTED = 200  # of it on the page


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table of the front: its heading, what that means, how a row shows it, how much it is needed."""

    heading: str
    meaning: str
    cell: Callable[[Any], str]
    rank: int = 0  # 0 is always shown; where there is little room the highest goes first


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
    return one_line(str(value))


def columns_of(study: Finished, task: Facts, frame: pd.DataFrame) -> list[Column]:
    """The columns of a table of networks; ``task`` is that of all of them, or of one where the study varies its task."""
    axes, labels = study.axes, task.kind != "regression"  # data sets of one study are of one kind
    swept = bool(task_places(axes))

    def error(part: str) -> Callable[[Any], str]:
        def cell(row: Any) -> str:
            value = float(row[f"{part}_error"])
            over_folds = float(row.get(f"{part}_error_se", math.nan))
            if not math.isnan(over_folds):
                return f"{100 * value:.2f} ± {100 * over_folds:.2f}" if labels else f"{value:.4g} ± {over_folds:.2g}"
            if not labels:
                return f"{value:.4g}"
            own = study.facts_of(str(row["replica"])) if swept else task  # each data set has its own N
            return f"{100 * value:.2f} ± {100 * own.standard_error(value, part):.2f}"

        return cell

    def samples(part: str, words: str) -> str:
        if part == "valid" and task.resamples:
            return f"mean over {task.resamples} resamples ± one standard error"
        return f"{words} samples of its data set" if swept else f"{task.samples[part]:,} {words} samples"

    def plain(name: str) -> Callable[[Any], str]:
        return lambda row: number_text(row[name])

    def whole(name: str) -> Callable[[Any], str]:
        return lambda row: f"{int(row[name]):,}"

    unit = "% wrong labels ± one standard error, sqrt(e (1 - e) / N)" if labels else "mean squared error of the scaled target"
    found = [
        Column("edges", "weights on a path from an input to an output", whole("edges")),
        Column("neurons", "hidden neurons", whole("neurons"), 6),
        Column("inputs", "columns in use" + ("" if swept else f", of {len(task.columns) or task.inputs}"), whole("inputs"), 4),
        Column("params", "edges plus biases that are not zero", whole("parameters"), 5),
        Column("valid error" + (" %" if labels else ""), f"{unit}, {samples('valid', 'validation')}", error("valid")),
        Column(
            "test error" + (" %" if labels else ""),
            f"{unit}, {samples('test', 'test')}; never used to choose",
            error("test"),
            1,
        ),
    ]
    sizes = (
        (results.FLASH, "flash bytes", "code and constants of its C, with -Os"),
        (results.LATENCY, "µs", "of one sample per call, here"),
    )
    found += [Column(heading, meaning, plain(name)) for name, heading, meaning in sizes if name in frame.columns]
    if "test_r2" in frame.columns:
        found.append(Column("test R²", "1 - mean squared error / variance of the target", plain("test_r2"), 7))
    lines = frame[results.METHOD].eq("linear").any() if results.METHOD in frame.columns else False
    own = "; empty for linear networks, which have levels of their own" if lines else ""
    found += [Column(heading_of(a, axes), f"varied: {a.path}{own}", plain(a.path), 2) for a in axes if a.path in frame.columns]
    found.append(Column("seed", "of initial weights and noise", lambda row: str(int(row["seed"])), 3))
    found.append(Column("replica", "pack/row: its name in every table", plain("replica")))
    return found


def front_table(study: Finished, width: int = WIDTH, frame: pd.DataFrame | None = None) -> Table:
    """The front for a terminal of ``width`` cells, smallest network first; the chosen one is marked.

    Of ``frame``, some of the study's networks, if it is given.

    Columns that do not fit are left out, the least needed first; the mark, the size, the error and the name always stay.
    """
    frame = study.frame if frame is None else frame
    rule = study.config.choose
    front = results.standing(frame, study.facts_of, rule)
    chosen = str(results.choose(frame, study.facts_of, rule)["replica"])
    shown = thinned(front, chosen, ROWS)
    rest = (
        [] if len(shown) == len(front) else [f"{len(shown)} of {len(front)} networks; all are in {study.folder / 'front.csv'}"]
    )
    facts = study.facts_of(chosen)
    rest = [*rest, *trivial_words(facts, front, chosen)]
    if facts.resamples:
        rest.append(
            f"valid error: the configuration's mean over {facts.resamples} resamples; the network had all of them to learn from"
        )
    title = f"Front of {study.config.study!r}: no network is both smaller and better (▶ chosen)"
    columns = columns_of(study, study.facts_of(chosen), frame)
    return _fitted(title, rest, columns, listed(shown, columns, chosen), width)


def trivial_words(facts: Facts, front: pd.DataFrame, chosen: str) -> list[str]:
    """What a network that says the same for every sample scores, and which of the front are such networks."""
    name = "the mean" if facts.kind == "regression" else "the most frequent label"
    if not {"valid_error", "test_error"} <= set(facts.trivial):
        return []
    valid, test = (facts.trivial[f"{part}_error"] for part in ("valid", "test"))
    shown = (f"{valid:.4g}", f"{test:.4g}") if facts.kind == "regression" else (f"{100 * valid:.2f} %", f"{100 * test:.2f} %")
    told = [f"Always {name}: validation error {shown[0]}, test error {shown[1]}"]
    if "constant" in front.columns:
        same = front[front["constant"].fillna(value=False).astype(bool)]
        if len(same):
            one = len(same) == 1
            told.append(
                f"{len(same)} network{'' if one else 's'} of the front give{'s' if one else ''} every sample the same answer"
                f" ({'it has' if one else 'they have up to'} {int(same['edges'].max())} edges)"
            )
        if chosen in set(same["replica"]):
            told.append("THE CHOSEN NETWORK IS CONSTANT: it gives every sample the same answer")
    return told


def _fitted(
    title: str, notes: Sequence[str], columns: Sequence[Column], rows: Sequence[tuple[bool, list[str]]], width: int
) -> Table:
    """A table of the columns that fit in ``width`` cells; those that do not are named below it."""
    from rich.cells import cell_len
    from rich.table import Table

    wide = [max(map(cell_len, (column.heading, *(cells[i] for _, cells in rows)))) for i, column in enumerate(columns)]
    marked = any(mark for mark, _ in rows)

    def room(places: Sequence[int]) -> int:
        return 1 + 4 * marked + sum(wide[i] + 3 for i in places)  # a border, and two spaces and one for each

    kept = list(range(len(columns)))
    for i in sorted(kept, key=lambda i: (-columns[i].rank, -i)):
        if room(kept) > width and columns[i].rank > 0:
            kept.remove(i)
    gone = [column.heading for i, column in enumerate(columns) if i not in kept]
    caption = "; ".join([*notes, *([f"no room for {', '.join(gone)}"] if gone else [])])
    table = Table(title=title, caption=caption)
    for _ in range(marked):
        table.add_column("", width=1)
    for i in kept:
        name = columns[i].heading == "replica"
        table.add_column(
            columns[i].heading, justify="left" if name else "right", no_wrap=True, min_width=wide[i] if name else None
        )
    for mark, cells in rows:
        table.add_row(*["▶" if mark else ""] * marked, *(cells[i] for i in kept), style="bold" if mark else "")
    return table


def listed(frame: pd.DataFrame, columns: Sequence[Column], chosen: str) -> list[tuple[bool, list[str]]]:
    """Rows of a table of networks, the chosen one marked."""
    return [(row["replica"] == chosen, [column.cell(row) for column in columns]) for _, row in frame.iterrows()]


def grid_of(name: str, caption: str, frame: pd.DataFrame, columns: Sequence[Column], chosen: str) -> Grid:
    """A table of networks for a page: at most `MOST_LISTED`, evenly over them, the chosen one marked."""
    shown = thinned(frame, chosen, MOST_LISTED)
    if len(shown) < len(frame):
        caption += f": {len(shown):,} of {len(frame):,}, evenly over them; all are in the CSV file beside this page"
    headings = [column.heading for column in columns]
    meanings = [(column.heading, column.meaning) for column in columns]
    rows, head = listed(shown, columns, chosen), headings.index("replica")
    return Grid(name, caption, headings, rows, head=head, sortable=True, meanings=meanings)


def choices_table(study: Finished, width: int = WIDTH) -> Table:
    """The chosen network of each data set and loss for a terminal of ``width`` cells, as `front_table`."""
    places = task_places(study.axes)
    one, several = kind_words(places)
    each = study.choices().sort_values(places, kind="stable")
    rest = [] if len(each) <= ROWS else [f"{ROWS} of {len(each)} {several}; all are in {study.folder / 'choices.csv'}"]
    columns = columns_of(study, study.facts_of(str(each.iloc[0]["replica"])), each)
    title = f"Each {one}'s own: errors of different {several} cannot be compared"
    return _fitted(title, rest, columns, listed(each.head(ROWS), columns, ""), width)


def thinned(front: pd.DataFrame, chosen: str, most: int) -> pd.DataFrame:
    """At most ``most`` rows, evenly over the front; its ends and the chosen network stay."""
    if len(front) <= most:
        return front
    kept = {int(i) for i in np.linspace(0, len(front) - 1, most - 1).round()}
    kept |= {int(i) for i in np.flatnonzero((front["replica"] == chosen).to_numpy())}
    return front.iloc[sorted(kept)]
