"""Networks validated on resamples, from rows of packs to the network that is served."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from nasplug import Study
from nasplug.config import Choose, parse
from nasplug.data.datasets import diabetes, from_arrays, iris
from nasplug.data.validation import Validation
from nasplug.errors import ConfigError
from nasplug.folds import candidates, configurations, independent, means, outcomes, paired, picked, spread
from nasplug.networks import forward
from nasplug.packs.training import _best
from nasplug.plan import REFIT, Pack, axes, chunk, components, grid
from nasplug.plugins import load_plugins
from nasplug.report import front_table
from nasplug.results import allowed, choose, front, pack_record, read, to_refit
from nasplug.runner import SerialRunner, Watch
from nasplug.study.course import Course
from nasplug.tasks import Facts, Task, stack
from nasplug.train import Report, State, evaluate


def raw(store: Path, **changes: Any) -> dict[str, Any]:
    """A study of seconds."""
    return {
        "study": "small",
        "store": str(store),
        "task": {"use": "iris", "validation": {"use": "folds", "folds": 3}},
        "method": {"use": "edges", "mode": "l1", "hidden": [4]},
        "penalties": [{"use": "l1", "level": {"grid": [0.001, 0.02, 0.3]}}],
        "discretizers": [{"use": "threshold", "tolerance": 0.05}],
        "train": {"steps": 60, "batch": 32, "lr": 0.05, "finetune": 10},
        "seeds": 2,
        "linear": False,
        "mlflow": None,
    } | changes


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study.from_dict(raw(tmp_path_factory.mktemp("runs"))).run("serial")


# -- tasks -------------------------------------------------------------------------------------------------------------


def test_a_packs_task_has_weights_for_each_row() -> None:
    task = iris(validation=Validation(use="folds", folds=4))
    assert task.resamples is not None
    rows = task.resampled([0, 3, 3, -1])
    assert rows.train.x is rows.valid.x
    assert rows.train.samples == task.train.samples + task.valid.samples
    assert rows.train.weights is not None
    assert rows.valid.weights is not None
    assert torch.equal(rows.train.weights[1], task.resamples.train[3])
    assert torch.equal(rows.valid.weights[0], task.resamples.valid[0])
    assert bool((rows.train.weights[3] == 1).all())
    assert torch.equal(rows.valid.weights[3], rows.train.weights[3])
    assert rows.test is task.test
    moved = rows.to("cpu", torch.float64)
    assert moved.train.x is moved.valid.x
    assert moved.valid.weights is not None
    assert moved.valid.weights.dtype == torch.float64
    taken = rows.take(torch.tensor([2]))
    assert taken.valid.weights is not None
    assert torch.equal(taken.valid.weights[0], task.resamples.valid[3])
    assert task.resampled([-1, -1]).train.weights is None
    with_last = task.resampled([3]).valid
    assert with_last.weights is not None
    held = with_last.columns(torch.nonzero(with_last.weights[0]).flatten())
    assert torch.equal(held.x, task.valid.x)  # a task itself is its last resample


def test_samples_keep_their_own_weights() -> None:
    from dataclasses import replace

    task = iris(validation=Validation(use="folds", folds=4))
    assert task.resamples is not None
    own = torch.rand(task.train.samples + task.valid.samples)
    task = replace(
        task,
        train=replace(task.train, weights=own[: task.train.samples]),
        valid=replace(task.valid, weights=own[task.train.samples :]),
    )
    rows = task.resampled([1, -1])
    assert rows.train.weights is not None
    assert torch.equal(rows.train.weights[0], task.resamples.train[1] * own)
    assert torch.equal(rows.train.weights[1], own)
    refit = task.resampled([-1])
    assert refit.train.weights is not None
    assert torch.equal(refit.train.weights, own)


def test_data_sets_with_folds_are_one_stack() -> None:
    tasks = [iris(validation=Validation(use="folds", folds=3), seed=seed) for seed in (0, 1)]
    rows = stack(tasks, [0, 1, 1], [2, 0, -1])
    assert rows.train.x.shape[0] == 3
    assert rows.train.x is rows.valid.x
    for k, (at, fold) in enumerate(((0, 2), (1, 0), (1, -1))):
        alone = tasks[at].resampled([fold])
        assert torch.equal(rows.train.x[k], alone.train.x)
        for one, other in ((rows.train, alone.train), (rows.valid, alone.valid)):
            assert one.weights is not None
            weights = torch.ones(one.samples) if other.weights is None else other.weights[0]
            assert torch.equal(one.weights[k], weights)
    again = stack(tasks, [0, 1], [-1, -1])
    assert again.train.weights is None


def test_rows_are_scored_on_the_samples_that_count_to_them(done: Study) -> None:
    pack = Pack(id="p", values={}, columns={}, seeds=[0] * 3, configurations=[0] * 3, folds=[1, 1, 0])
    study = parse(raw(Path("x"), penalties=[], discretizers=[]))
    task = components(study, pack, load_plugins()).task
    nets = done.networks("p0000").map(lambda t: t[:3])
    seen = []

    def call(part: Any, x: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(x.shape))
        return forward(part, x)

    found = evaluate(task, task.valid, nets, call)
    assert seen == [(4, 40), (4, 40)]  # two rows on 40 samples, and one on its own 40
    assert task.valid.weights is not None
    whole = task.metrics(forward(nets, task.valid.x), task.valid.y, task.valid.weights)
    for name, values in found.items():
        assert torch.allclose(values, whole[name], atol=1e-6), name


# -- packs -------------------------------------------------------------------------------------------------------------


def planned(**changes: Any) -> list[Pack]:
    study = parse(raw(Path("x"), **changes))
    return chunk(study, grid(axes(study)), load_plugins(), fast=True)


@pytest.mark.parametrize(("size", "packs"), [("auto", 2), (6, 3), (7, 3), (3, 6), (2, 12), (1, 18), (1000, 1)])
def test_folds_are_rows(size: int | str, packs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nasplug.plan.packing.places", lambda study: 2)
    monkeypatch.setattr("nasplug.plan.sizing.places", lambda study: 2)
    found = planned(resources={"pack": size})
    rows = [
        (c, seed, fold) for pack in found for c, seed, fold in zip(pack.configurations, pack.seeds, pack.folds, strict=True)
    ]
    assert sorted(rows) == [(c, s, f) for c in range(3) for s in range(2) for f in range(3)]
    if size == "auto":
        assert len({pack.rows for pack in found}) == 1
    else:
        assert len(found) == packs
        assert all(pack.rows <= int(size) for pack in found)
    for pack in found:
        assert list(pack.folds) == sorted(pack.folds)  # rows with the same weights stand together
        if size == "auto" or int(size) >= 3:
            mine = list(zip(pack.configurations, pack.seeds, strict=True))
            assert all(mine.count(one) == 3 for one in mine)  # all folds of a configuration and seed in one pack


def test_a_hold_out_has_no_folds() -> None:
    assert not any(pack.folds for pack in planned(task={"use": "iris", "validation": "holdout"}))


def test_folds_count_in_how_large_a_study_may_be() -> None:
    with pytest.raises(ConfigError, match=r"1,000,000 at most. Take fewer values, seeds or folds"):
        planned(seeds=200_000)
    study = Study.from_dict(raw(Path("x"), seeds=200_000))
    with pytest.raises(ConfigError, match="1,000,000 at most"):
        study.plan()


def test_a_result_does_not_depend_on_fold_mates(tmp_path: Path) -> None:
    """Seed law: rows of a pack of 18, and of packs of one."""
    frames = []
    for size in (1000, 1):
        study = Study.from_dict(
            raw(
                tmp_path / str(size), resources={"pack": size}, train={"steps": 12, "batch": 16, "lr": 0.05, "dtype": "float64"}
            )
        )
        frames.append(study.run("serial").frame.sort_values(["configuration", "seed", "fold"]).reset_index(drop=True))
    one, other = frames
    assert len(one) == len(other)
    for name in ("configuration", "seed", "fold", "edges", "picked", "status"):
        assert (one[name] == other[name]).all(), name
    for name in [c for c in one if c.endswith(("_loss", "_error", "_se"))]:
        assert np.allclose(one[name], other[name], atol=1e-9, equal_nan=True), name


# -- a study -----------------------------------------------------------------------------------------------------------


def test_the_table_has_folds_and_refits(done: Study) -> None:
    frame = done.frame
    folds = frame[frame["fold"] >= 0]
    assert len(folds) == 3 * 2 * 3
    assert not folds["picked"].any()
    refits = frame[frame["fold"] == REFIT]
    wanted = to_refit(frame, [])
    assert sorted(set(refits["configuration"])) == wanted
    assert len(refits) == 2 * len(wanted)
    for configuration in wanted:
        mine = refits[refits["configuration"] == configuration]
        assert mine["picked"].sum() == 1
        assert mine.loc[mine["picked"], "fitted_loss"].iloc[0] == mine["fitted_loss"].min()
        of_folds = folds[folds["configuration"] == configuration]
        for name in ("valid_loss", "valid_error", "relaxed_valid_loss", "cut_valid_loss", "valid_accuracy"):
            inside = of_folds.groupby("fold")[name].mean()
            assert np.allclose(mine[name], inside.mean()), name
            if name.startswith("valid"):
                assert np.allclose(mine[f"{name}_se"], inside.std() / math.sqrt(3)), name
    assert folds["fitted_loss"].isna().all()
    assert folds["valid_error_se"].isna().all()


def test_only_picked_refits_stand_on_the_front(done: Study) -> None:
    on_front, best = done.front("all"), done.best()
    assert (on_front["fold"] == REFIT).all()
    assert on_front["picked"].all()
    assert best["replica"] in set(on_front["replica"])
    assert done.within(edges=10**6)["picked"]
    assert done.choices()["replica"].tolist() == [best["replica"]]
    assert len(candidates(done.frame)) == done.frame["picked"].sum()


def test_the_terminal_says_what_the_validation_error_is_of(done: Study) -> None:
    told = f"valid error: the configuration's mean over {done.task.facts.resamples} resamples"
    assert told in str(front_table(done).caption)


def test_the_served_network_gives_its_scores(done: Study) -> None:
    best, task = done.best(), done.task
    raw_x = (task.test.x.double() * task.input_scale[:, None] + task.input_shift[:, None]).float()
    wrong = (done.network()(raw_x.T).argmax(1) != task.test.y).double().mean()
    assert float(wrong) == pytest.approx(best["test_error"])
    development = task.development
    raw_x = (development.x.double() * task.input_scale[:, None] + task.input_shift[:, None]).float()
    wrong = (done.network()(raw_x.T).argmax(1) != development.y).double().mean()
    assert float(wrong) == pytest.approx(best["fitted_error"])


def test_the_report_says_how_it_was_validated(done: Study) -> None:
    page = (done.folder / "report.html").read_text(encoding="utf-8")
    assert "3 folds" in page
    assert "trained on all development samples" in page


def test_a_resume_makes_nothing_twice(done: Study) -> None:
    before = done.frame
    assert Study.open(done.folder).front().equals(done.front())
    stamps = {path: path.stat().st_mtime_ns for path in done.folder.glob("packs/*/*")}
    done.run("serial")
    assert done.frame.equals(before)
    assert {path: path.stat().st_mtime_ns for path in done.folder.glob("packs/*/*")} == stamps


class Killed(BaseException):
    """A kill between two packs."""


class Dying(SerialRunner):
    """Dies before its n-th pack."""

    def __init__(self, packs: int) -> None:
        object.__setattr__(self, "left", [packs])

    def run(self, study: Any, packs: Sequence[Pack], plugins: Any, watch: Watch) -> None:
        for pack in packs:
            if not self.left[0]:  # type: ignore[attr-defined]
                raise Killed
            self.left[0] -= 1  # type: ignore[attr-defined]
            super().run(study, [pack], plugins, watch)


@pytest.mark.slow
@pytest.mark.parametrize("packs", [1, 4, 6, 7])
def test_a_study_killed_in_any_phase_ends_as_one_that_was_not(done: Study, tmp_path: Path, packs: int) -> None:
    given = raw(tmp_path, resources={"pack": 3})
    whole = Study.from_dict(raw(tmp_path / "whole", resources={"pack": 3})).run("serial").frame
    assert whole["replica"].map(lambda name: name[:5]).nunique() > 6
    with pytest.raises(Killed):
        Study.from_dict(given).run(Dying(packs))
    resumed = Study.from_dict(given).run("serial").frame
    assert resumed.drop(columns="owners").equals(whole.drop(columns="owners"))


@pytest.mark.slow
def test_a_pack_that_failed_and_works_later_is_refitted_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study.from_dict(raw(tmp_path, resources={"pack": 6}))
    import nasplug.runner.serial

    real = nasplug.runner.serial.run_pack

    def broken(config: Any, pack: Pack, *rest: Any, **options: Any) -> Iterator[Any]:
        if 0 in pack.configurations:
            raise RuntimeError("no")
        yield from real(config, pack, *rest, **options)

    monkeypatch.setattr(nasplug.runner.serial, "run_pack", broken)
    frame = study.run("serial").frame
    failed = frame[frame["status"] == "failed"]
    assert sorted(failed["fold"]) == [0, 0, 1, 1, 2, 2]
    first = set(frame.loc[frame["fold"] == REFIT, "configuration"])
    assert first
    assert 0 not in first
    monkeypatch.setattr(nasplug.runner.serial, "run_pack", real)
    frame = study.run("serial").frame
    assert (frame["status"] == "finished").all()
    assert set(to_refit(frame, [])) | first == set(frame.loc[frame["fold"] == REFIT, "configuration"])


def test_a_refit_that_fails_is_a_failed_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nasplug.runner.serial

    real = nasplug.runner.serial.run_pack

    def broken(config: Any, pack: Pack, *rest: Any, **options: Any) -> Iterator[Any]:
        if pack.refitted and max(pack.configurations) == max(wanted):
            raise RuntimeError("no")
        yield from real(config, pack, *rest, **options)

    wanted = [10**6]
    study = Study.from_dict(raw(tmp_path, resources={"pack": 2}, train={"steps": 5, "batch": 32}, penalties=[]))
    whole = study.run("serial").frame
    assert (whole["status"] == "finished").all()
    wanted = [0]
    monkeypatch.setattr(nasplug.runner.serial, "run_pack", broken)
    with pytest.raises(Exception, match="no network finished: 1 packs failed"):
        Study.from_dict(raw(tmp_path / "b", resources={"pack": 2}, train={"steps": 5, "batch": 32}, penalties=[])).run("serial")


@pytest.mark.parametrize(
    "validation",
    [
        {"use": "bootstrap", "repeats": 3},
        {"use": "folds", "folds": 2, "repeats": 2},
        {"use": "time", "folds": 2},
        {"use": "groups", "by": "sex", "folds": 2},
    ],
)
def test_every_kind_runs_on_numbers(tmp_path: Path, validation: dict[str, Any]) -> None:
    if validation["use"] == "groups":
        validation = {"use": "groups", "by": "age", "folds": 3}
    task = {"use": "diabetes", "validation": validation}
    study = Study.from_dict(raw(tmp_path, task=task, train={"steps": 10, "batch": 32, "lr": 0.05})).run("serial")
    frame, best = study.frame, study.best()
    made = study.task.resamples
    assert made is not None
    assert sorted(set(frame["fold"])) == list(range(-1, made.count))
    assert best["valid_error_se"] > 0
    rows = frame[(frame["fold"] >= 0) & (frame["configuration"] == best["configuration"])]
    n = independent(study.facts_of(str(best["replica"])))
    assert n <= made.count
    inside = rows.groupby("fold")["valid_r2"].mean()
    assert best["valid_r2"] == pytest.approx(inside.mean())
    assert best["valid_r2_se"] == pytest.approx(inside.std() / math.sqrt(n))


def test_data_sets_have_folds_each(tmp_path: Path) -> None:
    task = {"use": "iris", "seed": {"grid": [0, 1]}, "validation": {"use": "folds", "folds": 2}}
    study = Study.from_dict(
        raw(tmp_path, task=task, train={"steps": 10, "batch": 32, "lr": 0.05}, penalties=[{"use": "l1", "level": 0.01}])
    ).run("serial")
    each = study.choices()
    assert sorted(each["task.seed"]) == [0, 1]
    assert each["picked"].all()
    assert len(study.frame) == 2 * 2 * 2 + 2 * 2


@pytest.mark.slow
def test_a_guided_sampler_is_told_means_over_folds(tmp_path: Path) -> None:
    given = raw(
        tmp_path,
        penalties=[{"use": "l1", "level": {"log": [0.001, 1.0]}}],
        sampler={"use": "tpe", "trials": 4, "generation": 2},
        train={"steps": 10, "batch": 32, "lr": 0.05},
    )
    study = Study.from_dict(given).run("serial")
    frame = study.frame
    assert len(frame[frame["fold"] >= 0]) == 4 * 2 * 3
    outcome = Course(study.config, study.plugins, study.plan()).outcome(range(1_000))
    rows = frame[(frame["fold"] >= 0) & (frame["configuration"] == 0)]
    del rows
    assert sorted(outcome) == [0, 1, 2, 3]


@pytest.mark.slow
def test_ray_gives_the_same(done: Study, tmp_path: Path) -> None:
    study = Study.from_dict(raw(tmp_path)).run("ray")
    frame = study.frame
    for name in ("replica", "fold", "picked", "edges", "configuration"):
        assert (frame[name] == done.frame[name]).all(), name
    assert np.allclose(frame["test_loss"], done.frame["test_loss"], atol=1e-5)
    assert study.best()["replica"] == done.best()["replica"]


# -- choosing ----------------------------------------------------------------------------------------------------------


def table(errors: dict[int, list[list[float]]], edges: dict[int, int]) -> pd.DataFrame:
    """Rows on folds and picked refits, of errors by configuration, fold and seed."""
    rows: list[dict[str, Any]] = []
    for c, folds in errors.items():
        for fold, seeds in enumerate(folds):
            rows += [
                {
                    "replica": f"p0000/{len(rows) + seed:04d}",
                    "configuration": c,
                    "seed": seed,
                    "fold": fold,
                    "valid_error": error,
                    "valid_loss": error,
                    "edges": edges[c],
                    "status": "finished" if math.isfinite(error) else "diverged",
                    "picked": False,
                }
                for seed, error in enumerate(seeds)
            ]
    frame = pd.DataFrame(rows)
    scores = configurations(frame, dict.fromkeys(errors, 5.0))
    refits = [
        {"replica": f"p0001/{c:04d}", "configuration": c, "seed": 0, "fold": -1, "edges": edges[c], "status": "finished"}
        | {"picked": True, "fitted_loss": 0.1}
        | scores.loc[c].to_dict()
        for c in scores.index
    ]
    return pd.concat([frame, pd.DataFrame(refits)], ignore_index=True)


def facts(task: Task) -> Any:
    return lambda name: task.facts


HARD = [0.1, 0.3, 0.2, 0.4, 0.25]


def test_what_is_worse_in_each_fold_is_not_as_good() -> None:
    task = iris(validation="folds")
    worse = [[e + 0.02 + 0.001 * i] for i, e in enumerate(HARD)]
    frame = table({0: [[e] for e in HARD], 1: worse}, {0: 20, 1: 5})
    best = front(frame).iloc[-1]
    assert best["configuration"] == 0
    assert allowed(best, task.facts, Choose()) == pytest.approx(np.std(HARD, ddof=1) / math.sqrt(5))
    assert front(frame).iloc[0]["valid_error"] < best["valid_error"] + best["valid_error_se"]  # unpaired it would be
    assert choose(frame, facts(task))["configuration"] == 0
    difference = paired(frame, "valid_error", 0, 5.0)
    assert difference.loc[1, "mean"] == pytest.approx(0.022)
    assert difference.loc[1, "se"] < 0.001
    now_and_then = [[e + d] for e, d in zip(HARD, [0.05, -0.04, 0.05, -0.04, 0.03], strict=True)]
    frame = table({0: [[e] for e in HARD], 1: now_and_then}, {0: 20, 1: 5})
    assert choose(frame, facts(task))["configuration"] == 1


def test_a_score_that_some_folds_do_not_have() -> None:
    none = math.nan
    frame = table({0: [[0.1], [0.2], [0.3]], 1: [[0.1], [0.2], [0.3]]}, {0: 20, 1: 5}).drop(index=[6, 7])
    frame["valid_accuracy"] = [none, 0.7, 0.9, none, none, 0.6]
    scores = configurations(frame, {0: 3.0, 1: 3.0})
    assert scores.loc[0, "valid_accuracy_se"] == pytest.approx(np.std([0.7, 0.9], ddof=1) / math.sqrt(2))
    assert math.isnan(scores.loc[1, "valid_accuracy_se"])  # one fold tells no error, not one of 0
    assert scores.loc[1, "valid_accuracy"] == 0.6
    assert scores.loc[0, "valid_error_se"] == pytest.approx(0.1 / math.sqrt(3))
    refits = [
        {"replica": f"p0001/{c:04d}", "configuration": c, "fold": -1, "edges": e, "status": "finished", "picked": True}
        | scores.loc[c].to_dict()
        for c, e in ((0, 5), (1, 20))
    ]
    whole = pd.concat([frame, pd.DataFrame(refits)], ignore_index=True).assign(rank=lambda f: 1.0 - f["valid_accuracy"])
    task = iris(validation=Validation(use="folds", folds=3))
    assert choose(whole, facts(task), Choose(by="accuracy"))["configuration"] == 0
    best = front(whole, "rank").iloc[0]
    assert allowed(best, task.facts, Choose(by="accuracy")) > 0.0
    assert allowed(pd.Series({"fold": -1, "valid_accuracy_se": none}), task.facts, Choose(by="accuracy")) == 0.0


@pytest.mark.parametrize(
    ("rule", "chosen"),
    [
        (Choose(), 1),
        (Choose(rule="best"), 0),
        (Choose(rule="within", within=0.05), 1),
        (Choose(rule="within", within=0.005), 0),
    ],
)
def test_rules(rule: Choose, chosen: int) -> None:
    other = [[e + d] for e, d in zip(HARD, [0.06, -0.04, 0.06, -0.04, 0.01], strict=True)]
    frame = table({0: [[e] for e in HARD], 1: other}, {0: 20, 1: 5})
    assert choose(frame, facts(iris(validation="folds")), rule)["configuration"] == chosen


def test_within_is_a_share_of_the_targets_variance() -> None:
    task = diabetes(validation="folds")
    assert allowed(
        pd.Series({"valid_error": 0.5, "fold": -1}), task.facts, Choose(rule="within", within=0.02)
    ) == pytest.approx(0.02 * float(task.development.y.var(correction=0)), rel=1e-5)


def test_a_fold_without_a_network_leaves_its_configuration_out() -> None:
    frame = table({0: [[0.1, math.nan], [0.3, 0.5]], 1: [[0.2, 0.2], [math.nan, math.nan]]}, {0: 3, 1: 2})
    found = means(frame, ["valid_error"])["valid_error"]
    assert found.to_dict() == {(0, 0): 0.1, (0, 1): 0.4}
    assert to_refit(frame, []) == [0]
    assert front(frame)["configuration"].tolist() == [0]


def test_before_the_refits_nothing_is_chosen_and_that_is_said() -> None:
    frame = table({0: [[0.1], [0.3]], 1: [[0.2], [0.2]]}, {0: 3, 1: 2})
    frame = frame[frame["fold"] >= 0]
    with pytest.raises(ConfigError, match="validated on folds, not yet refitted"):
        choose(frame, facts(iris(validation="folds")))


def test_what_a_sampler_is_told_leaves_out_what_is_incomplete() -> None:
    frame = table({0: [[0.1, math.nan], [0.3, 0.5]], 1: [[0.2, 0.2], [math.nan, math.nan]]}, {0: 3, 1: 2})
    alone = {"replica": "p0002/0000", "configuration": 2, "fold": math.nan, "valid_loss": 0.7, "edges": 4, "status": "finished"}
    frame = pd.concat([frame, pd.DataFrame([alone])], ignore_index=True)
    told = outcomes(frame, ["valid_loss", "edges"])
    assert told["valid_loss"].to_dict() == {2: 0.7, 0: pytest.approx(0.25)}
    assert outcomes(frame.drop(columns="fold"), ["valid_loss"])["valid_loss"].to_dict()[1] == pytest.approx(0.2)


def test_curves_of_refits_are_those_of_what_they_were_trained_on(done: Study) -> None:
    frame = read(done.folder, histories=True)
    refitted = frame["fold"] == REFIT
    for name in ("loss", "error"):
        assert frame[f"history_valid_{name}"].isna().equals(refitted)
        assert frame[f"history_fitted_{name}"].notna().equals(refitted)
    page = (done.folder / "report.html").read_text(encoding="utf-8")
    assert "loss on all development samples" in page.split("Training of the front")[-1]
    packs = [Pack(**pack_record(done.folder, name)["pack"]) for name in sorted({r[:5] for r in frame["replica"]})]
    metrics = {"valid_error": torch.tensor([0.5, 0.25])}
    for pack in packs:
        best = _best(pack, Report(1, 2, metrics, torch.ones(2, dtype=torch.bool), State({}, {}, 1)))
        assert math.isnan(best) == pack.refitted


def test_ties_of_seeds_go_to_the_first_name() -> None:
    frame = pd.DataFrame(
        {
            "replica": ["p0001/0001", "p0001/0000", "p0001/0002"],
            "configuration": [7, 7, 7],
            "fold": [-1, -1, -1],
            "status": ["finished", "finished", "diverged"],
            "fitted_loss": [0.5, 0.5, 0.1],
        }
    )
    assert picked(frame) == {7: "p0001/0000"}


@pytest.mark.parametrize(
    ("validation", "n"),
    [
        (Validation(use="folds", folds=5), 5.0),
        (Validation(use="folds", folds=5, repeats=4), 5.0),
        (Validation(use="bootstrap", repeats=2), 2.0),
    ],
)
def test_repeats_do_not_make_more_samples(validation: Validation, n: float) -> None:
    assert independent(iris(validation=validation).facts) == pytest.approx(n)
    assert 2.0 < independent(iris(validation=Validation(use="bootstrap", repeats=50)).facts) < 3.5


@pytest.mark.parametrize("last", [0, 1])
def test_which_fold_comes_last_does_not_matter(last: int) -> None:
    by = np.where(np.arange(100) < 80, last, np.where(np.arange(100) < 90, 1 - last, 2))  # the last number is the test split
    x = np.random.default_rng(0).normal(size=(100, 2))
    task = from_arrays(x, x[:, 0], kind="regression", validation={"use": "column", "by": "part"}, by=by)
    assert independent(task.facts) == 2.0
    assert Facts.from_plain(task.facts.plain()).held == 45.0


def test_a_long_front_is_thinned_evenly() -> None:
    assert spread(list(range(200)), 64)[0] == 0
    assert spread(list(range(200)), 64)[-1] == 199
    assert len(set(spread(list(range(200)), 64))) == 64
    assert spread([1, 2], 64) == [1, 2]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rule": "within"}, "rule 'within' without its number"),
        ({"within": 0.02}, "within: 0.02 is not read by rule 'one_standard_error'"),
        ({"rule": "worst"}, "needed: 'one_standard_error', 'best' or 'within'"),
        ({"rule": "within", "within": -1}, "needed: .*>= 0"),
    ],
)
def test_rules_that_cannot_be(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(raw(Path("x"), choose=given))


def test_another_rule_needs_no_other_networks(done: Study) -> None:
    again = Study.from_dict(done.config.plain() | {"choose": {"rule": "best"}})
    stamps = {path: path.stat().st_mtime_ns for path in done.folder.glob("packs/*/*")}
    again.run("serial")
    assert {path: path.stat().st_mtime_ns for path in done.folder.glob("packs/*/*")} == stamps
    assert again.best()["valid_error"] == again.front()["valid_error"].min()
