"""The option ``validation`` of tables and the like: which kinds there are, what each reads, and the column it goes by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from nasplug.config import check
from nasplug.errors import ConfigError
from nasplug.rows import word_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MOST_RESAMPLES", "Validation", "ValidationOption", "by_values", "validation_of"]

Kind = Literal["auto", "holdout", "folds", "bootstrap", "groups", "time", "column"]

SMALL = 2000  # rows: a table below this is validated by folds where nothing is asked for
MOST_RESAMPLES = 1000
READS: Mapping[str, tuple[str, ...]] = {
    "auto": (),
    "holdout": ("share",),
    "folds": ("folds", "repeats"),
    "bootstrap": ("repeats",),
    "groups": ("folds", "repeats", "by"),
    "time": ("folds", "by"),
    "column": ("by",),
}


class Validation(BaseModel):
    """How networks are validated.

    ``auto``: five folds for tables below 2,000 rows, a hold-out above. ``holdout``: a ``share`` of all rows. ``folds``: each
    development sample is held out by one of ``folds``, ``repeats`` times; labels in the same proportions in each.
    ``bootstrap``: ``repeats`` draws with replacement, within each class; those not drawn validate. ``groups``: folds that
    keep the rows with one value of ``by`` together. ``time``: in the order of ``by`` (of the file without it), each fold
    trains on what came before it. ``column``: ``by`` holds train, valid and test, or the number of a row's fold.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)
    words: ClassVar[str] = (
        "auto, holdout, folds, bootstrap or time, or {use: holdout, share: 0.2}, {use: folds, folds: 5, repeats: 1}, "
        "{use: bootstrap, repeats: 10}, {use: groups, by: COLUMN, folds: 5}, {use: time, by: COLUMN, folds: 5}, "
        "{use: column, by: COLUMN}"
    )

    use: Kind
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    folds: Annotated[int, Field(ge=2, le=MOST_RESAMPLES)] | None = None
    repeats: Annotated[int, Field(ge=1, le=MOST_RESAMPLES)] | None = None
    by: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _read(self) -> Validation:
        reads = READS[self.use]
        for key in ("share", "folds", "repeats", "by"):
            value = getattr(self, key)
            if value is not None and key not in reads:
                takes = f"it takes {' and '.join(reads)}" if reads else "it takes nothing else"
                raise ValueError(f"{key}: {value} is not read by validation {self.use!r} ({takes}); remove it, or take another")
        if self.use in ("groups", "column") and self.by is None:
            what = "keeps together the rows with one value of a column" if self.use == "groups" else "is what a column says"
            raise ValueError(f"validation {self.use!r} {what}; needed: by: COLUMN")
        if self.use == "bootstrap" and self.repeats == 1:
            raise ValueError("repeats: 1; one bootstrap has no standard error; needed: 2 or more")
        if (self.folds or 1) * (self.repeats or 1) > MOST_RESAMPLES:
            raise ValueError(f"folds: {self.folds} x repeats: {self.repeats}; needed: {MOST_RESAMPLES} resamples at most")
        return self

    def of_rows(self, rows: int) -> Validation:
        """Without ``auto``, for a table of so many rows."""
        if self.use != "auto":
            return self
        return Validation(use="folds") if rows < SMALL else Validation(use="holdout")


ValidationOption = Validation | Kind
"""The type of a task's option ``validation``."""


def validation_of(given: Validation | Kind | Mapping[str, Any], where: str = "validation") -> Validation:
    """An option as it was given, a word or a mapping.

    Raises:
        ConfigError: for a kind that is not known, or keys that it does not read.
    """
    if isinstance(given, Validation):
        return given
    return check(Validation, given if isinstance(given, Mapping) else {"use": given}, f"{where}: validation")


def _times(where: str, name: str, column: pd.Series[Any]) -> npt.NDArray[np.float64]:
    """A column as points in time: numbers as they are, dates and times (ISO 8601 where they are text) as seconds.

    Raises:
        ConfigError: for anything else.
    """
    import pandas as pd
    from pandas.api import types

    if types.is_numeric_dtype(column):
        return np.asarray(column.to_numpy(dtype=np.float64))
    try:
        read = pd.to_datetime(column, format="ISO8601", utc=True)
    except (ValueError, TypeError) as error:
        first = str(column.iloc[0])
        raise ConfigError(
            f"{where}: validation 'time': {name!r} holds {first!r}, say; needed: numbers, or dates as 2026-11-29 or "
            "2026-11-29 04:30:00"
        ) from error
    return np.asarray(read.to_numpy(dtype="datetime64[us]").astype(np.int64), dtype=np.float64)


def by_values(where: str, validation: Validation, column: pd.Series[Any]) -> npt.NDArray[Any]:
    """The values of the column that validation goes by: points in time, or words, as objects: one long word costs no others.

    Raises:
        ConfigError: for gaps.
    """
    if gaps := int(column.isna().sum()):
        raise ConfigError(
            f"{where}: validation {validation.use!r}: {validation.by!r} is missing in {gaps} of {len(column)} rows; "
            "fill it in, or leave those rows out"
        )
    if validation.use == "time":
        return _times(where, str(validation.by), column)
    import pandas as pd

    codes, distinct = pd.factorize(column)
    return np.array([word_of(value) for value in distinct], dtype=object)[codes]
