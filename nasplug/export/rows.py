"""Rows that a form is run on: the test split back as rows of the user's table, or rows made from the network's own scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from nasplug.data.encoder import Column, Encoder, numbers_of
from nasplug.export.program import GAP_CODE, UNKNOWN, Program
from nasplug.rows import Array, places_of, uncoded, words_of

if TYPE_CHECKING:
    import pandas as pd

    from nasplug.tasks import Split, Task

__all__ = ["coded", "decoded", "made_up", "raw", "rows_of"]

STRANGE = "some other word"


def rows_of(program: Program, task: Task, split: Split) -> pd.DataFrame:
    """Samples of a split as rows of the user's table, with the columns that the network reads.

    They are what the encoder made features of, as far as these tell: a gap that was filled without a feature that says so is
    its fill, and a rare word is one that training did not see.
    """
    record = program.record
    encoder = Encoder.from_plain(record["encoder"]) if record.get("encoder") else Encoder.of_numbers(record["features"])
    return decoded(encoder, program.columns, raw(task, split))


def raw(task: Task, split: Split) -> Array:
    """The features of a split before they were scaled, ``(I, N)``."""
    x = split.x.double() * task.input_scale.double().unsqueeze(1) + task.input_shift.double().unsqueeze(1)
    return x.numpy()


def decoded(encoder: Encoder, columns: Sequence[Column], features: Array) -> pd.DataFrame:
    """Columns of the user's table from features ``(I, N)``; see `rows_of`."""
    groups, places = np.array(encoder.groups), {name: place for place, name in enumerate(encoder.sources)}
    blocks = {column.name: features[groups == places[column.name]] for column in columns}
    return _frame({column.name: _decoded(column, blocks[column.name]) for column in columns}, features.shape[1])


def _frame(columns: dict[str, Any], rows: int) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(columns, index=pd.RangeIndex(rows))


def _decoded(column: Column, block: Array) -> Any:
    """A column of its features ``(W, N)``."""
    if column.kind == "category":
        words = np.array([*column.words, *([_strange(column)] * column.other), *([None] * column.gap)], dtype=object)
        none = np.full(block.shape[1], _strange(column), dtype=object)
        return np.where(block.max(0) > 0.5, words[block.argmax(0)], none)
    values = block[0].copy()
    if column.kind == "boolean":
        values = (values > 0.5).astype(np.float64)
    if column.gap:
        values[block[-1] > 0.5] = np.nan
    return _dated(values) if column.kind == "date" else values


def _strange(column: Column) -> str:
    word = STRANGE
    while word in column.words:
        word += "'"
    return word


def _dated(seconds: Array) -> Any:
    import pandas as pd

    return pd.Series(np.round(seconds * 1e6)).astype("datetime64[us]").dt.tz_localize("UTC")


def made_up(program: Program, rows: int, seed: int = 0) -> pd.DataFrame:
    """Rows that nobody owns: numbers around their mean, each word, unknown words, and gaps where they may be."""
    random = np.random.default_rng(seed)
    found: dict[str, Any] = {}
    for at, column in enumerate(program.columns):
        if column.kind == "category":
            gaps = [None] * (column.gap or column.word is not None)
            found[column.name] = random.choice(np.array([*column.words, _strange(column), *gaps], dtype=object), rows)
            continue
        values = _around(program, at, column, random, rows)
        if column.fill is not None:
            values[random.random(rows) < 0.2] = np.nan
        found[column.name] = _dated(values) if column.kind == "date" else values
    return _frame(found, rows)


def _around(program: Program, at: int, column: Column, random: np.random.Generator, rows: int) -> Array:
    if column.kind == "boolean":
        return random.integers(0, 2, rows).astype(np.float64)
    own = [f for f in program.features if f.column == at and f.kind == "value"]
    if own:
        middle, spread = own[0].shift, own[0].scale
    elif column.knots:
        middle, spread = (column.knots[0] + column.knots[-1]) / 2, (column.knots[-1] - column.knots[0]) / 2
    else:
        middle, spread = column.fill or 0.0, 1.0
    return np.asarray(middle + 1.5 * spread * random.standard_normal(rows))


def coded(columns: Sequence[Column], frame: pd.DataFrame) -> Array:
    """Columns as numbers ``(N, C)``: a gap of a number is NaN, a date is seconds since 1970-01-01 UTC, a word is its place.

    A word that training did not see is `UNKNOWN`, a gap of a category `GAP_CODE`.
    """
    found = np.empty((len(frame), len(columns)))
    for place, column in enumerate(columns):
        values = uncoded(frame[column.name], column.codes) if column.codes else frame[column.name]
        if column.kind == "category":
            words, codes = words_of(values)
            found[:, place] = np.array([*places_of(words, column.words, UNKNOWN), GAP_CODE])[codes]
        else:
            found[:, place] = numbers_of(values.to_frame(), [column.kind], "rows")[:, 0]
    return found


def reference(network: Any, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
    """What torch answers, ``(N, O)``."""
    with torch.no_grad():
        return np.asarray(network(torch.from_numpy(network.features(frame))).double().numpy())
