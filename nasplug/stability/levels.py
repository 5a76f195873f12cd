"""Which configurations are counted: those of the front, and the chosen one's at other levels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nasplug.folds import spread
from nasplug.plan import Axis

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["path_of", "wanted"]

LEVEL = re.compile(r"penalties\.\d+\.level")
LINES = ("linear.level", "linear.debiased")
METHOD = "method.use"


def path_of(frame: pd.DataFrame, chosen: pd.Series[Any], axes: Sequence[Axis]) -> tuple[str, list[int]]:
    """The column of a level that varies, and the configurations that differ from the chosen one in it alone, by level.

    With several levels that vary, the first. An empty name where none does, and the chosen configuration alone.
    """
    alone = "", [int(chosen["configuration"])]
    line = METHOD in frame and chosen[METHOD] == "linear"
    own = frame[frame[METHOD] == chosen[METHOD]] if METHOD in frame else frame
    places = [axis.path for axis in axes if axis.path in frame]
    if line:
        places = [*(path for path in places if path.startswith(("task.", "loss."))), *LINES]
    for level in [path for path in places if LEVEL.fullmatch(path) or path == LINES[0]]:
        rows = own
        for path in places:
            if path != level:
                rows = rows[rows[path] == chosen[path]]
        by_level = rows[[level, "configuration"]].drop_duplicates("configuration").sort_values(level, kind="stable")
        if len(by_level) > 1:
            return level, [int(number) for number in by_level["configuration"]]
    return alone


def wanted(front: pd.DataFrame, frame: pd.DataFrame, chosen: pd.Series[Any], axes: Sequence[Axis], most: int) -> list[int]:
    """Configurations to count: ``most`` of the front and of the chosen one's path, evenly over each; the chosen one always."""
    _, along = path_of(frame, chosen, axes)
    found = {int(chosen["configuration"])}
    for one in (list(dict.fromkeys(int(number) for number in front["configuration"])), along):
        found |= set(_thinned(one, int(chosen["configuration"]), most))
    return sorted(found)


def _thinned(numbers: list[int], chosen: int, most: int) -> list[int]:
    """At most ``most``, evenly; in place of the nearest one the chosen one, where it is among them."""
    if most == 1 or chosen not in numbers:
        return [chosen] if most == 1 else spread(numbers, most)
    places = spread(list(range(len(numbers))), most)
    if (at := numbers.index(chosen)) not in places:
        inner = places[1:-1] or places[-1:]
        places[places.index(min(inner, key=lambda place: abs(place - at)))] = at
    return [numbers[place] for place in places]
