"""A budget of time: when it is spent the study concludes with what finished, and goes on where it stopped with a larger one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from nasplug import results
from nasplug.cli import main
from nasplug.config import parse
from nasplug.errors import ConfigError, NasplugError
from nasplug.life import standing
from nasplug.packs import TABLE
from nasplug.plan import Cost
from nasplug.study import Study
from nasplug.study.clock import Clock, spent

SMALL: dict[str, Any] = {
    "study": "small",
    "task": {"use": "xor", "samples": 20},
    "method": {"use": "edges", "mode": "gated", "hidden": [3]},
    "penalties": [{"use": "l1", "level": {"choice": [0.0, 0.001, 0.1]}}],
    "discretizers": [{"use": "threshold", "tolerance": 0.02}],
    "train": {"steps": 60, "lr": 0.05, "batch": 7, "reports": 6},
    "seeds": 4,
    "resources": {"pack": 3},
    "linear": False,
    "reach": None,
    "mlflow": None,
}
FOLDS: dict[str, Any] = {
    "task": {"use": "wine", "validation": {"use": "folds", "folds": 3}},
    "penalties": [{"use": "l1", "level": {"choice": [0.001, 0.1]}}],
    "seeds": 2,
    "resources": {"pack": 6},
}
DRAWN: dict[str, Any] = {
    "penalties": [{"use": "l1", "level": {"log": [1e-4, 0.1]}}],
    "sampler": {"use": "tpe", "trials": 9, "generation": 3, "startup": 3},
    "seeds": 2,
}


def study(store: Path, **changes: Any) -> Study:
    return Study.from_dict({**SMALL, "store": str(store), **changes})


@pytest.fixture
def _asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second passes whenever a study asks whether its budget is spent."""

    def over(self: Clock) -> bool:
        self._before += 1.0
        return self._before >= self.budget

    monkeypatch.setattr(Clock, "over", property(over))


def by_name(study: Study) -> pd.DataFrame:
    return results.read(study.folder, histories=True).set_index("replica").sort_index()


def same(one: Study, other: Study) -> None:
    pd.testing.assert_frame_equal(by_name(one), by_name(other), check_exact=True, check_like=True)


@pytest.mark.usefixtures("_asked")
def test_what_finished_is_concluded_from_and_a_larger_budget_goes_on(tmp_path: Path) -> None:
    full = study(tmp_path / "full").run("serial", report=False)
    assert by_name(full)["status"].eq("finished").all()
    assert results.ending_of(full.folder) is None
    mine = study(tmp_path, budget="20s").run("serial")
    found, whole = by_name(mine), by_name(full)
    assert sorted({name[:5] for name in found.index}) == ["p0000", "p0001"]  # each is asked of before it, and at six reports
    pd.testing.assert_frame_equal(found, whole.loc[found.index], check_exact=True, check_like=True)
    told = "The budget of 20s is spent, and 6 of 12 networks were not trained"
    ending = results.ending_of(mine.folder)
    assert ending is not None
    assert (ending.by, ending.networks, ending.untrained) == ("budget", 12, 6)
    assert ending.words.startswith(told)
    assert standing(mine.folder).state == "finished"
    assert standing(mine.folder).why.startswith(told)
    assert told in (mine.folder / "report.html").read_text(encoding="utf-8")
    for command in (["front", str(mine.folder)], ["status", str(mine.folder)]):
        assert told in " ".join(CliRunner().invoke(main, command).stdout.split())
    shown = json.loads(CliRunner().invoke(main, ["front", str(mine.folder), "--json"]).stdout)
    assert shown["ending"]["untrained"] == 6
    assert mine.best()["replica"] in found.index

    again = study(tmp_path, budget="20s").run("serial", report=False)  # nothing is left of it
    assert len(again.frame) == 6
    more = study(tmp_path, budget="1h").run("serial", report=False)
    same(more, full)
    assert results.ending_of(more.folder) is None
    assert standing(more.folder).why == ""
    record = json.loads((more.folder / "packs/p0002/pack.json").read_text())
    assert record["seconds"]["resumed_at"] > 0  # from the report at which the budget was spent


