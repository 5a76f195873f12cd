"""A CSV or Parquet file to a data frame with one type per column: read right, or refused with every reason at once.

Text is typed by what is written, a column at a time (`nasplug.data.cells`); Parquet's own types stand.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nasplug.data.cells import Column, look_at, settle, values_of
from nasplug.data.delimited import MOST_CELLS, Sheet, read_text
from nasplug.data.numerals import outside, sentinels
from nasplug.data.origins import digest_of_columns
from nasplug.data.parquet import read_parquet
from nasplug.data.problems import Problem, Reading, brief, refuse
from nasplug.errors import ConfigError, did_you_mean
from nasplug.files import guarded, unguarded
from nasplug.rows import normal, uncoded
from nasplug.tasks import READING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SUFFIXES", "Table", "examine", "read"]

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
MOST_NOTED = 4  # columns that one note lists

OPEN = Reading()
"""Nothing decided."""

Values: TypeAlias = "pa.LargeStringArray | pd.Series[Any]"
"""A column: text as it stands, or what Parquet has."""
Used = Callable[[Sequence[str]], Sequence[str]]


class Table(NamedTuple):
    """A file as it was read.

    Attributes:
        frame: the columns that were asked for and have no problem: numbers (NaN: missing), bool,
            text, categories, dates.
        notes: what was found out and assumed, by key (`nasplug.tasks.READING`).
        problems: what cannot be read without guessing.
        names: of all columns of the file.
        digest: of names and cells of all columns as they stand in the file (`nasplug.data.origins`).
        marks: column -> texts that stand for a gap there, as ``N/A``, beside empty cells and the user's codes.
    """

    frame: pd.DataFrame
    notes: dict[str, str]
    problems: list[Problem]
    names: list[str]
    digest: str = ""
    marks: Mapping[str, tuple[str, ...]] = {}


def read(where: str, path: str | Path, used: Used | None = None, reading: Reading = OPEN) -> Table:
    """The columns of a file, with one type each and without problems, and notes of what was assumed.

    Args:
        where: named in errors.
        path: of a ``.csv``, ``.tsv``, ``.txt`` or ``.parquet`` file.
        used: names of all columns -> those that are needed: only these can have problems. None: all of them.
        reading: what the user decided.

    Raises:
        ConfigError: with every problem, its column, its first line and its remedy; or for a file that is none.
    """
    table = examine(where, path, used, reading)
    refuse(where, table.problems)
    return table


def examine(where: str, path: str | Path, used: Used | None = None, reading: Reading = OPEN) -> Table:
    """As `read`, with problems as a list instead of an error; columns that have some are not in the frame.

    Raises:
        ConfigError: for options and names of columns that do not fit the file, or a file that is none.
    """
    import pandas as pd

    file = Path(path).expanduser()
    try:
        with np.errstate(all="ignore"):
            sheet, given = (
                (read_parquet(file), True) if file.suffix.lower() == ".parquet" else (read_text(file, reading), False)
            )
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read: {error.strerror or error}") from error
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    raw = digest_of_columns(sheet.names, sheet.columns)
    if not given:
        _known(sheet, reading.known)
    _nameless(sheet, given)
    if not sheet.columns:
        if not sheet.problems:
            sheet.wrong("no column has a name", "The first line must name the columns, each other line must be a row")
        return Table(pd.DataFrame(), _noted(sheet.notes), sheet.problems, sheet.names)
    if len(sheet.names) * len(sheet.lines) > MOST_CELLS:
        raise ConfigError(
            f"{where}: {len(sheet.names):,} columns of {len(sheet.lines):,} rows; needed: {MOST_CELLS:,} values at most. Take "
            "a sample of the rows, or write fewer columns"
        )
    _blank(sheet, given)
    if not len(sheet.lines) and not sheet.problems:
        sheet.wrong("there are no rows", "Write one row per line below the names of the columns")
    if any("columns have this name" in problem.what for problem in sheet.problems):
        return Table(pd.DataFrame(), _noted(sheet.notes), sheet.problems, sheet.names)
    try:
        wanted = list(dict.fromkeys(used(sheet.names) if used else (name for name in sheet.names if name)))
        _options(reading, sheet.names)
    except ConfigError as error:
        refuse(where, [*sheet.problems, Problem(str(error).removeprefix(f"{where}: "), "")] if sheet.problems else [])
        raise ConfigError(str(error) if str(error).startswith(where) else f"{where}: {error}") from None
    frame, marks = _typed(sheet, wanted, reading, given)
    return Table(frame, _noted(sheet.notes), sheet.problems, sheet.names, raw, marks)


def _noted(notes: dict[str, str]) -> dict[str, str]:
    return {f"{READING}{key}": text for key, text in notes.items()}


def _known(sheet: Sheet, known: Mapping[str, Collection[str]]) -> None:
    """Names and words that were written for a spreadsheet, or names with accents coded otherwise, become those known."""

    def plain(text: str, others: Collection[str]) -> str:
        return bare if (bare := unguarded(text)) in others and text not in others else text

    accents = {normal(name): name for name in known}
    for i, name in enumerate(sheet.names):
        if name not in known and (found := accents.get(normal(name), name)) not in sheet.names:
            name = sheet.names[i] = found
        found = plain(name, known)
        if found != name and found not in sheet.names:
            sheet.names[i] = found
            sheet.notes["guarded"] = f"column {found!r} is written {name!r} in the file, as for a spreadsheet"
        words = known.get(sheet.names[i], ())
        if any(guarded(word) != word for word in words):
            texts = [plain(text, words) for text in sheet.columns[i].to_pylist()]
            sheet.columns[i] = pa.array(texts, type=sheet.columns[i].type)


def _nameless(sheet: Sheet, given: bool) -> None:
    """Columns without a name: row numbers and empty ones go, the others are called by their place."""
    gone = []
    for i, name in enumerate(sheet.names):
        if name or (given and not isinstance(name, str)):
            continue
        values = sheet.columns[i]
        if _nothing(values):
            gone.append(i)
        elif i == 0 and _counts(values):
            gone.append(i)
            sheet.notes["index"] = "the first column has no name and counts the rows: left out"
        else:
            sheet.names[i] = f"column {i + 1}"
            sheet.wrong(
                "it has no name" if given else "it has no name in the first line",
                f"Give it one, or leave it out: exclude: [column {i + 1}]",
                column=sheet.names[i],
            )
    for i in reversed(gone):
        del sheet.names[i], sheet.columns[i]


def _nothing(values: Values) -> bool:
    """Whether a column is empty."""
    if isinstance(values, pa.Array):
        return bool(pc.all(pc.equal(pc.utf8_trim_whitespace(values), "")).as_py())
    return bool(values.isna().all())


def _counts(values: Values) -> bool:
    """Whether a column is 0, 1, 2, ... or 1, 2, 3, ..."""
    if isinstance(values, pa.Array):
        try:
            numbers = pc.cast(values, pa.int64()).to_numpy()
        except pa.ArrowInvalid:
            return False
    elif values.dtype.kind in "iu" and not values.hasnans:
        numbers = values.to_numpy(dtype=np.int64)
    else:
        return False
    return bool(len(numbers) and numbers[0] in (0, 1) and (np.diff(numbers) == 1).all())


def _blank(sheet: Sheet, given: bool) -> None:
    """Rows without any value, which programs write below a table, go."""
    if given:
        return
    rows = np.arange(len(sheet.lines))
    for column in sheet.columns:
        if not len(rows):
            return
        part = column if len(rows) == len(column) else column.take(pa.array(rows))
        rows = rows[pc.equal(pc.utf8_trim_whitespace(part), "").to_numpy(zero_copy_only=False)]
    # a single column has gaps, not blank rows
    if len(rows) and len(sheet.columns) > 1:
        keep = np.ones(len(sheet.lines), dtype=bool)
        keep[rows] = False
        sheet.columns = [column.filter(pa.array(keep)) for column in sheet.columns]
        sheet.notes["blank"] = f"{len(rows):,} rows without any value left out, the first in line {sheet.lines[rows[0]]}"
        sheet.lines = sheet.lines[keep]


def _options(reading: Reading, names: Sequence[str]) -> None:
    """Refuse decisions about columns that are not there, and marks that are none."""
    codes = reading.missing_codes
    for option, given in (("words", reading.words), ("missing_codes", codes if isinstance(codes, dict) else ())):
        for name in given:
            if name not in names and not (option == "missing_codes" and name == "*"):
                raise ConfigError(f"{option}: {name!r} is not a column.{did_you_mean(name, names)}")
    for option, mark, accepted in (("decimal", reading.decimal, ".,"), ("thousands", reading.thousands, ".,' ")):
        if mark is not None and (len(mark) != 1 or mark not in accepted):
            raise ConfigError(f"{option}: {mark!r}; needed: one of {', '.join(map(repr, accepted))}")
    if reading.thousands is not None and reading.thousands == (reading.decimal or "."):
        raise ConfigError(f"thousands: {reading.thousands!r} is the decimal mark, too; write 'decimal' beside it")
    for unit in reading.units:
        if not unit.strip() or any(c.isdigit() or c in "+-.," for c in unit):
            raise ConfigError(f"units: {unit!r}; needed: what stands before or behind a number, without digits and signs")


def _typed(
    sheet: Sheet, wanted: Sequence[str], reading: Reading, given: bool
) -> tuple[pd.DataFrame, dict[str, tuple[str, ...]]]:
    """The wanted columns, with their problems and notes told to the sheet; and the marks of gaps in them."""
    import pandas as pd

    places = {name: i for i, name in enumerate(sheet.names)}
    found: dict[str, Any] = {}
    texts: list[Column] = []
    for name in wanted:
        values = sheet.columns[places[name]]
        if not isinstance(values, pa.Array):
            found[name] = _given(sheet, name, values, reading)
        else:
            texts.append(look_at(name, values, reading))
            found[name] = None
    settle(texts, reading)
    for column in texts:
        for problem in column.problems:
            place = int(sheet.lines[problem.place - 1]) if problem.place else 0
            sheet.wrong(
                problem.what,
                problem.remedy,
                column=problem.column,
                place=place,
                rows=problem.rows,
                unit="row" if given else "line",
            )
        if column.problems:
            del found[column.name]
        elif column.name in reading.words:  # else a column of dates alone would be taken for dates later
            found[column.name] = pd.Categorical(values_of(column))
        else:
            found[column.name] = values_of(column)
    _tell(sheet, texts, reading)
    sheet.problems = [p for p in sheet.problems if not p.column or p.column in wanted]
    frame = pd.DataFrame(
        found, index=pd.RangeIndex(len(sheet.lines)), columns=pd.Index([n for n in wanted if n in found], dtype=object)
    )
    return frame, {column.name: column.marks for column in texts if column.marks}


def _given(sheet: Sheet, name: str, values: pd.Series[Any], reading: Reading) -> pd.Series[Any]:
    """A column of Parquet that has a type: the user's codes are gaps, and numbers that look like codes are asked about."""
    from pandas.api import types

    values = uncoded(values, reading.codes(name))
    if name in reading.words:
        return values.astype("category")
    if reading.decided(name):
        return values
    if values.dtype.kind == "M":
        never = values.dt.strftime("%Y-%m-%d").where(values.dt.year.isin([1, 9999]))
        _ask(sheet, name, never.notna().to_numpy(), never.dropna().unique().tolist())
    elif types.is_numeric_dtype(values.dtype) and not types.is_bool_dtype(values.dtype):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        strange = sentinels(numbers)
        _ask(sheet, name, np.isin(numbers, strange), strange.tolist())
    return values


