"""The page: one HTML file, and the files beside it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from nasplug import files, results, stability
from nasplug.drawing import (
    Strength,
    draw_curves,
    draw_cut,
    draw_front,
    draw_network,
    draw_path,
    draw_schedule,
    path_of,
    save_png,
    strengths,
    svg,
)
from nasplug.errors import scrub
from nasplug.folds import candidates
from nasplug.packs import TABLE
from nasplug.plan import Axis, kind_words, task_places
from nasplug.report import seen
from nasplug.report.cooling import temperature_of
from nasplug.report.explaining import MOST_ROWS, Explained, figures_of, spread_of, write_explanations
from nasplug.report.finished import Finished
from nasplug.report.lines import Verdict, lines_of, write_verdict
from nasplug.report.mean import ensemble_words
from nasplug.report.paper import Grid, render
from nasplug.report.parts import certified, cut_grid, made_grid, orders, retrained, snippets, trouble_grids
from nasplug.report.softened import softened
from nasplug.report.stable import steadiness
from nasplug.report.tables import columns_of, grid_of, heading_of, thinned, trivial_words
from nasplug.report.words import facts_words, network_verdict, rule_words
from nasplug.results import shown_error
from nasplug.tasks import Facts

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["import_libraries", "write_report"]

PICTURES = ("front", "network", "effects", "test", "frequencies")  # that have a file of their own, too
CURVES = 24  # networks whose training curves are drawn
COLUMNS, COUPLES = 30, 12  # rows of the tables of columns and of pairs


def import_libraries() -> None:
    """Import what `write_report` needs, which takes a second or two: at a moment when the driver waits anyway."""
    for name in ("matplotlib.figure", "pandas"):
        import_module(name)


def write_report(study: Finished, began: float | None = None) -> Path:
    """Write ``report.html`` (one file, no network), the files beside it (PNG, CSV), ``linear.json`` and ``explain/``.

    Args:
        study: one that has run.
        began: when this run did (`time.time`): files since then are its own. None when the report is made later.
    """
    from markupsafe import Markup

    seconds = None if began is None else time.time() - began  # now: fits and pictures take time too
    config, folder, frame, axes = study.config, study.folder, study.frame, study.axes
    ranked, score = results.judged(frame, study.facts_of, config.choose)
    front = results.standing(frame, study.facts_of, config.choose)
    best = results.choose(frame, study.facts_of, config.choose)
    standing = candidates(frame)
    chosen = str(best["replica"])
    task = study.task_of(chosen)
    network = study.network(chosen)
    by_score = results.front(ranked, score)
    slack = results.allowed(by_score.iloc[int(by_score[score].argmin())], task.facts, config.choose)
    band = slack if config.choose.by == "error" else 0.0  # the picture's axis is the error
    verdict = write_verdict(study, best)
    numbers = frame.select_dtypes("number").columns  # an architecture is a text
    colour = next(((a.path, heading_of(a, axes)) for a in axes if a.row and a.path in numbers), None)
    if colour is not None and colour[1] == "level":
        colour = (colour[0], "penalty level λ")
    bred = config.train.population is not None  # rows leave the numbers that they begin with
    if colour is not None and bred:
        colour = (colour[0], f"{colour[1]} at the beginning")
    lines = results.front(lines_of(ranked), score) if verdict.line is not None else front.iloc[:0]
    explained = write_explanations(study, chosen, task, network)
    inside = lines[["edges", "valid_error"]].to_numpy(float)
    spread = spread_of(standing, front)
    histories, temperature = _histories(folder, front, chosen), temperature_of(study, best)
    figures = {
        "front": draw_front(standing, front, chosen, slack=band, colour=colour, lines=inside, spread=spread),
        "network": draw_network(network),
        "cut": draw_cut(front, chosen),
        "curves": draw_curves(histories, chosen, temperature),
        **figures_of(study, task, network, explained),
    }
    words = {
        "front": seen.front_words(standing, front, best, task.facts),
        "network": seen.network_words(network),
        "cut": "" if figures["cut"] is None else seen.cut_words(front, best),
        "curves": seen.curves_words(histories, chosen, temperature),
        "effects": seen.effects_words(explained.effects) if isinstance(explained, Explained) else "",
        "test": seen.test_words(best, task.facts),
    }
    places = task_places(axes)
    for level in [] if places or bred else _levels(axes, frame):  # errors of several tasks have no median
        along, mine = path_of(standing, level), float(best[level])
        figures["path"] = draw_path(standing, along, None if math.isnan(mine) else mine)
        words["path"] = "" if figures["path"] is None else seen.path_words(along, task.facts)
    steady = steadiness(study, best)
    if steady is not None and steady.picture is not None:
        figures["frequencies"], words["frequencies"] = steady.picture, steady.seen
    soft = softened(study, front, chosen, task.features if network.stem is None else ())
    figures["soft"], words["soft"] = soft.picture, soft.seen
    if isinstance(best.get("population"), str):
        found = results.schedule_of(folder, chosen)
        figures["schedule"], words["schedule"] = draw_schedule(found), seen.schedule_words(found)
    pictures = {name: Markup(svg(figure, name, words[name])) for name, figure in figures.items() if figure is not None}
    _save(folder, figures)  # last: letters that no font here has are lost in it
    files.write_csv(folder / "front.csv", front.drop(columns="owners", errors="ignore"))
    columns = columns_of(study, task.facts, frame)
    each = study.choices() if places else None
    if each is not None:
        files.write_csv(folder / "choices.csv", each.drop(columns="owners", errors="ignore"))
    sentences = [
        network_verdict(task, best, network),
        *(f"{said}." for said in trivial_words(task.facts, front, chosen)),
        verdict.sentence,
        stability.words(folder),
        ensemble_words(study),
    ]
    told = explained if isinstance(explained, Explained) else None
    page = render(
        "report.html",
        config=config,
        task=task,
        pictures=pictures,
        facts=facts_words(study, task, frame, seconds, began),
        verdict=[said for said in sentences if said],
        rule=rule_words(task, slack, config.choose),
        front=grid_of("front-table", "The front, smallest network first", front, columns, chosen),
        each=None if each is None else grid_of("each-table", "The choice for each", each.sort_values(places), columns, chosen),
        chosen=best,
        explained=told,
        importance=None if told is None else _importance(told),
        couples=None if told is None else _couples(told),
        unexplained=explained if isinstance(explained, str) else "",
        tested=f"{min(MOST_ROWS, task.test.samples):,}",
        strengths=_strengths(strengths(network)),
        steady=steady,
        line=verdict.line,
        against=_against(verdict, best, task.facts),
        lines=len(lines_of(frame)),
        sentence=verdict.sentence,
        one=kind_words(places)[0],
        several=kind_words(places)[1],
        cut=cut_grid(standing, best, task.facts),
        soft=soft,
        retrain=retrained(frame),
        certificate=certified(results.certificate(folder, chosen), frame),
        finetune=config.train.finetune if isinstance(config.train.finetune, int) else None,
        made=made_grid(frame, folder, task.digest),
        yaml=yaml.safe_dump(scrub(config.plain()), sort_keys=False),
        troubles=trouble_grids(frame, axes),
        orders=orders(folder, network),
        snippets=snippets(folder, network, chosen),
        version=version("nasplug"),
        written=time.strftime("%Y-%m-%d %H:%M"),
    )
    path = folder / "report.html"
    files.write_text(path, scrub(page))
    return path


def _levels(axes: Sequence[Axis], frame: pd.DataFrame) -> list[str]:
    """The first level that the study varies; none where it varies none."""
    return [a.path for a in axes if a.path.startswith("penalties.") and a.path.endswith(".level") and a.path in frame][:1]


def _save(folder: Path, figures: Mapping[str, Figure | None]) -> None:
    """Pictures that have a file; that of an earlier run goes where there is none now."""
    for name in PICTURES:
        figure = figures.get(name)
        if figure is None:
            (folder / f"{name}.png").unlink(missing_ok=True)
            continue
        with files.beside(folder / f"{name}.png") as there:
            save_png(figure, there)


def _histories(folder: Path, front: pd.DataFrame, chosen: str) -> pd.DataFrame:
    """Curves of the front's networks (evenly thinned to `CURVES`, the chosen one always among them)."""
    names = [str(name) for name in thinned(front, chosen, CURVES)["replica"]]

    def read(column: str) -> bool:
        return column in ("replica", "edges") or column.startswith("history_")

    table: pd.DataFrame = files.read_table(folder / TABLE, read, [("replica", "in", names)]).to_pandas()
    return table.sort_values("edges", kind="stable")


