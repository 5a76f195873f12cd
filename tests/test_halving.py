"""Halving across packs: who goes on does not depend on how rows are packed, nor on where a study was killed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nasplug import files, results
from nasplug.collecting import RUNGS
from nasplug.config import StudyConfig
from nasplug.errors import NasplugError
from nasplug.hookspecs import Progress, hookimpl
from nasplug.packs import CHECKPOINT, rung_file, training
from nasplug.plan import Pack, across, cost_of
from nasplug.plugins import Plugins
from nasplug.runner import RayRunner, SerialRunner, Watch
from nasplug.study import Study
from nasplug.study.clock import Clock
from nasplug.study.halving import Halving

from .processes import descendants

SMALL: dict[str, Any] = {
    "study": "small",
    "task": {"use": "xor", "samples": 20},
    "method": {"use": "edges", "mode": "gated", "hidden": [3]},
    "penalties": [{"use": "l1", "level": {"choice": [0.0, 0.001, 0.1]}, "ramp": {"use": "linear", "until": 0.3}}],
    "discretizers": [{"use": "threshold", "tolerance": 0.02}],
    "train": {"steps": 40, "lr": {"choice": [0.01, 0.05]}, "batch": 7, "finetune": 3, "reports": 8},
    "seeds": 4,
    "stop": {"use": "halving", "rungs": 2, "keep": 0.33, "by": ["valid_loss", "edges"]},
    "resources": {"pack": 8},
    "linear": False,
    "reach": None,
    "mlflow": None,
}
# Rungs after 5 and 15 steps; 24 networks, of which 8 and 3 go on. A row in another place may round otherwise.
ROUNDED = 1e-5


def study(store: Path, **changes: Any) -> Study:
    return Study.from_dict({**SMALL, "store": str(store), **changes})


def by_name(study: Study, **options: Any) -> pd.DataFrame:
    return results.read(study.folder, **options).set_index("replica").sort_index()


def by_row(study: Study) -> pd.DataFrame:
    """In one order, however rows were packed."""
    return study.frame.sort_values(["configuration", "seed"]).drop(columns=["replica", "owners"]).reset_index(drop=True)


def same(one: Study, other: Study) -> None:
    frames = by_name(one, histories=True), by_name(other, histories=True)
    pd.testing.assert_frame_equal(*frames, check_exact=True, check_like=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Three packs."""
    return study(tmp_path_factory.mktemp("whole")).run("serial", report=False)


# -- who goes on -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [24, 12, 5, 1])
def test_who_goes_on_does_not_depend_on_how_rows_are_packed(pack: int, whole: Study, tmp_path: Path) -> None:
    other = study(tmp_path, resources={"pack": pack}).run("serial", report=False)
    assert len(list(other.folder.glob("rung-*.json"))) == (0 if pack == 24 else 2)
    found, wanted = by_row(other), by_row(whole)
    assert wanted["step"].value_counts().to_dict() == {5: 16, 15: 5, 40: 3}
    for name in wanted.columns:
        if pd.api.types.is_float_dtype(wanted[name]):
            np.testing.assert_allclose(found[name], wanted[name], rtol=ROUNDED, atol=ROUNDED, err_msg=name)
        else:
            assert found[name].tolist() == wanted[name].tolist(), name


def test_packs_of_other_shapes_and_steps_are_compared_at_the_same_rung(tmp_path: Path) -> None:
    method = {**SMALL["method"], "hidden": {"choice": [[2], [3]]}}
    train = {**SMALL["train"], "steps": {"choice": [40, 80]}, "lr": 0.05}
    done = study(tmp_path, method=method, train=train).run("serial", report=False)
    frame = done.frame
    last = np.where(frame["train.steps"] == 40, 1, 2)
    assert (frame["step"] / last).value_counts().to_dict() == {5: 32, 15: 10, 40: 6}  # of 48: ceil(48 * .33), ceil(48 * .1089)
    told = files.read_json(done.folder / "rung-000-1.json")
    assert set(told["go on"]) == set(frame.loc[frame["status"] == "finished", "replica"])
    assert len(told["packs"]) == len(done.plan())


def test_each_data_set_is_compared_by_itself(tmp_path: Path) -> None:
    done = study(
        tmp_path,
        task={"use": "xor", "samples": {"choice": [20, 30]}, "noise": 0.3},
        stop={"use": "halving", "rungs": 1, "keep": 0.34, "by": ["valid_error"]},
    ).run("serial", report=False)
    finished = done.frame[done.frame["status"] == "finished"]
    assert finished.groupby("task.samples").size().to_dict() == {20: 9, 30: 9}
    mine = study(tmp_path, resources={"pack": 24}, study="two", task=done.config.plain()["task"])
    assert len(mine.plan()) == 2
    assert not across(mine.config, mine.plan())  # each is compared in its own pack


