"""A text file of rows to columns of text: its encoding, its separator, its header, and rows that do not fit it.

Nothing is typed here. The file is parsed once, by Arrow; what a cell holds is for `nasplug.data.cells`.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nasplug.data.decoding import CHUNK, decode, line_of
from nasplug.data.problems import Problem, Reading, brief
from nasplug.errors import ConfigError

__all__ = ["MOST_BYTES", "MOST_CELLS", "MOST_NAMES", "Sheet", "read_text"]

MOST_BYTES = 2**31  # of a text file: all of it is in memory once
MOST_LINE = 2**24  # bytes of one line, and of one row
MOST_SAMPLE = 200  # lines that the separator is found from
MOST_NAMES = 100_000  # columns
MOST_CELLS = 2**28  # columns times rows
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
KEPT = 3  # offending rows that are kept to be shown


@dataclass
class Sheet:
    """Columns of text.

    Attributes:
        names: one per column, in order; may come twice, or be empty (then it is a problem already).
        columns: text as it stands in the file, spaces too.
        lines: the line of the file that each row begins at, ``(N,)``.
        notes: what was found out and assumed.
        problems: what is wrong with the file as a whole.
    """

    names: list[str] = field(default_factory=list)
    columns: list[pa.LargeStringArray] = field(default_factory=list)
    lines: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    notes: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def wrong(self, what: str, remedy: str, **more: Any) -> Sheet:
        """One problem more."""
        self.problems.append(Problem(what, remedy, **more))
        return self


def read_text(file: Path, reading: Reading) -> Sheet:
    """Every cell of a file as text, in columns.

    Raises:
        ConfigError: for an option that no file can be read with, or a file too large for this machine.
        OSError: as files do.
    """
    sheet = Sheet()
    size = file.stat().st_size
    if size > MOST_BYTES:
        return sheet.wrong(
            f"has {size:,} bytes; needed: {MOST_BYTES:,} at most for a text file", "Write it as Parquet, or take a sample"
        )
    data = _text(sheet, file, reading.encoding)
    if sheet.problems:
        return sheet
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    data, skipped, said = _start(data.rstrip(b"\x1a"))
    if not data.strip():
        return sheet.wrong("is empty", "The first line must name the columns, each other line must be a row")
    longest, line = _longest(data)
    if longest > MOST_LINE:
        return sheet.wrong(
            f"a line of {longest:,} bytes; needed: {MOST_LINE:,} at most",
            "Leave out the column that is that long, or check that the file is a table",
            place=line + skipped,
        )
    separator = _separator(sheet, data, reading.separator or said)
    try:
        header = next(csv.reader(io.StringIO(_head(data, MOST_SAMPLE)), delimiter=separator, skipinitialspace=True), [])
    except csv.Error as error:
        return sheet.wrong(
            f"a header that cannot be read: {error}", "Close its quotes, or shorten its names", place=skipped + 1
        )
    if len(header) > MOST_NAMES:
        return sheet.wrong(f"names {len(header):,} columns; needed: {MOST_NAMES:,} at most", "Leave some out")
    if separator != " " and (data.startswith(b' "') or f'{separator} "'.encode() in data or b'\n "' in data):
        data = _tight(data, separator)  # a quote after a space is a quote, too
    _parse(sheet, data, separator, len(header), skipped)
    if sheet.columns:
        _name(sheet, skipped)
    return sheet


def _text(sheet: Sheet, file: Path, encoding: str | None) -> bytes:
    """The text of a file in UTF-8."""
    decoded = decode(file.read_bytes(), encoding)
    if decoded.assumed:
        sheet.notes["encoding"] = decoded.assumed
    if decoded.wrong:
        sheet.wrong(*decoded.wrong, place=decoded.line)
    return decoded.text


def _start(data: bytes) -> tuple[bytes, int, str | None]:
    """Without blank lines at the top and Excel's ``sep=;``; how many lines that were, and the separator it names."""
    skipped, said = 0, None
    while True:
        line, end, rest = data.partition(b"\n")
        plain = line.strip(b'\r "').decode(errors="replace")
        if len(plain) == 5 and plain.lower().startswith("sep=") and said is None:
            said = plain[4]
        elif line.strip() or not end:
            return data, skipped, said
        data, skipped = rest, skipped + 1


def _longest(data: bytes) -> tuple[int, int]:
    """Bytes of the longest line, and its number."""
    longest, at, number, start = 0, 1, 1, 0
    whole = np.frombuffer(data, dtype=np.uint8)
    for offset in range(0, len(data), CHUNK):
        chunk = whole[offset : offset + CHUNK]
        ends = np.flatnonzero(chunk == 10) + offset
        if len(ends):
            lengths = np.diff(ends, prepend=start - 1) - 1
            most = int(lengths.argmax())
            if lengths[most] > longest:
                longest, at = int(lengths[most]), number + line_of(data[offset : int(ends[most])], CHUNK) - 1
            number += len(ends)
            start = int(ends[-1]) + 1
    return (len(data) - start, number) if len(data) - start > longest else (longest, at)


