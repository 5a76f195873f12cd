"""The command that tells MLflow of studies later: sync."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from nasplug.cli.group import json_option, main, ours
from nasplug.cli.printing import print_json
from nasplug.console import one_line, say
from nasplug.errors import NasplugError, scrub

__all__ = ["sync"]

WORDS = {"told": "told", "nothing": "nothing to tell", "running": "it runs; MLflow is told meanwhile"}


@main.command()
@click.argument("folder", type=Path, default=Path("runs"))
@json_option
@ours
def sync(folder: Path, as_json: bool) -> None:
    """Tell MLflow what it does not have yet of studies that have run, for example because its server was down.

    FOLDER is the folder of one study, or a store with several (default: runs). Nothing is told twice. The exit status is 1 if
    something could not be told.
    """
    from nasplug.life import standings

    found = []
    for each in standings(folder):
        state, why = ("running", "") if each.state == "running" else _told(each.folder)
        found.append({"folder": str(each.folder), "state": state, "why": why})
        if not as_json:
            say(f"{one_line(str(each.folder))}: {WORDS.get(state) or f'not told: {one_line(why)}'}")
    if as_json:
        print_json(found)
    if any(each["why"] for each in found):
        sys.exit(1)


def _told(folder: Path) -> tuple[str, str]:
    """What came of telling a study: ``told``, ``nothing`` (to tell), or ``failed`` and why."""
    from nasplug.study import Study
    from nasplug.tracking import untold

    if not untold(folder):
        return "nothing", ""
    try:
        return ("told" if Study.open(folder).sync() else "nothing"), ""
    except NasplugError as error:
        return "failed", str(scrub(str(error)))
