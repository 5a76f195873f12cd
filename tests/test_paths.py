"""Paths: rows pass through levels; what each level gives is a network like others, whoever shared its pack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from nasplug import lineage, results
from nasplug.errors import ConfigError
from nasplug.lineage.again import again
from nasplug.packs import TABLE, load_networks, run_pack, training
from nasplug.packs.portions import Portions
from nasplug.plan import Pack, paths_of
from nasplug.study import Study
from nasplug.summary import print_plan

LEVELS = [0.0, 0.001, 0.003, 0.01, 0.1]
SMALL: dict[str, Any] = {
    "study": "path",
    "task": {"use": "xor", "samples": 20},
    "method": {"use": "edges", "mode": "annealed", "hidden": [3]},
    "penalties": [{"use": "l1", "level": {"choice": [0.1, *LEVELS[:-1]]}, "ramp": {"use": "linear", "until": 0.3}}],
    "temperature": {"use": "linear", "start": 1.0, "end": 0.0, "until": 0.5},
    "discretizers": [{"use": "threshold", "tolerance": {"choice": [0.02, 0.1]}}],
    "train": {
        "steps": 40,
        "lr": 0.05,
        "batch": 7,
        "decay": {"use": "cosine", "end": 0.1},
        "finetune": 3,
        "reports": 12,
        "dtype": "float64",
        "path": {"over": "penalties.0.level", "steps": 15},
    },
    "seeds": 3,
    "linear": False,
    "mlflow": None,
}
OVER = "penalties.0.level"


def study(store: Path, **changes: Any) -> Study:
    train = {**SMALL["train"], **changes.pop("train", {})}
    return Study.from_dict({**SMALL, "store": str(store), "train": train, **changes})


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study(tmp_path_factory.mktemp("walked")).run("serial", report=False)


def own(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.set_index(["seed", "discretizers.0.tolerance", OVER]).sort_index()


def test_each_level_is_a_network_of_its_own(walked: Study) -> None:
    frame = results.read(walked.folder, histories=True)
    assert len(frame) == 3 * 2 * len(LEVELS)
    assert set(frame["status"]) == {"finished"}
    steps = frame.groupby(OVER)["step"].unique().map(list).tolist()
    assert steps == [[40 + 15 * number] for number in range(len(LEVELS))]
    for _, row in frame.iterrows():
        assert row["history_step"][-1] == row["step"]
        assert len(row["history_valid_loss"]) == len(row["history_step"])
    assert results.pack_record(walked.folder, "p0000")["network_steps"] == 6 * (40 + 15 * 4)
    size = frame.groupby(OVER)["relaxed_valid_loss"].mean()
    assert size.nunique() == len(LEVELS)
    assert walked.network(str(walked.best()["replica"])).record["sizes"]["edges"] == walked.best()["edges"]


def test_the_first_level_is_as_if_there_were_no_path(walked: Study, tmp_path: Path) -> None:
    plain = study(tmp_path, train={"path": None}, penalties=[{**SMALL["penalties"][0], "level": 0.001}], reach=None)
    first = study(tmp_path / "first", penalties=[{**SMALL["penalties"][0], "level": {"choice": [0.001, 0.01]}}])
    alone, walk = plain.run("serial", report=False).frame, first.run("serial", report=False).frame
    walk = walk[walk[OVER] == 0.001]
    for name in ("valid_loss", "test_error", "edges", "relaxed_valid_loss"):
        wanted = alone.sort_values(["seed", "discretizers.0.tolerance"])[name].tolist()
        assert walk.sort_values(["seed", "discretizers.0.tolerance"])[name].tolist() == wanted, name


def test_a_path_is_the_same_alone_and_in_any_pack(walked: Study, tmp_path: Path) -> None:
    """The row law, to 1e-10 in float64; packs are cut between paths."""
    split = study(tmp_path, resources={"pack": 2}).run("serial", report=False)
    packs = sorted(path.name for path in (split.folder / "packs").iterdir())
    assert len(packs) == 3
    assert [results.plan_of(split.folder, pack, ()).rows for pack in packs] == [10, 10, 10]
    found, wanted = own(split.frame), own(walked.frame)
    for name in ("valid_loss", "test_loss", "relaxed_valid_loss", "edges", "step"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-10, atol=1e-12)


def test_a_pack_of_some_levels_passes_through_those_before(walked: Study, tmp_path: Path) -> None:
    """As refits and half samples have them, in any order; and no further than the last."""
    plan = results.plan_of(walked.folder, "p0000", ())
    rows = [row for row in range(plan.rows) if plan.columns[OVER][row] in (0.001, 0.01)][::-1]
    some = Pack(
        plan.id,
        plan.values,
        {path: [column[row] for row in rows] for path, column in plan.columns.items()},
        [plan.seeds[row] for row in rows],
        [plan.configurations[row] for row in rows],
    )
    assert paths_of(walked.config, some).ends == (40, 55, 70, 85)
    *_, last = run_pack(walked.config, some, walked.plugins, tmp_path / plan.id)
    assert (last.step, last.progress) == (85, 1.0)
    frame = pq.read_table(tmp_path / plan.id / TABLE).to_pandas()
    whole = walked.frame.set_index("replica").loc[[f"p0000/{row:04d}" for row in rows]]
    np.testing.assert_allclose(frame["valid_loss"], whole["valid_loss"], rtol=1e-10, atol=1e-12)
    nets, all_of_them = (load_networks(folder / plan.id) for folder in (tmp_path, walked.folder / "packs"))
    for edge, block in nets.blocks.items():
        assert torch.allclose(block, all_of_them.blocks[edge][rows], rtol=1e-9, atol=1e-12)


def test_portions_pass_through_the_same_levels(walked: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "Portions", lambda device: Portions(device, 4))  # as where memory has ended twice
    list(run_pack(walked.config, results.plan_of(walked.folder, "p0000", ()), walked.plugins, tmp_path))
    wanted = pq.read_table(walked.folder / "packs/p0000" / TABLE).to_pandas()
    found = pq.read_table(tmp_path / TABLE).to_pandas()
    assert found["step"].tolist() == wanted["step"].tolist()
    np.testing.assert_allclose(found["valid_loss"], wanted["valid_loss"], rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_ray_passes_through_the_same_levels(walked: Study, tmp_path: Path) -> None:
    far = study(tmp_path, resources={"pack": 3}).run("ray", report=False)
    np.testing.assert_allclose(own(far.frame)["valid_loss"], own(walked.frame)["valid_loss"], rtol=1e-10, atol=1e-12)


def test_a_plan_says_what_is_passed_through(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    mine = study(tmp_path)
    print_plan(mine, mine.plan())
    told = " ".join(capsys.readouterr().out.split())
    assert f"Path: 6 rows pass through 5 levels of {OVER}, from 0 to 0.1, with 15 steps for each after the first." in told


@pytest.mark.parametrize("reports", [1, 5, 7, 11, 16])
def test_a_killed_path_goes_on_as_if_it_had_not_been(
    reports: int, walked: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    pack = results.plan_of(walked.folder, "p0000", ())
    going = run_pack(walked.config, pack, walked.plugins, tmp_path)
    for _ in range(reports):
        next(going)
    going.close()
    list(run_pack(walked.config, pack, walked.plugins, tmp_path))
    wanted = pq.read_table(walked.folder / "packs/p0000" / TABLE).to_pandas()
    pd.testing.assert_frame_equal(pq.read_table(tmp_path / TABLE).to_pandas(), wanted, check_exact=True)


def test_a_network_of_a_path_is_trained_again_from_its_lineage(walked: Study) -> None:
    frame = walked.frame
    row = frame[(frame[OVER] == 0.01) & (frame["seed"] == 2)].iloc[0].to_dict()
    network = walked.network(str(row["replica"]))
    record = json.loads(json.dumps(lineage.lineage_of(walked.folder, walked.config, row, network)))
    assert record["pack"]["path"] == {
        "over": OVER,
        "levels": LEVELS[:4],
        "ends": [40, 55, 70, 85],
        "row": record["pack"]["path"]["row"],
        "rows": 6,
    }
    told, _ = again(record, network, walked.plugins)
    assert told.equal
    assert told.scores_equal


def test_folds_refit_what_is_on_the_front_through_its_levels(tmp_path: Path) -> None:
    done = study(
        tmp_path,
        task={"use": "diabetes", "validation": {"use": "folds", "folds": 2}},
        discretizers=[{"use": "threshold", "tolerance": 0.02}],
        penalties=[{"use": "l1", "level": {"log": [0.001, 0.1], "points": 3}}],
        train={"batch": "full", "finetune": 0},
        seeds=2,
    ).run("serial", report=False)
    frame = done.frame
    assert len(frame[frame["fold"] >= 0]) == 3 * 2 * 2
    refitted = frame[frame["fold"] == -1]
    assert (refitted["status"] == "finished").all()
    number = {level: at for at, level in enumerate(sorted(frame[OVER].unique()))}
    assert (refitted["step"] == 40 + 15 * refitted[OVER].map(number)).all()
    assert done.best()["fold"] == -1


def test_what_diverges_on_its_way_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    done = study(
        tmp_path,
        train={"optimizer": {"use": "sgd"}, "lr": {"choice": [0.05, 1e30]}, "decay": None},
        discretizers=[],
        seeds=2,
    ).run("serial", report=False)
    frame = done.frame
    wild = frame["train.lr"] > 1
    assert set(frame.loc[wild, "status"]) == {"diverged"}
    assert set(frame.loc[~wild, "status"]) == {"finished"}
    assert frame.loc[wild, "error"].notna().any()


def test_seeds_are_added_and_levels_are_not(tmp_path: Path) -> None:
    done = study(tmp_path, seeds=2).run("serial", report=False)
    more = Study.open(done.folder, ["seeds=3"]).run("serial", extend=True, report=False)
    assert own(more.frame).loc[2]["step"].max() == 100
    with pytest.raises(ConfigError, match=r"each level of train.path begins where the one before has ended"):
        Study.open(done.folder, ["penalties.0.level.choice=[0.0,0.001,0.003,0.01,0.1,1.0]"]).run("serial", extend=True)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"stop": {"use": "halving"}}, "beside stop, which compares networks at one step"),
    ({"train": {"keep": "best"}}, r"beside train.keep: best, .* write keep: last"),
    ({"penalties": [{"use": "l1", "level": 0.1}]}, "penalties.0.level does not vary over numbers"),
    ({"train": {"path": {"over": "penalties.1.level"}}}, "penalties.1.level does not vary over numbers"),
    ({"train": {"path": {"over": "train.lr"}}}, "train.path.over"),
    ({"train": {"path": {"steps": 0}}}, "train.path.steps: 0; needed"),
    ({"train": {"path": {"steps": 1_000_000}}}, "steps for all levels; needed: 1,000,000 at most"),
    ({"sampler": {"use": "random", "trials": 4}}, r"would draw single values of penalties.0.level; write \{grid"),
    (
        {"method": {"use": "edges", "mode": "snap", "hidden": [3]}, "temperature": None},
        r"by the number of the step \(project\)",
    ),
    (
        {"penalties": [{**SMALL["penalties"][0], "ramp": {"use": "plateau"}}]},
        "penalties.0.ramp: ends at 0, and multiplies all levels of train.path that come after the first",
    ),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED, ids=[words[:30] for _, words in REFUSED])
def test_what_cannot_be_is_refused_when_it_is_planned(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        study(tmp_path, **changes).plan()