def test_folds_of_a_configuration_stop_together(tmp_path: Path) -> None:
    task = {"use": "breast_cancer", "validation": {"use": "folds", "folds": 3}}
    frame = study(tmp_path, task=task, seeds=1, resources={"pack": 6}).run("serial", report=False).frame
    on_folds = frame[frame["fold"] >= 0]
    steps = on_folds.groupby(["configuration", "seed"])["step"].agg(["nunique", "count"])
    assert (steps["nunique"] == 1).all()
    assert (steps["count"] == 3).all()
    assert on_folds.groupby("step").size().to_dict() == {5: 12, 15: 3, 40: 3}  # of 6: ceil(6 * .33), ceil(6 * .1089)
    assert (frame.loc[frame["fold"] < 0, "status"] == "finished").all()


def test_a_pack_of_which_none_goes_on_has_its_rows(tmp_path: Path) -> None:
    stop = {**SMALL["stop"], "by": ["valid_loss"], "rungs": 1, "keep": 0.1}
    done = study(tmp_path, stop=stop, resources={"pack": 4}).run("serial", report=False)
    frame = done.frame
    assert frame["status"].value_counts().to_dict() == {"stopped": 21, "finished": 3}
    gone = [pack for pack, rows in frame.groupby(frame["replica"].str[:5]) if (rows["status"] == "stopped").all()]
    assert gone
    for pack in gone:
        nets = done.networks(pack)
        assert all(bool(w.isnan().all()) for w in nets.blocks.values())
        assert results.pack_record(done.folder, pack)["network_steps"] == 4 * 5
    assert frame.loc[frame["status"] == "stopped", ["valid_error", "edges"]].isna().all(axis=None)


