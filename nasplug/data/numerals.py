"""Numbers as people write them: with decimal commas, marks between thousands, units, and codes for what is missing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasplug.data.problems import Reading, flow
from nasplug.rows import MINUS, NUMBER, PLAIN, D

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "EITHER",
    "EITHER_DOT",
    "EXACT",
    "GERMAN",
    "NEVER",
    "WRITTEN",
    "blurred",
    "number_of",
    "options_of",
    "outside",
    "same_digits",
    "sentinels",
    "shorter",
    "unit_of",
]


EXACT = 2**53  # float64 holds each whole number up to here
UNIT = r"(?:[$€£¥₹%‰°]|EUR|USD|GBP|CHF|JPY|CAD|AUD)"
SPACE, APOSTROPHE = "[ \u00a0\u202f\u2009]", "['\u2019]"
GROUPS = (
    rf"{D}{{1,3}}(?:(?:,{D}{{3}})+(?:\.{D}+)?|(?:\.{D}{{3}})+(?:,{D}+)?|(?:(?:{APOSTROPHE}|{SPACE}){D}{{3}})+(?:[.,]{D}+)?)"
)
WRITTEN = re.compile(
    rf"^(?P<head>{UNIT})?\s*[+\-{MINUS}]?\s*(?P<head2>{UNIT})?\s*(?P<body>{GROUPS}|{D}*,{D}+|{NUMBER})\s*(?P<tail>{UNIT})?$"
)
"""A number as people write it, with its unit."""
GERMAN = rf"^[+-]?{D}*,{D}+(?:[eE][+-]?{D}+)?$"
EITHER = rf"^[+-]?[1-9]{D}{{0,2}},{D}{{3}}$"  # 3,010: three thousand, or three
EITHER_BODY = re.compile(EITHER)
EITHER_DOT = rf"^[+-]?[1-9]{D}{{0,2}}\.{D}{{3}}$"
NEVER = r"^(?:9999|0001)-"  # a date that says that there is none
CODE = 9.0  # no smaller number is a code
NEAR = 2.0  # spreads that a code is away from all other values, at least
BEHIND = re.compile(rf"^[+-]?{NUMBER}\s*([^\W\d_]{{1,8}}|[^\w\s.,;:!?'-]{{1,3}})$")
"""A number and what it counts: 5 kg, 12°."""


def number_of(word: str, reading: Reading) -> float | None:
    """A number as the user says that numbers are written; None where it is none."""
    text = word.replace(MINUS, "-")
    for unit in reading.units:
        text = text.strip().removeprefix(unit).removesuffix(unit).strip()
        text = f"{text[0]}{text[1:].strip().removeprefix(unit).strip()}" if text[:1] in ("-", "+") else text
    mark, decimal = reading.thousands, reading.decimal or "."
    if mark is not None:
        marks = SPACE if mark == " " else APOSTROPHE if mark == "'" else re.escape(mark)
        if re.match(rf"^[+-]?{D}{{1,3}}(?:{marks}{D}{{3}})+(?:{re.escape(decimal)}{D}*)?$", text):
            text = re.sub(marks, "", text)
        elif mark == "." and "." in text:
            return None
    if decimal == ",":
        text = text.replace(",", ".") if text.count(",") == 1 and "." not in text else text
    return float(text) if re.match(PLAIN, text) else None


def options_of(words: Sequence[str]) -> list[str]:
    """The options that read numbers which are written so."""
    found: dict[str, None] = {}
    for word in words:
        match = WRITTEN.match(word)
        if match is None:  # RE2 and Python disagree on a rare space
            continue
        for unit in (match["head"], match["head2"], match["tail"]):
            if unit:
                found.setdefault(f"units: {flow([unit])}")
        marks = [c for c in match["body"] if not c.isalnum()]
        if len(marks) > 1 and marks[0] != marks[-1]:
            found.setdefault(f"thousands: {flow(marks[0])}")
            found.setdefault(f"decimal: {flow(marks[-1])}")
        elif len(marks) > 1 or (marks and marks[0] not in ",."):
            found.setdefault(f"thousands: {flow(marks[0])}")
        elif marks == [","]:
            either = EITHER_BODY.match(match["body"])
            found.setdefault('thousands: "," or decimal: ","' if either else 'decimal: ","')
    return list(found)


def unit_of(words: Sequence[str]) -> str:
    """The one unit that all of these numbers have; empty where they are no such numbers."""
    matches = [BEHIND.match(word) for word in words]
    units = {match[1] for match in matches if match is not None}
    return units.pop() if len(units) == 1 and len(words) > 1 and all(matches) else ""


def sentinels(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Among distinct values: those that look like codes, far outside of all others (-999, 9999, 1e30)."""
    size = np.abs(values)
    large = size >= CODE
    if not large.any():
        return values[:0]
    values = np.unique(values[np.isfinite(values)])
    size = np.abs(values)
    digits = np.floor(np.log10(np.maximum(size, 1.0))) + 1
    nines = 10.0**digits - size  # 1 for 999, 2 for 998
    near = (nines >= 1) & (nines <= np.where(size > 90, 4, 1))
    code = (size >= 1e30) | ((values != CODE) & (size >= CODE) & (size % 1 == 0) & near)
    rest = values[~code]
    if not code.any() or not len(rest):
        return values[:0]
    low, high = rest.min(), rest.max()
    spread = max(high - low, float(np.median(np.abs(rest))), np.finfo(float).tiny)
    away = np.maximum(low - values, values - high)
    found: npt.NDArray[np.float64] = values[code & (away > NEAR * spread)]
    return found


def outside(name: str, shown: str, codes: Sequence[float | str]) -> tuple[str, str]:
    """What is said of values that look like codes, and the remedy."""
    return (
        f"{shown} far outside of all other values",
        f"If it means missing, write missing_codes: {flow(codes)}; if it is a value, missing_codes: {flow({name: []})}",
    )


def blurred(values: pd.Series[Any]) -> str:
    """What is said of whole numbers of which some become the same in float64; empty where none does."""
    there = values.dropna().to_numpy() if values.dtype.kind in "iu" else np.zeros(0, dtype=np.int64)
    if not len(there) or (int(there.max()) < EXACT and int(there.min()) > -EXACT):
        return ""
    distinct = np.unique(there)
    return same_digits(len(distinct), len(np.unique(distinct.astype(np.float64))))


def same_digits(written: int, computed: int) -> str:
    """The same of how many are written, and how many differ when they are computed with."""
    if written == computed:
        return ""
    return f"{written:,} different whole numbers, of which {computed:,} differ in the 16 digits that are computed with"


def shorter(name: str) -> str:
    """The remedy."""
    return f"Take off the digits that all have in common, or leave it out with exclude: {flow([name])}"
