"""The commands around studies: plugins, ui."""

from __future__ import annotations

from pathlib import Path

import click

from nasplug.cli.group import json_option, main, ours, place
from nasplug.cli.printing import print_json
from nasplug.console import say

__all__ = ["plugins", "ui"]


@main.command()
@click.argument("words", nargs=-1)
@json_option
@ours
def plugins(words: tuple[str, ...], as_json: bool) -> None:
    """List every name that plugins offer, with its options. Observers and broken plugins stand below.

    WORDS are kinds, names or plugins: `nasplug plugins method`, `nasplug plugins l1 threshold`.
    """
    from nasplug.plugins import listing
    from nasplug.summary import named, print_plugins

    found = listing() if not words else named(listing(), words)
    if as_json:
        print_json(found)
    else:
        print_plugins(found)


@main.command()
@click.argument("folder", type=place, default=Path("runs"))
@click.option("--port", default=5000, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--open", "browse", is_flag=True, help="Also open a browser on it.")
@ours
def ui(folder: Path, port: int, host: str, browse: bool) -> None:
    """Serve MLflow's page of runs and models until you stop it.

    FOLDER is a store, or the folder of a study, whose run is shown then (default: runs). Nothing that it starts outlives it.
    """
    import webbrowser

    from nasplug.tracking import page_of, serve, store_of

    uri = store_of(folder)
    if uri.startswith(("http://", "https://")):
        say(f"This study was tracked on a server; its page is {uri}")
        return
    page, study = page_of(folder.parent / folder.name / "no study", host, port), page_of(folder, host, port)
    say(f"MLflow on {uri}: {page} (stop with Ctrl-C)")
    if study != page:
        say(f"The study's run: {study}")
    raise SystemExit(serve(uri, host, port, (lambda: webbrowser.open(study)) if browse else (lambda: None)))