def _ask(sheet: Sheet, name: str, rows: npt.NDArray[np.bool_], codes: Sequence[float | str]) -> None:
    """Values of a typed column that look like codes, at ``rows``; those of all rows are values."""
    if len(codes) and not rows.all():
        some = codes[:3]
        shown = ", ".join(brief(value if isinstance(value, str) else f"{value:.16g}") for value in some)
        sheet.wrong(
            *outside(name, shown, some),
            column=name,
            place=int(np.flatnonzero(rows)[0]) + 1,
            rows=int(rows.sum()),
            unit="row",
        )


def _tell(sheet: Sheet, columns: Sequence[Column], reading: Reading) -> None:
    """One note per kind of assumption, with the columns that it was made in."""
    kinds: dict[str, list[str]] = {}
    for column in columns:
        for key, text in column.notes.items():
            kinds.setdefault(key, []).append(f"{brief(column.name)}: {text}")
    titles = {
        "gaps": "taken for missing, beside empty cells",
        "none": "",
        "decimal": "",
        "mixed": "",
        "dates": "",
        "zeros": "",
        "spaces": "spaces around values taken off",
    }
    for key, said in kinds.items():
        more = f"; and {len(said) - MOST_NOTED} more columns" if len(said) > MOST_NOTED else ""
        head = titles.get(key, "")
        sheet.notes[key] = f"{head}{': ' if head else ''}{'; '.join(said[:MOST_NOTED])}{more}"
