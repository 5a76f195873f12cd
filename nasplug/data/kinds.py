"""What kind of task a target makes: the one rule for that, and why it decided as it did."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nasplug.rows import word_of
from nasplug.tasks import Kind

__all__ = ["LARGEST_LABEL", "MOST_CLASSES", "ROWS_A_LABEL", "Decision", "decide"]

MOST_CLASSES = 20  # a target of whole numbers with more distinct values is a quantity
LARGEST_LABEL = 99  # a whole number beyond is a quantity: a year, a price
ROWS_A_LABEL = 5  # rows per distinct value, on average, below which whole numbers are quantities


class Decision(NamedTuple):
    """A kind, and the reason in words."""

    kind: Kind
    why: str


def decide(values: npt.NDArray[Any], *, labels: bool) -> Decision:
    """The kind of a target with these values, none of them missing.

    Words and truth values are labels. Numbers are labels where all are whole (``2.0`` is 2), none is beyond `LARGEST_LABEL`
    in size, and there are two distinct ones, or at most `MOST_CLASSES` with `ROWS_A_LABEL` rows per distinct value on
    average. Two labels are ``binary``, more are ``classes``; anything else is ``regression``. Gaps do not matter. Labels that
    differ in spaces around them alone are one (`nasplug.rows.word_of`).

    Args:
        values: of the target, numbers or anything that can be told apart.
        labels: whether they are words, categories or truth values.
    """
    rows = len(values)
    distinct = np.unique(values) if not labels else np.zeros(0)
    n = len({word for value in set(values.tolist()) if (word := word_of(value))}) if labels else len(distinct)
    kind: Kind = "binary" if n == 2 else "classes"
    if labels:
        return Decision(kind, f"{n} different labels")
    if not bool((np.isfinite(distinct) & (np.floor(distinct) == distinct)).all()):
        return Decision("regression", "numbers that are not all whole")
    if np.abs(distinct).max() > LARGEST_LABEL:
        return Decision("regression", f"whole numbers up to {np.abs(distinct).max():,.0f}, more than {LARGEST_LABEL}")
    if n > MOST_CLASSES:
        return Decision("regression", f"{n} different whole numbers, more than {MOST_CLASSES}")
    if n > 2 and rows < ROWS_A_LABEL * n:
        return Decision("regression", f"{n} different whole numbers in {rows} rows, fewer than {ROWS_A_LABEL} rows per number")
    return Decision(kind, f"{n} different whole numbers, {rows / n:.3g} rows per number")
