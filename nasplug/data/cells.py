"""One column of text to numbers, truth values or words; what cannot be told without guessing is a `Problem`.

All of it works on the distinct values of a column: a large file costs little more than finding those.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nasplug.data.numerals import (
    EITHER,
    EITHER_DOT,
    GERMAN,
    NEVER,
    WRITTEN,
    number_of,
    options_of,
    outside,
    same_digits,
    sentinels,
    shorter,
    unit_of,
)
from nasplug.data.problems import Problem, Reading, brief, flow
from nasplug.rows import MINUS, PLAIN, D, normal

__all__ = ["FEW_WORDS", "Column", "look_at", "settle", "values_of"]

Mask = npt.NDArray[np.bool_]

GAPS = frozenset(
    {"na", "n/a", "#n/a", "#na", "#n/a n/a", "nan", "-nan", "null", "(null)", "<na>", "nat", "\\n"}
    | {"1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"}
)
"""What is a gap as an empty cell is, in any case of letters."""
CODES = frozenset(
    {"missing", "unknown", "nil", "n.a.", "n.a", "n/k", "nd", "n/d", "void", "#div/0!", "#value!", "#ref!", "#num!", "#name?"}
)
"""What in a column of numbers is asked about, beside cells of punctuation alone."""
MARKS = r"^[\pP|~=^<>+]+$"
FEW_WORDS = 64  # distinct values that a column of categories has at most

ISO = rf"^{D}{{4}}-{D}{{2}}-{D}{{2}}(?:[T ].*)?$"
DATELIKE = rf"^{D}{{1,4}}[./-]{D}{{1,2}}[./-]{D}{{1,4}}(?:[T ]{D}{{1,2}}:{D}{{2}}.*)?$"
PADDED = rf"^0{D}"


@dataclass
class Column:
    """The values of a column, and what each of them is; what holds for all rows that have a value is found out once.

    Attributes:
        name: of the column.
        words: its values, without spaces around them: the distinct ones, ``(V,)``; of plain numbers those of all rows.
        counts: rows that have each of them.
        first: the first row of each.
        index: of each row, among ``words``.
        gap: which of them mean that there is no value.
        number: as a number; NaN where it is none.
        kind: ``numbers``, ``truth``, ``words`` or ``empty``; empty while there is a problem.
        notes: what was assumed.
        problems: what cannot be told.
        marks: texts that stand for a gap, as ``N/A``, beside empty cells and the user's codes.
        commas: whether some value shows that commas are decimal marks here.
    """

    name: str
    words: pa.LargeStringArray
    counts: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]
    gap: Mask
    number: npt.NDArray[np.float64]
    kind: str = ""
    notes: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    marks: tuple[str, ...] = ()
    commas: bool = False

    def wrong(self, which: Mask, what: str, remedy: str) -> None:
        """A problem with the values at ``which``; its place is a row until the lines are known."""
        self.kind = ""
        self.problems.append(Problem(what, remedy, self.name, int(self.first[which].min()) + 1, int(self.counts[which].sum())))

    def some(self, which: Mask, most: int = 3) -> list[str]:
        """The first distinct values at ``which``."""
        places = np.flatnonzero(which)
        found: dict[str, None] = {}
        for place in places[np.argsort(self.first[places], kind="stable")[: 100 * most]]:
            found.setdefault(self.words[int(place)].as_py())
        return list(found)[:most]

    def shown(self, which: Mask, most: int = 3) -> str:
        """The first values at ``which``, in words."""
        some = self.some(which, most)
        distinct = pc.count_distinct(self.words.filter(pa.array(which))).as_py()
        return ", ".join(map(brief, some)) + (f" and {distinct - len(some)} more" if distinct > len(some) else "")

    def all_match(self, which: Mask, pattern: str) -> bool:
        """Whether all values at ``which`` match a pattern (RE2)."""
        return bool(pc.all(pc.match_substring_regex(self.words.filter(pa.array(which)), pattern)).as_py())


def look_at(name: str, text: pa.LargeStringArray, reading: Reading) -> Column:
    """A column of text -> its values, and what they are; commas and dots may still be open (`settle`)."""
    if name not in reading.words and reading.thousands != "." and (column := _plain(name, text)) is not None:
        column.gap |= _coded(column, reading.codes(name))
        column.kind = "empty" if column.gap.all() else "numbers"
        _strange(column, ~column.gap, reading)
        return column
    column = _distinct(name, text)
    column.number = _numbers(column.words)
    empty, coded = _equal(column.words, {""}), _coded(column, reading.codes(name))
    column.gap = empty | coded
    if name in reading.words:
        column.kind = "words" if not column.gap.all() else "empty"
        return column
    lower = pc.utf8_lower(column.words)
    hard = _equal(lower, GAPS) & ~coded
    column.gap |= hard
    told = [f"{column.shown(hard)} ({column.counts[hard].sum():,} rows)"] if hard.any() else []
    none = _equal(lower, {"none"}) & ~column.gap
    others = ~column.gap & ~none
    written = _written(column, others, reading)
    if none.any() and others.any() and not np.isnan(column.number[others]).any():
        column.gap |= none
        told.append(f"{column.shown(none)} ({column.counts[none].sum():,} rows)")
    elif none.any():
        column.notes["none"] = f"{column.shown(none)} is a word, not a gap"
    if told:
        column.notes["gaps"] = ", ".join(told)
        column.marks = tuple(column.words.filter(pa.array(column.gap & ~empty & ~coded)).to_pylist())
    if column.gap.all():
        column.kind = "empty"
        return column
    _decide(column, ~column.gap, written, reading)
    if column.kind == "words" and (same := pc.count_distinct(text).as_py() - len(column.words)) > 0:
        column.notes["spaces"] = f"{same} of its values are others with spaces around them, or with accents coded otherwise"
    if column.kind == "words" and len(column.words) <= FEW_WORDS:
        _same_letters(column)
    return column


def _same_letters(column: Column) -> None:
    """Say which words differ in capitals alone."""
    there = column.words.filter(pa.array(~column.gap))
    pairs: dict[str, list[str]] = {}
    for word in there.to_pylist():
        pairs.setdefault(word.casefold(), []).append(word)
    if alike := [words for words in pairs.values() if len(words) > 1]:
        column.notes["capitals"] = f"{', '.join(map(brief, alike[0]))} are different words"


def _equal(words: pa.LargeStringArray, accepted: Iterable[str]) -> Mask:
    return _mask(pc.is_in(words, pa.array(sorted(accepted), pa.large_string())))


def _matching(words: pa.LargeStringArray, pattern: str) -> Mask:
    return _mask(pc.match_substring_regex(words, pattern))


def _mask(found: pa.BooleanArray) -> Mask:
    return np.array(found.to_numpy(zero_copy_only=False), dtype=bool)


def _plain(name: str, text: pa.LargeStringArray) -> Column | None:
    """A column of nothing but plain numbers and empty cells, without a look at each value; None: it holds something else."""
    try:
        numbers = pc.cast(text, pa.float64())
    except pa.ArrowInvalid:
        text = pc.utf8_trim_whitespace(text)
        empty = pc.equal(text, "")
        if not pc.any(empty).as_py():
            return None
        try:
            numbers = pc.cast(pc.if_else(empty, pa.scalar(None, pa.large_string()), text), pa.float64())
        except pa.ArrowInvalid:
            return None
    values = np.array(numbers.to_numpy(zero_copy_only=False), dtype=np.float64)
    gap = np.isnan(values)
    if int(gap.sum()) > numbers.null_count:  # the word nan
        return None
    rows = np.arange(len(values))
    return Column(name, text, np.ones(len(values), dtype=np.int64), rows, rows, gap, values)


def _distinct(name: str, text: pa.LargeStringArray) -> Column:
    encoded = pc.utf8_trim_whitespace(text).dictionary_encode()
    if not pc.all(pc.string_is_ascii(encoded.dictionary)).as_py():
        one = pa.array([normal(word) for word in encoded.dictionary.to_pylist()], pa.large_string())
        encoded = pa.DictionaryArray.from_arrays(encoded.indices, one).dictionary_decode().dictionary_encode()
    words, index = encoded.dictionary, encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    # the first row of each: later assignments win, so backwards
    first = np.zeros(len(words), dtype=np.int64)
    first[index[::-1]] = np.arange(len(index) - 1, -1, -1)
    counts = np.bincount(index, minlength=len(words)).astype(np.int64)
    return Column(name, words, counts, first, index, np.zeros(len(words), dtype=bool), np.zeros(len(words)))


def _numbers(words: pa.LargeStringArray) -> npt.NDArray[np.float64]:
    """Plain numbers; NaN for anything else. The sign may be a typographic minus."""
    words = pc.replace_substring(words, MINUS, "-")
    plain = pc.match_substring_regex(words, PLAIN)
    found = pc.cast(pc.if_else(plain, words, pa.scalar(None, pa.large_string())), pa.float64())
    return np.array(found.to_numpy(zero_copy_only=False), dtype=np.float64)


def _coded(column: Column, codes: Iterable[Any]) -> Mask:
    """Which values are among the user's codes, as text or as a number."""
    found = np.zeros(len(column.words), dtype=bool)
    for code in codes:
        found |= _equal(column.words, {str(code).strip()})
        try:
            found |= column.number == float(code)
        except ValueError:
            continue
    return found


