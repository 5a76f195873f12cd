"""The commands of a study's life: status, stop, doctor."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nasplug.cli.group import json_option, main, ours, place
from nasplug.cli.jobs import print_jobs, stop_job
from nasplug.cli.printing import print_json
from nasplug.console import console, one_line, say
from nasplug.places import home_of

if TYPE_CHECKING:
    from nasplug.life import Finding, Standing

__all__ = ["doctor", "status", "stop"]

address_option = click.option("--address", help="Of a Ray cluster's job server: http://host:8265.")
RIGHT = frozenset({"trained", "packs", "networks", "best error", "edges", "left"})


@main.command()
@click.argument("folder", type=place, default=Path("runs"))
@address_option
@json_option
@ours
def status(folder: Path, address: str | None, as_json: bool) -> None:
    """Show how studies stand: state, progress, best error, time left.

    FOLDER is the folder of one study, or a store with several (default: runs). It works from any shell, and disturbs no run.
    With --address: the studies that were sent to a cluster as jobs.
    """
    from nasplug.life import standings

    if address is not None:
        from nasplug.runner import listed

        jobs = listed(address)
        if as_json:
            print_json([job.plain() for job in jobs])
        else:
            print_jobs(jobs)
        return
    found = standings(folder)
    if as_json:
        print_json([each.plain() for each in found])
    else:
        _print_standings(found)


@main.command()
@click.argument("folder", type=place)
@click.option(
    "--wait",
    "seconds",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Seconds to wait until it has ended.",
)
@address_option
@ours
def stop(folder: Path, seconds: float, address: str | None) -> None:
    """Stop a study that runs in another process on this machine. FOLDER is its folder; with --address, the name of its job.

    It is stopped as Ctrl-C does. To resume it, give the same `nasplug run` command again.
    """
    from nasplug.life import stop

    if address is not None:
        stop_job(str(folder), address, seconds)
        return
    say(f"Stopped: {stop(folder, seconds)}. Finished packs are kept; run the same nasplug run command again to resume.")


@main.command()
@click.argument("store", default="runs")
@json_option
@ours
def doctor(store: str, as_json: bool) -> None:
    """Look for what keeps studies from running on this machine.

    That is packages, plugins, GPU, compilers, Ray, disk, MLflow, and studies that were killed.

    STORE is the folder of studies (default: runs); of a bucket its copy on this machine is looked at. Nothing is started or
    changed. The exit status is 1 if something keeps studies from running.
    """
    from nasplug.life import examine

    found = examine(home_of(store))
    if as_json:
        print_json([each.plain() for each in found])
    else:
        _print_findings(found)
    if any(each.verdict == "bad" for each in found):
        sys.exit(1)


def _print_standings(found: Sequence[Standing]) -> None:
    """One line per study: its state, how far it is, its best error; below, why those ended that were stopped."""
    from rich.table import Table
    from rich.text import Text

    out = console()
    table = Table()
    for heading in ("study", "state", "trained", "packs", "networks", "best error", "edges", "left", "last heard of"):
        table.add_column(heading, justify="right" if heading in RIGHT else "left")
    for each in found:
        failed = f", {each.packs_failed} failed" if each.packs_failed else ""
        table.add_row(
            Text(each.folder.name),
            each.state,
            f"{each.share:.0%}",
            f"{each.packs_done} of {each.packs}{failed}",
            f"{each.networks_done} of {each.networks}",
            "-" if each.best is None else f"{each.best:.4g}",
            "-" if each.edges is None else str(each.edges),
            "-" if each.left is None else f"{each.left:.0f} s",
            "-" if each.ended is None else f"{datetime.fromtimestamp(each.ended):%Y-%m-%d %H:%M}",
        )
    out.print(table)
    for each in found:
        for words in filter(None, (each.why, each.untold)):
            out.print(f"{each.folder.name}: {one_line(words)}", highlight=False, markup=False, soft_wrap=True)


def _print_findings(found: Sequence[Finding]) -> None:
    """One line per finding, what is bad last, where the eye ends."""
    out = console()
    for verdict in ("good", "note", "bad"):
        for each in found:
            if each.verdict == verdict:
                remedy = f". {each.remedy}" if each.remedy else ""
                line = f"{verdict:5s} {each.part:10s} {one_line(each.what)}{one_line(remedy)}"
                out.print(line, highlight=False, markup=False, soft_wrap=True)