@pytest.mark.usefixtures("_asked")
def test_a_budget_that_is_spent_before_any_network_finished_is_said(tmp_path: Path) -> None:
    short = study(tmp_path, budget=3)
    told = r"no network finished\. The budget of 3s is spent, and 12 of 12 networks were not trained: .* \(budget=\.\.\.\)"
    with pytest.raises(NasplugError, match=told):
        short.run("serial")
    assert standing(short.folder).state == "stopped"
    done = study(tmp_path, budget=None).run("serial", report=False)
    assert done.frame["status"].eq("finished").all()


@pytest.mark.slow
@pytest.mark.usefixtures("_asked")
def test_what_is_chosen_on_folds_is_refitted_after_the_budget(tmp_path: Path) -> None:
    full = study(tmp_path / "full", **FOLDS).run("serial", report=False)
    mine = study(tmp_path, **FOLDS, budget=10).run("serial", report=False)
    frame = mine.frame
    assert set(frame.loc[frame["fold"] >= 0, "replica"].str[:5]) == {"p0000"}
    assert (frame["fold"] == -1).any()
    assert mine.best()["fold"] == -1
    more = study(tmp_path, **FOLDS, budget=None).run("serial", report=False)
    assert len(more.frame[more.frame["fold"] >= 0]) == len(full.frame[full.frame["fold"] >= 0]) == 12
    columns = ["configuration", "seed", "fold", "valid_loss", "edges"]
    wanted, found = (by_name(one)[columns].reset_index(drop=True) for one in (full, more))
    assert set(map(tuple, wanted.fillna(-9).to_numpy())) <= set(map(tuple, found.fillna(-9).to_numpy()))


@pytest.mark.slow
@pytest.mark.usefixtures("_asked")
def test_a_configuration_that_lacks_a_fold_is_not_refitted(tmp_path: Path) -> None:
    changes: dict[str, Any] = {**FOLDS, "seeds": 1, "resources": {"pack": 2}}  # two packs for each configuration
    with pytest.raises(NasplugError, match=r"no network finished\. The budget"):
        study(tmp_path / "short", **changes, budget=9).run("serial", report=False)
    mine = study(tmp_path, **changes, budget=25).run("serial", report=False)
    frame = mine.frame
    assert frame[frame["fold"] >= 0].groupby("configuration")["fold"].nunique().to_dict() == {0: 3, 1: 2}
    assert set(frame.loc[frame["fold"] == -1, "configuration"]) == {0}


@pytest.mark.slow
@pytest.mark.usefixtures("_asked")
def test_packs_planned_after_refits_have_names_of_their_own(tmp_path: Path) -> None:
    changes: dict[str, Any] = {**FOLDS, **DRAWN, "seeds": 1, "resources": {"pack": 9}}
    full = study(tmp_path / "full", **changes).run("serial", report=False)
    cut = study(tmp_path, **changes, budget=10).run("serial", report=False)
    assert (cut.frame["fold"] == -1).any()  # refits of the first generation alone
    more = study(tmp_path, **changes).run("serial", report=False)
    plans = [json.loads(path.read_text())["packs"] for path in sorted(more.folder.glob("plan-*.json"))]
    names = [pack["id"] for packs in plans for pack in packs]
    assert len(set(names)) == len(names)
    columns = ["configuration", "seed", "fold", "valid_loss", "edges"]
    wanted, found = (one.frame.loc[one.frame["fold"] >= 0, columns] for one in (full, more))
    assert set(map(tuple, wanted.to_numpy())) == set(map(tuple, found.to_numpy()))


def test_refits_of_an_earlier_version_are_trained_after_the_budget(tmp_path: Path) -> None:
    changes: dict[str, Any] = {**FOLDS, "seeds": 1, "penalties": [{"use": "l1", "level": {"choice": [0.001]}}]}
    first = study(tmp_path, **changes).run("serial", report=False)
    (refit,) = {name[:5] for name in first.frame.loc[first.frame["fold"] == -1, "replica"]}
    shutil.rmtree(first.folder / "packs" / refit)  # as if it had failed
    more = study(tmp_path, **changes | {"seeds": 2}, budget=0.001).run("serial", report=False, extend=True)
    assert refit in {name[:5] for name in more.frame["replica"]}
    assert more.best()["fold"] == -1


