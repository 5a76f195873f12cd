"""The schedule that a population found: what a network trained with, and as whose copy, from its first step on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nasplug import files
from nasplug.errors import ConfigError
from nasplug.packs import PARENT, TABLE
from nasplug.plan import replica_name, row_of
from nasplug.results.stored import plan_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["schedule_of"]

HISTORY = "history_"
SCORES = ("valid_error", "edges")


def schedule_of(folder: Path, replica: str) -> pd.DataFrame:
    """One row per report of a network of a population (`nasplug.config.Population`), the first step first.

    ``step``; ``replica``, whose row it was until then: where that changes, the network is a copy; ``valid_error`` and
    ``edges`` of the soft network; and what it trained with in that step: ``penalties.0.level``, ..., ``train.lr``,
    ``temperature``, ramps and decay included.

    Raises:
        ConfigError: for a name that is not a replica of this study, or a network of no population.
    """
    import pandas as pd

    name, row = row_of(replica)
    plan = plan_of(folder, name, ())
    if row >= plan.rows:
        raise ConfigError(f"{replica!r} is not a replica of {folder}; pack {name} has {plan.rows} networks")
    if not plan.groups:
        raise ConfigError(f"{replica!r} trained in no population, and by the schedules of its study; needed: train.population")
    table = files.read_table(folder / "packs" / name / TABLE, lambda column: column.startswith(HISTORY)).to_pandas()
    parents, steps = table[HISTORY + PARENT], table[HISTORY + "step"]
    at = [row] * len(steps[row])  # whose row it is at each report
    for report in reversed(range(len(at) - 1)):
        at[report] = int(parents[at[report + 1]][report])
    there = [column.removeprefix(HISTORY) for column in table]
    numbers = sorted(column for column in there if column.startswith(("penalties.", "train.", "temperature")))
    found = {"step": [int(step) for step in steps[row]], "replica": [replica_name(name, one) for one in at]}
    for column in (*SCORES, *numbers):
        found[column] = [float(table[HISTORY + column][one][report]) for report, one in enumerate(at)]
    return pd.DataFrame(found)
