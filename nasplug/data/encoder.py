"""`Encoder`: from a user's table to numbers, remembered as plain data, so that the same is done when a network is served.

What it knows was learned from the training rows alone (`nasplug.data.fitting`). Scales are not part of it: they belong to the
task, and to a network's own layer 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nasplug import rows
from nasplug.errors import ConfigError, did_you_mean
from nasplug.rows import Array, RowsError, Rule

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Array", "Column", "ColumnKind", "Encoder", "kind_of", "numbers_of"]

ColumnKind = Literal["number", "boolean", "date", "category"]
Finite = Annotated[float, Field(allow_inf_nan=False)]

DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?)?(Z|[+-]\d{2}:?\d{2})?")
OTHER, GAP = "other", "missing"


class Column(BaseModel):
    """One column of the user's table, and the features that are made of it.

    Attributes:
        name: of the column.
        kind: ``number``; ``boolean``, which is 0 or 1; ``date``, which is seconds since 1970-01-01 UTC; ``category``.
        knots: of a number or date: rising values, ends of the ramps; none: the value alone.
        fill: of a number, boolean or date: what stands for a gap; None: a gap is refused.
        words: of a category: those with a feature of their own.
        other: of a category: whether rare words, and unknown ones, share the feature ``other``. Without it an unknown word is 0
            in all features.
        word: of a category: what stands for a gap, if a word does.
        gap: whether a feature says that there was none: 1 where the value is missing.
        codes: values that mean that there is none, as -999 and ``?``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    kind: ColumnKind
    knots: tuple[Finite, ...] = ()
    fill: Finite | None = None
    words: tuple[str, ...] = ()
    other: bool = False
    word: str | None = None
    gap: bool = False
    codes: tuple[str | Finite, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Column:
        if self.kind == "category":
            if not self.words or len(set(self.words)) < len(self.words):
                raise ValueError(f"column {self.name!r}: a category without words, or with one that comes twice")
            if self.knots or self.fill is not None or (self.word is not None and self.word not in self.words):
                raise ValueError(f"column {self.name!r}: a category has words, and no knots and no number for gaps")
            return self
        if self.words or self.other or self.word is not None:
            raise ValueError(f"column {self.name!r}: a {self.kind} has no words")
        if len(self.knots) == 1 or any(a >= b for a, b in zip(self.knots, self.knots[1:], strict=False)):
            raise ValueError(f"column {self.name!r}: knots {self.knots[:8]}; needed: two at least, rising")
        if self.gap and self.fill is None:
            raise ValueError(f"column {self.name!r}: a feature that says where gaps are, and no number for them")
        return self

    @property
    def features(self) -> list[str]:
        """Names of what is made of it."""
        if self.kind == "category":
            words = [*self.words, *([OTHER] if self.other else []), *([GAP] if self.gap else [])]
            return [f"{self.name}={word}" for word in words]
        ramps = [f"{self.name} {a:.6g} to {b:.6g}" for a, b in zip(self.knots, self.knots[1:], strict=False)]
        return [self.name, *ramps, *([f"{self.name} {GAP}"] if self.gap else [])]

    @property
    def width(self) -> int:
        """How many features."""
        return self.rule.width

    @property
    def rule(self) -> Rule:
        """What features are made by."""
        return Rule(self.name, self.kind, self.knots, self.fill, self.words, self.other, self.word, self.gap, self.codes)


class Encoder(BaseModel):
    """From a data frame to features ``(N, F)`` in float64, by the names of its columns.

    A number, boolean or date column is ``x``, with knots ``q_0 < ... < q_B`` also ``B`` ramps
    ``clip((x - q_b) / (q_{b+1} - q_b), 0, 1)``. A category is one 0/1 feature per word; rare words share one, ``other``,
    which unknown words go to, too. Words are compared without spaces around them. Where training rows had gaps, a feature may
    say so.

    Ramps are the piecewise-linear encoding of Gorishniy et al. 2022, arXiv:2203.05556. We differ: ``x`` itself is a feature
    too, so that a linear effect costs one number, and carries on beyond the outer knots; there the ramps are constant, while
    the paper's first and last ones go on. Each feature is centred and scaled by the task.

    Attributes:
        columns: the user's columns that are read, in the order of their features.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal["nasplug.encoder/1"] = "nasplug.encoder/1"
    columns: Annotated[tuple[Column, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits(self) -> Encoder:
        if len(set(self.sources)) < len(self.columns):
            raise ValueError("a column comes twice")
        return self

    @property
    def sources(self) -> list[str]:
        """Names of the columns that are read."""
        return [column.name for column in self.columns]

    @property
    def groups(self) -> tuple[int, ...]:
        """Of each feature the place of its column in `columns`."""
        return tuple(place for place, column in enumerate(self.columns) for _ in range(column.width))

    @property
    def ramps(self) -> list[bool]:
        """Of each feature whether it is a ramp."""
        return [0 < place < len(column.knots) for column in self.columns for place in range(column.width)]

    @property
    def names(self) -> list[str]:
        """Distinct names of the features: a column ``a=b`` and the word b of a column ``a`` are told apart by an apostrophe."""
        found: dict[str, None] = {}
        for column in self.columns:
            for name in column.features:
                while name in found:
                    name += "'"
                found[name] = None
        return list(found)

    def plain(self) -> dict[str, Any]:
        """Plain JSON, from which `from_plain` makes the same."""
        made = self.model_dump(mode="json", exclude_defaults=True)
        return {"format": self.format, **made}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Encoder:
        """What `plain` gave.

        Raises:
            ConfigError: for what no encoder has.
        """
        try:
            return cls.model_validate_json(json.dumps(plain))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ConfigError(f"encoder record: {where or 'whole'}: {str(first['msg'])[:300]}") from None
        except (TypeError, ValueError, RecursionError, OverflowError) as error:
            raise ConfigError(f"encoder record: {type(error).__name__}: {str(error)[:300]}") from None

    @classmethod
    def of_numbers(cls, names: Sequence[str]) -> Encoder:
        """Of columns that are numbers as they stand, without gaps."""
        return cls(columns=tuple(Column(name=name, kind="number") for name in names))

    def coded(self, codes: Mapping[str, Sequence[str | float]]) -> Encoder:
        """The same, with the values that mean "missing" in each column, so that rows are read later as in training."""
        mine = {name: tuple(c if isinstance(c, str) else float(c) for c in given) for name, given in codes.items()}
        return Encoder(columns=tuple(c.model_copy(update={"codes": mine.get(c.name, ())}) for c in self.columns))

    def features(self, frame: pd.DataFrame, where: str = "table", read: Collection[int] | None = None) -> Array:
        """Features ``(N, F)``, not scaled. Columns may come in any order, and others beside them.

        ``read``: places of the columns that matter (None: all); the others need not be there, and their features are 0.

        Raises:
            ConfigError: for a column that is missing, or a value that cannot be read as the column's kind: the first of them.
        """
        with _told():
            return rows.features([column.rule for column in self.columns], frame, where, read)


@contextmanager
def _told() -> Iterator[None]:
    """What is wrong with rows as an error of nasplug's, with the name that may have been meant."""
    try:
        yield
    except RowsError as error:
        raise ConfigError(f"{error}{did_you_mean(error.asked, error.there) if error.asked else ''}") from None


def kind_of(values: pd.Series[Any]) -> ColumnKind | None:
    """What a column is taken for; None: nothing that can be learned from. Text that is all ISO dates is a date."""
    import pandas as pd
    from pandas.api import types

    kind = values.dtype
    if isinstance(kind, pd.CategoricalDtype):
        return "category"
    if types.is_bool_dtype(kind):
        return "boolean"
    if types.is_integer_dtype(kind) or types.is_float_dtype(kind):
        return "number"
    if types.is_datetime64_any_dtype(kind):
        return "date"
    inside = types.infer_dtype(values, skipna=True)
    if inside == "string":
        return "date" if _dates(values) else "category"
    if inside in ("datetime", "datetime64", "date"):
        return "date"
    if inside == "boolean":
        return "boolean"
    return "number" if inside in ("empty", "integer", "floating", "mixed-integer-float", "decimal") else None


def _dates(values: pd.Series[Any]) -> bool:
    """Whether all of a column's text is dates, as ISO 8601 has them."""
    present = values.dropna()
    return (
        len(present) > 0
        and DATE.fullmatch(str(present.iloc[0]).strip()) is not None
        and all(DATE.fullmatch(str(text).strip()) for text in present.unique())
    )


def numbers_of(frame: pd.DataFrame, kinds: Sequence[ColumnKind], where: str) -> Array:
    """`nasplug.rows.numbers_of`.

    Raises:
        ConfigError: for a value that is no number: the first of its column.
    """
    with _told():
        return rows.numbers_of(frame, kinds, where)