def _written(column: Column, rest: Mask, reading: Reading) -> Mask:
    """Which values are numbers in a way of writing that nobody has said; those that somebody has are made numbers."""
    if reading.decimal is not None or reading.thousands is not None or reading.units:
        some = rest & _matching(column.words, "[0-9]") & (np.isnan(column.number) | (reading.thousands == "."))
        for i in np.flatnonzero(some):
            number = number_of(column.words[int(i)].as_py(), reading)
            column.number[i] = np.nan if number is None else number
    return rest & np.isnan(column.number) & _matching(column.words, WRITTEN.pattern)


def _decide(column: Column, rest: Mask, written: Mask, reading: Reading) -> None:
    """What a column holds, or why that cannot be told."""
    plain = rest & ~np.isnan(column.number)
    numeric = plain | written
    marks = rest & ~numeric & _matching(column.words, MARKS)
    codes = rest & ~numeric & _equal(pc.utf8_lower(column.words), CODES)
    other = rest & ~numeric & ~marks & ~codes
    unit = unit_of(column.some(other, 1000)) if other.any() and not numeric.any() else ""
    if unit:
        column.wrong(
            other,
            f"numbers written as text: {column.shown(other)}",
            f"Write units: {flow([unit])}; if they are words, words: {flow([column.name])}",
        )
    elif not numeric.any() or (other.any() and _are_words(column, numeric, other)):
        column.kind = _wordy(column, rest & ~numeric & ~marks, numeric)
        if marks.any() and not reading.decided(column.name):
            _ask(column, marks, f"If it is a word as others are, write words: {flow([column.name])}")
        _strange_dates(column, rest, reading)
        return
    elif other.any():
        column.wrong(
            other,
            f"{column.shown(other)}, where most values are numbers",
            f"Correct it; if it means missing, add it to 'missing_codes'; if all are words, write words: {flow([column.name])}",
        )
    if (marks | codes).any():
        _ask(column, marks | codes, "Else correct it")
    if written.any():
        _open(column, plain, written, reading)
    _strange(column, plain, reading)
    if not column.problems:
        column.kind = "numbers"


