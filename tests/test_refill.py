"""Samplers beside halving: what they learn of networks that are stopped, and how many more they draw for the same steps."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasplug import results
from nasplug.config import Stop
from nasplug.plan import share_of_steps
from nasplug.sampling import JOURNAL
from nasplug.study import Study
from nasplug.summary import print_plan

HALVING: dict[str, Any] = {"use": "halving", "rungs": 1, "keep": 0.25, "by": ["valid_loss", "edges"], "refill": True}
SMALL: dict[str, Any] = {
    "study": "small",
    "task": {"use": "xor", "samples": 20},
    "method": {"use": "edges", "mode": "gated", "hidden": [3]},
    "penalties": [{"use": "l1", "level": {"log": [1e-3, 1.0]}}],
    "discretizers": [{"use": "threshold", "tolerance": 0.02}],
    "train": {"steps": 16, "lr": {"log": [0.01, 0.1]}, "batch": 7, "reports": 8},
    "sampler": {"use": "random", "trials": 7},
    "seeds": 2,
    "stop": HALVING,
    "linear": False,
    "reach": None,
    "mlflow": None,
}
GUIDED: dict[str, Any] = {"use": "tpe", "trials": 7, "generation": 8, "startup": 4}


def study(store: Path, **changes: Any) -> Study:
    return Study.from_dict({**SMALL, "store": str(store), **changes})


def trained_steps(study: Study) -> int:
    packs = [path.name for path in (study.folder / "packs").iterdir()]
    return sum(results.pack_record(study.folder, pack)["network_steps"] for pack in packs)


@pytest.fixture(scope="module")
def guided(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """16 configurations in two generations."""
    return study(tmp_path_factory.mktemp("guided"), sampler=GUIDED).run("serial", report=False)


@given(rungs=st.integers(1, 5), keep=st.floats(0.05, 0.95))
def test_the_share_of_steps_is_the_sum_over_rungs(rungs: int, keep: float) -> None:
    marks = [0.0, *(keep ** (rungs - i) for i in range(rungs)), 1.0]
    wanted = sum(keep**i * (end - since) for i, (since, end) in enumerate(itertools.pairwise(marks)))
    share = Stop(use="halving", rungs=rungs, keep=keep).share
    assert share == pytest.approx(wanted)
    assert 0 < share < 1


def test_as_many_are_drawn_as_the_steps_of_the_trials_are_worth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = study(tmp_path)
    assert mine.config.stop is not None
    assert mine.config.stop.share == pytest.approx(0.25 * 1.75)
    assert mine.generations.sizes == [16]  # 7 / 0.4375
    packs = mine.plan()
    assert share_of_steps(mine.config, packs, 16)[1] == mine.config.stop.share
    print_plan(mine, packs)
    assert "44 % of all steps are trained, as many as 7 trials take to the end." in " ".join(capsys.readouterr().out.split())
    done = mine.run("serial", report=False)
    assert len(done.frame) == 2 * 16
    assert trained_steps(done) == 7 * 2 * 16  # as 7 configurations of 2 seeds take to the end
    assert study(tmp_path, stop=HALVING | {"refill": False}).generations.sizes == [7]


def test_a_sampler_that_learns_fills_generation_after_generation(guided: Study) -> None:
    assert guided.generations.sizes == [8, 8]
    frame = guided.frame
    assert frame["configuration"].nunique() == 16
    assert frame["status"].value_counts().to_dict() == {"stopped": 24, "finished": 8}
    assert trained_steps(guided) == 7 * 2 * 16


def test_what_is_stopped_is_told_as_it_was_at_its_rung(guided: Study) -> None:
    backend = optuna.storages.journal.JournalFileBackend(str(guided.folder / JOURNAL))
    trials = optuna.load_study(study_name="small", storage=optuna.storages.JournalStorage(backend)).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 16
    frame = guided.frame
    gone = frame["status"] == "stopped"
    frame["told loss"] = frame["relaxed_valid_loss"].where(gone, frame["valid_loss"])
    frame["told edges"] = frame["rung_edges"].where(gone, frame["edges"])
    means = frame.groupby("configuration")[["told loss", "told edges"]].mean()
    for number, trial in enumerate(trials):
        assert trial.values == pytest.approx(means.loc[number].tolist())
        assert trial.params["train.lr"] == frame.set_index("configuration")["train.lr"][[number]].iloc[0]


def test_a_study_that_lost_its_last_generation_draws_it_again(guided: Study, tmp_path: Path) -> None:
    again = study(tmp_path, sampler=GUIDED)
    shutil.copytree(guided.folder, again.folder)
    for path in (*again.folder.glob("plan-001*"), *again.folder.glob("rung-001*"), again.folder / JOURNAL):
        path.unlink()
    shutil.rmtree(again.folder / "packs" / str(guided.frame["replica"].max()).split("/")[0])
    again.run("serial", report=False)
    frames = [one.frame.set_index("replica").sort_index() for one in (guided, again)]
    pd.testing.assert_frame_equal(*frames, check_exact=True)


def test_a_random_search_keeps_what_has_no_score_out_of_its_journal(tmp_path: Path) -> None:
    """The sampler asks for the error, and rows were compared by their loss: a stopped one has none."""
    rule = {"use": "random", "trials": 4, "objectives": {"valid_error": "minimize"}}
    done = study(tmp_path, sampler=rule, stop=HALVING | {"refill": False}).run("serial", report=False)
    backend = optuna.storages.journal.JournalFileBackend(str(done.folder / JOURNAL))
    trials = optuna.load_study(study_name="small", storage=optuna.storages.JournalStorage(backend)).trials
    finished = set(done.frame.loc[done.frame["status"] == "finished", "configuration"])
    assert {n for n, trial in enumerate(trials) if trial.state.name == "COMPLETE"} == finished
