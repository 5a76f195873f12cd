"""Rows of a user's table to features, and outputs to named answers: the same in training and where a model is served.

This file is copied as it is into each logged model, which is read where nasplug is not installed: it imports the standard
library, numpy and pandas alone. What is *learned* from rows is in `nasplug.data`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "MIDNIGHT",
    "MINUS",
    "NUMBER",
    "PLAIN",
    "TRUTH",
    "Array",
    "D",
    "RowsError",
    "Rule",
    "answers",
    "features",
    "listed",
    "meanings",
    "names_of_outputs",
    "normal",
    "numbers_of",
    "places_of",
    "uncoded",
    "word_of",
    "words_of",
]

Array = npt.NDArray[np.float64]

TRUTH = {"true": 1.0, "false": 0.0}
MIDNIGHT = re.compile(r"\d{4}-\d{2}-\d{2}([T ]00:00(:00(\.0+)?)?(Z|\+00:?00)?)?")
MINUS = "\u2212"
D = "[0-9]"
NUMBER = rf"(?:{D}+\.?{D}*|\.{D}+)(?:[eE][+-]?{D}+)?"
PLAIN = rf"^[+-]?(?:{NUMBER}|[iI][nN][fF](?:[iI][nN][iI][tT][yY])?)$"
CLOCK = ("now", "today")  # which pandas reads as a date
DAY = re.compile(rf"^{D}{{4}}-{D}{{2}}-{D}{{2}}$")


class RowsError(ValueError):
    """Rows that cannot be read: which column, which row, what is needed.

    Attributes:
        asked: name of a column that is missing, or empty.
        there: names of the columns that are there instead.
    """

    def __init__(self, message: str, asked: str = "", there: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.asked, self.there = asked, tuple(there)


@dataclass(frozen=True)
class Rule:
    """How a column becomes features; `nasplug.data.encoder.Column` says what each part means, and checks it."""

    name: str
    kind: str
    knots: Sequence[float]
    fill: float | None
    words: Sequence[str]
    other: bool
    word: str | None
    gap: bool
    codes: Sequence[str | float]

    @property
    def width(self) -> int:
        """How many features."""
        if self.kind == "category":
            return len(self.words) + self.other + self.gap
        return 1 + max(len(self.knots) - 1, 0) + self.gap


def normal(text: str) -> str:
    """A text with one code for a letter and its accent, as keyboards write it (NFC of Unicode); some systems write two."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def listed(names: Sequence[str], most: int = 8) -> str:
    """``'a', 'b' and 3 more``."""
    shown = ", ".join(repr(n) for n in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def features(rules: Sequence[Rule], frame: pd.DataFrame, where: str, read: Collection[int] | None = None) -> Array:
    """Features ``(N, F)`` of rows, not scaled. Columns may come in any order, and others beside them.

    ``where``: what the rows are called in errors. ``read``: places of the columns that matter (None: all); the others need not
    be there, and their features are 0.

    Raises:
        RowsError: for a column that is missing, or a value that cannot be read as the column's kind: the first of them.
    """
    wanted = [rule for place, rule in enumerate(rules) if read is None or place in read]
    if not hasattr(frame, "iloc") or not hasattr(frame, "columns"):
        raise RowsError(f"{where}: rows as {type(frame).__name__}; needed: a data frame of pandas: write pd.DataFrame([row])")
    places = _places(frame, wanted, [rule.name for rule in rules], where)
    frame = frame.iloc[:, places].set_axis([rule.name for rule in wanted], axis=1)
    for rule in wanted:
        if rule.codes:
            frame[rule.name] = uncoded(frame[rule.name], rule.codes)
    found = np.zeros((len(frame), sum(rule.width for rule in rules)))
    plain = [rule for rule in wanted if rule.kind != "category"]
    kinds = [rule.kind for rule in plain]
    values = numbers_of(frame[[rule.name for rule in plain]], kinds, where)  # (N, P), NaN in gaps
    infinite = np.isinf(values)
    if infinite.any():
        row, place = np.argwhere(infinite)[0]
        raise RowsError(f"{where}: column {plain[place].name!r}, row {row + 1}: an infinite value; needed: finite numbers")
    gaps = np.isnan(values)
    truth = np.array([kind == "boolean" for kind in kinds], dtype=bool)
    if (odd := ~gaps & truth & (values != 0.0) & (values != 1.0)).any():
        row, place = np.argwhere(odd)[0]
        raise RowsError(f"{where}: column {plain[place].name!r}, row {row + 1}: {values[row, place]:g} is not true or false")
    given = iter(range(len(plain)))
    at, needed = 0, {rule.name for rule in wanted}
    for rule in rules:
        block = found[:, at : at + rule.width]
        at += rule.width
        if rule.name not in needed:
            continue
        if rule.kind == "category":
            _words(rule, frame[rule.name], block, where)
        else:
            place = next(given)
            _numbers(rule, values[:, place], gaps[:, place], block, where)
    return found


def _places(frame: pd.DataFrame, wanted: Sequence[Rule], sources: Collection[str], where: str) -> list[int]:
    """Where in a frame the columns are. Names are compared as text; spaces around them and how accents are coded do not matter:
    a file's header is read without them, and the same file by others with them.
    """
    exact: dict[str, list[int]] = {}
    loose: dict[str, list[int]] = {}
    for place, name in enumerate(map(str, frame.columns)):
        exact.setdefault(name, []).append(place)
        loose.setdefault(normal(name.strip()), []).append(place)
    found = {rule.name: exact.get(rule.name) or loose.get(normal(rule.name.strip()), []) for rule in wanted}
    if gone := [name for name, places in found.items() if not places]:
        needed = listed([rule.name for rule in wanted], 20)
        there = [name for name in loose if name not in sources]
        raise RowsError(f"{where}: column(s) {listed(gone)} are missing; needed: all of {needed}.", gone[0], there)
    if twice := [name for name, places in found.items() if len(places) > 1]:
        raise RowsError(f"{where}: several columns are called {listed(twice)}; give each its own name, or leave one out")
    return [places[0] for places in found.values()]


def _numbers(rule: Rule, x: Array, gaps: npt.NDArray[np.bool_], block: Array, where: str) -> None:
    """The features of a number, ``block (N, W)``, which is all zeros."""
    if gaps.any():
        if rule.fill is None:
            raise _gap(rule, gaps, where)
        x = np.where(gaps, rule.fill, x)
        if rule.gap:
            block[:, -1] = gaps
    block[:, 0] = x
    if rule.knots:
        knots = np.asarray(rule.knots)
        low, high = knots[:-1], knots[1:]
        block[:, 1 : len(knots)] = np.clip((x[:, None] - low) / (high - low), 0.0, 1.0)


def _words(rule: Rule, values: pd.Series[Any], block: Array, where: str) -> None:
    """The features of a category, ``block (N, W)``, which is all zeros."""
    try:
        words, codes = words_of(values)
    except TypeError:
        raise RowsError(f"{where}: column {rule.name!r} holds lists or the like; needed: a word in each row") from None
    other = len(rule.words) if rule.other else -1
    place = np.array([*places_of(words, rule.words, other), -1])[codes]  # the last: gaps, whose code is -1
    gaps = codes < 0
    if gaps.any():
        if rule.gap:
            place[gaps] = rule.width - 1
        elif rule.word is not None:
            place[gaps] = rule.words.index(rule.word)
        else:
            raise _gap(rule, gaps, where)
    rows = np.flatnonzero(place >= 0)
    block[rows, place[rows]] = 1.0


def _gap(rule: Rule, gaps: npt.NDArray[np.bool_], where: str) -> RowsError:
    return RowsError(
        f"{where}: column {rule.name!r} has {np.count_nonzero(gaps)} missing value(s), the first in row "
        f"{np.flatnonzero(gaps)[0] + 1}; needed: none, as the task's option 'missing' does not fill them"
    )


def numbers_of(frame: pd.DataFrame, kinds: Sequence[str], where: str) -> Array:
    """Float64 ``(N, P)`` with NaN where missing; dates as seconds since 1970-01-01 UTC.

    Raises:
        RowsError: for a value that is no number: the first of its column.
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
            raise RowsError(
                f"{where}: column {str(frame.columns[place])!r}, row {row + 1}: {str(value)[:80]!r} is not "
                f"{what.get(kinds[place], 'a number')}"
            ) from None
    return found


def _unread(column: pd.Series[Any], kind: str) -> Iterator[tuple[int, object]]:
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
    if column.dtype.kind != "M" and any(isinstance(v, str) and v.strip() in CLOCK for v in column.dropna().unique()):
        raise ValueError("the time of this machine")
    at = pd.to_datetime(column, utc=True, format=None if column.dtype.kind == "M" else "ISO8601")
    ticks = at.to_numpy(dtype=f"datetime64[{at.dt.unit}]")  # its own unit: nanoseconds end in 2262
    per_second = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[at.dt.unit]
    return np.asarray(np.where(np.isnat(ticks), np.nan, ticks.astype(np.int64) / per_second))


def uncoded(values: pd.Series[Any], codes: Sequence[str | float]) -> pd.Series[Any]:
    """A column with gaps where it has codes, compared as text and as numbers."""
    texts = {str(code).strip() for code in codes}
    numbers = {number for code in codes if (number := _number_of(code)) is not None}
    if values.dtype.kind in "iuf":
        return values.mask(values.isin(numbers)) if numbers else values
    if values.dtype.kind == "b" or not texts:
        return values
    if values.dtype.kind == "M":
        texts |= {f"{text} 00:00:00" for text in texts if DAY.match(text)}  # as pandas has a day
        at = values.dt.tz_localize(None)  # in the zone's own time
        return values.mask(at.astype(str).isin(texts) | at.dt.strftime("%Y-%m-%d %H:%M:%S").isin(texts))
    try:
        distinct = values.dropna().unique()
    except TypeError:  # lists and the like, which are refused by others
        return values
    known = {value for value in distinct if str(value).strip() in texts or _number_of(value) in numbers}
    return values.mask(values.isin(known)) if known else values


def _number_of(value: object) -> float | None:
    if isinstance(value, bool | np.bool_):
        return None
    try:
        return float(str(value))
    except ValueError:
        return None


def word_of(value: object) -> str:
    """A value of a category as text: without spaces around it, accents `normal`; a gap elsewhere in a file makes 1.0 of 1.

    Two values are one label where these are equal.
    """
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    text = normal(str(value).strip())
    return text.removesuffix(" 00:00:00") if isinstance(value, datetime) else text


def words_of(values: pd.Series[Any]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Distinct words, and for each row the place of its word; -1 for a gap, which an empty word is, too.

    Order: a categorical's own, else sorted.
    """
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        codes, distinct = values.cat.codes.to_numpy().astype(np.int64), list(values.cat.categories)
        present = np.unique(codes[codes >= 0])
        ordered = [(place, word_of(distinct[place])) for place in present]
    else:
        codes, found = pd.factorize(values)
        ordered = [(place, word_of(value)) for place, value in enumerate(found)]
        try:
            ordered.sort(key=lambda pair: found[pair[0]])
        except TypeError:  # values of several types
            ordered.sort(key=lambda pair: pair[1])
    words: dict[str, int] = {}
    new = np.full(max((place for place, _ in ordered), default=-1) + 2, -1, dtype=np.int64)  # its last: gaps
    for place, word in ordered:
        if word:
            new[place] = words.setdefault(word, len(words))
    return list(words), new[codes]


def places_of(words: Sequence[str], known: Sequence[str], other: int) -> list[int]:
    """Of each word its place among the ``known`` ones, or ``other``.

    Of a word that is not known what it means decides, if one known word means the same.
    """
    places, meant = {word: place for place, word in enumerate(known)}, meanings(known)
    return [places[word] if word in places else meant.get(_meaning(word), other) for word in words]


def meanings(known: Sequence[str]) -> dict[object, int]:
    """What a word means -> its place among the ``known`` ones, where one of them alone means that."""
    found: dict[object, int] = {}
    several = set()
    for place, word in enumerate(known):
        meaning = _meaning(word)
        if meaning in found:
            several.add(meaning)
        found[meaning] = place
    return {meaning: place for meaning, place in found.items() if meaning not in several}


def _meaning(word: str) -> object:
    """A word as programs write it: ``true`` is True, ``2024-12-31`` is its midnight, ``01`` is 1."""
    if (truth := word.lower()) in TRUTH:
        return truth
    if MIDNIGHT.fullmatch(word):
        return word[:10]
    return float(word) if re.match(PLAIN, word) else normal(word)


def names_of_outputs(targets: Sequence[str], link: str, width: int) -> list[str]:
    """What each of ``width`` outputs is called: a target, or the probability or score of a label."""
    if width == 1 and len(targets) == 2:
        return [f"P({targets[1]})" if link == "sigmoid" else f"score of {targets[1]}"]
    return [f"P({target})" for target in targets] if link == "softmax" else list(targets)


def answers(targets: Sequence[str], link: str, outputs: Array, index: pd.Index[Any] | None = None) -> pd.DataFrame:
    """Outputs ``(N, O)`` by name; see `nasplug.compact.CompactNetwork.predict`."""
    import pandas as pd

    names = names_of_outputs(targets, link, outputs.shape[1])
    found = pd.DataFrame(outputs, columns=pd.Index(names), index=index)
    if len(targets) == 2 and len(names) == 1:
        if link == "sigmoid":
            found.insert(0, f"P({targets[0]})", 1.0 - outputs[:, 0])
        code = outputs[:, 0] > 0.5
    elif link == "softmax":
        code = outputs.argmax(1)
    else:
        return found
    found.insert(0, "label", np.asarray(targets, dtype=object)[np.asarray(code, dtype=np.int64)])
    return found
