"""The commands that read tables, and that write networks: look, predict, explain, export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nasplug.cli.group import json_option, limits_of, limits_option, main, network_place, ours, place
from nasplug.cli.printing import print_json, rows_of
from nasplug.console import console, data, one_line, say
from nasplug.errors import ConfigError, NasplugError

if TYPE_CHECKING:
    from nasplug.export import Export

__all__ = ["explain", "export", "look", "predict"]


@main.command()
@click.argument("table", type=str)
@click.argument("options", nargs=-1)
@click.option("--target", "targets", multiple=True, help="The column to predict; repeat the option for several.")
@click.option("--write", "file", type=Path, help="Write the study to start from into this file, which must not exist.")
@json_option
@ours
def look(table: str, options: tuple[str, ...], targets: tuple[str, ...], file: Path | None, as_json: bool) -> None:
    """Show how a table is read, and a study to start from. TABLE is a CSV or Parquet file.

    OPTIONS are those of the task 'table', for example: missing_codes=[-999] exclude=[id]
    """
    from nasplug.config import override
    from nasplug.looking import look, write_study
    from nasplug.summary import print_look

    given: dict[str, Any] = {}
    for text in options:
        override(given, text)
    found = look(table, targets, given)
    if as_json:
        print_json(found.plain())
    else:
        print_look(found)
    if file is not None:
        write_study(found, file)
        say(f"Written: {file}. To see what it would do: nasplug plan {file}", error=as_json)


@main.command()
@click.argument("network", type=network_place)
@click.argument("table", type=str)
@click.argument("options", nargs=-1)
@click.option("--out", type=Path, help="Write the answers into this .csv or .parquet file.")
@click.option(
    "--store", default="runs", show_default=True, help="For models:/: a store (the folder with mlflow.db) or an address."
)
@click.option("--explain", "why", is_flag=True, help="Of a study: what each column adds to the prediction (Shapley values).")
@json_option
@ours
def predict(network: str, table: str, options: tuple[str, ...], out: Path | None, store: str, why: bool, as_json: bool) -> None:
    """Predict the rows of a CSV or Parquet file with a network. It prints CSV, one line per row.

    NETWORK is the folder of a study (its chosen network) or of a network, or models:/NAME@ALIAS. OPTIONS say how the file is
    read, where it is written otherwise than the training file, for example: separator=; decimal=,
    """
    from nasplug.config import override
    from nasplug.files import safe
    from nasplug.predicting import check_out, explained, predict, source, write

    given: dict[str, Any] = {}
    for text in options:
        override(given, text)
    check_out(out, table)
    found = source(network, store)
    answers, notes = explained(network, found, table, given) if why else predict(found, table, given)
    for note in notes:
        say(f"Read: {note}", error=True)
    if out is not None:
        write(answers, out)
        say(f"Written: {out}, {len(answers)} rows", error=True)
    if as_json:
        print_json(rows_of(answers))
    elif out is None:
        data(safe(answers).to_csv(index=False))


@main.command()
@click.argument("folder", type=place)
@click.argument("table", type=str, required=False)
@click.option("--replica", help="Another network than the chosen one, such as p0001/0017.")
@click.option("--out", type=Path, help="With TABLE: write contributions into this .csv or .parquet file.")
@json_option
@ours
def explain(folder: Path, table: str | None, replica: str | None, out: Path | None, as_json: bool) -> None:
    """Explain a network: formula, effects of columns, interactions. FOLDER is <store>/<study>.

    With TABLE, a CSV or Parquet file: what each column adds to each prediction (Shapley values, which sum to it).
    """
    from nasplug.explain import explainable
    from nasplug.predicting import check_out, flat, rows, source, write
    from nasplug.report import explained_of
    from nasplug.study import Study
    from nasplug.summary import print_contributions, print_explained

    check_out(out, table or "")
    study = Study.open(folder).snapshot()
    name = replica or str(study.best()["replica"])
    if table is None:
        if out is not None:
            raise ConfigError(f"--out {out}: contributions are written there, of the rows of a TABLE; name one, or take --json")
        found = explained_of(study, name)
        print_json(found.plain()) if as_json else print_explained(found)
        return
    read, notes = rows(source(str(folder))._replace(network=explainable(study.network(name))), table)
    for note in notes:
        say(f"Read: {note}", error=True)
    frame = study.explain(read, name)
    if out is not None:
        write(flat(frame), out)
    if as_json:
        print_json({**frame.attrs, "rows": rows_of(flat(frame))})
    elif out is None:
        print_contributions(frame)


@main.command()
@click.argument("network", type=network_place)
@click.option("--to", default="python", show_default=True, help="Forms, separated by commas; see docs/export.md.")
@click.option("--out", type=Path, required=True, help="Write the forms into this folder.")
@click.option("--replica", help="Of a study: another network than the chosen one, such as p0001/0017, or ensemble.")
@limits_option
@click.option("--name", help="Name of files and functions. Default: that of the study, the folder or the model.")
@click.option(
    "--store", default="runs", show_default=True, help="For models:/: a store (the folder with mlflow.db) or an address."
)
@json_option
@ours
def export(
    network: str,
    to: str,
    out: Path,
    replica: str | None,
    limits: tuple[str, ...],
    name: str | None,
    store: str,
    as_json: bool,
) -> None:
    """Write a network in forms that need no nasplug. Each answers the test split first, and is refused where it differs.

    NETWORK is the folder of a study (its chosen network, or with --limit the best within limits) or of a network, or
    models:/NAME@ALIAS. The status is 1 if a form is refused; the others are written.
    """
    from nasplug.export import asked
    from nasplug.export import export as leave
    from nasplug.files import read_json
    from nasplug.lineage import FILE
    from nasplug.predicting import called, judge, source
    from nasplug.study import Study
    from nasplug.tracing import find
    from nasplug.tracing import leave as trace

    forms = asked(to)
    if limits:
        if replica is not None:
            raise ConfigError(f"--limit chooses a network, and --replica {replica} names one; take one of them")
        replica = str(Study.open(network).within(**limits_of(limits))["replica"])
        say(f"Within the limits: {replica}", error=True)
    found = source(network, store, replica)
    task, why = judge(network, replica)
    if task is None:
        say(f"Without a test split: {why}. Rows are made up, and no score can be told", error=True)
    told = leave(found.network, name or called(network), forms, out, task)
    try:
        traced = find(network, store, replica)
    except NasplugError as error:
        say(f"Without {FILE}: {error}", error=True)
    else:
        trace(traced, out, read_json(out / "export.json")["forms"])
    if as_json:
        print_json(told.plain())
    else:
        _print_exported(told, out)
    if any(form.refused for form in told.forms):
        sys.exit(1)


def _print_exported(told: Export, out: Path) -> None:
    """One line per form: what was written, how far it is from the network, and what it takes."""
    from rich.table import Table
    from rich.text import Text

    there = console()
    table = Table(title=f"Run on {told.rows}")
    headings = ("form", "files", "difference", "error", "bytes", "us per row", "flash", "RAM")
    for heading in headings:
        table.add_column(heading, overflow="fold", justify="left" if heading in ("form", "files") else "right")
    for one in told.forms:
        if one.difference is None:
            continue
        words = ["" if value is None else f"{value:.3g}" for value in (one.difference, one.error)]
        sizes = [str(one.figures[key]) if key in one.figures else "" for key in ("flash_bytes", "ram_bytes")]
        names = "refused" if one.refused else "\n".join(one.files)
        table.add_row(one.form, Text(names), *words, str(one.bytes), f"{one.microseconds:.3g}", *sizes)
    there.print(table)
    if told.error is not None:
        there.print(f"The network's own error on these rows: {told.error:.4g}.", highlight=False)
    for one in told.forms:
        if one.refused:
            there.print(f"Refused: {one_line(one.refused)}", highlight=False, soft_wrap=True)
    if any(not one.refused for one in told.forms):
        there.print(f"Written into {out}; difference is in units of the output's scale.", highlight=False, soft_wrap=True)
