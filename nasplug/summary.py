"""What the command line prints: the plan before a study, the front and the chosen network after it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from nasplug.errors import ConfigError
from nasplug.plan import inside, task_places
from nasplug.plugins import KINDS, Plugins

if TYPE_CHECKING:
    import pandas as pd

    from nasplug.plan import Pack
    from nasplug.study import Study

__all__ = ["print_plan", "print_plugins", "print_summary", "print_within", "store_of"]

WITHIN = "inside a pack (new rows)"


def _console() -> Console:
    """A terminal's own width; a file or a pipe has none, and tables need room."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def print_plugins(plugins: Plugins) -> None:
    """Every name by kind, with its owner."""
    table = Table(title="Installed names")
    for heading in ("kind", "name", "what it is", "plugin"):
        table.add_column(heading)
    for kind in KINDS:
        for offer in plugins.offers(kind).values():
            table.add_row(kind, offer.name, offer.summary, f"{offer.owner} {offer.version}")
    _console().print(table)


def print_plan(study: Study, packs: Sequence[Pack]) -> None:
    """Axes, packs and size."""
    console = _console()
    sizes = study.generations.sizes
    networks = sum(pack.rows for pack in packs)
    axes = Table(title=f"Study {study.config.study!r}: what varies")
    for heading in ("place", "values", "number of values", "varies"):
        axes.add_column(heading)
    for axis in study.axes:
        written = axis.sweep.model_dump(exclude_none=True)
        values = axis.sweep.choice or axis.sweep.grid
        points = len(values) if values is not None else axis.sweep.points
        where = WITHIN if inside(axis, packs) else "between packs (new packs)"
        axes.add_row(axis.path, json.dumps(written), "drawn" if points is None else str(points), where)
    seeds = study.config.seed_list
    in_order = seeds == list(range(seeds[0], seeds[0] + len(seeds)))
    axes.add_row("seeds", f"{seeds[0]} .. {seeds[-1]}" if in_order else str(seeds), str(len(seeds)), WITHIN)
    console.print(axes)
    table = Table(title=f"{networks} networks in {len(packs)} packs" + (" (first generation)" if len(sizes) > 1 else ""))
    for heading in ("pack", "networks", "shared by its rows"):
        table.add_column(heading)
    for pack in packs[:40]:
        table.add_row(pack.id, str(pack.rows), ", ".join(f"{k}={v}" for k, v in pack.values.items()) or "-")
    if len(packs) > 40:
        table.add_row("...", "", f"{len(packs) - 40} more")
    console.print(table)
    if len(sizes) > 1:
        console.print(f"{len(sizes)} generations of {sizes[0]} configurations; later ones depend on what the earlier earn.")
    console.print(f"Results will be in {study.folder}. To run it: the same command with 'run' instead of 'plan'.")


def print_summary(study: Study) -> None:
    """The front, the chosen network, where everything is."""
    from nasplug.report import choices_table, front_picture, front_table, network_picture

    console = _console()
    frame = study.frame
    best = study.best()
    console.print(front_table(study))
    if task_places(study.axes):
        console.print(choices_table(study))
    console.print(front_picture(frame, str(best["replica"])), highlight=False, markup=False)
    console.print(network_picture(study.network(str(best["replica"]))), highlight=False, markup=False)
    counts = frame["status"].value_counts().to_dict()
    console.print(f"{len(frame)} networks: " + ", ".join(f"{n} {status}" for status, n in counts.items()))
    baseline = study.folder / "baseline.json"
    if baseline.exists():
        console.print(json.loads(baseline.read_text())["sentence"], highlight=False)
    console.print(f"Report: {study.folder / 'report.html'}", highlight=False, soft_wrap=True)
    tracked = study.folder / "mlflow.json"
    if tracked.exists():
        where = json.loads(tracked.read_text())
        if where.get("model"):
            console.print(
                f"Registered model: {where['model']} version {where['version']}, alias {where['alias']} "
                f"(models:/{where['model']}@{where['alias']})",
                highlight=False,
                soft_wrap=True,
            )
        console.print(f"Open MLflow's page: nasplug ui {study.folder}", highlight=False, soft_wrap=True)


def print_within(study: Study, row: pd.Series[Any]) -> None:
    """One network: what it is, how good, and how to get it."""
    from nasplug import results
    from nasplug.report import network_picture

    console = _console()
    network = study.network(str(row["replica"]))
    console.print(network_picture(network), highlight=False, markup=False)
    console.print(
        f"{row['replica']}: validation error {row['valid_error']:.4g}, test error {row['test_error']:.4g}, "
        f"{row['edges']:.0f} edges, {row['parameters']:.0f} parameters, {results.latency(network):.1f} us a sample here. "
        f"In Python: Study.open({str(study.folder)!r}).network({row['replica']!r})",
        highlight=False,
        soft_wrap=True,
    )


def store_of(folder: Path) -> str:
    """The tracking URI of a store or of a study's folder.

    Raises:
        ConfigError: where nothing has been tracked.
    """
    tracked = folder / "mlflow.json"
    if tracked.exists():
        return str(json.loads(tracked.read_text())["uri"])
    for store in (folder, folder.parent) if folder.is_dir() else ():
        if (store / "mlflow.db").exists():
            return f"sqlite:///{(store / 'mlflow.db').resolve()}"
    raise ConfigError(f"{folder}: no MLflow store here; give a store (the folder with mlflow.db) or a study's folder")