@pytest.mark.usefixtures("_asked")
def test_a_generation_that_was_cut_is_told_when_it_is_whole(tmp_path: Path) -> None:
    full = study(tmp_path / "full", **DRAWN).run("serial", report=False)
    mine = study(tmp_path, **DRAWN, budget=25).run("serial", report=False)
    ending = results.ending_of(mine.folder)
    assert ending is not None
    assert ending.networks == 18
    assert ending.untrained + len(mine.frame) == 18
    assert len(mine.frame) == 9  # in the midst of the second
    same(study(tmp_path, **DRAWN, budget=10_000).run("serial", report=False), full)


@pytest.mark.slow
@pytest.mark.usefixtures("_asked")
@pytest.mark.parametrize(("budget", "planned"), [(9, 0), (10, 1)])
def test_half_samples_that_are_left_out_are_said(budget: int, planned: int, tmp_path: Path) -> None:
    """None is planned once the budget is spent: with a larger one other networks may be counted."""
    changes: dict[str, Any] = {"task": {"use": "wine", "validation": "holdout"}, "seeds": 1, "stability": {"subsamples": 4}}
    mine = study(tmp_path, **changes, budget=budget).run("serial", report=False)
    ending = results.ending_of(mine.folder)
    assert ending is not None
    assert len(mine.frame) == 3
    assert len(list(mine.folder.glob("plan-halves-*"))) == planned
    assert 0 < ending.untrained < ending.networks
    more = study(tmp_path, **changes).run("serial", report=False)
    assert results.ending_of(more.folder) is None
    assert (more.stability()["networks"] == 4).all()


def test_the_clock_goes_on_where_it_stood(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock(tmp_path, 1e-9)
    assert clock.over
    clock.save()
    assert spent(tmp_path) >= 0.0
    (tmp_path / "clock.json").unlink()
    first = Clock(tmp_path, 100.0)
    first._before = 60.0
    first.save()
    second = Clock(tmp_path, 60.0)
    assert second.over
    assert 60.0 <= second.seconds < 70.0
    for text in ("{", "", '{"seconds": NaN}'):
        (tmp_path / "clock.json").write_text(text)
        assert spent(tmp_path) == 0.0
        caplog.clear()
        Clock(tmp_path, 60.0)
        (told,) = caplog.messages
        assert told.startswith(f"{tmp_path}/clock.json cannot be read")
        assert told.endswith("the budget of 60 s counts from 0 again")


@pytest.mark.parametrize(
    ("written", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400), ("2 h", 7200), (12, 12), (0.5, 0.5)]
)
def test_a_budget_is_a_time(written: str | float, seconds: float) -> None:
    config = parse({**SMALL, "budget": written})
    assert config.budget_seconds == seconds
    assert config.plain()["budget"] == written


@pytest.mark.parametrize("written", ["10", "m", "0s", "-1m", "1d", "1h30m", "inf", 0, -3, True, [1], "1e3s", ""])
def test_what_is_no_time_is_refused(written: Any) -> None:
    with pytest.raises(ConfigError, match=r"budget: .*; needed: a time as 90s, 10m or 1.5h, or a number of seconds, above 0"):
        parse({**SMALL, "budget": written})


def test_a_plan_warns_of_a_budget_below_its_estimate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from nasplug.summary import print_plan

    cost = Cost(1, 1, 1, (10.0, 20.0), 0, "guessed")
    assert "less than the estimate; networks will be left" in cost.against("9s", 9.0)
    assert "less than the high end of the estimate; networks may be left" in cost.against("15s", 15.0)
    assert cost.against("20s", 20.0) == ""
    mine = study(tmp_path, budget="1s")
    print_plan(mine, mine.plan())
    assert "Warning: budget: 1s is less than the estimate" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_on_ray_packs_end_at_their_next_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {"train": {**SMALL["train"], "steps": 600}, "seeds": 20, "resources": {"pack": 3}}
    full = study(tmp_path / "full", **steps).run("serial", report=False)
    with monkeypatch.context() as patch:  # the budget is spent when the first pack has finished
        patch.setattr(Clock, "over", property(lambda self: any(self._path.parent.glob(f"packs/*/{TABLE}"))))
        mine = study(tmp_path, **steps, budget="1s").run("ray", report=False)
    found, whole = by_name(mine), by_name(full)
    assert 0 < len(found) < len(whole) == 60
    pd.testing.assert_frame_equal(found, whole.loc[found.index], check_exact=True, check_like=True)
    assert not (mine.folder / ".ending").exists()
    same(study(tmp_path, **steps, budget="1h").run("ray", report=False), full)
