"""The commands of the registry of models: register."""

from __future__ import annotations

from pathlib import Path

import click

from nasplug.cli.group import json_option, main, ours
from nasplug.cli.printing import print_json
from nasplug.console import say

__all__ = ["register"]


@main.command()
@click.argument("folder", type=Path)
@click.option("--replica", help="Another network than the chosen one, p0001/0017 say, or ensemble.")
@click.option("--name", help="Of the registered model. Default: mlflow.register of the study, or else the study's name.")
@json_option
@ours
def register(folder: Path, replica: str | None, name: str | None, as_json: bool) -> None:
    """Export a network of a study to MLflow, as a version of a registered model. FOLDER is <store>/<study>.

    Any network of the study's table can be registered. It gets a run with its model, unless it has one.
    """
    from nasplug.study import Study

    study = Study.open(folder).snapshot()
    network = replica or str(study.best()["replica"])
    found = study.register(network, name)
    if as_json:
        print_json({"replica": network, **found._asdict()})
    else:
        say(f"Registered: {network} of {study.folder} is models:/{found.name}/{found.version}")
