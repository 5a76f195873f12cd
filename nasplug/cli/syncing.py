"""The command that tells MLflow of studies later: sync."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nasplug.cli.group import json_option, main, ours
from nasplug.cli.printing import print_json
from nasplug.console import one_line, say
from nasplug.errors import ConfigError, NasplugError, scrub
from nasplug.places import home_of, in_bucket

if TYPE_CHECKING:
    from nasplug.life import Standing

__all__ = ["sync"]

STUDY_FILE = "study.yaml"
WORDS = {"told": "told", "nothing": "nothing to tell", "running": "it runs; MLflow is told meanwhile"}


@main.command()
@click.argument("folder", default="runs")
@json_option
@ours
def sync(folder: str, as_json: bool) -> None:
    """Tell MLflow, and a bucket, what they missed. A server may have been down.

    FOLDER is the folder of one study, or a store with several (default: runs), or a study or store in a bucket. Nothing is told
    twice. The exit status is 1 if something could not be told.
    """
    found = []
    for where, each in _places(folder):
        state, why = ("running", "") if each.state == "running" else _told(where)
        found.append({"folder": where, "state": state, "why": why})
        if not as_json:
            say(f"{one_line(where)}: {WORDS.get(state) or f'not told: {one_line(why)}'}")
    if as_json:
        print_json(found)
    if any(each["why"] for each in found):
        sys.exit(1)


def _places(where: str) -> list[tuple[str, Standing]]:
    """Studies as a user names them, and how they stand on this machine."""
    from nasplug.life import standing, standings

    if not in_bucket(where):
        return [(str(each.folder), each) for each in standings(Path(where))]
    where = where.rstrip("/")
    store, _, study = where.rpartition("/")
    if "://" in store and (home_of(store) / study / STUDY_FILE).is_file():
        return [(where, standing(home_of(store) / study))]
    if not home_of(where).is_dir():
        raise ConfigError(f"{where}: no study there has run on this machine; give <store>/<study>, or a store with studies")
    return [(f"{where}/{each.folder.name}", each) for each in standings(home_of(where))]


def _told(where: str) -> tuple[str, str]:
    """What came of telling a study: ``told``, ``nothing`` (to tell), or ``failed`` and why."""
    from nasplug.study import Study
    from nasplug.tracking import untold

    if not in_bucket(where) and not untold(Path(where)):
        return "nothing", ""
    try:
        return ("told" if Study.open(where).sync() else "nothing"), ""
    except NasplugError as error:
        return "failed", str(scrub(str(error)))
