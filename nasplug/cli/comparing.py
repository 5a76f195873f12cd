"""The command that sets studies side by side."""

from __future__ import annotations

from pathlib import Path

import click

from nasplug.cli.group import json_option, main, ours, place
from nasplug.cli.printing import print_json
from nasplug.console import console, say
from nasplug.errors import ConfigError

__all__ = ["compare"]


@main.command()
@click.argument("folders", nargs=-1, required=True, type=place)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Also write an HTML page: FILE.html.")
@json_option
@ours
def compare(folders: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Compare the fronts of two or more studies. Also the best network of each within so many parameters, and what differs.

    FOLDERS are those of two or more studies with the same targets. A warning says if they were tested on different rows.
    """
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--out {out}; needed: a name that ends in .html, as a page is written")
    if out is not None and not out.resolve().parent.is_dir():
        raise ConfigError(f"--out {out}: the folder {out.resolve().parent} is not there; make it first")
    from nasplug.report import compared, comparing
    from nasplug.study import Study

    found = comparing.compare([Study.open(folder).snapshot() for folder in folders])
    if out is not None:
        compared.write_comparison(found, out)
    if as_json:
        print_json(found.plain())
        return
    there = console()
    there.print(compared.table_of(comparing.study_grid(found)))
    there.print(compared.shown_fronts(found, there.width), highlight=False)
    there.print(compared.table_of(comparing.budget_grid(found)))
    differences = comparing.difference_grid(found)
    if differences is None:
        say("Their configs are the same but for their names.")
    else:
        there.print(compared.table_of(differences))
    for sentence in found.words:
        there.print(sentence, highlight=False, soft_wrap=True)
    if out is not None:
        there.print(f"Page: {out}", highlight=False, soft_wrap=True)
