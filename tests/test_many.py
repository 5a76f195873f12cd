"""What many networks cost beside training: what is worked out of whole columns is what it was row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nasplug import Study, files, results
from nasplug.config import parse, read_yaml
from nasplug.machine import arithmetic, held_memory
from nasplug.networks import Networks, forward
from nasplug.packs.relaxed import relaxed_of
from nasplug.packs.tables import table_of
from nasplug.plan import Pack, data_key, settle
from nasplug.tasks import Kind, Task
from nasplug.testing import example_networks, example_task
from nasplug.train import ValidationLoss, evaluate, losses

SCORES = st.one_of(st.integers(0, 4).map(float), st.sampled_from([np.nan, np.inf]))


def on_the_front(pack: Pack, columns: Mapping[str, np.ndarray], score: np.ndarray) -> list[bool]:
    """Row by row: of each data set, or refitted configuration, those with a smaller score than all that are not larger."""
    groups: dict[Any, list[int]] = {}
    for row in range(pack.rows):
        if np.isfinite(score[row]):
            group = pack.configurations[row] if pack.fitted else data_key(pack.task(row))
            groups.setdefault(group, []).append(row)
    kept = [False] * pack.rows
    for group in groups.values():
        best = np.inf
        by = (score, score, score) if pack.fitted else (columns["edges"], score, columns["valid_loss"])
        for row in sorted(group, key=lambda row: tuple(float(each[row]) for each in by)):
            if score[row] < best:
                best, kept[row] = score[row], True
    return kept


@given(
    st.lists(st.tuples(SCORES, st.integers(0, 3), st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=12), st.booleans()
)
def test_the_rows_of_a_front_are_found_as_one_by_one(rows: list[tuple[float, int, int, int]], refitted: bool) -> None:
    score, edges, loss, of = (np.asarray(each) for each in zip(*rows, strict=True))
    nets = Networks(widths=(2, 1), blocks={(1, 0): torch.ones(len(rows), 1, 2, dtype=torch.float64)}, candidates=("relu",))
    more: dict[str, Any] = {"folds": [-1] * len(rows)} if refitted else {}
    pack = Pack("p0000", {}, {"task.rows": of.tolist()}, [0] * len(rows), of.tolist(), **more)
    columns = {"edges": edges, "valid_loss": loss.astype(np.float64)}
    found = relaxed_of(pack, np.arange(len(rows)), columns, nets, nets, score)["relaxed"].to_pylist()
    assert [text is not None for text in found] == on_the_front(pack, columns, score)


@given(st.integers(1, 5), st.integers(1, 6), st.data())
def test_curves_of_a_table_are_those_of_its_rows(rows: int, reports: int, data: st.DataObject) -> None:
    ends = data.draw(st.lists(st.integers(1, reports), min_size=rows, max_size=rows))
    steps = [np.asarray([10 * (at + 1) if at < end else 0 for end in ends]) for at in range(reports)]
    values = st.floats(allow_nan=True, width=64)
    loss = [np.asarray(data.draw(st.lists(values, min_size=rows, max_size=rows))) for _ in range(reports)]
    pack = Pack("p0000", {}, {}, [0] * rows, list(range(rows)))
    table = table_of(pack, {}, {"step": steps, "train_loss": loss}, "{}", [])
    with np.errstate(over="ignore"):
        each = [np.asarray([report[row] for report in loss[: ends[row]]]).astype(np.float32) for row in range(rows)]
    assert table["history_step"].to_pylist() == [[10 * (at + 1) for at in range(end)] for end in ends]
    assert table["history_train_loss"].type == pa.list_(pa.float32())
    for found, wanted in zip(table["history_train_loss"].to_pylist(), each, strict=True):
        np.testing.assert_array_equal(np.asarray(found, dtype=np.float32), wanted)


def one_by_one(task: Task, outputs: Tensor, y: Tensor, weights: Tensor | None) -> list[float]:
    """The share of wrong labels of each network; NaN where an output of a sample that counts is not finite."""
    found = []
    for row, said in enumerate(task.loss.point(outputs)):
        own = None if weights is None else (weights[row] if weights.dim() == 2 else weights)
        wrong, total = 0.0, 0.0
        for at in range(y.shape[-1]):
            weight = 1.0 if own is None else float(own[at])
            if weight == 0.0:
                continue
            if not bool(torch.isfinite(outputs[row, :, at]).all()):
                wrong = float("nan")
            label = bool(said[0, at] > 0.5) if len(said) == 1 else int(said[:, at].argmax())
            wrong += weight * (label != (bool(y[0, at] > 0.5) if len(said) == 1 else int(y[at])))
            total += weight
        found.append(wrong / total if total else wrong)
    return found


@pytest.mark.parametrize("kind", ["binary", "classes"])
@given(
    at=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 8), st.sampled_from([np.nan, np.inf, -np.inf, 1e30])), max_size=4),
    weighed=st.sampled_from(["not", "shared", "own"]),
)
def test_errors_of_all_rows_are_those_of_each(kind: Kind, at: Sequence[tuple[int, int, float]], weighed: str) -> None:
    task = example_task(kind, samples=60)
    y = task.valid.y[..., :9]
    outputs = torch.randn(4, task.outputs, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for row, sample, value in at:
        outputs[row, 0, sample] = value
    whole = torch.tensor([[0.0, 1.0, 2.0] * 3, [1.0] * 9, [0.0, 0.5, 0.0] * 3, [2.0, 0.0, 0.0] * 3], dtype=torch.float64)
    weights = {"not": None, "shared": whole[0], "own": whole}[weighed]
    np.testing.assert_allclose(task.errors(outputs, y, weights).numpy(), one_by_one(task, outputs, y, weights), atol=1e-12)
    if weights is None:
        right = 1.0 - np.asarray(one_by_one(task, outputs, y, None))
        finite = torch.isfinite(task.loss.point(outputs)).flatten(1).all(1).numpy()  # of what the metric is given
        found = task.metrics(outputs, y)["accuracy"].numpy()
        np.testing.assert_allclose(found[np.isfinite(right)], right[np.isfinite(right)], atol=1e-12)
        assert (np.isfinite(found) == finite).all()


@pytest.mark.parametrize("kind", ["regression", "binary", "classes"])
def test_the_loss_alone_is_the_loss_beside_other_scores(kind: Kind) -> None:
    task = example_task(kind)
    nets = example_networks(widths=(task.inputs, 4, task.outputs))
    wanted = evaluate(task, task.valid, nets, forward)["loss"]
    assert torch.equal(losses(task, task.valid, nets), wanted)
    assert torch.equal(ValidationLoss(task)(nets), wanted)
    own = replace(task, valid=replace(task.valid, weights=torch.ones(nets.replicas, task.valid.samples).double()))
    assert torch.equal(losses(own, own.valid, nets), evaluate(own, own.valid, nets, forward)["loss"])


def xor(folder: Path, **more: Any) -> Study:
    """Six networks in three packs, trained."""
    raw: dict[str, Any] = {
        "study": "xor",
        "store": str(folder),
        "task": {"use": "xor"},
        "method": {"use": "edges", "mode": "annealed", "hidden": [4]},
        "penalties": [{"use": "l1", "level": {"grid": [0.001, 0.01]}}],
        "discretizers": [{"use": "threshold", "tolerance": 0.02}],
        "train": {"steps": 20},
        "seeds": 3,
        "resources": {"pack": 2},
        "linear": False,
        "reach": None,
        "mlflow": None,
    }
    return Study.from_dict(raw | more).run("serial", report=False, progress=False)


def test_no_pack_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[Path] = []
    monkeypatch.setattr("nasplug.files._to_disk", waited.append)
    monkeypatch.setattr("nasplug.files.settle", lambda folder, since: None)  # once, at the end of the study
    study = xor(tmp_path)
    packs = study.folder / "packs"
    assert len(list(packs.glob("*/replicas.parquet"))) == 3
    assert [path for path in waited if path.is_relative_to(packs)] == []
    assert study.folder in waited  # the study's own table and records wait


def test_memory_is_given_back_when_nobody_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []
    monkeypatch.setattr("nasplug.machine._hold_memory", told.append)
    with held_memory():
        for _ in range(2):
            with arithmetic(1):
                pass
        assert False not in told
    assert told[-1] is False
    with pytest.raises(ZeroDivisionError), arithmetic(1):
        told.append(bool(1 / 0))
    assert told[-2:] == [True, False]


def test_the_table_is_joined_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    joined: list[int] = []
    merge = results.merge
    monkeypatch.setattr("nasplug.results.merge", lambda folder: joined.append(merge(folder)))
    study = xor(tmp_path)
    assert joined == [6]
    names = study.frame["replica"].tolist()
    joined.clear()
    xor(tmp_path, plateau=None)  # a run in which nothing trains
    assert joined == [6]
    assert Study.open(study.folder).frame["replica"].tolist() == names


def test_a_table_reads_back_by_columns_that_begin_alike(tmp_path: Path) -> None:
    table = pa.table(
        {
            "train": [1, 2],
            "train.lr": ["a", None],
            "train.lr.at": [[0.5], []],
            "words": pa.array(["x", "x"]).dictionary_encode(),
        }
    )
    files.write_table(tmp_path / "t.parquet", table, {"identity": "it"})
    assert files.read_table(tmp_path / "t.parquet").equals(table)
    for names in (["train"], ["train.lr.at", "train"], ["train.lr", "absent"]):
        found = files.read_table(tmp_path / "t.parquet", names)
        assert found.equals(table.select([name for name in table.column_names if name in names]))
    assert files.read_table(tmp_path / "t.parquet", ["train"], [("train", "=", 2)])["train"].to_pylist() == [2]


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[1] / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_study_with_nothing_to_settle_is_settled(path: Path) -> None:
    study = read_yaml(path, ())
    assert settle(study, {}) is study
    assert parse(study.plain()) == study  # what it was parsed anew for


def test_a_cut_table_of_a_later_generation_stops_no_resume(tmp_path: Path) -> None:
    """Its pack has no turn before the first generation's tables are joined, and its own would be joined with them."""
    sampler = {"sampler": {"use": "tpe", "trials": 4, "generation": 2}, "seeds": 1}
    study = xor(tmp_path, penalties=[{"use": "l1", "level": {"log": [1e-3, 1e-2]}}], **sampler)
    before = study.frame
    tables = sorted((study.folder / "packs").glob("*/replicas.parquet"))
    assert len(tables) == 2
    tables[-1].write_bytes(tables[-1].read_bytes()[:-100])
    again = xor(tmp_path, penalties=[{"use": "l1", "level": {"log": [1e-3, 1e-2]}}], **sampler).frame
    scores = ["replica", "valid_loss", "edges"]
    assert again[scores].equals(before[scores])
    assert (tables[-1].parent / "replicas.parquet.damaged").exists()