def _ask(column: Column, odd: Mask, keep: str) -> None:
    """Codes that may mean "missing"."""
    what = f"{column.shown(odd)}, which may mean missing"
    column.wrong(odd, what, f"If it does, write missing_codes: {flow(column.some(odd))}. {keep}")


def _are_words(column: Column, numeric: Mask, other: Mask) -> bool:
    """Whether a column of both is one of words, some of which are digits: a product code, a postcode."""
    if column.counts[numeric].sum() * 2 < column.counts[other].sum():
        return True
    return bool(numeric.sum() <= other.sum() and numeric.sum() + other.sum() <= FEW_WORDS)


def _wordy(column: Column, other: Mask, numeric: Mask) -> str:
    """Truth values, or words."""
    if numeric.any():
        column.notes["mixed"] = f"taken for words, {column.shown(numeric)} too"
    elif not (set(pc.utf8_lower(column.words.filter(pa.array(other))[:3]).to_pylist()) - {"true", "false"}) and other.any():
        return "truth" if column.all_match(other, "^(?i:true|false)$") else "words"
    elif column.all_match(other, DATELIKE) and not column.all_match(other, ISO):
        some = column.shown(other, 1)
        column.notes["dates"] = f"{some} are taken for words; a date is read where it is written as 2024-12-31"
    return "words"


def _open(column: Column, plain: Mask, written: Mask, reading: Reading) -> None:
    """Commas that are decimal marks beyond doubt become so; the rest waits for `settle`."""
    said = reading.thousands == "," or reading.decimal is not None
    if said or not column.all_match(written, GERMAN):
        _refuse_written(column, written)
    elif (plain & _matching(column.words, "[.]")).any():
        column.wrong(
            written,
            f"{column.shown(written)} beside numbers with a decimal point",
            'Correct those; or write thousands: "," where the comma stands between thousands',
        )
    elif not column.all_match(written, EITHER):
        column.commas = True
        _decimal(column, written)


