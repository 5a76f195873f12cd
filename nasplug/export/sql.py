"""The form ``sql``: one SELECT over a table ``rows``, in words that SQLite (with mathematical functions) and DuckDB know."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasplug.console import one_line
from nasplug.data.encoder import Column
from nasplug.data.transforms import LARGEST
from nasplug.errors import ConfigError
from nasplug.export.program import GAP_CODE, GROUP, UNKNOWN, Feature, Neuron, Program, Ran, identifiers, plain, short, spellings
from nasplug.export.rows import coded
from nasplug.rows import word_of
from nasplug.tasks import FURTHEST

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FUNCTIONS", "TABLE", "answered", "cells", "key_of", "run", "written"]

TABLE = "rows"

SIGMOID = "CASE WHEN {z} < -700.0 THEN 0.0 ELSE 1.0 / (1.0 + exp(-({z}))) END"
ERF = "(1.0 / (1.0 + 0.3275911 * abs({z}) * 0.7071067811865476))"  # k of Abramowitz and Stegun 7.1.26: 1.5e-7 at most
SERIES = f"((((1.061405429 * {ERF} - 1.453152027) * {ERF} + 1.421413741) * {ERF} - 0.284496736) * {ERF} + 0.254829592) * {ERF}"
TAIL = f"0.5 * abs({{z}}) * {SERIES} * exp(-0.5 * {{z}} * {{z}})"
FUNCTIONS: Mapping[str, str] = {
    "identity": "{z}",
    "relu": "CASE WHEN {z} < 0.0 THEN 0.0 ELSE {z} END",
    "leaky_relu": "CASE WHEN {z} < 0.0 THEN 0.01 * {z} ELSE {z} END",
    "tanh": "CASE WHEN {z} > 20.0 THEN 1.0 WHEN {z} < -20.0 THEN -1.0 ELSE 1.0 - 2.0 / (exp(2.0 * {z}) + 1.0) END",
    "sigmoid": SIGMOID,
    "elu": "CASE WHEN {z} < -700.0 THEN -1.0 WHEN {z} < 0.0 THEN exp({z}) - 1.0 ELSE {z} END",
    "silu": "CASE WHEN {z} < -700.0 THEN 0.0 ELSE {z} / (1.0 + exp(-({z}))) END",
    "gelu": f"CASE WHEN abs({{z}}) > 30.0 THEN CASE WHEN {{z}} > 0.0 THEN {{z}} ELSE 0.0 END WHEN {{z}} < 0.0 THEN -({TAIL}) "
    f"ELSE {{z}} - {TAIL} END",
    "softplus": "CASE WHEN {z} > 700.0 THEN {z} WHEN {z} > 0.0 THEN {z} + ln(1.0 + exp(-({z}))) WHEN {z} < -700.0 THEN 0.0 "
    "ELSE ln(1.0 + exp({z})) END",
    "sin": "sin({z})",
    "square": "{z} * {z}",
}
"""Activations of z, which is a column."""


def written(made: Program) -> dict[str, str]:
    """The file, by its name.

    Raises:
        ConfigError: for the activation of a plugin.
    """
    made.known(FUNCTIONS, "sql")
    return {f"{made.name}.sql": "\n".join([*_head(made), *_statement(made)]) + "\n"}


def _head(made: Program) -> Iterator[str]:
    yield f"-- {made.title}"
    yield f'-- Reads a table or view "{TABLE}" with a column {_name(key_of(made))}, which comes back beside the answers, and:'
    kinds = {
        "number": "a number",
        "boolean": "true or false (1 or 0)",
        "date": "seconds since 1970-01-01 UTC",
        "category": "text",
    }
    for column in made.columns:
        gaps = "; NULL or empty where it is missing" if column.fill is not None or column.gap or column.word is not None else ""
        yield f"--   {_name(one_line(column.name))}: {kinds[column.kind]}{gaps}"


def _statement(made: Program) -> Iterator[str]:
    names = [f"v_{name}" for name in identifiers([column.name for column in made.columns], lower=True)]  # no keyword begins so
    key, parts = _name(key_of(made)), list(zip(made.columns, names, strict=True))
    yield "WITH texts AS MATERIALIZED ("
    # With its table's name before it: else SQLite takes a column that is not there for text.
    terms = [f"  {_name(TABLE)}.{_name(column.name)} AS o{name}" for column, name in parts]
    terms += [f"  trim(CAST({_name(TABLE)}.{_name(column.name)} AS VARCHAR)) AS t{name}" for column, name in parts]
    yield from _select([f"  {_name(TABLE)}.{key} AS {key}", *terms], _name(TABLE))
    previous = "texts"
    features = [
        f"  {_scaled(feature, made.columns[feature.column], names[feature.column])} AS x{place}"
        for place, feature in enumerate(made.features)
    ]
    stages = [*_raw(parts), ("features", features)]
    odd = "odd + " if any(column.kind != "category" for column in made.columns) else ""
    for number, layer in enumerate(made.layers, start=1):
        last = number == len(made.layers)
        letter = "z" if last else f"s{number}_"
        stages.append(
            (
                "outputs" if last else f"sums_{number}",
                [f"  {odd if last else ''}{_sum(n)} AS {letter}{m}" for m, n in enumerate(layer)],
            )
        )
        if not last:
            values = [FUNCTIONS[n.activation].replace("{z}", f"{letter}{m}") for m, n in enumerate(layer)]
            stages.append((f"layer_{number}", [f"  {value} AS h{number}_{m}" for m, value in enumerate(values)]))
    stages += _served(made)
    for stage, terms in stages:
        yield f"), {stage} AS MATERIALIZED ("  # else SQLite writes each expression out wherever it is read
        yield from _select([key if stage == "raw" else "*", *terms], previous)  # SQLite has at most 2,000 columns at a time
        previous = stage
    yield ")"
    yield f"SELECT {key}, {', '.join(f'{value} AS {_name(name)}' for name, value in _answers(made))}"
    yield f"FROM {previous};"


def _select(terms: Sequence[str], source: str) -> Iterator[str]:
    yield "SELECT " + ",\n".join(terms).lstrip()
    yield f"FROM {source}"


def key_of(made: Program) -> str:
    """The column that tells rows apart: ``id``, or with underscores where a column or an answer is called so."""
    taken, key = {name.lower() for name in (*made.answers, *(column.name for column in made.columns))}, "id"
    while key in taken:
        key += "_"
    return key


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(word: str) -> str:
    return "'" + word.replace("'", "''") + "'"


def _gaps(column: Column) -> list[str]:
    """Texts that mean that there is none."""
    codes = [str(code).strip() for code in column.codes if isinstance(code, str)]
    if column.kind != "category":
        return [_text(code) for code in dict.fromkeys(["", *codes])]
    numbers = [form for code in column.codes if not isinstance(code, str) for form in (repr(code), f"{code:.15g}")]
    return [_text(code) for code in dict.fromkeys(["", *codes, *numbers])]


def _raw(parts: Sequence[tuple[Column, str]]) -> list[tuple[str, list[str]]]:
    """Stages from the texts ``tv`` to numbers and codes ``v``; ``odd`` is NULL where a text is no number and no gap, else 0.

    SQLite would read 0 in ``soon``, 2024 in a day, and 5.01 in ``5.01.2024``.
    """
    numbers = [(column, name) for column, name in parts if column.kind != "category"]
    bare = [f"  replace(replace(lower(t{name}), 'e-', 'e'), 'e+', 'e') AS b{name}" for _, name in numbers]
    known, raw = [], []
    for column, name in numbers:
        forms = ("%-%", "%+%", "%.%.%", "%e%e%", "e%", "%e")
        odd = " OR ".join(f"ltrim(b{name}, '+-') LIKE '{form}'" for form in forms)
        odd = f"trim(b{name}, '0123456789.e+-') <> '' OR trim(b{name}, '.e+-') = '' OR {odd}"
        gaps = f"t{name} IS NULL OR b{name} = 'nan' OR t{name} IN ({', '.join(_gaps(column))})"
        known.append(
            f"  CASE WHEN {gaps} THEN 0 WHEN b{name} IN ('true', 'false') THEN 1 WHEN {odd} THEN NULL ELSE 1 END AS k{name}"
        )
    for column, name in parts:
        if column.kind == "category":
            raw.append(f"  {_word(column, f't{name}')} AS {name}")
            continue
        codes = ", ".join(plain(code) for code in column.codes if not isinstance(code, str))
        case = f" WHEN CAST(o{name} AS DOUBLE) IN ({codes}) THEN NULL" if codes else ""
        case = f"WHEN b{name} = 'true' THEN 1.0 WHEN b{name} = 'false' THEN 0.0{case} ELSE CAST(o{name} AS DOUBLE)"
        raw.append(f"  CASE WHEN k{name} = 0 OR k{name} IS NULL THEN NULL {case} END AS {name}")
    if not numbers:
        return [("raw", raw)]
    found = [f"k{name}" for _, name in numbers]
    groups = [f"({' + '.join(found[at : at + GROUP])})" for at in range(0, len(found), GROUP)]
    raw.append(f"  0.0 * ({' + '.join(groups)}) AS odd")
    return [("bare", bare), ("known", known), ("raw", raw)]


def _word(column: Column, text: str) -> str:
    gap = "NULL" if not column.gap and column.word is None else str(GAP_CODE)
    if column.word is not None and not column.gap:
        gap = str(column.words.index(column.word))
    known = " ".join(f"WHEN {_text(word)} THEN {place}" for word, place in spellings(column.words).items())
    gaps = f"{text} IS NULL OR {text} IN ({', '.join(_gaps(column))})"
    return f"CASE WHEN {gaps} THEN {gap} ELSE CASE {text} {known} ELSE {UNKNOWN} END END"


def _scaled(feature: Feature, column: Column, name: str) -> str:
    value = name if column.fill is None else f"COALESCE({name}, {plain(column.fill)})"
    if feature.kind == "word":
        value = f"CASE WHEN {name} IS NULL THEN NULL WHEN {name} = {feature.code} THEN 1.0 ELSE 0.0 END"
    elif feature.kind == "gap":
        value = f"CASE WHEN {name} {f'= {GAP_CODE}' if column.kind == 'category' else 'IS NULL'} THEN 1.0 ELSE 0.0 END"
    elif feature.kind == "ramp":
        low, high = plain(feature.low), plain(feature.high)
        value = (
            f"CASE WHEN {value} < {low} THEN 0.0 WHEN {value} > {high} THEN 1.0 "
            f"ELSE ({value} - {low}) / {plain(feature.high - feature.low)} END"
        )
    return f"({value} - {plain(feature.shift)}) / {plain(feature.scale)}"


def _sum(neuron: Neuron) -> str:
    groups = [" ".join(_term(*term) for term in group) for group in neuron.groups()]
    if len(groups) == 1:
        return f"{short(neuron.bias)} {groups[0]}"
    return " + ".join([short(neuron.bias), *(f"({group.removeprefix('+ ')})" for group in groups)])


def _term(layer: int, place: int, weight: float) -> str:
    return f"{'-' if weight < 0 else '+'} {short(abs(weight))} * {f'x{place}' if layer == 0 else f'h{layer}_{place}'}"


def _served(made: Program) -> list[tuple[str, list[str]]]:
    """Stages from the outputs ``z`` to what is served, ``y``."""
    places = range(len(made.layers[-1]))
    stages: list[tuple[str, list[str]]] = []
    linked = [f"z{o}" for o in places]
    if made.link == "sigmoid":
        linked = [SIGMOID.replace("{z}", z) for z in linked]
    elif made.link == "exp":
        linked = [f"exp(CASE WHEN {z} > {FURTHEST} THEN {FURTHEST} ELSE {z} END)" for z in linked]
    elif made.link == "softmax":
        stages.append(("largest", [f"  {_largest(linked, linked)} AS most"]))
        powers = [f"CASE WHEN {z} - most < -700.0 THEN 0.0 ELSE exp({z} - most) END" for z in linked]
        stages.append(("powers", [f"  {power} AS p{o}" for o, power in enumerate(powers)]))
        total = " + ".join(f"p{o}" for o in places)
        linked = [f"p{o} / ({total})" for o in places]
    scaled = [
        value if (scale, shift) == (1.0, 0.0) else f"({value}) * {plain(scale)} + {plain(shift)}"
        for value, scale, shift in zip(linked, made.scale, made.shift, strict=True)
    ]
    stages.append(("served", [f"  {value} AS y{o}" for o, value in enumerate(scaled)]))
    if made.transform is not None:
        values = [_undone(made, o) for o in places]
        stages.append(("undone", [f"  {value} AS t{o}" for o, value in enumerate(values)]))
    return stages


def _undone(made: Program, o: int) -> str:
    assert made.transform is not None  # for the type checker
    if made.transform.use == "log":
        return f"exp(CASE WHEN y{o} > {LARGEST} THEN {LARGEST} ELSE y{o} END)"
    scores, values = made.transform.scores[o], made.transform.values[o]
    pieces = [f"WHEN y{o} <= {plain(scores[0])} THEN {plain(values[0])}"]
    for at in range(1, len(scores)):
        slope = (values[at] - values[at - 1]) / (scores[at] - scores[at - 1])
        pieces.append(
            f"WHEN y{o} <= {plain(scores[at])} THEN {plain(values[at - 1])} + (y{o} - {plain(scores[at - 1])}) * {plain(slope)}"
        )
    return f"CASE WHEN y{o} IS NULL THEN NULL {' '.join(pieces)} ELSE {plain(values[-1])} END"


def _largest(of: Sequence[str], given: Sequence[str]) -> str:
    """What belongs to the largest, of several the first."""
    cases = [
        f"WHEN {' AND '.join(f'{one} >= {other}' for other in of if other != one) or '1 = 1'} THEN {what}"
        for one, what in zip(of, given, strict=True)
    ]
    return f"CASE {' '.join(cases)} END"


def _answers(made: Program) -> list[tuple[str, str]]:
    letter = "y" if made.transform is None else "t"
    given = [(name, f"{letter}{o}") for o, name in enumerate(made.outputs)]
    if made.labels and len(given) == 1:
        no, yes = map(_text, made.labels)
        first = [(f"P({made.labels[0]})", "1.0 - y0")] if made.link == "sigmoid" else []
        return [("label", f"CASE WHEN y0 IS NULL THEN NULL WHEN y0 > 0.5 THEN {yes} ELSE {no} END"), *first, *given]
    if made.labels:
        values = [value for _, value in given]
        return [("label", _largest(values, [_text(label) for label in made.labels])), *given]
    return given


def cells(made: Program, rows: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Rows as a table of a database has them: dates in seconds, gaps as None, and the number of each row first."""
    numbers = coded(made.columns, rows)
    columns: list[list[Any]] = []
    for place, column in enumerate(made.columns):
        if column.kind == "category":
            columns.append([None if value is None or value != value else word_of(value) for value in rows[column.name]])
        else:
            columns.append([None if np.isnan(value) else float(value) for value in numbers[:, place]])
    return list(zip(range(len(rows)), *columns, strict=True))


