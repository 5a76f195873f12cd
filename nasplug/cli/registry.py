"""The commands of the registry of models: register, promote, rollback, history."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nasplug.cli.group import json_option, main, ours, place
from nasplug.cli.printing import print_json
from nasplug.console import console, one_line, say
from nasplug.errors import ConfigError

if TYPE_CHECKING:
    from nasplug.tracking import History, Outcome

__all__ = ["history", "promote", "register", "rollback"]

store_option = click.option(
    "--store", default="runs", show_default=True, help="A store (the folder with mlflow.db) or an address of MLflow."
)
why_option = click.option("--why", default="", help="The reason, for the history.")


def _uri(store: str) -> str:
    from nasplug.tracking import store_of

    return store if "://" in store else store_of(Path(store))


@main.command()
@click.argument("folder", type=place)
@click.option("--replica", help="Another network than the chosen one, such as p0001/0017, or ensemble.")
@click.option("--name", help="Name of the registered model. Default: mlflow.register of the study, or else the study's name.")
@json_option
@ours
def register(folder: Path, replica: str | None, name: str | None, as_json: bool) -> None:
    """Register a network in MLflow, as a version of a model. FOLDER is <store>/<study>.

    Any network of the study's table can be registered. It gets a run and a logged model, unless it has them.
    """
    from nasplug.study import Study

    study = Study.open(folder).snapshot()
    network = str(study.best()["replica"]) if replica is None else replica
    found = study.register(network, name)
    if as_json:
        print_json({"replica": network, **found._asdict()})
    else:
        alias = f", the {found.alias}" if found.alias else ""
        say(f"Registered: {network} of {study.folder} is models:/{found.name}/{found.version}{alias}")


@main.command()
@click.argument("name", type=str)
@click.option("--to", "version", required=True, help="The number of the version to promote.")
@click.option("--policy", "file", type=Path, help="A YAML file of limits; see docs/promotion.md.")
@click.option("--force", is_flag=True, help="Promote it even if gate or policy refuse it; needs --why.")
@why_option
@store_option
@json_option
@ours
def promote(name: str, version: str, file: Path | None, force: bool, why: str, store: str, as_json: bool) -> None:
    """Make a version of a model champion, if it passes the gate. NAME is the registered model.

    The gate compares it with the champion on the same test rows. The exit status is 1 if gate or policy refuse it, 2 for a
    wrong name, version or policy.
    """
    from nasplug.plugins import load_plugins
    from nasplug.tracking import Policy, promote, read_policy

    policy = Policy() if file is None else read_policy(file)
    found = promote(_uri(store), name, version, policy, force=force, why=why, functions=load_plugins().functions)
    if as_json:
        print_json(asdict(found))
    else:
        _print_outcome(found)
    if not found.promoted:
        sys.exit(1)


@main.command()
@click.argument("name", type=str)
@why_option
@store_option
@json_option
@ours
def rollback(name: str, why: str, store: str, as_json: bool) -> None:
    """Give the alias champion back to the previous champion. NAME is the registered model."""
    from nasplug.tracking import rollback

    found = rollback(_uri(store), name, why)
    if as_json:
        print_json(asdict(found))
    else:
        say(f"Version {found.version} of {name} is champion again; it was version {found.before}.")


@main.command()
@click.argument("name", type=str)
@click.option("--on", "date", help="Who was champion at this time: YYYY-MM-DD (end of the day, UTC) or YYYY-MM-DDTHH:MM.")
@store_option
@json_option
@ours
def history(name: str, date: str | None, store: str, as_json: bool) -> None:
    """Show who moved which alias of a registered model, when and why. NAME is the registered model.

    The exit status is 1 if an event was changed or is missing.
    """
    from nasplug.tracking import history_of

    moment = None if date is None else _moment(date)
    found = history_of(_uri(store), name)
    if moment is not None:
        version, event = found.at(moment)
        if as_json:
            print_json({"name": name, "on": moment.isoformat(), "champion": version, "event": event and event.model_dump()})
        else:
            by = f", by {one_line(event.who)} at {event.at}: {one_line(event.why)}" if event is not None else ""
            say(f"Champion of {name} at {moment:%Y-%m-%d %H:%M} UTC: {f'version {version}{by}' if version else 'none'}.")
    elif as_json:
        events = [event.model_dump() for event in found.events]
        print_json({"name": name, "aliases": dict(found.aliases), "events": events, "trouble": list(found.trouble)})
    else:
        _print_history(name, found)
    if found.trouble:
        say("\n".join(f"Error: {words}" for words in found.trouble), error=True)
        sys.exit(1)


def _moment(date: str) -> datetime:
    """A date as its last moment, or a time; without a zone UTC."""
    try:
        found = datetime.fromisoformat(date)
    except ValueError:
        raise ConfigError(f"--on {date}; needed: YYYY-MM-DD or YYYY-MM-DDTHH:MM") from None
    if len(date) <= len("YYYY-MM-DD"):
        found = datetime.combine(found.date(), time.max)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _print_outcome(found: Outcome) -> None:
    """Every condition, and what came of it."""
    from rich.table import Table
    from rich.text import Text

    out = console()
    if found.conditions:
        table = Table(title=f"Version {found.version} of {one_line(found.name)}")
        for heading in ("condition", "figure", "limit", ""):
            table.add_column(heading, overflow="fold")
        for one in found.conditions:
            words = (one.name, one_line(one.figure), one_line(one.limit), "passed" if one.passed else "FAILED")
            table.add_row(*map(Text, words))
        out.print(table)
    if not found.promoted:
        before = f"version {found.before}" if found.before else "none"
        told = f"Refused: {one_line(found.why)}. The champion is {before}, as before"
    elif found.before == found.version:
        told = f"Nothing to do: {found.why}"
    else:
        told = f"Version {found.version} of {one_line(found.name)} is champion now; before: {found.before or 'none'}. "
        told += one_line(found.why)
    out.print(f"{told}.", highlight=False, soft_wrap=True)


def _print_history(name: str, found: History) -> None:
    """One line per event, and how the aliases stand."""
    from rich.table import Table
    from rich.text import Text

    out = console()
    table: Any = Table(title=f"History of {one_line(name)}")
    for heading in ("", "when (UTC)", "who", "alias", "from", "to", "what", "why"):
        table.add_column(heading, overflow="fold")
    for event in found.events:
        what = event.act + (", forced" if event.forced else "")
        words = (str(event.number), event.at[:19], event.who, event.alias, event.before or "-", event.version, what, event.why)
        table.add_row(*(Text(one_line(word)) for word in words))
    out.print(table)
    aliases = (
        ", ".join(f"{alias} is version {version}" for alias, version in sorted(found.aliases.items())) or "no alias is set"
    )
    out.print(f"Now {one_line(aliases)}.", highlight=False, soft_wrap=True)
    known = [event for event in found.events if event.alias == "champion"]
    if known and known[-1].version != found.champion:
        out.print("The alias champion was moved since by something else than nasplug.", highlight=False)
