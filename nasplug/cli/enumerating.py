"""The command that trains every architecture of a space, and scores searches on it."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nasplug.cli.group import config_argument, fast_option, json_option, main, ours, overrides_argument
from nasplug.cli.printing import print_json
from nasplug.cli.studies import LONG_SECONDS, address_option, quiet_option, runner_option
from nasplug.console import console, say

if TYPE_CHECKING:
    from nasplug.plan import Cost

__all__ = ["enumerate_"]


@main.command("enumerate")
@config_argument
@overrides_argument
@click.option(
    "--score", "studies", multiple=True, type=Path, help="Folder of a search that has run on this space; several times."
)
@click.option("--most", type=click.IntRange(min=2), default=20_000, show_default=True, help="Networks that may be trained.")
@click.option("--plan", "only_plan", is_flag=True, help="Show how large the space is; train nothing.")
@runner_option
@address_option
@click.option("--accept-changes", is_flag=True, help="If data, plugins or nasplug changed: train all packs again.")
@quiet_option
@fast_option
@json_option
@ours
def enumerate_(
    config: Path,
    overrides: tuple[str, ...],
    studies: tuple[Path, ...],
    most: int,
    only_plan: bool,
    runner: str,
    address: str | None,
    accept_changes: bool,
    quiet: bool,
    fast: bool,
    as_json: bool,
) -> None:
    """Train every architecture, and score searches by them.

    CONFIG is the study of a search over activations or operations, or of networks whose widths vary. OVERRIDES are path=value.
    What is trained already is not trained again: the table is <store>/<study>-all/architectures.csv.
    """
    from nasplug import spaces
    from nasplug.progress import Watcher
    from nasplug.report.compared import table_of
    from nasplug.study import Study

    def before(cost: Cost) -> None:
        if cost.seconds[1] >= LONG_SECONDS and not quiet and address is None:
            say(str(cost), error=True)

    study = Study.from_yaml(config, overrides, fast=fast)
    searches = [Study.open(folder) for folder in studies]
    space = spaces.space_of(study.config, study.plugins, most)
    if only_plan:
        if as_json:
            print_json({"folder": str(space.folder), "architectures": space.architectures, "networks": space.networks})
        for line in () if as_json else spaces.space_words(space):
            say(line)
        return
    if not quiet:
        for line in spaces.space_words(space):
            say(line, error=True)
    with nullcontext() if quiet else Watcher() as watcher:
        options = {"runner": runner, "address": address, "accept_changes": accept_changes, "report": False}
        table = spaces.enumerated(
            space, study.plugins, before=before, fast=fast, observers=[watcher] if watcher else [], **options
        )
    found = [spaces.found_by(search, table) for search in searches]
    scores = [*(spaces.scored(table, one) for one in found), *spaces.baselines(table)]
    spaces.write_scores(table, found, scores)
    if as_json:
        print_json(spaces.plain(table, scores))
        return
    there = console()
    there.print(table_of(spaces.best_grid(table)))
    there.print(table_of(spaces.scores_grid(table, scores)))
    for one in scores:
        chose = ", ".join(f"{text} ({times})" if times > 1 else text for text, times in one.architectures.items())
        for line in ([f"{one.name} chose {chose}."] if chose else []) + [f"{one.name}: {words}." for words in one.words]:
            there.print(line, highlight=False, soft_wrap=True)
    there.print(
        f"Table: {space.folder / spaces.TABLE}; picture: {space.folder / spaces.PICTURE}", highlight=False, soft_wrap=True
    )
