"""The digest of raw data: names and values as they were read, before anything was typed, encoded, filled or split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["digest_of_columns", "digest_of_frames"]

EXACT = 2.0**53
"""Whole numbers up to here are the same in float64."""


def digest_of_frames(frames: Iterable[pd.DataFrame | pd.Series[Any] | None]) -> str:
    """SHA-256 of the columns of several frames, in this order, hexadecimal."""
    import pandas as pd

    names: list[str] = []
    columns: list[pd.Series[Any]] = []
    for frame in frames:
        if frame is None:
            continue
        table = frame if isinstance(frame, pd.DataFrame) else frame.to_frame()
        names += map(str, table.columns)
        columns += [values for _, values in table.items()]
    return digest_of_columns(names, columns)


def digest_of_columns(names: Sequence[str], columns: Sequence[pa.Array | pd.Series[Any]]) -> str:
    """SHA-256 of columns: text as it stands in a file, or what pandas has; numbers of any type by their values."""
    found = hashlib.sha256(json.dumps([str(name) for name in names]).encode())
    for values in columns:
        for part in _text(values) if isinstance(values, pa.Array) else _column(values):
            found.update(part)
    return found.hexdigest()


def _text(values: pa.Array) -> Iterable[bytes | memoryview]:
    """A column of text: how long each cell is, and the cells one after another."""
    whole = pc.fill_null(values.cast(pa.large_string()), "")
    yield f"text {len(whole)} ".encode()
    if not len(whole):
        return
    _, places, letters = whole.buffers()
    ends = np.frombuffer(places, dtype=np.int64)[whole.offset : whole.offset + len(whole) + 1]
    yield np.diff(ends).tobytes()
    if ends[-1] > ends[0]:
        yield memoryview(letters)[int(ends[0]) : int(ends[-1])]


def _column(values: pd.Series[Any]) -> Iterable[bytes]:
    """A column of a data frame."""
    import pandas as pd
    from pandas.api import types

    kind = values.dtype
    if types.is_numeric_dtype(kind) and not types.is_complex_dtype(kind):
        exact = types.is_integer_dtype(kind) and len(values) > 0 and not values.hasnans
        if exact and max(abs(int(values.min())), abs(int(values.max()))) > EXACT:
            whole = values.to_numpy()
            yield f"whole {whole.dtype.kind} {len(whole)} ".encode()
            yield whole.astype(f"<{whole.dtype.kind}8").tobytes()
            return
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan) + 0.0  # -0.0 is 0.0
        yield f"{'truths' if types.is_bool_dtype(kind) else 'numbers'} {len(numbers)} ".encode()
        yield np.where(np.isnan(numbers), np.nan, numbers).tobytes()
        return
    codes, distinct = pd.factorize(values.map(_word) if values.dtype.kind == "O" else values)
    yield f"words {json.dumps([_word(one) for one in distinct])} ".encode()
    yield codes.astype("<i8").tobytes()


def _word(value: Any) -> str | None:
    """A value of a column that is no number: text as it is, anything else with its type; None for a gap."""
    import pandas as pd

    if isinstance(value, str):
        return value
    return None if pd.api.types.is_scalar(value) and pd.isna(value) else f"{type(value).__name__} {value}"
