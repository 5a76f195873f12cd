"""X and y as scikit-learn has them to a task of which every row is for development: who calls `fit` tests elsewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasplug.data.columns import from_frames
from nasplug.data.fitting import Numeric
from nasplug.errors import ConfigError
from nasplug.tasks import Kind, Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Fitted", "advice", "frame_of", "refuse_gaps", "task_of", "words_for"]

FEW = 10  # rows: with fewer nothing is held out
SHARE = 5  # a hold-out is one row of so many
PART = "part"  # the column of what each row is for


@dataclass(frozen=True, slots=True)
class Fitted:
    """What `fit` was given, checked.

    Attributes:
        x: columns, one name each.
        y: numbers ``(N, O)``, or places of classes ``(N,)``.
        classes: their names; none for numbers.
        targets: names of the outputs; of classes one.
        weights: of the rows, all > 0, ``(N,)``; None: all alike.
    """

    x: pd.DataFrame
    y: npt.NDArray[Any]
    classes: tuple[str, ...]
    targets: tuple[str, ...]
    weights: npt.NDArray[np.float64] | None

    @property
    def kind(self) -> Kind:
        """Of the task."""
        if not self.classes:
            return "regression"
        return "binary" if len(self.classes) == 2 else "classes"


def frame_of(values: npt.NDArray[Any], names: Sequence[str]) -> pd.DataFrame:
    """Columns of an array; of one that holds objects each column is what its values are."""
    import pandas as pd

    frame = pd.DataFrame(values).set_axis(list(names), axis=1)
    return frame.infer_objects() if values.dtype == object else frame


def refuse_gaps(y: Any) -> None:
    """Refuse labels of which some are missing, which neither compare with words nor are numbers.

    Raises:
        ConfigError: with the first row.
    """
    import pandas as pd

    values = y if hasattr(y, "dtype") or isinstance(y, pd.DataFrame) else np.asarray(y, dtype=object)
    if getattr(values, "dtype", None) == np.float64:
        return  # scikit-learn has words for it
    gaps = np.atleast_1d(np.asarray(pd.isna(values)))
    if gaps.any():
        rows = np.flatnonzero(gaps.reshape(len(gaps), -1).any(1))
        raise ConfigError(f"y has no label in {len(rows)} row(s), the first is row {rows[0] + 1}; leave those rows out")


def advice(text: str) -> str:
    """What is said of a study's options, for who has a data frame instead of a study."""
    return re.sub(r"leave it out with exclude: (\[[^\]]*\])", r"leave it out of X: \1", text)


def words_for(classes: npt.NDArray[Any]) -> tuple[str, ...]:
    """Distinct names of classes: their text, and their place where that is empty or not their own."""
    texts = [str(one).strip() for one in classes.tolist()]
    return tuple(text if text and texts.count(text) == 1 else f"{text} (class {i})" for i, text in enumerate(texts))


def task_of(given: Fitted, *, name: str, numeric: Numeric, folds: int, seed: int) -> Task:
    """The task, validated by ``folds``, or by a hold-out of a fifth where that is 1 (`parts_of`).

    A task needs samples to test, and there are none: a copy of the first row stands there, whose scores nobody shows.
    Where too few rows are left to hold some out, each validates too.

    Raises:
        ConfigError: for values that cannot be learned from.
    """
    import pandas as pd

    parts = parts_of(given, folds, np.random.default_rng([seed, 11]))
    rows = np.arange(len(given.x))
    if parts is None:
        parts = np.repeat(["train", "valid"], len(rows)).astype(object)
        rows = np.tile(rows, 2)
    rows, parts = np.append(rows, 0), np.append(parts, "test")
    if given.classes:
        labels = pd.Categorical.from_codes(given.y[rows].astype(np.int64), pd.Index(given.classes))
        y = pd.DataFrame({given.targets[0]: labels})
    else:
        y = pd.DataFrame(given.y[rows], columns=pd.Index(given.targets))
    return from_frames(
        given.x.iloc[rows].reset_index(drop=True),
        y,
        name=name,
        where=name,
        source=f"{len(given.x)} rows in memory",
        kind=given.kind,
        missing="indicator",
        numeric=numeric,
        validation={"use": "column", "by": PART},
        empty="drop",
        by=pd.Series(parts, name=PART),
        weights=None if given.weights is None else pd.Series(given.weights[rows], name="sample_weight"),
        seed=seed,
    )


def parts_of(given: Fitted, folds: int, draw: np.random.Generator) -> npt.NDArray[np.object_] | None:
    """What each row is for: the number of its fold, or train and valid; None where each is for both.

    Rows are shuffled and dealt out, those of each class by themselves. What holds no two different targets, or no row of
    a class, trains nothing: then folds become a hold-out, and a hold-out becomes None.
    """
    rows = len(given.y)
    codes = given.y.astype(np.int64) if given.classes else np.zeros(rows, dtype=np.int64)
    if rows < FEW or (given.classes and int(np.bincount(codes).min()) < 2):
        return None
    shuffled = draw.permutation(rows)
    dealt = shuffled[np.argsort(codes[shuffled], kind="stable")]
    place = np.empty(rows, dtype=np.int64)
    place[dealt] = np.arange(rows)
    if folds > 1:
        number = place % folds
        if all(_learns(given, number != fold) for fold in range(folds)):
            return np.asarray([str(one) for one in number], dtype=object)
    valid = place % SHARE == SHARE - 1
    return np.where(valid, "valid", "train").astype(object) if _learns(given, ~valid) else None


def _learns(given: Fitted, train: npt.NDArray[np.bool_]) -> bool:
    """Whether rows to train on have every class, or two different targets."""
    y = given.y[train]
    if given.classes:
        return len(np.unique(y)) == len(given.classes)
    return bool((y != y[:1]).any(0).all())
