"""What is said of a study while it runs: the best network so far, by its folds where there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nasplug.hookspecs import Counts
from nasplug.progress import TABLE, Tally

ONE = {"configuration": 0, "seed": 0, "status": "finished"}
FOLDS = [
    {**ONE, "fold": 0, "valid_error": 0.1, "edges": 2},  # the luckiest fold of all
    {**ONE, "fold": 1, "valid_error": 0.5, "edges": 4},
    {**ONE, "configuration": 1, "fold": 0, "valid_error": 0.2, "edges": 5},
    {**ONE, "configuration": 1, "fold": 1, "valid_error": 0.2, "edges": 6},
    {**ONE, "seed": 1, "fold": 0, "valid_error": 0.0, "edges": 1},
    {**ONE, "seed": 1, "fold": 1, "valid_error": None, "edges": None, "status": "diverged"},
]


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        (FOLDS, (0.2, 6)),
        ([{**row, "fold": None} for row in FOLDS], (0.0, 1)),
        ([{key: row[key] for key in ("status", "valid_error", "edges")} for row in FOLDS], (0.0, 1)),
        (FOLDS[-1:], None),
    ],
)
def test_the_best_network_counts_by_all_of_its_folds(
    tmp_path: Path, rows: Sequence[Mapping[str, Any]], best: tuple[float, int] | None
) -> None:
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), tmp_path / TABLE)
    tally = Tally()
    tally.finished("p0000", tmp_path)
    assert tally.best == best
    assert tally.done == {"p0000": len(rows)}


@pytest.mark.parametrize("order", [range(6), (0, 2, 4, 1, 3, 5), (5, 3, 1, 4, 2, 0)])
def test_folds_of_a_network_may_be_in_several_packs(tmp_path: Path, order: Sequence[int]) -> None:
    tally = Tally()
    for number, place in enumerate(order):
        folder = tmp_path / f"p{number:04d}"
        folder.mkdir()
        pq.write_table(pa.Table.from_pylist([dict(FOLDS[place])]), folder / TABLE)
        for _ in range(2):  # whoever is told twice counts once
            tally.finished(folder.name, folder)
    assert tally.best == (0.2, 6)


@pytest.mark.parametrize("content", [b"", b"PAR1 cut", None])
def test_a_table_that_was_cut_ends_no_progress(tmp_path: Path, content: bytes | None) -> None:
    (tmp_path / "packs" / "p0000").mkdir(parents=True)
    if content is not None:
        (tmp_path / "packs" / "p0000" / TABLE).write_bytes(content)
    tally = Tally()
    tally.began(tmp_path, Counts(1, 6))
    assert tally.done == {}
    tally.finished("p0000", tmp_path / "packs" / "p0000")
    assert tally.best is None
