"""The commands of studies: run, extend, plan, front, config."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nasplug.cli.group import (
    config_argument,
    fast_option,
    json_option,
    limits_of,
    limits_option,
    main,
    ours,
    overrides_argument,
    place,
)
from nasplug.cli.jobs import send
from nasplug.cli.printing import print_json, rows_of
from nasplug.console import say
from nasplug.errors import ConfigError

if TYPE_CHECKING:
    from nasplug.plan import Cost

__all__ = ["carry_out", "config", "extend", "front", "plan", "run"]

LONG_SECONDS = 60.0  # a study that may take longer says so before it starts

runner_option = click.option(
    "--runner", type=click.Choice(["ray", "serial"]), default="ray", show_default=True, help="Where packs are run."
)
address_option = click.option(
    "--address",
    help="Address of a Ray cluster: auto or host:port; of its job server (run): http://host:8265. Default: start Ray here.",
)
quiet_option = click.option("--quiet", is_flag=True, help="Show no progress.")


@main.command()
@config_argument
@overrides_argument
@runner_option
@address_option
@click.option("--accept-changes", is_flag=True, help="If data, plugins or nasplug changed: train all packs again.")
@quiet_option
@fast_option
@json_option
@ours
def run(
    config: Path,
    overrides: tuple[str, ...],
    runner: str,
    address: str | None,
    accept_changes: bool,
    quiet: bool,
    fast: bool,
    as_json: bool,
) -> None:
    """Run a study, or resume one that was interrupted.

    OVERRIDES are path=value, for example: train.steps=500 penalties.0.level=0.01
    """
    from nasplug.runner import at_jobs
    from nasplug.study import Study

    study = Study.from_yaml(config, overrides, fast=fast)
    if address is not None and at_jobs(address):
        send(study, address, runner=runner, quiet=quiet, as_json=as_json, accept_changes=accept_changes)
        return
    carry_out(study, quiet=quiet, as_json=as_json, runner=runner, address=address, accept_changes=accept_changes)


@main.command()
@click.argument("folder", type=str)
@overrides_argument
@click.option("--config", type=Path, help="YAML file of the larger study. Default: the folder's own, with OVERRIDES.")
@runner_option
@address_option
@quiet_option
@fast_option
@json_option
@ours
def extend(
    folder: str,
    overrides: tuple[str, ...],
    config: Path | None,
    runner: str,
    address: str | None,
    quiet: bool,
    fast: bool,
    as_json: bool,
) -> None:
    """Add seeds, values or trials to a study that has run. Only what is new is trained.

    FOLDER is <store>/<study>. OVERRIDES are path=value, for example: seeds=10 penalties.0.level.points=31
    """
    from nasplug.folder import additions
    from nasplug.study import Study

    study = Study.open(folder, () if config else overrides)
    if config is not None:
        there = {"store": study.config.store, "study": study.config.study}
        study = Study(Study.from_yaml(config, overrides).config.model_copy(update=there))
    study.fast = fast
    told = additions(study.config, study.plugins)
    if not quiet:
        say(f"Adds to {study.folder}: {'; '.join(told) or 'nothing; what was stopped is finished'}.", error=True)
    carry_out(study, quiet=quiet, as_json=as_json, runner=runner, address=address, extend=True)


def carry_out(study: Any, *, quiet: bool, as_json: bool, **options: Any) -> None:
    """Run a study with its progress, and print what came out."""
    from nasplug.progress import Watcher
    from nasplug.study.clock import spent
    from nasplug.summary import print_summary

    used = spent(study.folder)
    budget, seconds = study.config.budget_words, study.config.budget_seconds - used
    if used >= 1.0:
        budget += f" ({used:.0f} s of it spent)"

    def before(cost: Cost) -> None:
        if cost.seconds[1] >= LONG_SECONDS:
            say(str(cost), error=True)
        if words := cost.against(budget, seconds):
            say(words, error=True)

    with nullcontext() if quiet else Watcher() as watcher:
        observers = [] if watcher is None else [watcher]
        study.run(observers=observers, before=None if quiet or options["address"] else before, **options)
    if as_json:
        print_json(_results(study))
    else:
        print_summary(study)


@main.command()
@config_argument
@overrides_argument
@fast_option
@click.option(
    "--measure", is_flag=True, help="First time some steps of packs of several sizes, and keep which size is fastest here."
)
@json_option
@ours
def plan(config: Path, overrides: tuple[str, ...], fast: bool, measure: bool, as_json: bool) -> None:
    """Show what a study would do: what varies, its packs, its size. Nothing is run."""
    from nasplug.plan import cost_of, inside, most_halves, sizings
    from nasplug.plan import measure as timed
    from nasplug.study import Study
    from nasplug.summary import about, print_plan

    study = Study.from_yaml(config, overrides, fast=fast)
    packs = study.plan()
    if measure:
        timed(study.config, packs, study.plugins)
        packs = study.plan()
    sizes = study.generations.sizes
    if as_json:
        later = sum(p.rows for p in packs if not p.linear) * (sum(sizes) - sizes[0]) // max(sizes[0], 1)
        cost = cost_of(study.config, packs, study.plugins, later=later)
        print_json(
            {
                "study": study.config.study,
                "folder": str(study.folder),
                "axes": [
                    {"path": a.path, "place": "row" if inside(a, packs) else "pack", **a.sweep.model_dump(exclude_none=True)}
                    for a in study.axes
                ],
                "seeds": len(study.config.seed_list),
                "configurations_a_generation": sizes,
                "packs": [{"id": p.id, "networks": p.rows, "values": p.values} for p in packs],
                "pack_sizes": sizings(study.config, packs, study.plugins),
                "data": about(study.task),
                "cost": None if cost is None else cost.plain(),
                "budget": "" if cost is None else cost.against(study.config.budget_words, study.config.budget_seconds),
                "networks_on_half_samples": 0 if study.config.counted is None else most_halves(study.config.counted),
            }
        )
    else:
        print_plan(study, packs)


@main.command()
@click.argument("folder", type=place)
@limits_option
@click.option(
    "--stable", type=float, help="Only networks all of whose inputs were kept in at least this share of the half samples."
)
@click.option("--measure", "names", multiple=True, help="Add a column: latency_us or flash_bytes, measured here.")
@json_option
@ours
def front(folder: Path, limits: tuple[str, ...], stable: float | None, names: tuple[str, ...], as_json: bool) -> None:
    """Show the Pareto front of a study that has run. FOLDER is <store>/<study>.

    With --limit (it may be given several times): the network with the smallest validation error within all limits.
    """
    from nasplug.study import Study
    from nasplug.summary import print_some, print_summary, print_within
    from nasplug.tracking import end_killed

    study = Study.open(folder)
    end_killed(study.folder)
    if limits and names:
        raise ConfigError("--limit chooses one network, and --measure shows the front; take one of them")
    if limits:
        row = study.within(stable, **limits_of(limits))
        if as_json:
            print_json(rows_of(row.to_frame().T)[0])
        else:
            print_within(study, row)
    elif stable is not None or names:
        found = study.measured(*names, stable=stable)
        if as_json:
            print_json({"folder": str(study.folder), "stable": stable, "front": rows_of(found)})
        else:
            print_some(study, found, stable)
    elif as_json:
        print_json(_results(study))
    else:
        print_summary(study)


@main.group()
def config() -> None:
    """Print, check or describe studies without running them."""


@config.command()
@config_argument
@overrides_argument
@json_option
@ours
def show(config: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print a study as nasplug reads it, with defaults and overrides."""
    from nasplug.config import read_yaml, to_yaml

    plain = read_yaml(config, overrides).plain()
    if as_json:
        print_json(plain)
    else:
        say(to_yaml(plain), end="")


