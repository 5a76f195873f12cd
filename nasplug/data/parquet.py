"""A Parquet file to columns: text as it stands, anything else as pandas has it; nothing is decoded before its size is known."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nasplug.data.delimited import MOST_BYTES, MOST_CELLS, MOST_NAMES, Sheet

if TYPE_CHECKING:
    from pyarrow import parquet

__all__ = ["read_parquet"]


def read_parquet(file: Path) -> Sheet:
    """The columns of a file; what holds lists, bytes and the like is not decoded, and a problem if it is used.

    Raises:
        OSError: as files do.
    """
    from pyarrow import parquet

    sheet = Sheet()
    try:
        schema = parquet.read_schema(file)
        texts = {field.name for field in schema if _is_text(field.type)}
        source = parquet.ParquetFile(file, read_dictionary=list(texts))  # a long word that comes often is in memory once
        if _too_large(sheet, source.metadata):
            return sheet
        described = _described(schema)
        fields = [field for field in schema if not described.get(field.name, {}).get("index")]
        if len(fields) < len(schema):
            sheet.notes["index"] = "the index of the data frame is left out"
        for name, times in Counter(field.name.strip() for field in fields).items():
            if times > 1 and name:
                sheet.wrong("several columns have this name", "Give each its own", column=name)
        if sheet.problems:
            return sheet
        table = source.read(columns=[field.name for field in fields if _is_flat(field.type)])
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  # readers of damaged files raise anything
        return sheet.wrong(f"cannot be read as parquet: {' '.join(str(error).split())[:300]}", "Write the file again")
    sheet.lines = np.arange(1, table.num_rows + 1)
    words = [values for values, name in zip(table.columns, table.column_names, strict=True) if name in texts]
    if sum(map(_decoded, words)) > MOST_BYTES:
        return sheet.wrong(
            f"its text has more than {MOST_BYTES:,} bytes when it is decoded", "Take a sample of the rows, or leave text out"
        )
    flat = (values for values in table.columns if _is_flat(values.type))  # the column a.b brings a struct a with a b
    for field in fields:
        values = next(flat) if _is_flat(field.type) else None
        _add(sheet, field.name.strip(), field.type, values, described.get(field.name, {}))
    return sheet


def _too_large(sheet: Sheet, metadata: parquet.FileMetaData) -> bool:
    """Whether a file has more values, or more bytes without compression, than are held in memory."""
    if metadata.num_columns > MOST_NAMES or metadata.num_columns * metadata.num_rows > MOST_CELLS:
        sheet.wrong(
            f"{metadata.num_columns:,} columns of {metadata.num_rows:,} rows; needed: {MOST_NAMES:,} columns and "
            f"{MOST_CELLS:,} values at most",
            "Take a sample of the rows, or write fewer columns",
        )
    size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    if size > MOST_BYTES:
        sheet.wrong(
            f"has {size:,} bytes without compression; needed: {MOST_BYTES:,} at most",
            "Take a sample of the rows, or write fewer columns",
        )
    return bool(sheet.problems)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_flat(kind: pa.DataType) -> bool:
    """Whether values are of one number or word each."""
    many = (pa.types.is_nested, pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return not any(one(kind) for one in many)


def _decoded(values: pa.ChunkedArray) -> int:
    """Bytes of text that is read as places in a dictionary."""
    found = 0
    for chunk in values.chunks:
        if pa.types.is_dictionary(chunk.type):
            sizes = pc.binary_length(chunk.dictionary).to_numpy(zero_copy_only=False)
            found += int(sizes[chunk.indices.drop_null().to_numpy()].sum())
    return found


def _add(sheet: Sheet, name: str, kind: pa.DataType, values: pa.ChunkedArray | None, described: dict[str, Any]) -> None:
    """One column more."""
    import pandas as pd

    sheet.names.append(name)
    if values is not None and (_is_text(kind) or pa.types.is_null(kind)):
        sheet.columns.append(pc.fill_null(values.cast(pa.large_string()), "").combine_chunks())
        return
    series = pd.Series([None] * len(sheet.lines), dtype=object)
    try:
        if values is not None:
            series = pd.Series(_series(values))
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        values = None
    if values is None:
        sheet.wrong(f"it holds {kind} values", "Make numbers or text of it, or leave it out", column=name)
    elif described.get("pandas_type") == "categorical" and not isinstance(series.dtype, pd.CategoricalDtype):
        series = series.astype("category")
    sheet.columns.append(series)


def _series(values: pa.ChunkedArray) -> Any:
    import pandas as pd

    kind = values.type
    if pa.types.is_decimal(kind):
        values = values.cast(pa.float64())
    if pa.types.is_boolean(kind) and values.null_count:
        return values.to_pandas(types_mapper={pa.bool_(): pd.BooleanDtype()}.get)
    return values.to_pandas(date_as_object=False)


def _described(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """What pandas wrote about the columns."""
    try:
        about = json.loads((schema.metadata or {})[b"pandas"])
        found = {str(column["field_name"]): dict(column) for column in about["columns"]}
        for index in about["index_columns"]:
            if isinstance(index, str):
                found.setdefault(index, {})["index"] = True
    except (KeyError, ValueError, TypeError):
        return {}
    return found
