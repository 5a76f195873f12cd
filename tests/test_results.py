"""The table of replicas, its front and the chosen network, against brute force."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nasplug.data.datasets import iris
from nasplug.discretize import discretize
from nasplug.errors import ConfigError
from nasplug.files import write_table, write_tensors
from nasplug.networks import PARTS, forward, take
from nasplug.packs import NETWORKS, TABLE, load_networks, save_networks
from nasplug.results import FAILURES, choose, front, merge, network, read, slack, within, write_failures
from nasplug.tasks import Facts, Kind, Task
from nasplug.testing import example_networks, example_task

few = settings(max_examples=25, deadline=None)
numbers = st.integers(0, 5).map(lambda n: n / 4)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "edges": st.integers(0, 5),
            "valid_error": st.one_of(numbers, st.just(math.nan)),
            "valid_loss": numbers,
            "status": st.sampled_from(["finished", "finished", "finished", "diverged", "failed", None]),
        }
    ),
    max_size=12,
)


def table(found: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(list(found), columns=["edges", "valid_error", "valid_loss", "status"])
    frame["replica"] = [f"p0000/{n:04d}" for n in range(len(frame))]
    return frame


def undominated(found: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """(size, error) of every finished network that no other one beats in one and equals or beats in the other."""
    points = {
        (r["edges"], r["valid_error"]) for r in found if r["status"] == "finished" and r["valid_error"] == r["valid_error"]
    }
    return sorted(
        (size, error)
        for size, error in points
        if not any(s <= size and e <= error and (s, e) != (size, error) for s, e in points)
    )


@few
@given(found=rows)
def test_front_is_what_nothing_dominates(found: list[dict[str, Any]]) -> None:
    frame = table(found)
    before = frame.copy()
    best = front(frame)
    points = list(zip(best["edges"].tolist(), best["valid_error"].tolist(), strict=True))
    assert points == undominated(found)
    assert list(best.index) == list(range(len(best)))
    for (size, error), loss in zip(points, best["valid_loss"], strict=True):
        twins = [r["valid_loss"] for r in found if (r["edges"], r["valid_error"], r["status"]) == (size, error, "finished")]
        assert loss == min(twins)
    assert set(best["replica"]) <= set(frame["replica"])
    pd.testing.assert_frame_equal(frame, before)


def test_front_by_other_columns() -> None:
    frame = table([{"edges": 1, "valid_error": 0.5, "valid_loss": 0.5, "status": "finished"}] * 3)
    frame["neurons"], frame["valid_loss"] = [3, 2, 1], [0.1, 0.2, 0.3]
    assert front(frame, error="valid_loss", size="neurons")["neurons"].tolist() == [1, 2, 3]


def task_of(kind: Kind) -> Task:
    return example_task(kind, samples=20)


def test_slack_of_labels_is_breimans_rule() -> None:
    task = task_of("binary")
    for best in (0.0, 0.1, 0.5):
        share = (best * 20 + 1) / 22
        assert slack(task.facts, best) == pytest.approx(math.sqrt(share * (1 - share) / 20))
    assert slack(task.facts, 0.0) > 0


def test_samples_without_weight_tell_no_error() -> None:
    task = iris(validation="holdout")
    weights = torch.zeros(task.valid.samples)
    weights[:12] = 3.0
    weighted = replace(task, valid=replace(task.valid, weights=weights)).facts
    assert weighted.counting("valid") == pytest.approx(12.0)
    assert weighted.counting("test") == task.test.samples
    assert Facts.from_plain(weighted.plain()).standard_error(0.5, "valid") == pytest.approx(math.sqrt(0.25 / 12))
    assert slack(weighted, 0.1) > slack(task.facts, 0.1)


def test_slack_of_numbers_is_a_hundredth_of_the_variance() -> None:
    task = task_of("regression")
    assert slack(task.facts, 0.3) == pytest.approx(0.01 * float(task.valid.y.var(correction=0)))


@few
@given(found=rows, kind=st.sampled_from(["regression", "binary", "classes"]))
def test_the_chosen_one_is_the_smallest_that_is_good_enough(found: list[dict[str, Any]], kind: Kind) -> None:
    task, frame = task_of(kind), table(found)
    candidates = undominated(found)
    if not candidates:
        with pytest.raises(ConfigError, match="no network of this study finished"):
            choose(frame, lambda name: task.facts)
        return
    best = min(error for _, error in candidates)
    chosen = choose(frame, lambda name: task.facts)
    assert chosen["valid_error"] <= best + slack(task.facts, best)
    assert chosen["edges"] == min(size for size, error in candidates if error <= best + slack(task.facts, best))
    assert chosen["status"] == "finished"


def test_the_best_within_limits_needs_no_training() -> None:
    frame = table([{"edges": e, "valid_error": 1.0 / e, "valid_loss": 0.1, "status": "finished"} for e in (1, 2, 3, 4)])
    frame["replica"] = [f"p0000/000{k}" for k in range(4)]
    asked = []

    def slow(name: str) -> float:
        asked.append(name)
        return 100.0 if name in ("p0000/0003", "p0000/0001") else 10.0

    assert within(frame, {}, {"latency_us": slow})["edges"] == 4
    assert within(frame, {"edges": 2}, {"latency_us": slow})["edges"] == 2
    assert not asked
    assert within(frame, {"latency_us": 50}, {"latency_us": slow})["edges"] == 3
    assert asked == ["p0000/0003", "p0000/0002"]  # from the best one on, until one keeps it
    assert within(frame, {"edges": 2, "latency_us": 50}, {"latency_us": slow})["edges"] == 1
    with pytest.raises(ConfigError, match=r"no finished network keeps edges <= 0; the smallest: edges 1\. Raise a limit"):
        within(frame, {"edges": 0}, {"latency_us": slow})
    with pytest.raises(ConfigError, match=r"limit 'edgse': is not a column with numbers; .*Did you mean 'edges'"):
        within(frame, {"edgse": 2}, {"latency_us": slow})


def test_flash_is_measured_of_the_front_that_may_fit() -> None:
    """From the best one on; not of dominated networks, nor of those with more weights than fit."""
    sizes = {"p0/0": (9, 0.1), "p0/1": (8, 0.3), "p0/2": (5, 0.2), "p0/3": (2, 0.4), "p0/4": (5, 0.25)}
    frame = table([{"edges": n, "valid_error": e, "valid_loss": 0.1, "status": "finished"} for n, e in sizes.values()])
    frame = frame.assign(replica=list(sizes), parameters=frame["edges"], macs=frame["edges"])
    asked = []

    def flash(name: str) -> float:
        asked.append(name)
        return 10.0 * sizes[name][0]

    measures = {"latency_us": lambda name: 7.0, "flash_bytes": flash}
    found = within(frame, {"flash_bytes": 51, "latency_us": 8}, measures)
    assert (found["replica"], found["flash_bytes"], found["latency_us"]) == ("p0/2", 50.0, 7.0)
    assert asked == ["p0/0", "p0/2"]
    asked.clear()
    with pytest.raises(ConfigError, match=r"keeps flash_bytes <= 17; the smallest: flash_bytes 20\. Raise"):
        within(frame, {"flash_bytes": 17}, measures)
    assert asked == ["p0/2", "p0/3"]  # 9 weights do not fit into 17 bytes


def test_test_scores_are_never_read() -> None:
    frame = table([{"edges": e, "valid_error": 1.0 / e, "valid_loss": 0.1, "status": "finished"} for e in (1, 2, 3)])
    frame["test_error"] = [0.0, 9.0, 9.0]
    assert front(frame)["edges"].tolist() == [1, 2, 3]
    assert choose(frame, lambda name: task_of("regression").facts)["edges"] == 3


# Merging.


def pack(folder: Path, name: str, columns: Mapping[str, Any]) -> None:
    (folder / "packs" / name).mkdir(parents=True)
    write_table(folder / "packs" / name / TABLE, pa.table(dict(columns)))


def test_packs_are_joined_in_order(tmp_path: Path) -> None:
    pack(tmp_path, "p0001", {"replica": ["p0001/0000"], "status": ["finished"], "edges": [3]})
    pack(tmp_path, "p0000", {"replica": ["p0000/0000", "p0000/0001"], "status": ["finished", "diverged"], "edges": [1, 2]})
    assert merge(tmp_path) == 3
    assert read(tmp_path)["replica"].tolist() == ["p0000/0000", "p0000/0001", "p0001/0000"]
    assert pq.ParquetFile(tmp_path / TABLE).num_row_groups == 2
    pack(tmp_path, "p0002", {"replica": ["p0002/0000"], "status": ["finished"], "edges": [4]})
    assert merge(tmp_path) == merge(tmp_path) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["packs", TABLE]


def test_nothing_to_merge(tmp_path: Path) -> None:
    assert merge(tmp_path) == 0
    with pytest.raises(ConfigError, match="give the folder of a study that has run"):
        read(tmp_path)


def test_columns_that_differ(tmp_path: Path) -> None:
    """A column that a pack has not is null in its rows; numbers of both kinds are numbers."""
    owners = pa.array(["{}"]).dictionary_encode()
    pack(tmp_path, "p0000", {"replica": ["a"], "edges": [1], "train.lr": [1], "owners": owners})
    pack(tmp_path, "p0001", {"replica": ["b"], "edges": [2], "train.lr": [0.5], "method.hidden": [8], "owners": owners})
    write_failures(tmp_path, [{"replica": "c", "status": "failed", "error": "no memory"}])
    assert merge(tmp_path) == 3
    frame = read(tmp_path)
    assert frame["replica"].tolist() == ["a", "b", "c"]
    assert frame["train.lr"].tolist()[:2] == [1.0, 0.5]
    assert frame["method.hidden"].isna().tolist() == [True, False, True]
    assert frame["error"].tolist()[2] == "no memory"
    assert frame["owners"].isna().tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        (32, "full", ["32", "full"]),  # train.batch
        (1.5, "null", ["1.5", "null"]),  # train.clip
        (True, 0.5, ["true", "0.5"]),
        (True, "auto", ["true", "auto"]),
        (False, 3, ["false", "3"]),
    ],
)
def test_a_sweep_over_values_of_several_kinds(one: Any, other: Any, wanted: list[str], tmp_path: Path) -> None:
    """Each pack has written its own value's type; the study's column holds them all, as text."""
    pack(tmp_path, "p0000", {"replica": ["a", "b"], "swept": [one] * 2, "edges": [1, 2]})
    pack(tmp_path, "p0001", {"replica": ["c"], "swept": [other], "edges": [3]})
    assert merge(tmp_path) == 3
    frame = read(tmp_path)
    assert frame["swept"].tolist() == [wanted[0], wanted[0], wanted[1]]
    assert frame["edges"].tolist() == [1, 2, 3]


def test_histories_are_read_when_asked_for(tmp_path: Path) -> None:
    curve = pa.array([[1.0, 2.0]], type=pa.list_(pa.float32()))
    longer = pa.array([[1.0, 2.0, 3.0]], type=pa.list_(pa.float32()))
    pack(tmp_path, "p0000", {"replica": ["a"], "history_train_loss": curve})
    pack(tmp_path, "p0001", {"replica": ["b"], "history_train_loss": longer})
    pack(tmp_path, "p0002", {"replica": ["c"]})
    merge(tmp_path)
    assert list(read(tmp_path).columns) == ["replica"]
    curves = read(tmp_path, histories=True)["history_train_loss"]
    assert [None if c is None else list(c) for c in curves] == [[1.0, 2.0], [1.0, 2.0, 3.0], None]


def test_failures_of_packs_that_differ(tmp_path: Path) -> None:
    """A column that only some failed rows have is a column."""
    failed = [
        {"replica": "p0000/0000", "status": "failed", "error": "first", "train.lr": 0.1},
        {"replica": "p0001/0000", "status": "failed", "error": "second", "penalties.0.level": 2},
    ]
    write_failures(tmp_path, failed)
    assert merge(tmp_path) == 2
    frame = read(tmp_path)
    assert frame["train.lr"].tolist()[0] == 0.1
    assert frame["penalties.0.level"].tolist()[1] == 2
    assert frame["error"].tolist() == ["first", "second"]
    assert front(frame.assign(edges=1, valid_error=0.0, valid_loss=0.0)).empty


def test_failures_are_forgotten_when_there_are_none_left(tmp_path: Path) -> None:
    write_failures(tmp_path, [])
    write_failures(tmp_path, [{"replica": "a", "status": "failed"}])
    assert (tmp_path / FAILURES).exists()
    write_failures(tmp_path, [])
    assert not (tmp_path / FAILURES).exists()


def test_a_table_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / TABLE).write_bytes(b"PAR1 not a table")
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path)


# Networks from their files.


def test_a_replica_from_its_pack(tmp_path: Path) -> None:
    task = example_task()
    nets = discretize(task, example_networks(k=3, widths=(3, 4, 3, 1), dtype=torch.float32), [])[0]
    folder = tmp_path / "packs" / "p0000"
    folder.mkdir(parents=True)
    save_networks(folder, nets, "mine")
    again = load_networks(folder)
    again.check()
    for part in PARTS:
        for key, tensor in getattr(nets, part).items():
            assert torch.equal(getattr(again, part)[key], tensor), (part, key)
    x = task.valid.x.float()
    for k in range(3):
        small = network(tmp_path, f"p0000/{k:04d}")
        wanted = forward(take(nets, torch.tensor([k])), x)[0].T
        assert torch.allclose(small(x.T), wanted.double(), rtol=1e-5, atol=1e-5)
        assert torch.allclose(network(tmp_path, f"p0000/{k:04d}", task)(x.T), wanted.double(), rtol=1e-5, atol=1e-5)
        assert json.loads(json.dumps(small.record)) == small.record


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("p0000/0003", "pack p0000 has 3 networks, 0000 to 0002"),
        ("p0001/0000", "is not a replica"),
        ("p0000", "is not a replica"),
        ("p0000/", "is not a replica"),
        ("p0000/-1", "is not a replica"),
        ("p0000/one", "is not a replica"),
        ("", "is not a replica"),
        ("../0000", "is not a replica"),
        ("../p0000", "is not a replica"),
        ("p0000/²", "is not a replica"),
    ],
)
def test_names_that_are_no_replicas_are_refused(name: str, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "packs" / "p0000"
    folder.mkdir(parents=True)
    save_networks(folder, example_networks(k=3, parts=("gates",)), "mine")
    with pytest.raises(ConfigError, match=message):
        network(tmp_path, name)


@pytest.mark.parametrize("how", ["missing", "empty", "garbage", "half", "another file"])
def test_a_pack_whose_networks_cannot_be_read_is_refused(how: str, tmp_path: Path) -> None:
    path = tmp_path / NETWORKS
    save_networks(tmp_path, replace(example_networks(k=3), eigenvalues={}), "mine")
    if how == "missing":
        path.unlink()
    elif how == "another file":
        write_tensors(path, {"weights": torch.zeros(3)}, {})
    else:
        path.write_bytes({"empty": b"", "garbage": b"not safetensors at all", "half": path.read_bytes()[:-9]}[how])
    with pytest.raises(ConfigError, match="cannot be read"):
        load_networks(tmp_path)
