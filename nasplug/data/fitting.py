"""From training rows to an `Encoder`: kinds of columns, words, gaps, ramps. All problems of a table are told at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from nasplug.data.encoder import Column, ColumnKind, Encoder, kind_of, numbers_of
from nasplug.data.numerals import EXACT, blurred, shorter
from nasplug.data.problems import flow
from nasplug.errors import ConfigError, did_you_mean
from nasplug.rows import Array, listed, words_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Gaps",
    "How",
    "Numeric",
    "all_rare",
    "complete",
    "few",
    "fit",
    "how_of",
    "kinds_of",
    "numbers_rows",
    "rare_below",
    "refuse",
]

Rows = npt.NDArray[np.int64]
How = Literal["refuse", "drop", "mean", "median", "category", "indicator"]
Gaps = How | dict[str, How]
Numeric = Literal["linear", "piecewise"]

FILLED: Mapping[How, str] = {
    "mean": "filled with the mean of the training split (a category: its most frequent word), in",
    "median": "filled with the median of the training split (a category: its most frequent word), in",
    "indicator": "filled with the mean of the training split and marked (a category: a word of its own), in",
    "category": "with a gap that is a word of its own, in",
}
LONGEST_WORD = 1000  # characters: a word is part of a feature's name
MOST_BINS = 256
BINS = 4  # by experiment, benchmarks/tables.md: more help only networks of several hundred numbers
MOST_COLUMNS = 100_000  # features
MOST_CELLS = 2**28  # features times rows: 2 GB in float64
IDENTIFIER = re.compile(r"(?:^|[^A-Za-z])(?i:id|uuid|guid|index|rowid|row|key|nr|no)$|[a-z](?:ID|Id|Nr|No|Key|Index)$")


def rare_below(rows: int) -> float:
    """A word with fewer of the training rows than this is rare: 10, in tables under 200 rows 5 %, above 1,000 rows 1 %."""
    return max(0.01 * rows, min(10.0, 0.05 * rows))


def refuse(where: str, problems: Sequence[str]) -> None:
    """Raise all that is wrong with a table at once.

    Raises:
        ConfigError: if anything is.
    """
    if len(problems) == 1:
        raise ConfigError(f"{where}: {problems[0]}")
    if problems:
        more = f"\n- and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise ConfigError(f"{where}: {len(problems)} problems:\n- " + "\n- ".join(problems[:20]) + more)


def few(where: str, columns: int, rows: int) -> None:
    """Refuse a table that is too large to hold as numbers, before they are made.

    Raises:
        ConfigError: with its size.
    """
    if columns > MOST_COLUMNS or columns * rows > MOST_CELLS:
        raise ConfigError(
            f"{where}: {columns:,} features of {rows:,} rows are {columns * rows:,} numbers; needed: {MOST_COLUMNS:,} features "
            f"and {MOST_CELLS:,} numbers at most. Name those to use in 'features', or take a sample of the rows"
        )


def kinds_of(where: str, frame: pd.DataFrame) -> dict[str, ColumnKind]:
    """Column -> what it is taken for.

    Raises:
        ConfigError: for columns of which nothing can be learned.
    """
    few(where, frame.shape[1], len(frame))
    found: dict[str, ColumnKind] = {}
    problems = []
    plain: dict[str, ColumnKind] = {"b": "boolean", "i": "number", "u": "number", "f": "number"}
    for place, (name, dtype) in enumerate(zip(map(str, frame.columns), frame.dtypes, strict=True)):
        kind = plain.get(dtype.kind) if isinstance(dtype, np.dtype) else None  # thousands of columns are told by their types
        kind = kind or kind_of(frame.iloc[:, place])
        if kind is None:
            problems.append(_unknown(name, frame.iloc[:, place]))
        else:
            found[name] = kind
    refuse(where, problems)
    if not found:
        raise ConfigError(f"{where}: no feature is left; at least one column beside the target is needed")
    return found


def _unknown(name: str, column: pd.Series[Any]) -> str:
    """What is said of a column of mixed or strange values: with the first row that is not like those before it."""
    held, gaps = f"holds {column.dtype} values", column.isna().to_numpy()
    types = [(row, type(value).__name__) for row, value in enumerate(column) if not gaps[row]]
    held = f"holds {types[0][1]} values" if types and column.dtype == object else held
    odd = next(((row, kind) for row, kind in types if kind != types[0][1]), None) if types else None
    if odd is not None:
        held = f"holds {types[0][1]} and, first in row {odd[0] + 1}, {odd[1]} values ({str(column.iloc[odd[0]])[:40]!r})"
    return (
        f"feature {name!r} {held}; accepted: numbers, true/false, dates and text, one of them per column. Make one of it, or "
        f"leave it out with exclude: {flow([name])}"
    )


def how_of(missing: Gaps, name: str) -> How:
    """What is done about the gaps of a column."""
    return missing if isinstance(missing, str) else missing.get(name, "refuse")


def complete(
    where: str, frame: pd.DataFrame, targets: pd.DataFrame, missing: Gaps, notes: dict[str, str]
) -> npt.NDArray[np.bool_]:
    """Which rows stay, ``(N,)`` bool. Rows without a target go, as nothing is learned from them, unless gaps are refused.

    Raises:
        ConfigError: for gaps that are refused.
    """
    known = [*map(str, frame.columns), *map(str, targets.columns)]
    if not isinstance(missing, str) and (strange := [name for name in missing if name not in known]):
        raise ConfigError(
            f"{where}: missing names {listed(strange)}, which are not columns in use; columns: {listed(known, 20)}."
            f"{did_you_mean(strange[0], known)}"
        )
    inputs, outputs = _gappy(frame), _gappy(targets)
    refused = {name: rows for name, rows in inputs.items() if how_of(missing, name) == "refuse"}
    dropped = {name: rows for name, rows in inputs.items() if how_of(missing, name) == "drop"}
    problems = []
    if unlearned := {name: rows for name, rows in outputs.items() if how_of(missing, name) == "refuse"}:
        problems.append(
            f"the target has missing values: {_counted(unlearned, len(frame), 'have none, in')}. Set missing to 'drop' "
            "(or anything but 'refuse') to leave those rows out, or fill them in first (in a CSV file, empty cells and words "
            "such as NA, None and null count as missing)"
        )
    if refused:
        problems.append(
            f"{_counted(refused, len(frame), 'have missing values, in')}. Set missing to 'drop' to leave those rows out, "
            "to 'mean' or 'median' to fill in that of the training rows, to 'indicator' for the mean and a feature that says "
            f"so, or to a mapping, missing: {flow({next(iter(refused)): 'median'})}; or leave the columns out with 'exclude'"
        )
    refuse(where, problems)
    filled = {name: rows for name, rows in inputs.items() if name not in dropped}
    told = [_counted(dropped, len(frame), "dropped, with gaps in")] if dropped else []
    for how in dict.fromkeys(how_of(missing, name) for name in filled):
        mine = {name: rows for name, rows in filled.items() if how_of(missing, name) == how}
        told.append(_counted(mine, len(frame), FILLED[how]))
    if told:
        notes["missing"] = "; ".join(told)
    if outputs:
        notes["target missing"] = _counted(outputs, len(frame), "dropped, without a target:")
    gone = np.zeros(len(frame), dtype=np.bool_)
    for rows in (*dropped.values(), *outputs.values()):
        gone |= rows
    if gone.all():
        reasons = "; ".join(notes[key] for key in ("missing", "target missing") if key in notes)
        raise ConfigError(f"{where}: no row is left: {reasons}. Leave those columns out with 'exclude', or fill their gaps")
    return ~gone


def _gappy(frame: pd.DataFrame) -> dict[str, npt.NDArray[np.bool_]]:
    """Columns with gaps, and where they are."""
    gaps = frame.isna().to_numpy()
    return {str(frame.columns[int(place)]): gaps[:, place] for place in np.flatnonzero(gaps.any(0))}


def _counted(gaps: Mapping[str, npt.NDArray[np.bool_]], rows: int, what: str) -> str:
    """``3 of 60 rows WHAT 'size' (2 rows), 'rooms' (2 rows)``."""
    told = ", ".join(f"{name!r} ({np.count_nonzero(at)} rows)" for name, at in list(gaps.items())[:8])
    told += f" and {len(gaps) - 8} more columns" if len(gaps) > 8 else ""
    return f"{np.count_nonzero(np.logical_or.reduce(list(gaps.values())))} of {rows} rows {what} {told}"


def fit(
    where: str,
    frame: pd.DataFrame,
    rows: Rows,
    kinds: Mapping[str, ColumnKind],
    *,
    missing: Gaps = "refuse",
    numeric: Numeric = "linear",
    bins: int | None = None,
    constants: bool = False,
    empty: Literal["refuse", "drop"] = "refuse",
    notes: dict[str, str],
) -> Encoder:
    """What is learned from the training ``rows`` of a frame whose columns are of ``kinds``; ``notes`` get what was done.

    Columns that do not vary in those rows are left out, unless ``constants`` says to keep them; those without a value there are
    refused, unless ``empty`` says to leave them out, too. ``bins``: ramps of a number, at
    most, between quantiles of its training rows (`BINS` if none is given); fewer where quantiles agree.

    Raises:
        ConfigError: with all columns that cannot be used as they are.
    """
    ramps = _ramps(where, numeric, bins)
    plain = [name for name, kind in kinds.items() if kind != "category"]
    places = {name: place for place, name in enumerate(kinds)}
    values = numbers_of(frame.iloc[:, [places[name] for name in plain]], [kinds[name] for name in plain], where)  # (N, P)
    problems = _too_large(plain, values)
    for name in (plain[int(place)] for place in np.flatnonzero((np.abs(values) >= EXACT).any(0))):
        if told := blurred(frame.iloc[:, places[name]]):
            problems.append(f"feature {name!r} holds {told}. {shorter(name)}")
    train = values[rows]
    ends = _quantiles(train, ramps)
    at = {name: place for place, name in enumerate(plain)}
    found: list[Column] = []
    flat: list[str] = []
    void: list[str] = []
    rare: dict[str, int] = {}
    for name, kind in kinds.items():
        how = how_of(missing, name)
        words = frame.iloc[:, places[name]].iloc[rows] if kind == "category" else None
        if empty == "drop" and (np.isnan(train[:, at[name]]) if words is None else words.isna()).all():
            void.append(name)
            continue
        if words is not None:
            column = _category(name, words, how, constants, problems, rare)
        else:
            column = _number(name, kind, train[:, at[name]], how, ends[:, at[name]], constants, problems)
        if column is None:
            flat.append(name)
        else:
            found.append(column)
    problems += _identifiers(frame, places, kinds, rows)
    refuse(where, problems)
    if flat:
        notes["constant"] = f"left out, constant on the training split: {listed(flat, len(flat))}"
    if void:
        notes["empty"] = f"left out, without a value in the training split: {listed(void, len(void))}"
    if not found:
        raise ConfigError(f"{where}: no feature is left: {listed(flat + void)} are constant on the training split")
    few(where, sum(column.width for column in found), len(frame))
    if rare:
        told = ", ".join(f"{name!r} ({count} words)" for name, count in rare.items())
        notes["rare"] = f"words of few training rows are one word, 'other', in {told}"
    return Encoder(columns=tuple(found))


def _ramps(where: str, numeric: Numeric, bins: int | None) -> int:
    """How many ramps a number gets at most; 0 for none."""
    if numeric == "linear":
        if bins is not None:
            raise ConfigError(
                f"{where}: bins={bins} with numeric 'linear', which has no bins; leave it out, or take 'piecewise'"
            )
        return 0
    bins = BINS if bins is None else bins
    if not 2 <= bins <= MOST_BINS:
        raise ConfigError(f"{where}: bins={bins}; needed: a whole number >= 2 and <= {MOST_BINS}")
    return bins


def _too_large(names: Sequence[str], values: Array) -> list[str]:
    """Values that are infinite, or that float32 cannot hold."""
    bad = np.abs(values) > np.finfo(np.float32).max
    if not bad.any():
        return []
    columns = listed([names[int(place)] for place in np.flatnonzero(bad.any(0))])
    return [
        f"{np.count_nonzero(bad.any(1))} rows have infinite values, or values too large for float32, in feature(s) {columns} "
        f"(the first in row {np.flatnonzero(bad.any(1))[0] + 1}); correct or remove those rows"
    ]


def _quantiles(train: Array, ramps: int) -> Array:
    """Ends of the ramps of each column of ``train (N, P)``, gaps left out, ``(ramps + 1, P)``; of none without ramps."""
    shares = np.linspace(0.0, 1.0, ramps + 1)
    gaps = np.isnan(train).any(0)
    found = np.full((ramps + 1 if ramps else 0, train.shape[1]), np.nan)
    if ramps and not gaps.all():
        found[:, ~gaps] = np.quantile(train[:, ~gaps], shares, axis=0, method="inverted_cdf")
    for place in np.flatnonzero(gaps) if ramps else ():
        known = train[~np.isnan(train[:, place]), place]
        if len(known):
            found[:, place] = np.quantile(known, shares, method="inverted_cdf")
    return found


def _number(
    name: str, kind: ColumnKind, x: Array, how: How, ends: Array, constants: bool, problems: list[str]
) -> Column | None:
    """The column of a number, from training values ``(N,)`` and ends of ramps (none: no ramps); None if it does not vary."""
    gaps = np.isnan(x)
    known = x[np.abs(x) <= np.finfo(np.float32).max]  # what is beyond is refused (`_too_large`)
    if how == "category":
        if gaps.any():
            problems.append(
                f"a gap in {name!r}, a {kind}, is no category; write missing: {flow({name: 'indicator'})}, or median"
            )
        how = "refuse"
    if not len(known):
        problems += [_empty(name)] if gaps.all() else []
        return None
    says = how == "indicator" and bool(gaps.any())
    if not (constants or says or known.max() > known.min()):
        return None
    fill = float(np.median(known)) if how == "median" else float(np.mean(known)) if how in ("mean", "indicator") else None
    knots: list[float] = []
    if len(ends) and kind != "boolean":
        quantiles = np.unique(ends)
        knots = quantiles.tolist() if len(quantiles) > 2 else []  # one ramp would be the value again
    return Column(name=name, kind=kind, knots=tuple(knots), fill=fill, gap=says)


def _empty(name: str) -> str:
    return (
        f"feature {name!r} has no value in the training split, so nothing can be learned from it or filled in; leave it out "
        f"with exclude: {flow([name])}"
    )


def _category(
    name: str, values: pd.Series[Any], how: How, constants: bool, problems: list[str], rare: dict[str, int]
) -> Column | None:
    """The column of a category, from its training values; None if it does not vary. ``rare`` counts the words that merge."""
    words, codes = words_of(values)
    if not words:
        problems.append(_empty(name))
        return None
    counts = np.bincount(codes[codes >= 0], minlength=len(words))
    gaps = bool((codes < 0).any())
    own = how in ("category", "indicator") and gaps
    if len(words) + own < 2 and not constants:
        return None
    frequent = counts >= rare_below(len(values))
    if all_rare(counts, len(values)):
        problems.append(
            f"text feature {name!r} has {len(words)} distinct values in {np.count_nonzero(codes >= 0)} rows "
            f"({listed(words, 3)}): more like an identifier, a name or prose than a category (dates are read if written as "
            "2024-12-31); leave it out "
            f"with exclude: {flow([name])}"
        )
        return None
    kept = tuple(word for word, often in zip(words, frequent, strict=True) if often)
    if (longest := max(map(len, kept), default=0)) > LONGEST_WORD:
        problems.append(
            f"text feature {name!r} has words of {longest:,} characters, more like prose than a category; needed: "
            f"{LONGEST_WORD} at most. Shorten them, or leave it out with exclude: {flow([name])}"
        )
        return None
    if len(kept) < len(words):
        rare[name] = len(words) - len(kept)
    fills = how not in ("refuse", "drop") and not own  # a gap that no training row had is the most frequent word
    word = words[int(counts.argmax())] if fills else None
    return Column(name=name, kind="category", words=kept, other=name in rare, word=word, gap=own)


def all_rare(counts: npt.NDArray[np.int64], rows: int) -> bool:
    """Whether words are names, identifiers or prose: each is rare, or more than two come once each."""
    return len(counts) > 0 and (bool((counts < rare_below(rows)).all()) or (len(counts) > 2 and int(counts.max()) == 1))


def numbers_rows(name: str, column: pd.Series[Any]) -> bool:
    """Whether a column of whole numbers that are all different is named as one that numbers the rows."""
    return bool(IDENTIFIER.search(name)) and column.dtype.kind in "iu" and len(column) > 1 and bool(column.is_unique)


def _identifiers(frame: pd.DataFrame, places: Mapping[str, int], kinds: Mapping[str, ColumnKind], rows: Rows) -> list[str]:
    """Whole numbers that are all different, under a name that says that they number the rows.

    By the training ``rows``: those to validate and to test with may be copies of these.
    """
    found = []
    for name, kind in kinds.items():
        if kind == "number" and IDENTIFIER.search(name) and numbers_rows(name, frame.iloc[rows, places[name]]):
            count = frame.iloc[:, places[name]].nunique()
            found.append(
                f"feature {name!r} holds {count} different whole numbers and is named like an identifier, of which "
                f"nothing can be learned for new rows; leave it out with exclude: {flow([name])}, or rename it if it measures "
                "something"
            )
    return found
