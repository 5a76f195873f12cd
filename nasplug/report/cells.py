"""What a notebook shows of a study: the columns of its front that a person reads, and a summary as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nasplug import notebook, results
from nasplug.errors import NasplugError
from nasplug.folds import LEAST, STABLE
from nasplug.plan import Axis, axes
from nasplug.report.finished import Finished

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["html", "narrow"]

SIZES = ("parameters", "edges", "neurons", "inputs")
PARTS = ("valid_", "test_")
MOST_ROWS = 30


def narrow(front: pd.DataFrame, found: Sequence[Axis]) -> pd.DataFrame:
    """The columns ``replica``, sizes, scores on the validation and test samples, what varies, how stable, the seed.

    Scores at other stages, columns that only a method has, and columns without any value are left out.
    """
    scores = [name for part in PARTS for name in front.columns if name.startswith(part)]
    swept = [axis.path for axis in found]
    wanted = ["replica", *SIZES, *scores, *swept, "linear.level", LEAST, STABLE, "seed"]
    kept = [name for name in dict.fromkeys(wanted) if name in front.columns and (front.empty or front[name].notna().any())]
    return front[kept]


def html(study: Finished) -> str:
    """Name, data, chosen network and front of a study; before it has run, its name and what varies."""
    config = study.config
    rows: dict[str, object] = {"folder": study.folder, "task": config.task.use, "method": config.method.use}
    rows["varies"] = ", ".join(axis.path for axis in study.axes) or "nothing"
    try:
        frame = study.frame
        chosen = str(results.choose(frame, study.facts_of, config.choose)["replica"])
        front = narrow(results.standing(frame, study.facts_of, config.choose), axes(config))
    except NasplugError:
        return notebook.facts(f"Study {config.study}", rows | {"results": "none yet"})
    rows |= {"networks": len(frame), "chosen": chosen}
    shown = front.head(MOST_ROWS)
    cells = shown.astype(object).where(shown.notna(), "").to_numpy().tolist()
    marked = shown["replica"].tolist().index(chosen) if chosen in shown["replica"].tolist() else -1
    more = f"<p>{len(front) - MOST_ROWS} more rows</p>" if len(front) > MOST_ROWS else ""
    return notebook.facts(f"Study {config.study}", rows) + notebook.table(list(shown.columns), cells, marked) + more