def _head(data: bytes, most: int) -> str:
    """The first lines, as text."""
    end = 0
    for _ in range(most):
        at = data.find(b"\n", end, MOST_LINE)
        if at < 0:
            end = min(len(data), MOST_LINE) if not end or len(data) <= MOST_LINE else end
            break
        end = at + 1
        if end > 2**20:
            break
    return data[:end].decode("utf-8", errors="replace")


def _separator(sheet: Sheet, data: bytes, given: str | None) -> str:
    """What stands between values."""
    if given is not None:
        if len(given) != 1 or given in '"\r\n' or not given.isascii():
            raise ConfigError(f"separator {given!r}; needed: one character, such as ',', ';', '|' or a tab (\"\\t\" in YAML)")
        return given
    lines = _head(data, MOST_SAMPLE)
    found: list[tuple[bool, float, int, str]] = []
    for mark in SEPARATORS:
        try:
            counts = [len(row) for row in csv.reader(io.StringIO(lines), delimiter=mark, skipinitialspace=True) if row]
        except csv.Error:  # a cell beyond the module's limit
            counts = [len(line.split(mark)) for line in lines.splitlines() if line]
        usual, times = Counter(counts[1:] or counts).most_common(1)[0]
        if max(usual, counts[0]) > 1:
            found.append((counts[0] == usual, times / len(counts[1:] or counts), usual, mark))
    found.sort(reverse=True)
    best = [one for one in found if one[:2] == (True, 1.0)]
    if len(best) > 1:
        sheet.wrong(
            f"{' and '.join(SEPARATORS[one[3]] for one in best)} both split every line alike",
            f"Write which one it is: separator: {best[0][3]!r}",
        )
    if not found:
        _spaces(sheet, lines.splitlines())
        return ","
    if found[0][3] != ",":
        sheet.notes["separator"] = f"{SEPARATORS[found[0][3]]} between values"
    return found[0][3]


def _spaces(sheet: Sheet, lines: Sequence[str]) -> None:
    """A table of one column whose lines all fall apart at spaces."""
    counts = {len(line.split()) for line in lines if line.strip()}
    if len(lines) > 2 and len(counts) == 1 and (n := counts.pop()) > 1 and all('"' not in line for line in lines):
        sheet.wrong(
            f"no comma, semicolon, tab or '|' in it, and {n} words in each line: it seems to be separated by spaces",
            "Write it with commas, or say \"separator: ' '\" where exactly one space stands between values",
        )


def _tight(data: bytes, separator: str) -> bytes:
    """The same rows with each quote right behind its separator."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=separator, lineterminator="\n")
    rows = csv.reader(io.StringIO(data.decode(), newline=""), delimiter=separator, skipinitialspace=True)
    try:
        writer.writerows(rows)
    except csv.Error:  # a cell beyond the module's limit: as it was
        return data
    return out.getvalue().encode()


def _parse(sheet: Sheet, data: bytes, separator: str, columns: int, skipped: int) -> None:
    """Fill in the columns and lines of the sheet, header first."""
    from pyarrow import csv as arrow

    bad: list[tuple[int, int, int]] = []  # row, values, lines inside
    shown: list[tuple[int, int, str]] = []

    def wrong(row: Any) -> str:
        if len(shown) < KEPT:
            shown.append((int(row.number), int(row.actual_columns), str(row.text)))
        bad.append((int(row.number), int(row.actual_columns), str(row.text).count("\n")))
        return "skip"

    names = [str(i) for i in range(columns)]
    try:
        table = arrow.read_csv(
            pa.py_buffer(data),
            arrow.ReadOptions(use_threads=False, block_size=2 * MOST_LINE, column_names=names),
            arrow.ParseOptions(
                delimiter=separator, newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=wrong
            ),
            arrow.ConvertOptions(
                column_types=dict.fromkeys(names, pa.large_string()), strings_can_be_null=False, check_utf8=False
            ),
        )
    except pa.ArrowInvalid as error:
        _unclosed(sheet, data, separator, skipped, str(error))
        return
    if bad and bad[0][0] == 1:
        sheet.wrong("a header that cannot be read", "Close its quotes, and put nothing before them", place=skipped + 1)
        return
    sheet.columns = [table.column(i).combine_chunks() for i in range(columns)]
    sheet.lines, wrongs = (lines + skipped for lines in _lines(sheet.columns, bad))
    if bad:
        _ragged(sheet, columns, bad, shown, wrongs)
    _swallowed(sheet, separator, columns)


def _lines(
    columns: Sequence[pa.LargeStringArray], bad: Sequence[tuple[int, int, int]]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The line at which each row begins, of those that were kept and of the bad ones; line breaks inside of cells count."""
    kept = len(columns[0])
    wrong = np.array([number - 1 for number, _, _ in bad], dtype=np.int64)
    row = np.delete(np.arange(kept + len(bad)), wrong)
    breaks = np.zeros(kept + len(bad), dtype=np.int64)
    for column in columns:
        if _has_break(column):
            breaks[row] += pc.count_substring(column, "\n").to_numpy(zero_copy_only=False)
    for number, _, inside in bad:
        breaks[number - 1] = inside
    begins = np.arange(1, kept + len(bad) + 1) + np.cumsum(breaks) - breaks
    return begins[row], begins[wrong]


