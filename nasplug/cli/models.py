"""The commands of networks that have left: lineage, reproduce."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nasplug.cli.group import json_option, main, network_place, ours
from nasplug.cli.printing import print_json
from nasplug.console import console, one_line, say
from nasplug.console import data as write_out
from nasplug.errors import ConfigError, NasplugError

if TYPE_CHECKING:
    from nasplug.lineage.again import Reproduction

__all__ = ["lineage", "reproduce"]

store_option = click.option(
    "--store", default="runs", show_default=True, help="For models:/: a store (the folder with mlflow.db) or an address."
)
replica_option = click.option("--replica", help="Of a study: another network than the chosen one, such as p0001/0017.")


@main.command()
@click.argument("network", type=network_place)
@click.option("--format", "form", type=click.Choice(["text", "json", "mermaid", "html"]), default="text", show_default=True)
@replica_option
@store_option
@ours
def lineage(network: str, form: str, replica: str | None, store: str) -> None:
    """Show where a network came from.

    That is data, encoder, study, pack, row, scores and version.

    NETWORK is the folder of a study (its chosen network), of a network or of an export, or models:/NAME@ALIAS or
    models:/NAME/3.
    """
    from nasplug.lineage import mermaid, page, text
    from nasplug.tracing import find

    found = find(network, store, replica)
    if form == "json":
        print_json(found.record)
    elif form == "html":
        write_out(page(found.stages, found.record))
    else:
        write_out((mermaid if form == "mermaid" else text)(found.stages))
    if found.changed:
        told = "not as they were exported: they were changed, or are gone; nasplug export writes them anew"
        say(f"Error: {', '.join(found.changed)}: {told}", error=True)
        sys.exit(1)


@main.command()
@click.argument("network", type=network_place)
@replica_option
@store_option
@click.option("--data", help="The path of its data file, if the file has moved.")
@click.option("--out", type=Path, help="Write the new network into this folder.")
@json_option
@ours
def reproduce(network: str, replica: str | None, store: str, data: str | None, out: Path | None, as_json: bool) -> None:
    """Train one network again from its lineage, and compare both.

    NETWORK is as in `nasplug lineage`. The exit status is 0 if the network is reproduced, 1 if not, 2 if it cannot be trained
    again. A registered version gets the result as its tag nasplug.reproduced.
    """
    from nasplug.tracing import find
    from nasplug.tracing import reproduce as train
    from nasplug.tracking import mark_reproduced

    try:
        found = find(network, store, replica)
        told = train(found, data, out)
    except NasplugError as error:
        raise error if isinstance(error, ConfigError) else ConfigError(str(error)) from None
    if as_json:
        print_json(told.plain())
    else:
        _print_reproduction(told)
    if out is not None:
        say(f"Written: {out}", error=True)
    if found.uri and (told.reproduced or not any(each.cause == "data" for each in told.differences)):
        mark_reproduced(found.uri, found.version, reproduced=told.reproduced)
    if not told.reproduced:
        sys.exit(1)


def _print_reproduction(told: Reproduction) -> None:
    """Whether a network that was trained again is the same, what is not, and what may be the cause."""
    out = console()

    def tell(words: str) -> None:
        out.print(one_line(words), highlight=False, soft_wrap=True)

    verdict = "reproduced" if told.reproduced else "not reproduced"
    tell(f"{told.replica}: {verdict} (one row among {told.rows}, {told.seconds:.1f} s)")
    tell(f"architecture: {'equal' if told.architecture else 'different'}")
    if told.equal:
        tell("weights: equal, bit by bit")
    elif told.largest is None:
        why = "their files are gone, and their digest is another" if told.architecture else "those of another architecture"
        tell(f"weights: not compared: {why}")
    else:
        tell(f"weights: the largest difference is {told.largest:.3g}; {told.tolerance:g} is allowed")
    if told.scores_equal:
        tell(f"scores: all {len(told.scores)} equal, bit by bit")
    for name, (then, now) in told.scores.items():
        if then != now:
            tell(f"score {name}: {then!r}, now {now!r}")
    for one in told.differences:
        tell(f"different: {one.cause}, {one.what}: {one.then}; now {one.now}")
    if not told.differences:
        tell("data, code and machine: as they were")
