"""What the command line prints: plugins, a table that is looked at, the front and the chosen network of a study.

Heavy packages are imported inside, so that what is installed is listed without them.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from nasplug.console import console, one_line, padded
from nasplug.errors import ConfigError, did_you_mean
from nasplug.summary.outlook import about_task, notes_of

if TYPE_CHECKING:
    import pandas as pd

    from nasplug.data.survey import ColumnFacts
    from nasplug.looking import Look
    from nasplug.report import Explained
    from nasplug.study import Study

__all__ = [
    "named",
    "print_contributions",
    "print_explained",
    "print_look",
    "print_plugins",
    "print_some",
    "print_summary",
    "print_within",
    "registered",
]

MOST_COLUMNS = 60  # of a table that is looked at
MOST_PAIRS = 20


def print_plugins(listing: Mapping[str, Any]) -> None:
    """Every name by kind with its options and its owner; observers; what is broken, with its error."""
    out = console()
    table = Table(title="What may stand after `use:`")
    for heading in ("kind", "name", "what it is, and its options", "plugin"):
        table.add_column(heading, overflow="fold")
    for kind, offers in listing["offers"].items():
        for offer in offers:
            lines = [offer["summary"], *(f"  {_option(option)}" for option in offer["options"])]
            table.add_row(kind, offer["name"], Text("\n".join(lines)), f"{offer['distribution']} {offer['version']}")
    for observer in listing["observers"]:
        hooks = Text("hears " + ", ".join(observer["hooks"]))
        table.add_row("observer", observer["plugin"], hooks, f"{observer['distribution']} {observer['version']}")
    out.print(table)
    told = [f"Broken: {_plugin(one)} {one['error']}. {one['remedy']}." for one in listing["broken"]]
    told += [f"Offered twice: {one['error']}. {one['remedy']}." for one in listing["clashes"]]
    told += [f"Left out by the environment: {_plugin(one)}." for one in listing["left_out"]]
    for line in told:
        out.print(line, highlight=False, soft_wrap=True)


def named(listing: Mapping[str, Any], words: Collection[str]) -> dict[str, Any]:
    """The offers and observers of a listing that are of one of the kinds, names or plugins; what is broken stays.

    Raises:
        ConfigError: for a word that is none of them.
    """
    known: set[str] = set(listing["offers"])
    kept: dict[str, list[Any]] = {}
    for kind, offers in listing["offers"].items():
        for offer in offers:
            called = {offer["name"], offer["plugin"], offer["distribution"]}
            known |= called
            if not (called | {kind}).isdisjoint(words):
                kept.setdefault(kind, []).append(offer)
    observers = [one for one in listing["observers"] if not {one["plugin"], one["distribution"]}.isdisjoint(words)]
    known |= {one[key] for one in listing["observers"] for key in ("plugin", "distribution")}
    if unknown := [word for word in words if word not in known]:
        close = did_you_mean(unknown[0], known)
        hint = f".{close}" if close else f"; kinds: {', '.join(listing['offers'])}"
        raise ConfigError(f"{unknown[0]!r} is no kind, no name and no plugin{hint}")
    return {**listing, "offers": kept, "observers": observers}


def _plugin(one: Mapping[str, str]) -> str:
    return f"plugin {one['plugin']!r} ({one['distribution']} {one['version']})"


def _option(option: Mapping[str, Any]) -> str:
    """``threshold: a number or null = null``."""
    return f"{option['name']}: {option['type']}" + (
        f" = {json.dumps(option['default'])}" if "default" in option else " (needed)"
    )


def print_look(found: Look) -> None:
    """What each column was taken for, what is wrong, the kind of task, and the study that is proposed."""
    from nasplug.config import to_yaml

    out = console()
    table = Table(title=f"{one_line(found.path)}: {found.rows:,} rows, {len(found.names):,} columns")
    for heading in ("column", "taken for", "distinct", "gaps", "range, or most frequent words"):
        table.add_column(heading, overflow="fold", justify="right" if heading in ("distinct", "gaps") else "left")
    for column in found.columns[:MOST_COLUMNS]:
        target = column.name in found.target
        kind = ("target, " if target else "") + (column.kind or "a problem")
        counts = [f"{n:,}" if n else "" for n in (column.distinct, column.gaps)]
        table.add_row(Text(one_line(column.name)), kind, *counts, Text(_range(column, target=target)))
    if len(found.columns) > MOST_COLUMNS:
        table.add_row("...", f"{len(found.columns) - MOST_COLUMNS:,} more", "", "", "")
    out.print(table)
    lines = notes_of(found.notes)
    lines += [f"Warning: {text}." for text in found.warnings]
    lines += [f"Problem: {text}" for text in found.problems]
    if found.task is not None:
        lines = [*about_task(found.task), *lines]
    for line in lines:
        out.print(line, highlight=False, soft_wrap=True)
    if found.study:
        out.print("A study to start from (--write FILE writes it):\n", highlight=False, soft_wrap=True)
        out.print(to_yaml(found.study, compact=True), highlight=False, soft_wrap=True)
    elif found.problems:
        out.print("Options settle this, here as in a study's task: nasplug look FILE 'missing_codes=[-999]'", soft_wrap=True)
    else:
        out.print("No study is proposed without a target. Name the column to predict: --target COLUMN", soft_wrap=True)


def _range(column: ColumnFacts, *, target: bool) -> str:
    """``1 to 5``, or ``red (12), blue (3), ...``; and why it should be left out."""
    found = ""
    if column.words:
        more = ", ..." if column.distinct > len(column.words) else ""
        found = ", ".join(f"{padded(word, 20).rstrip()} ({count:,})" for word, count in column.words) + more
    elif column.low is not None and column.high is not None:
        ends = [f"{end:.6g}" if isinstance(end, float) else end.removesuffix("T00:00:00") for end in (column.low, column.high)]
        found = " to ".join(ends)
    return f"{found}; left out: {column.left_out}" if column.left_out and not target else found


def print_summary(study: Study) -> None:
    """The front, the chosen network, and where the files are."""
    from nasplug import files, results, stability
    from nasplug.plan import task_places
    from nasplug.report import LINEAR, choices_table, ensemble_words, front_picture, front_table, network_picture
    from nasplug.tracking import STATE_FILE, database_of, untold

    out = console()
    study = study.snapshot()
    frame = study.frame
    best = study.best()
    out.print(front_table(study, out.width))
    if task_places(study.axes):
        out.print(choices_table(study, out.width))
    out.print(front_picture(frame, str(best["replica"]), out.width, study.front("all")), highlight=False)
    out.print(network_picture(study.network(str(best["replica"])), columns=out.width), highlight=False)
    counts = frame["status"].value_counts().to_dict()
    out.print(f"{len(frame)} networks: " + ", ".join(f"{n} {status}" for status, n in counts.items()))
    if ending := results.ending_of(study.folder):
        out.print(f"{ending.words}.", highlight=False, soft_wrap=True)
    if reason := results.cause(frame):
        out.print(f"One that diverged: {reason}.", highlight=False)
    with suppress(files.DamageError):  # the front does not need it, and another run writes it anew
        out.print(files.read_json(study.folder / LINEAR)["sentence"], highlight=False)
    with suppress(files.DamageError):
        for words in filter(None, (stability.words(study.folder), ensemble_words(study))):
            out.print(words, highlight=False)
    out.print(f"Report: {study.folder / 'report.html'}", highlight=False, soft_wrap=True)
    if missing := untold(study.folder):
        out.print(one_line(missing), highlight=False, soft_wrap=True)
    tracked = study.folder / STATE_FILE
    if tracked.exists():
        try:
            where = files.read_json(tracked)
        except files.DamageError as error:
            out.print(f"{error}; run the study again, which tracks it anew", highlight=False, soft_wrap=True)
            return
        database = database_of(where["uri"])
        if database is not None and not database.exists():
            out.print(
                f"The store has moved since this was tracked: MLflow looks for models below {database.parent}. Move it back, "
                f"or load the network itself: Study.open({str(study.folder)!r}).network()",
                highlight=False,
                soft_wrap=True,
            )
        if not missing and (told := registered(study)) is not None:
            out.print(f"{one_line(told['sentence'])}.", highlight=False, soft_wrap=True)
        out.print(f"Open MLflow's page: nasplug ui {shlex.quote(str(study.folder))}", highlight=False, soft_wrap=True)


def registered(study: Study) -> dict[str, Any] | None:
    """What the registry says now of the network that the study registered; None where it registered none.

    ``sentence`` is always there, also where the registry does not answer.
    """
    from nasplug import files
    from nasplug.errors import NasplugError, scrub
    from nasplug.tracking import STATE_FILE, standing, store_of

    try:
        where = files.read_json(study.folder / STATE_FILE)
        name, version = str(where["model"]), str(where["version"])
        own = study.config.mlflow.uri if study.config.mlflow is not None else None
        uri = own if own is not None and scrub(own) == where["uri"] else store_of(study.folder)
    except (NasplugError, LookupError):
        return None
    try:
        return standing(uri, name, version).plain()
    except NasplugError as error:
        words = f"This network was registered as version {version} of {name!r}; {error}"
        return {"name": name, "version": version, "sentence": words}


def print_some(study: Study, front: pd.DataFrame, share: float | None) -> None:
    """A front with what was measured, or of networks whose inputs were all kept in this ``share`` of the half samples."""
    from nasplug import results, stability
    from nasplug.report import front_table

    out = console()
    frame = study.frame if share is None else stability.stable(study.frame, share)
    measured = [name for name in (results.FLASH, results.LATENCY) if name in front]
    frame = frame.merge(front[["replica", *measured]], how="left", on="replica", validate="many_to_one")
    out.print(front_table(study, out.width, frame))
    if share is None:
        return
    counted = len(stability.read(study.folder)["configuration"].unique())
    out.print(
        f"Each input of these networks was kept in at least {share:g} of the half samples. {counted} configurations were "
        "counted: those of the front, and the chosen one's at other levels.",
        highlight=False,
        soft_wrap=True,
    )


def print_within(study: Study, row: pd.Series[Any]) -> None:
    """One network: what it is, how good, and how to get it."""
    from nasplug import results
    from nasplug.report import network_picture

    out = console()
    network = study.network(str(row["replica"]))
    out.print(network_picture(network, columns=out.width), highlight=False)
    out.print(
        f"{row['replica']}: validation error {row['valid_error']:.4g}, test error {row['test_error']:.4g}, "
        f"{row['edges']:.0f} edges, {row['parameters']:.0f} parameters, {results.latency(network):.1f} us per sample here"
        f"{f', {row[results.FLASH]:.0f} bytes of flash in C' if results.FLASH in row else ''}. "
        f"In Python: Study.open({str(study.folder)!r}).network({row['replica']!r})",
        highlight=False,
        soft_wrap=True,
    )


def print_explained(found: Explained) -> None:
    """The formula, the effect of each column, and the pairs that interact."""
    out = console()
    out.print(found.written, highlight=False, soft_wrap=True)
    out.print(f"{found.formula.numbers} numbers, {found.formula.digits} digits: {found.formula.rule}.\n", highlight=False)
    table = Table(title=f"Effects, scale: {one_line(found.scale)}")
    for heading in ("column", "importance", "from", "to", "direction, or words"):
        table.add_column(heading, overflow="fold", justify="left" if "column" in heading or "," in heading else "right")
    for effect in found.effects[:MOST_COLUMNS]:
        values = [*effect.curve.numbers.ravel().tolist(), *effect.curve.words.ravel().tolist()]
        ends = [f"{end:+.4g}" for end in (min(values), max(values))] if values else ["", ""]
        words = effect.direction
        if effect.grid.words and effect.curve.words.shape[1] == 1:
            pairs = zip(effect.grid.words, effect.curve.words[:, 0].tolist(), strict=True)
            words = ", ".join([*([words] if words else []), *(f"{padded(word, 20).rstrip()} {at:+.4g}" for word, at in pairs)])
        table.add_row(Text(padded(effect.grid.column, 40).rstrip()), f"{effect.importance:.4g}", *ends, Text(words))
    out.print(table)
    if not found.pairs:
        out.print(f"No two columns interact: none meet in a neuron with a nonlinear activation. {found.sums}", highlight=False)
        return
    shown = [p for p in found.pairs[:MOST_PAIRS] if p.strength >= 0.0005]
    table = Table(title=f"Pairs: {found.possible} can interact, all others add up")
    for heading in ("pair", "share of the output's spread", "H"):
        table.add_column(heading, overflow="fold", justify="left" if heading == "pair" else "right")
    for pair in shown:
        names = ", ".join(padded(name, 30).rstrip() for name in (pair.first, pair.second))
        table.add_row(Text(names), f"{100 * pair.strength:.1f} %", f"{pair.h:.2f}")
    if shown:
        out.print(table)
    else:
        out.print(f"{found.possible} pairs can interact, and none does so noticeably.", highlight=False)


def print_contributions(frame: pd.DataFrame) -> None:
    """One line per row (and output): the base, what each column adds, most first, and the prediction."""
    out = console()
    base, *names, prediction = list(frame.columns)
    for index, row in frame.head(MOST_COLUMNS).iterrows():
        where = ", ".join(map(str, index)) if isinstance(index, tuple) else str(index)
        order = sorted(names, key=lambda name: -abs(row[name]))
        terms = [f"{padded(name, 40).rstrip()} {row[name]:+.4g}" for name in order if row[name] != 0]
        line = f"row {where}: {base} {row[base]:.4g}, {', '.join(terms)} = {prediction} {row[prediction]:.6g}"
        out.print(line, highlight=False, soft_wrap=True)
    if len(frame) > MOST_COLUMNS:
        out.print(f"... and {len(frame) - MOST_COLUMNS:,} more; --out FILE writes all")
    exact = "exact" if frame.attrs["exact"] else "sampled for neurons that more than 12 columns reach; sums are exact"
    out.print(
        f"Scale: {one_line(frame.attrs['scale'])}. Shapley values, {exact}. Compared with {frame.attrs['background']} rows.",
        highlight=False,
    )
