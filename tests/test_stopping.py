"""Halving: who is stopped, that the others are as if nobody had been, and that nobody is lost from the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from nasplug import results
from nasplug.config import Stop, parse
from nasplug.errors import ConfigError
from nasplug.packs import TABLE, run_pack, training
from nasplug.packs.ranking import fittest
from nasplug.plan import Pack, going_on, rungs, share_of_steps
from nasplug.study import Study

HALVING: dict[str, Any] = {"use": "halving", "rungs": 2, "keep": 0.33, "by": ["valid_loss", "edges"]}
SMALL: dict[str, Any] = {
    "study": "small",
    "task": {"use": "xor", "samples": 20},
    "method": {"use": "edges", "mode": "gated", "hidden": [3]},
    "penalties": [{"use": "l1", "level": {"choice": [0.0, 0.001, 0.1]}, "ramp": {"use": "linear", "until": 0.3}}],
    "temperature": {"use": "geometric", "start": 1.0, "end": 0.1},
    "discretizers": [{"use": "threshold", "tolerance": {"choice": [0.02, 0.1]}}],
    "train": {"steps": 60, "lr": 0.05, "batch": 7, "keep": "best", "finetune": 3, "retrain": 3, "reports": 12, "clip": 1.0},
    "seeds": 4,
    "linear": False,
    "reach": None,
    "mlflow": None,
}
SMALL["temperature"]["until"] = 0.5
# torch computes the last numbers of an elementwise function one by one: with AVX-512 other last bits than in its vectors.
ROUNDED = 1e-5


def study(store: Path, **changes: Any) -> Study:
    return Study.from_dict({**SMALL, "store": str(store), **changes})


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study(tmp_path_factory.mktemp("full")).run("serial", report=False)


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study(tmp_path_factory.mktemp("halved"), stop=HALVING).run("serial")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """All networks in one pack, which compares them itself."""
    done = study(tmp_path_factory.mktemp("alone"), stop=HALVING, resources={"pack": 24}).run("serial", report=False)
    assert not list(done.folder.glob("rung-*"))
    return done


def by_name(study: Study, **options: Any) -> pd.DataFrame:
    return results.read(study.folder, **options).set_index("replica").sort_index()


def test_those_that_go_on_are_as_if_nobody_had_been_stopped(full: Study, halved: Study) -> None:
    """Schedules run over all steps, batches and noise are the same; a row that moves up in its pack may round otherwise."""
    all_of_them, mine = by_name(full), by_name(halved)
    assert list(mine.index) == list(all_of_them.index)
    kept = mine.index[mine["status"] == "finished"]
    assert len(kept) == 3  # ceil(24 * .33) = 8, ceil(24 * .1089) = 3
    for name in all_of_them.columns.drop("owners"):
        wanted, found = all_of_them.loc[kept, name], mine.loc[kept, name]
        if pd.api.types.is_float_dtype(wanted):
            np.testing.assert_allclose(found.to_numpy(), wanted.to_numpy(), rtol=ROUNDED, atol=ROUNDED, err_msg=name)
        else:
            assert wanted.tolist() == found.tolist(), name
    x = torch.linspace(-1.0, 1.0, 20).view(10, 2)
    for replica in kept:
        torch.testing.assert_close(halved.network(replica)(x), full.network(replica)(x), rtol=ROUNDED, atol=ROUNDED)


def test_every_network_keeps_its_place_with_what_it_had(full: Study, halved: Study) -> None:
    frame = by_name(halved, histories=True)
    assert frame["status"].value_counts().to_dict() == {"stopped": 21, "finished": 3}
    assert frame.groupby("step").size().to_dict() == {5: 16, 20: 5, 60: 3}
    gone = frame[frame["status"] == "stopped"]
    assert gone[["valid_loss", "test_error", "edges"]].isna().all(axis=None)
    assert gone[["relaxed_valid_loss", "relaxed_valid_error", "rung_edges"]].notna().all(axis=None)
    curves = by_name(full, histories=True)
    for replica, row in frame.iterrows():
        assert row["history_step"][-1] == row["step"]
        assert len(row["history_valid_loss"]) == len(row["history_step"]) == row["step"] / 5
        for name in ("history_valid_loss", "history_penalty", "history_edges"):
            wanted = curves.loc[replica, name][: len(row[name])]
            np.testing.assert_allclose(row[name], wanted, rtol=ROUNDED, atol=ROUNDED, err_msg=name)
    assert (gone["relaxed_valid_loss"].astype("float32") == [h[-1] for h in gone["history_valid_loss"]]).all()


def test_at_a_rung_the_fittest_of_all_packs_go_on(halved: Study) -> None:
    frame = by_name(halved, histories=True).sort_values(["configuration", "seed"])
    assert len(halved.plan()) == 2
    # What was compared at the first rung: the loss of the report, and edges, of whoever was stopped there or at the next.
    first = (frame["step"] == 5).to_numpy()
    loss = np.array([h[0] for h in frame["history_valid_loss"]], dtype=float)
    assert (~first).sum() == going_on(Stop(**HALVING), len(frame), 1) == 8
    assert loss.min() in loss[~first]  # the best loss is on the first front, at its end
    assert frame["rung_edges"][first].min() >= frame["rung_edges"].min()
    second = frame[~first]
    values = np.stack([[h[3] for h in second["history_valid_loss"]], second["rung_edges"]], axis=1).astype(float)
    assert (second["step"] == 60).to_numpy().nonzero()[0].tolist() == fittest(values, 3).tolist()


def test_the_stopped_are_never_served(halved: Study) -> None:
    frame = halved.frame
    stopped = frame[frame["status"] == "stopped"]["replica"]
    assert not set(halved.front()["replica"]) & set(stopped)
    assert str(halved.best()["replica"]) not in set(stopped)
    with pytest.raises(ConfigError, match=r"was stopped at a rung .* stop: null"):
        halved.network(stopped.iloc[0])
    assert "stopped at a rung" in (halved.folder / "report.html").read_text(encoding="utf-8")
    records = [json.loads((halved.folder / f"packs/{pack}/pack.json").read_text()) for pack in ("p0000", "p0001")]
    assert sum(record["network_steps"] for record in records) == 24 * 5 + 8 * 15 + 3 * 40


@pytest.mark.parametrize("reports", [1, 2, 4, 5, 11])
def test_a_killed_pack_goes_on_as_if_it_had_not_been(
    reports: int, alone: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also between a rung and its checkpoint."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    pack = Pack(**results.pack_record(alone.folder, "p0000")["pack"])
    going = run_pack(alone.config, pack, alone.plugins, tmp_path)
    for _ in range(reports):
        next(going)
    going.close()  # what a kill leaves: its checkpoint
    last = [each.step for each in run_pack(alone.config, pack, alone.plugins, tmp_path)]
    assert last == list(range(5 * (reports + 1), 61, 5))
    wanted = pq.read_table(alone.folder / "packs/p0000" / TABLE).to_pandas()
    pd.testing.assert_frame_equal(pq.read_table(tmp_path / TABLE).to_pandas(), wanted, check_exact=True)


def test_progress_is_a_share_of_the_steps_that_are_expected(alone: Study, tmp_path: Path) -> None:
    pack = Pack(**results.pack_record(alone.folder, "p0000")["pack"])
    told = {each.step: each.progress for each in run_pack(alone.config, pack, alone.plugins, tmp_path)}
    assert list(told.values()) == sorted(told.values())
    assert told[60] == 1.0
    assert told[5] == pytest.approx(5 / (5 + 0.33 * 15 + 0.33**2 * 40))
    assert told[20] == pytest.approx((24 * 5 + 8 * 15) / (24 * 5 + 8 * 15 + 8 * 0.33 * 40))
    assert told[25] == pytest.approx((24 * 5 + 8 * 15 + 3 * 5) / (24 * 5 + 8 * 15 + 3 * 40))


def test_folds_of_a_configuration_stop_together(tmp_path: Path) -> None:
    done = study(
        tmp_path,
        task={"use": "breast_cancer", "validation": {"use": "folds", "folds": 3}},
        discretizers=[{"use": "threshold", "tolerance": 0.02}],
        train={"steps": 60, "lr": 0.05, "reports": 12},
        seeds=2,
        stop=HALVING,
        resources={"pack": 18},
    ).run("serial", report=False)
    frame = done.frame
    on_folds = frame[frame["fold"] >= 0]
    steps = on_folds.groupby(["configuration", "seed"])["step"].agg(["nunique", "count"])
    assert (steps["nunique"] == 1).all()
    assert (steps["count"] == 3).all()
    assert on_folds.groupby("step").size().to_dict() == {5: 12, 20: 3, 60: 3}
    refitted = frame[frame["fold"] < 0]
    assert (refitted["status"] == "finished").all()
    assert len(refitted) >= 1
    assert done.best()["fold"] == -1


def test_what_diverged_is_called_so_and_goes_first(tmp_path: Path) -> None:
    done = study(
        tmp_path,
        train={"steps": 60, "lr": {"choice": [0.05, 1e30]}, "reports": 12, "optimizer": {"use": "sgd"}},
        discretizers=[{"use": "threshold", "tolerance": 0.02}],
        stop={**HALVING, "keep": 0.5},
        seeds=2,
    ).run("serial", report=False)
    frame = done.frame
    wild = frame["train.lr"] > 1
    assert set(frame.loc[wild, "status"]) == {"diverged"}
    assert set(frame.loc[~wild, "status"]) == {"finished", "stopped"}
    assert frame.loc[wild, "step"].max() <= 30
    assert frame.loc[wild, "error"].notna().any()


def test_each_data_set_of_a_pack_is_compared_by_itself(tmp_path: Path) -> None:
    done = study(
        tmp_path,
        task={"use": "xor", "samples": 20, "noise": {"choice": [0.05, 0.5]}},
        discretizers=[],
        train={"steps": 60, "lr": 0.05, "reports": 12},
        stop={"use": "halving", "rungs": 1, "keep": 0.34, "by": ["valid_error"]},
        resources={"pack": 24},
    ).run("serial", report=False)
    finished = done.frame[done.frame["status"] == "finished"]
    assert finished.groupby("task.noise").size().to_dict() == {0.05: 5, 0.5: 5}
    assert "rung_edges" not in finished


REFUSED = [
    (
        {"stop": HALVING | {"by": ["edges", "neurons"]}, "sampler": {"use": "tpe", "trials": 4, "generation": 2}},
        "sampler 'tpe' learns from valid_loss and edges, but of a network that is stopped only edges and neurons are known",
    ),
    (
        {"stop": HALVING, "sampler": {"use": "tpe", "trials": 4, "generation": 2, "constraints": {"parameters": 9}}},
        "learns from valid_loss and edges and parameters",
    ),
    ({"stop": HALVING | {"refill": True}}, "stop.refill: sampler 'grid' has nothing more to draw"),
    ({"stop": HALVING | {"rungs": 3}}, r"after the steps 5, 5, 20 of 60, .* \(train.reports: 12\), each at most once"),
    ({"stop": HALVING, "train": {"steps": 1, "lr": 0.1}}, "Write fewer rungs, more steps, or more reports"),
    ({"stop": HALVING | {"keep": 1}}, "stop.keep: 1; needed: a number >= 0.001 and < 1"),
    ({"stop": HALVING | {"keep": 1e-200, "refill": True}}, "stop.keep: 1e-200; needed: a number >= 0.001 and < 1"),
    ({"stop": HALVING | {"by": []}}, "stop.by"),
    ({"stop": HALVING | {"by": ["edges", "edges"]}}, "each once"),
    ({"stop": HALVING | {"by": ["test_loss"]}}, "'test_loss'"),
    ({"stop": HALVING | {"use": "hyperband"}}, "'hyperband'; needed: 'halving'"),
    ({"stop": HALVING | {"refill": 3}}, "stop.refill: 3; needed: true or false"),
    (
        {"stop": HALVING, "resources": {"pack": 2}, "task": {"use": "wine", "validation": {"use": "folds", "folds": 4}}},
        "all 4 folds of a configuration are stopped together, but a pack has room for 2 rows",
    ),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED, ids=[words[:30] for _, words in REFUSED])
def test_what_cannot_be_is_refused_when_it_is_planned(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        study(tmp_path, **changes).plan()


def test_a_plan_says_what_is_left_to_train(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from nasplug.summary import print_plan

    mine = study(tmp_path, stop=HALVING)
    packs = mine.plan()
    print_plan(mine, packs)
    told = " ".join(capsys.readouterr().out.split())
    assert "Halving by valid_loss and edges: after 5 steps 8 of 24, after 20 steps 3 of 24 go on." in told
    assert "25 % of all steps are trained" in told
    assert share_of_steps(mine.config, packs, 60)[1] == pytest.approx((24 * 5 + 8 * 15 + 3 * 40) / (24 * 60))
    config = parse({**SMALL, "stop": {"use": "halving"}})
    assert rungs(config, packs[0], 60) == [5, 20]


@pytest.mark.parametrize("most", [50, 64, 1000])
def test_packs_of_which_other_numbers_of_rows_go_on_share_programs(most: int) -> None:
    rooms = [training._bucket(rows, most) for rows in range(1, most + 1)]
    assert all(rows <= room <= min(most, max(rows + 1, 3 * rows / 2)) for rows, room in enumerate(rooms, start=1))
    assert len(set(rooms)) <= 2 * most.bit_length()
