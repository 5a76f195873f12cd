"""What the columns of a table are taken for, and what in them a person should know before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasplug.data.encoder import ColumnKind, kind_of, numbers_of
from nasplug.data.fitting import all_rare, numbers_rows
from nasplug.data.kinds import Decision, decide
from nasplug.data.problems import flow
from nasplug.rows import words_of
from nasplug.tasks import Kind

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CONSTANT", "ColumnFacts", "decision_of", "survey", "warnings_of"]

CONSTANT = "constant"
MOST_WORDS = 3  # words of a category that are shown
RARE_SHARE = 0.1  # of the rows: a smaller class is said to be rare
SAME = 0.9999  # a correlation with the target that no measurement has by itself


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """What a column was taken for.

    Attributes:
        name: of the column.
        kind: ``number``, ``boolean``, ``date``, ``category``, or empty where nothing can be learned from it.
        distinct: how many different values.
        gaps: rows without a value.
        low, high: the ends of a number's range (of a date's, as text); None for words.
        words: the most frequent words, with their rows.
        left_out: why it should be left out; empty otherwise.
    """

    name: str
    kind: str
    distinct: int
    gaps: int
    low: float | str | None = None
    high: float | str | None = None
    words: tuple[tuple[str, int], ...] = ()
    left_out: str = ""

    def plain(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"words": [list(pair) for pair in self.words]}


def survey(frame: pd.DataFrame) -> list[ColumnFacts]:
    """The facts of each column."""
    return [_facts(str(name), frame.iloc[:, place]) for place, name in enumerate(frame.columns)]


def _facts(name: str, column: pd.Series[Any]) -> ColumnFacts:
    kind = kind_of(column)
    gaps = int(column.isna().sum())
    if kind is None:
        return ColumnFacts(name, "", 0, gaps, left_out=f"holds {column.dtype} values")
    if kind == "category":
        words, codes = words_of(column)
        counts = np.bincount(codes[codes >= 0], minlength=len(words)).astype(np.int64)
        order = np.argsort(-counts, kind="stable")[:MOST_WORDS]
        top = tuple((words[int(i)], int(counts[i])) for i in order)
        out = "names, identifiers or prose: no word is frequent" if all_rare(counts, len(column)) else ""
        return ColumnFacts(name, kind, len(words), gaps, words=top, left_out=out or _constant(len(words), gaps))
    values = _values(column, kind)
    values = np.unique(values[~np.isnan(values)])
    ends: tuple[float | str | None, float | str | None] = (float(values[0]), float(values[-1])) if len(values) else (None, None)
    if kind == "date" and len(values):
        ends = str(np.datetime64(int(values[0]), "s")), str(np.datetime64(int(values[-1]), "s"))
    out = "numbers the rows, by its name and its values" if numbers_rows(name, column) else _constant(len(values), gaps)
    return ColumnFacts(name, kind, len(values), gaps, *ends, left_out=out)


def _values(column: pd.Series[Any], kind: ColumnKind) -> npt.NDArray[np.float64]:
    """A column's numbers, NaN in gaps; what pandas holds as numbers is taken as it is, as there may be thousands of columns."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "buif":
        return column.to_numpy(dtype=np.float64)
    found: npt.NDArray[np.float64] = numbers_of(column.to_frame(), [kind], str(column.name))[:, 0]
    return found


def _constant(distinct: int, gaps: int) -> str:
    if not distinct:
        return "empty"
    return CONSTANT if distinct == 1 and not gaps else ""


def decision_of(target: pd.Series[Any]) -> Decision:
    """The kind of task that a target makes (`nasplug.data.kinds.decide`)."""
    kind = kind_of(target)
    there = target[target.notna()]
    if kind == "number":
        return decide(numbers_of(there.to_frame(), ["number"], str(target.name))[:, 0], labels=False)
    return decide(there.to_numpy(dtype=object), labels=True)


def warnings_of(frame: pd.DataFrame, target: str, kind: Kind, features: Sequence[str]) -> list[str]:
    """What a person should know of a target and of features that tell it."""
    there = frame[target].notna().to_numpy()
    told = []
    if kind == "regression":
        y = numbers_of(frame[[target]], ["number"], target)[:, 0][there]
        same = [name for name in features if _follows(frame[name][there], y)]
    else:
        words, codes = words_of(frame[target][there])
        counts = np.bincount(codes, minlength=len(words))
        told += _balance(words, counts)
        same = [name for name in features if _tells(frame[name][there], codes, len(words))]
    return told + [
        f"{name!r} alone tells the target {target!r}: it may be the target in other words. Leave it out, if it is not known "
        f"before the target is: exclude: {flow([name])}"
        for name in same
    ]


def _balance(words: Sequence[str], counts: npt.NDArray[np.int64]) -> list[str]:
    rows, least = int(counts.sum()), int(counts.argmin())
    told = []
    if counts[least] < RARE_SHARE * rows:
        told.append(
            f"class {words[least]!r} has {counts[least]:,} of {rows:,} rows: a network that never says so is wrong in "
            f"{counts[least] / rows:.2%} of them. Compare errors with that"
        )
    if counts[least] < 10:
        told.append(f"class {words[least]!r} has {counts[least]} rows, too few to be learned and tested well")
    return told


def _follows(column: pd.Series[Any], y: npt.NDArray[np.float64]) -> bool:
    """Whether a number is the target in another unit."""
    kind = kind_of(column)
    if kind not in ("number", "date"):
        return False
    x = _values(column, kind)
    both = ~np.isnan(x) & np.isfinite(x) & np.isfinite(y)
    if both.sum() < 10:
        return False
    x, y = x[both] - x[both].mean(), y[both] - y[both].mean()
    size = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return size > 0.0 and abs(float((x * y).sum())) > SAME * size


def _tells(column: pd.Series[Any], codes: npt.NDArray[np.int64], classes: int) -> bool:
    """Whether each of a few values of a column comes with one class only."""
    _, values = np.unique(column.astype(str).to_numpy(dtype=str), return_inverse=True)
    distinct = int(values.max()) + 1
    if distinct > max(2 * classes, 10) or len(codes) < 5 * distinct or distinct < 2:
        return False
    return len(np.unique(values * classes + codes)) == distinct
