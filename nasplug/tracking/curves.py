"""The curves of a study, from the packs that its folder has."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from nasplug import files, results
from nasplug.packs import TABLE

__all__ = ["Done", "done_of", "done_packs", "points"]


@dataclass(frozen=True, slots=True, order=True)
class Done:
    """A pack that is done.

    Attributes:
        at: when, milliseconds since 1970.
        pack: its name.
        networks: that it has.
        best: the smallest validation error of those that finished; infinite where there is none, or it is not known.
        seconds: that it took.
    """

    at: int
    pack: str
    networks: int
    best: float
    seconds: float


def done_packs(folder: Path) -> list[str]:
    """The packs of a study that are done."""
    return sorted(file.parent.name for file in (folder / "packs").glob(f"*/{TABLE}"))


def done_of(folder: Path, pack: str) -> Done:
    """What a finished pack adds to the curves.

    Raises:
        ConfigError: for one whose files are damaged.
    """
    record = results.pack_record(folder, pack)
    table = files.read_table(folder / "packs" / pack / TABLE, ["status", "valid_error"]).to_pandas()
    best = math.inf
    if "valid_error" in table:  # refitted networks are scored on what they were trained on
        best = min(table.loc[table["status"] == "finished", "valid_error"], default=math.inf)
    at = int(1000 * datetime.fromisoformat(record["finished"]).timestamp())
    return Done(at, pack, len(table), float(best), results.pack_seconds(record))


def points(done: Iterable[Done], after: int) -> list[Any]:
    """Packs and networks done, and the best validation error, after each pack but the first ``after``; in order of time."""
    from mlflow.entities import Metric

    found: list[Any] = []
    networks, best = 0, math.inf
    for step, one in enumerate(sorted(done), start=1):
        networks, best = networks + one.networks, min(best, one.best)
        if step > after:
            values = {"packs_done": step, "networks_done": networks, "best_valid_error": best}
            found += [Metric(key, float(value), one.at, step) for key, value in values.items() if math.isfinite(value)]
    return found