@config.command()
@config_argument
@overrides_argument
@json_option
@ours
def validate(config: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check a study as `run` would: plugins, data, store. The status is 2 if it is refused.

    Only CPUs and GPUs are not looked at: they are those of the machine that runs it.
    """
    from nasplug.study import Study

    study = Study.from_yaml(config, overrides)
    packs = study.check()
    networks = sum(p.rows for p in packs)
    later = len(study.generations.sizes) - 1
    if as_json:
        print_json({"config": str(config), "networks": networks, "packs": len(packs)})
    else:
        words = f" in the first of {later + 1} generations" if later else ""
        say(f"{config}: good; {networks} networks in {len(packs)} packs{words}.")


@config.command()
@ours
def schema() -> None:
    """Print the JSON Schema of a study, with the options of every installed plugin, for editors."""
    from nasplug.config import json_schema
    from nasplug.plugins import load_plugins

    print_json(json_schema(load_plugins().models))


def _results(study: Any) -> dict[str, Any]:
    """The results of a study, for `--json`."""
    from nasplug import results, stability
    from nasplug.files import DamageError, read_json
    from nasplug.plan import task_places
    from nasplug.report import LINEAR
    from nasplug.summary import registered
    from nasplug.tracking import untold

    best = study.best()
    found = {"folder": str(study.folder), "best": rows_of(best.to_frame().T)[0], "front": rows_of(study.front("all"))}
    if ending := results.ending_of(study.folder):
        found["ending"] = ending.plain()
    found["trivial"] = dict(study.facts_of(str(best["replica"])).trivial)
    with suppress(DamageError):  # the front does not need it, and another run writes it anew
        found["linear"] = read_json(study.folder / LINEAR)
    with suppress(DamageError):
        found |= {"stability": words} if (words := stability.words(study.folder)) else {}
    if missing := untold(study.folder):
        found["untold"] = missing
    elif (told := registered(study)) is not None:
        found["registered"] = told
    if study.config.monotone:
        found["monotone"] = study.config.monotone
    return found | ({"choices": rows_of(study.choices())} if task_places(study.axes) else {})