def _has_break(column: pa.LargeStringArray) -> bool:
    characters = column.buffers()[2]
    return characters is not None and b"\n" in memoryview(characters).tobytes()


def _ragged(
    sheet: Sheet,
    columns: int,
    bad: Sequence[tuple[int, int, int]],
    shown: Sequence[tuple[int, int, str]],
    lines: npt.NDArray[np.int64],
) -> None:
    """Rows with more or fewer values than the header."""
    kept = len(sheet.lines)
    usual, times = Counter(values for _, values, _ in bad).most_common(1)[0]
    if times > kept - 1:  # most rows agree with each other, and not with the header
        sheet.wrong(
            f"{usual} values, where the header names {columns} columns, as in {times:,} of {kept - 1 + len(bad):,} rows: "
            f"{brief(shown[0][2])}",
            "Name all columns in the first line. Row names that a program wrote need one too, and a title must go",
            place=int(lines[0]),
        )
        return
    for (_, values, text), line in zip(shown, lines, strict=False):
        sheet.wrong(
            f"{values} values, where the header names {columns} columns: {brief(text)}",
            "Correct that row; a value with the separator in it needs quotes",
            place=int(line),
        )
    if len(bad) > len(shown):
        sheet.wrong(f"{len(bad) - len(shown):,} more rows have more or fewer values than the header", "Correct them, too")


def _swallowed(sheet: Sheet, separator: str, columns: int) -> None:
    """A quote that is never closed makes one cell of many rows."""
    for column in sheet.columns if columns > 1 else ():
        if not _has_break(column):
            continue
        for row in pc.indices_nonzero(pc.match_substring(column, "\n")).to_pylist()[:1000]:
            inside = column[row].as_py().splitlines()[1:]
            if any(line.count(separator) == columns - 1 for line in inside):
                sheet.wrong(
                    f"a quoted value goes on for {len(inside)} more lines, which look like rows themselves",
                    "Close the quote, or double it where it belongs to the text",
                    place=int(sheet.lines[row]),
                )
                return


def _unclosed(sheet: Sheet, data: bytes, separator: str, skipped: int, told: str) -> None:
    """Say where a row begins that is longer than any may be."""
    rows = csv.reader(io.StringIO(data.decode(errors="replace")), delimiter=separator)
    begins = 1
    try:
        for _ in rows:
            begins = rows.line_num + 1
    except csv.Error:
        sheet.wrong(
            f"a value that begins here is longer than {csv.field_size_limit():,} characters",
            "Close its quote, or leave that column out",
            place=begins + skipped,
        )
        return
    sheet.wrong(f"cannot be read as rows: {told}", "Write the file again as CSV")


def _name(sheet: Sheet, skipped: int) -> None:
    """Take the header off, and refuse one that names no columns."""
    sheet.names = [str(column[0].as_py()).strip() if len(column) else "" for column in sheet.columns]
    spaced = [name for name, column in zip(sheet.names, sheet.columns, strict=True) if column[0].as_py() != name]
    if spaced:
        sheet.notes["names"] = f"spaces around {', '.join(map(brief, spaced[:8]))} taken off in the header"
    sheet.columns = [column[1:] for column in sheet.columns]
    sheet.lines = sheet.lines[1:]
    named = [name for name in sheet.names if name]
    if named and all(map(_numeric, named)) and named != [str(i) for i in range(len(sheet.names))]:
        sheet.wrong(
            f"the first line holds numbers ({', '.join(named[:4])}), where the names of the columns belong",
            "Add a line of names at the top",
            place=skipped + 1,
        )
    twice = [name for name, times in Counter(named).items() if times > 1]
    for name in twice:
        at = [str(i + 1) for i, other in enumerate(sheet.names) if other == name]
        sheet.wrong(
            f"{len(at)} columns have this name: the {_th(at)} of the file", "Give each its own, or leave one out", column=name
        )


def _th(numbers: Sequence[str]) -> str:
    return " and ".join(f"{n}{'st' if n == '1' else 'nd' if n == '2' else 'rd' if n == '3' else 'th'}" for n in numbers[:4])


def _numeric(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return name.lower().lstrip("+-") not in ("nan", "inf", "infinity")