def _decimal(column: Column, written: Mask) -> None:
    column.number[written] = _numbers(pc.replace_substring(column.words.filter(pa.array(written)), ",", "."))
    column.notes["decimal"] = "commas are decimal marks"


def _refuse_written(column: Column, written: Mask) -> None:
    """Numbers with units or marks between thousands: shown with the options that read them."""
    found = options_of(column.some(written, 1000))
    column.wrong(written, f"numbers written as text: {column.shown(written)}", f"Write {', '.join(found)}, or correct the file")


def settle(columns: Sequence[Column], reading: Reading) -> None:
    """What one column cannot tell by itself: whether ``3,010`` is three thousand or three, and ``3.010``, too."""
    german = reading.decimal == "," or any(column.commas for column in columns)
    for column in columns:
        if column.kind != "numbers":
            continue
        left = ~column.gap & np.isnan(column.number)
        if left.any() and german:
            _decimal(column, left)
        elif left.any():
            column.wrong(
                left,
                f"{column.shown(left)}: a comma before three digits may stand between thousands or before decimals",
                'Write thousands: "," or decimal: ","',
            )
        elif german and reading.thousands is None and reading.decimal != ".":
            dotted = _matching(column.words, "[.]") & ~column.gap
            if dotted.any() and column.all_match(dotted, EITHER_DOT):
                column.wrong(
                    dotted,
                    f"{column.shown(dotted)}: a point before three digits, in a file with decimal commas",
                    'Write thousands: "." with decimal: ",", or decimal: "." where it is a decimal point',
                )


def _strange(column: Column, plain: Mask, reading: Reading) -> None:
    """Codes among numbers, and codes that numbers may be."""
    numbers = column.number[plain]
    strange = sentinels(numbers) if not reading.decided(column.name) else numbers[:0]
    if len(strange):
        which = plain & np.isin(column.number, strange)
        column.wrong(
            which,
            *outside(column.name, column.shown(which), [float(v) for v in strange[:3]]),
        )
    huge = plain & (np.abs(column.number) >= 2**63)  # smaller ones keep their digits, and are looked at when they are used
    if huge.any() and column.all_match(huge, "^[+-]?[0-9]+$"):
        written = pc.count_distinct(column.words.filter(pa.array(huge))).as_py()
        if told := same_digits(written, len(np.unique(column.number[huge]))):
            column.wrong(huge, told, shorter(column.name) + f", or write words: {flow([column.name])}")
    padded = plain & _matching(column.words, PADDED)
    if padded.any():
        column.notes["zeros"] = f"{column.shown(padded, 1)} read as numbers; 'words' keeps them as they are"


def _strange_dates(column: Column, rest: Mask, reading: Reading) -> None:
    """Codes among dates."""
    never = rest & _matching(column.words, NEVER)
    if never.any() and not reading.decided(column.name) and (never != rest).any() and column.all_match(rest, ISO):
        column.wrong(never, *outside(column.name, column.shown(never), column.some(never)))


def values_of(column: Column) -> Any:
    """The column as pandas holds it: int64, float64, bool or text; gaps are NaN or None."""
    import pandas as pd

    gaps = column.gap[column.index]
    if column.kind in ("numbers", "empty"):
        there = column.number[~column.gap]
        if len(there) == len(column.number) and bool(((np.abs(there) < 2**63) & (np.floor(there) == there)).all()):
            return _whole(column)[column.index]
        return np.where(column.gap, np.nan, column.number)[column.index]
    if column.kind == "truth":
        truth = _equal(pc.utf8_lower(column.words), {"true"})[column.index]
        return truth if not gaps.any() else pd.arrays.BooleanArray(truth, gaps)
    words = pc.if_else(pa.array(column.gap), pa.scalar(None, pa.large_string()), column.words)
    return words.take(pa.array(column.index)).to_pandas()


def _whole(column: Column) -> npt.NDArray[np.int64]:
    """Whole numbers; those that float64 would round, digit by digit."""
    if bool((np.abs(column.number) >= 2**53).any()):
        with suppress(pa.ArrowInvalid):
            return np.array(pc.cast(column.words, pa.int64()).to_numpy(zero_copy_only=False), dtype=np.int64)
    return column.number.astype(np.int64)
