"""`Encoder`: from a user's table to numbers, remembered as plain data, so that the same is done when a network is served.

What it knows was learned from the training rows alone (`nasplug.data.fitting`). Scales are not part of it: they belong to the
task, and to a network's own layer 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nasplug.data.numerals import MINUS, uncoded
from nasplug.data.words import TRUTH, places_of, words_of
from nasplug.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Array", "Column", "ColumnKind", "Encoder", "kind_of", "listed", "numbers_of"]

Array = npt.NDArray[np.float64]
ColumnKind = Literal["number", "boolean", "date", "category"]
Finite = Annotated[float, Field(allow_inf_nan=False)]

DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?)?(Z|[+-]\d{2}:?\d{2})?")
OTHER, GAP = "other", "missing"


def listed(names: Sequence[str], most: int = 8) -> str:
    """``'a', 'b' and 3 more``."""
    shown = ", ".join(repr(n) for n in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


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
        if self.kind == "category":
            return len(self.words) + self.other + self.gap
        return 1 + max(len(self.knots) - 1, 0) + self.gap


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
        wanted = [column for place, column in enumerate(self.columns) if read is None or place in read]
        frame = frame.iloc[:, self._places(frame, wanted, where)].set_axis([column.name for column in wanted], axis=1)
        for column in wanted:
            if column.codes:
                frame[column.name] = uncoded(frame[column.name], column.codes)
        found = np.zeros((len(frame), sum(column.width for column in self.columns)))
        plain = [column for column in wanted if column.kind != "category"]
        kinds = [column.kind for column in plain]
        values = numbers_of(frame[[column.name for column in plain]], kinds, where)  # (N, P), NaN in gaps
        infinite = np.isinf(values)
        if infinite.any():
            row, place = np.argwhere(infinite)[0]
            raise ConfigError(
                f"{where}: column {plain[place].name!r}, row {row + 1}: an infinite value; needed: finite numbers"
            )
        gaps = np.isnan(values)
        truth = np.array([kind == "boolean" for kind in kinds], dtype=bool)
        if (odd := ~gaps & truth & (values != 0.0) & (values != 1.0)).any():
            row, place = np.argwhere(odd)[0]
            raise ConfigError(
                f"{where}: column {plain[place].name!r}, row {row + 1}: {values[row, place]:g} is not true or false"
            )
        given = iter(range(len(plain)))
        at, needed = 0, {column.name for column in wanted}
        for column in self.columns:
            block = found[:, at : at + column.width]
            at += column.width
            if column.name not in needed:
                continue
            if column.kind == "category":
                _words(column, frame[column.name], block, where)
            else:
                place = next(given)
                _numbers(column, values[:, place], gaps[:, place], block, where)
        return found

    def _places(self, frame: pd.DataFrame, wanted: Sequence[Column], where: str) -> list[int]:
        """Where in a frame the columns are. Names are compared as text, spaces around them do not matter: a file's header is
        read without them, and the same file by others with them.
        """
        exact: dict[str, list[int]] = {}
        loose: dict[str, list[int]] = {}
        for place, name in enumerate(map(str, frame.columns)):
            exact.setdefault(name, []).append(place)
            loose.setdefault(name.strip(), []).append(place)
        found = {column.name: exact.get(column.name) or loose.get(column.name.strip(), []) for column in wanted}
        if gone := [name for name, places in found.items() if not places]:
            raise ConfigError(
                f"{where}: column(s) {listed(gone)} are missing; needed: all of {listed([c.name for c in wanted], 20)}."
                f"{did_you_mean(gone[0], [name for name in loose if name not in self.sources])}"
            )
        if twice := [name for name, places in found.items() if len(places) > 1]:
            raise ConfigError(f"{where}: several columns are called {listed(twice)}; give each its own name, or leave one out")
        return [places[0] for places in found.values()]


def _numbers(column: Column, x: Array, gaps: npt.NDArray[np.bool_], block: Array, where: str) -> None:
    """The features of a number, ``block (N, W)``, which is all zeros."""
    if gaps.any():
        if column.fill is None:
            raise _gap(column, gaps, where)
        x = np.where(gaps, column.fill, x)
        if column.gap:
            block[:, -1] = gaps
    block[:, 0] = x
    if column.knots:
        knots = np.asarray(column.knots)
        low, high = knots[:-1], knots[1:]
        block[:, 1 : len(knots)] = np.clip((x[:, None] - low) / (high - low), 0.0, 1.0)


def _words(column: Column, values: pd.Series[Any], block: Array, where: str) -> None:
    """The features of a category, ``block (N, W)``, which is all zeros."""
    try:
        words, codes = words_of(values)
    except TypeError:
        raise ConfigError(f"{where}: column {column.name!r} holds lists or the like; needed: a word in each row") from None
    other = len(column.words) if column.other else -1
    place = np.array([*places_of(words, column.words, other), -1])[codes]  # the last: gaps, whose code is -1
    gaps = codes < 0
    if gaps.any():
        if column.gap:
            place[gaps] = column.width - 1
        elif column.word is not None:
            place[gaps] = column.words.index(column.word)
        else:
            raise _gap(column, gaps, where)
    rows = np.flatnonzero(place >= 0)
    block[rows, place[rows]] = 1.0


def _gap(column: Column, gaps: npt.NDArray[np.bool_], where: str) -> ConfigError:
    return ConfigError(
        f"{where}: column {column.name!r} has {np.count_nonzero(gaps)} missing value(s), the first in row "
        f"{np.flatnonzero(gaps)[0] + 1}; needed: none, as the task's option 'missing' does not fill them"
    )


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
    """Float64 ``(N, P)`` with NaN where missing; dates as seconds since 1970-01-01 UTC.

    Raises:
        ConfigError: for a value that is no number: the first of its column.
    """
    found = np.empty(frame.shape)
    held = [kind.kind if isinstance(kind, np.dtype) else "O" for kind in frame.dtypes]
    fast = [place for place, kind in enumerate(held) if kind in "buif" and kinds[place] != "date"]
    if fast:
        found[:, fast] = frame.iloc[:, fast].to_numpy(dtype=np.float64)
    for place in sorted(set(range(frame.shape[1])) - set(fast)):
        column = frame.iloc[:, place]
        try:
            found[:, place] = _seconds(column) if kinds[place] == "date" else _floats(column)
        except (ValueError, TypeError, OverflowError):
            row, value = next(_unread(column, kinds[place]), (0, "?"))
            what = {"date": "a date, as 2024-12-31 or 2024-12-31T23:59:59", "boolean": "true or false"}
            raise ConfigError(
                f"{where}: column {str(frame.columns[place])!r}, row {row + 1}: {str(value)[:80]!r} is not "
                f"{what.get(kinds[place], 'a number')}"
            ) from None
    return found


def _unread(column: pd.Series[Any], kind: ColumnKind) -> Iterator[tuple[int, object]]:
    """Rows that cannot be read, with what they hold."""
    for row in range(len(column)):
        one = column.iloc[row : row + 1]
        try:
            _seconds(one) if kind == "date" else _floats(one)
        except (ValueError, TypeError, OverflowError):
            yield row, column.iloc[row]


def _floats(column: pd.Series[Any]) -> Array:
    def number(value: Any) -> float:
        if not isinstance(value, str):
            return float(value)
        text = value.strip().lower()
        return TRUTH[text] if text in TRUTH else float(text.replace(MINUS, "-"))

    if column.dtype.kind == "M":
        raise TypeError("dates for numbers")
    if column.dtype.kind not in "buif":  # objects, text, and what pandas extends
        column = column.astype(object).map(number, na_action="ignore")
    return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))


def _seconds(column: pd.Series[Any]) -> Array:
    import pandas as pd

    if column.dtype.kind in "buif" or (column.dtype == object and any(isinstance(v, int | float) for v in column.dropna())):
        raise TypeError("numbers for dates")  # seconds, milliseconds, days?
    at = pd.to_datetime(column, utc=True, format=None if column.dtype.kind == "M" else "ISO8601")
    ticks = at.to_numpy(dtype=f"datetime64[{at.dt.unit}]")  # its own unit: nanoseconds end in 2262
    per_second = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[at.dt.unit]
    return np.asarray(np.where(np.isnat(ticks), np.nan, ticks.astype(np.int64) / per_second))
