"""What is wrong with a table as it was written: found all at once, each with its place and its remedy."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nasplug.console import one_line
from nasplug.errors import ConfigError

__all__ = ["Problem", "Reading", "brief", "flow", "refuse", "told"]

MOST_TOLD = 20  # problems that one message lists
MOST_PLACES = 4  # columns that one problem lists
SIMPLE = re.compile(r"^(?!(?:null|true|false|yes|no|on|off|y|n)$)[A-Za-z_]\w*$", re.IGNORECASE | re.ASCII)
"""Text that YAML takes for text without quotes."""
LONGEST = 40  # characters of a cell that are shown

Code = str | int | float


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that cannot be read without guessing.

    Attributes:
        what: it is.
        remedy: what to write, or to correct.
        column: its name; empty for what concerns the whole file.
        place: the first offending line of a text file, counted from 1, or row of a Parquet file; 0: none.
        rows: how many rows are concerned; 0: not counted.
        unit: of ``place``.
    """

    what: str
    remedy: str
    column: str = ""
    place: int = 0
    rows: int = 0
    unit: str = "line"

    @property
    def where(self) -> str:
        """``column 'size' (line 6, 3 rows)``."""
        found = [f"{self.unit} {self.place}"] if self.place else []
        found += [f"{self.rows:,} rows"] if self.rows > 1 else []
        told = f" ({', '.join(found)})" if found and self.column else ", ".join(found)
        return (repr(one_line(self.column)) if self.column else "") + told


@dataclass(frozen=True, slots=True)
class Reading:
    """What the user has decided about a file; all of it may be left open.

    Attributes:
        missing_codes: values that mean "missing", beside empty cells: for all columns, or column -> values (``*``: the others).
            An empty list says that there are none, and nothing is asked about that column.
        words: columns that hold words, whatever their cells look like; only an empty cell is missing there.
        separator: between values; None: found.
        decimal: the mark before decimals; None: found.
        thousands: the mark between groups of three digits; None: there is none.
        units: what stands before or behind numbers and is taken off: ``%``, ``$``.
        encoding: of the text; None: found.
        known: names of columns, with words of theirs, that are taken as these, also where a table for people has an apostrophe
            in front of one (`nasplug.files.guarded`).
    """

    missing_codes: Sequence[Code] | Mapping[str, Sequence[Code]] | None = None
    words: Sequence[str] = ()
    separator: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    units: Sequence[str] = ()
    encoding: str | None = None
    known: Mapping[str, Collection[str]] = field(default_factory=dict)

    def codes(self, column: str) -> Sequence[Code]:
        """What means "missing" in a column."""
        given = self.missing_codes
        if isinstance(given, Mapping):
            return given.get(column, given.get("*", ()))
        return given or ()

    def decided(self, column: str) -> bool:
        """Whether the user has said which codes this column has: then it is not searched for more."""
        given = self.missing_codes
        return column in given if isinstance(given, Mapping) else given is not None and not given


def brief(cell: str) -> str:
    """A cell as it is shown: in quotes, one line, cut where it is long."""
    return repr(cell if len(cell) <= LONGEST else f"{cell[:LONGEST]}...")


def flow(value: Any) -> str:
    """Plain data as it is written in a line of YAML."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{flow(key)}: {flow(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(flow, value))}]"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    if isinstance(value, str) and SIMPLE.match(value):
        return value
    return json.dumps(value, ensure_ascii=False)


def told(problems: Iterable[Problem]) -> list[str]:
    """One line per problem; what is the same in several columns is one."""
    groups: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.what, problem.remedy), []).append(problem)
    lines = []
    for (what, remedy), group in groups.items():
        places = ", ".join(p.where for p in group[:MOST_PLACES] if p.where)
        more = f" and {len(group) - MOST_PLACES} more" if len(group) > MOST_PLACES else ""
        head = ("columns " if len(group) > 1 else "column ") if group[0].column else ""
        lines.append(f"{head}{places}{more}{': ' if places else ''}{what}. {remedy}")
    return lines


def refuse(where: str, problems: Sequence[Problem]) -> None:
    """Refuse a file with all that is wrong.

    Raises:
        ConfigError: where there is a problem.
    """
    lines = told(problems)
    if len(lines) == 1:
        raise ConfigError(f"{where}: {lines[0]}")
    if lines:
        more = [f"and {len(lines) - MOST_TOLD} more"] if len(lines) > MOST_TOLD else []
        listed = "".join(f"\n  - {line}" for line in (*lines[:MOST_TOLD], *more))
        raise ConfigError(f"{where}: cannot be read without guessing, for {len(lines)} reasons:{listed}")
