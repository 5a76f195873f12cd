"""The command of a job: it runs the study that was sent to a cluster."""

from __future__ import annotations

from pathlib import Path

import click

from nasplug.cli.group import main, ours
from nasplug.cli.studies import carry_out

__all__ = ["arrive"]


@main.command(hidden=True)
@click.option("--accept-changes", is_flag=True)
@click.option("--quiet", is_flag=True)
@ours
def arrive(accept_changes: bool, quiet: bool) -> None:
    """Run the study that was sent to the working directory: the command of a job."""
    from nasplug.plugins import load_plugins
    from nasplug.runner import unpacked
    from nasplug.study import Study

    plugins = load_plugins()
    study = Study(unpacked(Path(), plugins), plugins)
    carry_out(study, quiet=quiet, as_json=False, runner="ray", address="auto", accept_changes=accept_changes)