def test_a_plan_counts_what_is_trained_and_that_packs_are_built_anew_after_each_rung(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # paces of other tests are of other moments
    mine, full, one = (study(tmp_path, **more) for more in ({}, {"stop": None}, {"resources": {"pack": 24}}))
    found, whole, alone = (cost_of(one.config, one.plan(), one.plugins, together=1) for one in (mine, full, one))
    assert found is not None
    assert whole is not None
    assert alone is not None
    assert found.seconds[1] - whole.seconds[1] == pytest.approx(3 * 2 * 2 * 0.5, abs=0.5)
    assert found.seconds[1] > alone.seconds[1]
    long = {**SMALL["train"], "steps": 400_000}
    mine, full = (study(tmp_path, train=long, **more) for more in ({}, {"stop": None}))
    found, whole = (cost_of(one.config, one.plan(), one.plugins, together=1) for one in (mine, full))
    assert found is not None
    assert whole is not None
    assert found.seconds[1] / whole.seconds[1] < 0.4


# -- kills, failures, budgets ------------------------------------------------------------------------------------------


class Killed(SerialRunner):
    """As Ctrl-C, after so many reports of all packs."""

    def __init__(self, reports: int) -> None:
        object.__setattr__(self, "left", [reports])

    left: list[int]

    def run(self, study: StudyConfig, packs: Sequence[Pack], plugins: Plugins, watch: Watch) -> None:
        def reported(pack: str, progress: Progress) -> None:
            watch.reported(pack, progress)
            self.left[0] -= 1
            if not self.left[0]:
                raise KeyboardInterrupt

        SerialRunner.run(self, study, packs, plugins, replace(watch, reported=reported))


@pytest.mark.parametrize("reports", [1, 2, 3, 4, 5, 9, 10, 11])
def test_a_study_killed_at_any_report_ends_as_if_it_had_not_been(
    reports: int, whole: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path).run(Killed(reports), report=False)
    same(study(tmp_path).run("serial", report=False), whole)


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("number", [0, 1])
def test_a_study_killed_while_it_compares_goes_on_from_what_was_written(
    number: int, written: bool, whole: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(self: Halving, at: int, rung: Any) -> None:
        if at < number or written:
            write(self, at, rung)
        if at == number:
            raise KeyboardInterrupt

    write = Halving._write
    monkeypatch.setattr(Halving, "_write", kill)
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path).run("serial", report=False)
    monkeypatch.setattr(Halving, "_write", write)
    folder = tmp_path / "small"
    if written:  # nothing is compared again: not even where what was compared is gone
        for name in (CHECKPOINT, rung_file(0), rung_file(1)):
            (folder / "packs/p0001" / name).unlink(missing_ok=True)
    else:  # all is
        for path in [*folder.glob("rung-*"), *folder.glob("packs/p0001/rung-*")]:
            path.unlink()
    done = study(tmp_path).run("serial", report=False)
    same(done, whole)
    found, wanted = ({p.relative_to(one.folder) for p in one.folder.rglob("*rung*")} for one in (done, whole))
    assert found == wanted


@pytest.mark.parametrize("name", ["rung-000-0.json", "packs/p0001/rung-0.parquet"])
def test_what_was_damaged_is_set_aside_and_found_again(name: str, whole: Study, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path).run(Killed(5), report=False)
    file = tmp_path / "small" / name
    file.write_bytes(file.read_bytes()[:-7])
    same(study(tmp_path).run("serial", report=False), whole)


@pytest.mark.parametrize("lost", ["row", "edges", "seconds"])
def test_what_lacks_a_part_of_what_rows_are_compared_by_is_named_and_measured_again(
    lost: str, whole: Study, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path).run(Killed(5), report=False)
    file = tmp_path / "small/packs/p0001" / rung_file(0)
    table = files.read_table(file)
    told = {key.decode(): value.decode() for key, value in table.schema.metadata.items() if key.decode() != lost}
    files.write_table(file, table.select([name for name in table.column_names if name != lost]), told)
    same(study(tmp_path).run("serial", report=False), whole)
    assert f"{file} cannot be read: it does not hold all that rows are compared by" in caplog.text
    assert f"set aside as {file.name}{files.DAMAGED}, and its rows are measured again" in caplog.text


FORGED: dict[str, Any] = {
    "nothing": {},
    "other kinds": {"packs": 3, "go on": {}},
    "no replica": {"go on": ["x"]},
    "no name": {"go on": [[1]]},
    "another pack": {"go on": ["p0009/0001"]},
    "another row": {"go on": ["p0000/0099"]},
    "other packs": {"packs": {"p0000": "of another plan"}},
}


@pytest.mark.parametrize("changes", FORGED.values(), ids=FORGED)
def test_a_rung_that_is_not_of_these_packs_is_set_aside(changes: dict[str, Any], whole: Study, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path).run(Killed(5), report=False)
    path = tmp_path / "small/rung-000-0.json"
    files.write_json(path, {**files.read_json(path), **changes} if changes else {})
    same(study(tmp_path).run("serial", report=False), whole)
    assert path.with_name(path.name + files.DAMAGED).exists()


def test_a_rung_that_revives_a_network_is_set_aside(whole: Study, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path).run(Killed(12), report=False)
    first, path = (tmp_path / f"small/rung-000-{number}.json" for number in (0, 1))
    stopped = next(f"p0000/{row:04d}" for row in range(8) if f"p0000/{row:04d}" not in files.read_json(first)["go on"])
    told = files.read_json(path)
    files.write_json(path, {**told, "go on": [*told["go on"], stopped]})
    same(study(tmp_path).run("serial", report=False), whole)
    assert path.with_name(path.name + files.DAMAGED).exists()


def test_rungs_of_a_plan_that_is_lost_say_nothing_of_rows_that_are_packed_otherwise(whole: Study, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path).run(Killed(5), report=False)
    plan = tmp_path / "small/plan-000.json"
    plan.write_bytes(plan.read_bytes()[:-9])
    found, wanted = by_row(study(tmp_path, resources={"pack": 12}).run("serial", report=False)), by_row(whole)
    assert found["step"].tolist() == wanted["step"].tolist()


def test_a_pack_whose_table_is_lost_comes_to_its_own_again_also_where_nobody_knows_who_went_on(
    whole: Study, tmp_path: Path
) -> None:
    shutil.copytree(whole.folder, tmp_path / "small")
    for path in (tmp_path / "small/packs/p0001/replicas.parquet", *(tmp_path / "small").glob("rung-*")):
        path.unlink()
    same(study(tmp_path).run("serial", report=False), whole)


class Failing(SerialRunner):
    """One pack fails at a step."""

    def run(self, study: StudyConfig, packs: Sequence[Pack], plugins: Plugins, watch: Watch) -> None:
        def reported(pack: str, progress: Progress) -> None:
            watch.reported(pack, progress)
            if pack == "p0000" and progress.step == 10:
                raise RuntimeError("it broke")

        SerialRunner.run(self, study, packs, plugins, replace(watch, reported=reported))


def test_the_others_go_on_where_a_pack_fails_and_it_is_compared_when_it_is_tried_again(whole: Study, tmp_path: Path) -> None:
    first = study(tmp_path).run(Failing(), report=False)
    frame = by_name(first)
    lost = frame.index.str.startswith("p0000")
    assert (frame.loc[lost, "status"] == "failed").all()
    assert (frame.loc[~lost, "status"] == "finished").sum() <= 2  # of 16: ceil(16 * .1089)
    again = study(tmp_path).run("serial", report=False)
    found, wanted = by_name(again, histories=True), by_name(whole, histories=True)
    pd.testing.assert_frame_equal(found[~lost], by_name(first, histories=True)[~lost], check_exact=True, check_like=True)
    kept = wanted.index[lost & (wanted["status"] == "finished")]
    assert len(kept)
    # Those that would have gone on beside the others do so now.
    pd.testing.assert_frame_equal(found.loc[kept], wanted.loc[kept], check_exact=True, check_like=True)


def test_a_budget_that_ends_between_rungs_can_go_on(whole: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def over(self: Clock) -> bool:  # a second passes whenever it is asked
        self._before += 1.0
        return self._before >= self.budget

    monkeypatch.setattr(Clock, "over", property(over))
    short = study(tmp_path, budget=9)
    with pytest.raises(NasplugError, match=r"no network finished\. The budget of 9s is spent, and .* of 24 networks were not"):
        short.run("serial", report=False)
    assert list(short.folder.glob("rung-*")) == [short.folder / "rung-000-0.json"]
    longer = study(tmp_path, budget=28).run("serial", report=False)
    ending = results.ending_of(longer.folder)
    assert ending is not None
    assert ending.by == "budget"
    assert (longer.frame["status"] == "finished").any()
    same(study(tmp_path, budget=None).run("serial", report=False), whole)


def test_a_pack_of_which_none_goes_on_does_not_end_a_sweep(whole: Study, tmp_path: Path) -> None:
    stop = {**SMALL["stop"], "by": ["valid_loss"], "rungs": 1, "keep": 0.1}
    frames = [
        study(tmp_path, stop=stop, study=name, resources={"pack": 3}, **more).run("serial", report=False).frame
        for name, more in (("a", {}), ("b", {"plateau": {"tolerance": 1e-9, "patience": 3}}))
    ]
    assert [frame["status"].value_counts().to_dict() for frame in frames] == [{"stopped": 21, "finished": 3}] * 2


@pytest.mark.slow
def test_ray_gives_what_serial_gives_also_where_a_study_was_killed_between_rungs(whole: Study, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path).run(Killed(5), report=False)
    assert (tmp_path / "small/rung-000-0.json").exists()
    done = study(tmp_path).run(RayRunner(cpus=2), report=False)
    same(done, whole)
    for name in ("rung-000-0.json", "rung-000-1.json"):
        assert files.read_json(done.folder / name) == files.read_json(whole.folder / name)
    files_of = [sorted(str(p.relative_to(one.folder)) for p in one.folder.glob("packs/*/*")) for one in (done, whole)]
    assert files_of[0] == files_of[1]


@pytest.mark.slow
def test_packs_with_a_worker_each_wait_there_also_where_workers_are_killed(tmp_path: Path) -> None:
    """One trial per pack: none is started again but by its retries. The first pack has few steps, and waits for the other."""
    killed: list[int] = []

    class Killer:
        @hookimpl
        def pack_reported(self, pack: str, progress: Progress) -> None:
            if pack == "p0001" and not killed and (tmp_path / "ray/small/packs/p0000" / rung_file(0)).exists():
                for process in descendants(os.getpid(), "ImplicitFunc"):  # the name Ray gives to a function trainable
                    killed.append(process.pid)
                    process.send_signal(signal.SIGKILL)

    more: dict[str, Any] = {
        "train": {**SMALL["train"], "steps": {"choice": [60, 6_000]}, "lr": 0.05, "reports": 12},
        "stop": {**SMALL["stop"], "rungs": 1},
        "resources": {"pack": 12, "retries": 2},
    }
    done = study(tmp_path / "ray", **more).run(RayRunner(cpus=2), observers=[Killer()], report=False)
    assert len(killed) == 2
    same(done, study(tmp_path / "serial", **more).run("serial", report=False))
    assert len(list(done.folder.glob("ray/tune/trial_*"))) == 2
    assert not (done.folder / RUNGS).exists()