def _strengths(found: list[Strength]) -> Grid | None:
    if not found:
        return None
    rows = [(False, [s.feature, f"{s.value:.4g}", s.sign]) for s in found]
    direction = "+ the output never falls as the input grows, - it never rises, ± it depends"
    return Grid(
        "strength-table",
        "Inputs, strongest first",
        ["input", "strength", "direction"],
        rows,
        sortable=True,
        meanings=[("direction", direction)],
    )


def _importance(told: Explained) -> Grid:
    rows = [(False, [e.grid.column, f"{e.importance:.4g}", e.direction or "-"]) for e in told.effects[:COLUMNS]]
    meanings = [
        ("importance", "mean of the absolute contribution to a prediction (Shapley values), over development rows"),
        ("direction", "of the only output, over rising values"),
    ]
    headings = ["column", "importance", "direction"]
    return Grid("importance-table", "Columns, most important first", headings, rows, sortable=True, meanings=meanings)


def _couples(told: Explained) -> Grid:
    rows = [(False, [f"{p.first}, {p.second}", f"{100 * p.strength:.1f} %", f"{p.h:.2f}"]) for p in told.pairs[:COUPLES]]
    share = "share of the output's spread"
    meanings = [
        (share, "standard deviation of what the pair does together and neither alone, over that of the output"),
        ("H", "the same over what the two do at all (Friedman and Popescu 2008)"),
    ]
    return Grid("pair-table", "Pairs, strongest first", ["pair", share, "H"], rows, sortable=True, meanings=meanings)


def _against(verdict: Verdict, best: pd.Series[Any], facts: Facts) -> Grid | None:
    if verdict.line is None:
        return None
    rows = []
    both = [("", best), *([] if verdict.line["replica"] == best["replica"] else [("linear: ", verdict.line)])]
    for words, row in both:
        errors = [shown_error(facts, float(row[f"{part}_error"])) for part in ("valid", "test")]
        sizes = [f"{int(row[name]):,}" for name in ("inputs", "edges", "parameters")]
        rows.append((not words, [f"{words}{row['replica']}", *errors, *sizes]))
    headings = ["network", "validation error", "test error", "inputs", "edges", "parameters"]
    return Grid("linear-table", "The chosen network" + (" and the best linear one" if len(both) > 1 else ""), headings, rows)