def answered(made: Program, rows: pd.DataFrame, table: Sequence[tuple[Any, ...]], seconds: float) -> Ran:
    """What a database said, rows in any order."""
    import pandas as pd

    ordered = [row[1:] for row in sorted(table, key=lambda row: row[0])]
    return Ran(pd.DataFrame(ordered, columns=pd.Index(made.answers), index=rows.index), 1e6 * seconds / len(rows))


def run(folder: Path, made: Program, rows: pd.DataFrame) -> Ran:
    """The answers of SQLite to rows of raw values.

    Raises:
        ConfigError: where SQLite refuses the statement, or has no mathematical functions.
    """
    statement = (folder / f"{made.name}.sql").read_bytes().decode()  # line breaks in names stay what they are
    kinds = ["TEXT" if column.kind == "category" else "REAL" for column in made.columns]
    named = [f"{_name(column.name)} {kind}" for column, kind in zip(made.columns, kinds, strict=True)]
    database = sqlite3.connect(":memory:")
    try:
        database.execute(f"CREATE TABLE {_name(TABLE)} ({', '.join([f'{_name(key_of(made))} INTEGER', *named])})")
        marks = ", ".join("?" * (1 + len(named)))
        database.executemany(f"INSERT INTO {_name(TABLE)} VALUES ({marks})", cells(made, rows))
        start = time.perf_counter()
        table = database.execute(statement).fetchall()
        return answered(made, rows, table, time.perf_counter() - start)
    except sqlite3.Error as error:
        raise ConfigError(f"sql: SQLite {sqlite3.sqlite_version} refuses it: {str(error)[:300]}") from None
    finally:
        database.close()
