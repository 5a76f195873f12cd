"""The network without hidden layers, beside every sweep; and levels that go on until networks are small."""

from __future__ import annotations

import itertools
import json
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Lasso, LogisticRegression

from nasplug.config import parse
from nasplug.data.datasets import table
from nasplug.errors import ConfigError
from nasplug.plan import beyond, reached
from nasplug.plan.linear import parts, path_of
from nasplug.study import Study
from nasplug.summary import print_plan
from nasplug.tasks import Resamples, Split, Task, scored, unscaled
from nasplug.tasks.losses import Poisson
from nasplug.testing import RegularizerLaws, SearchMethodLaws


class TestLinear(SearchMethodLaws):
    name = "linear"


class TestLinearOfClasses(SearchMethodLaws):
    name = "linear"
    options: ClassVar = {"accelerate": True}
    task_options = ("iris", {})


class TestLasso(RegularizerLaws):
    name = "lasso"


def study(folder: Path, **changes: Any) -> Study:
    raw: dict[str, Any] = {
        "study": "line",
        "store": str(folder),
        "task": {"use": "diabetes", "validation": "holdout"},
        "method": {"use": "edges", "hidden": [3]},
        "penalties": [{"use": "l1", "level": {"log": [1e-4, 1e-3], "points": 2}}],
        "discretizers": [{"use": "threshold", "eps": 0.01}],
        "train": {"steps": 30, "lr": 0.01},
        "seeds": 2,
        "reach": None,
        "mlflow": None,
    }
    return Study(parse(raw | changes))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study(tmp_path_factory.mktemp("line")).run("serial")


def test_a_study_of_a_table_has_linear_rows_beside_its_own(done: Study) -> None:
    frame = done.frame
    lines = frame[frame["method.use"] == "linear"]
    assert len(lines) == 64
    assert set(frame["method.use"]) == {"edges", "linear"}
    assert (frame["status"] == "finished").all()
    assert lines["neurons"].max() == 0
    assert lines["penalties.0.level"].isna().all()
    assert lines["linear.level"].notna().all()
    assert set(lines["linear.debiased"]) == {0.0, 1.0}
    assert frame["configuration"].nunique() == 2 + 64
    assert int(lines["configuration"].min()) == 2
    assert {name[0] for name in lines["replica"]} == {"l"}
    first = lines.sort_values("linear.level").iloc[-1]
    assert first["edges"] <= 1  # at the level that comes from the data nothing is left, or what just comes in
    assert "nasplug" in json.loads(first["owners"])["method"]


def test_linear_networks_are_served_like_others(done: Study) -> None:
    name = str(done.frame[done.frame["method.use"] == "linear"].iloc[-1]["replica"])
    network, task = done.network(name), done.task
    assert network.widths == [network.widths[0], 1]
    raw = task.test.x.double() * task.input_scale.double().view(-1, 1) + task.input_shift.double().view(-1, 1)
    with torch.no_grad():
        found = (network(raw.T.float()).T - task.output_shift.view(-1, 1)) / task.output_scale.view(-1, 1)
    error = float((found - task.test.y).square().mean())
    assert error == pytest.approx(float(done.frame.set_index("replica").loc[name, "test_error"]), rel=1e-4)


def test_the_same_command_again_trains_nothing(done: Study) -> None:
    before = {path: path.stat().st_mtime_ns for path in (done.folder / "packs").glob("*/*")}
    study(done.folder.parent).run("serial")
    assert {path: path.stat().st_mtime_ns for path in (done.folder / "packs").glob("*/*")} == before


def test_a_linear_pack_that_was_lost_comes_back_as_it_was(done: Study) -> None:
    before = done.frame
    shutil.rmtree(done.folder / "packs" / "l0000")
    again = study(done.folder.parent).run("serial").frame
    names = [column for column in before if column.startswith(("valid_", "test_", "linear."))]
    assert again.set_index("replica")[names].equals(before.set_index("replica")[names])


def test_the_plan_tells_them_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = study(tmp_path, task={"use": "diabetes", "validation": {"use": "folds", "folds": 3}})
    print_plan(one, one.plan())
    said = " ".join(capsys.readouterr().out.split())
    assert "204 networks in" in said
    assert "2 configurations x 2 seeds x 3 folds, and 192 linear networks" in said


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"linear": False}, False),
        ({"task": {"use": "xor"}}, False),
        ({"task": {"use": "xor"}, "linear": True}, True),
        ({"method": {"use": "linear"}}, False),
        ({"sampler": {"use": "random", "trials": 3}}, True),
        ({"task": {"use": "diabetes", "validation": "holdout", "seed": {"grid": [0, 1]}}}, True),
    ],
)
def test_which_studies_have_linear_packs(tmp_path: Path, changes: dict[str, Any], lines: bool) -> None:
    packs = study(tmp_path, **changes).plan()
    assert any(pack.linear for pack in packs) == lines
    own = {n for pack in packs if not pack.linear for n in pack.configurations}
    assert not own & {n for pack in packs if pack.linear for n in pack.configurations}


def test_linear_networks_keep_to_directions(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"monotone": {"bmi": -1, "s5": -1}, "task": {"use": "diabetes", "validation": "holdout"}}
    done = study(tmp_path, seeds=1, **changes).run("serial")
    lines = done.frame[done.frame["method.use"] == "linear"]
    assert (lines["status"] == "finished").all()
    nets = done.networks("l0000")
    for name in changes["monotone"]:
        assert float(nets.blocks[1, 0][:, 0, done.task.features.index(name)].max()) <= 0.0


def test_a_task_from_a_range_has_no_line_and_says_so(tmp_path: Path) -> None:
    task = {"use": "xor", "noise": {"uniform": [0.0, 0.1], "points": 2}}
    with pytest.raises(ConfigError, match=r"linear: true, and task\.noise is drawn"):
        study(tmp_path, task=task, linear=True).plan()


def path_of_scikit_learn(task: Task) -> Iterator[tuple[int, float]]:
    """Parameters and validation error of L1 logistic regression, or Lasso, at 20 strengths; those with an edge."""
    (x, y), (x_valid, y_valid) = ((s.x.double().numpy().T, s.y.double().numpy().reshape(-1)) for s in (task.train, task.valid))
    labels = task.kind != "regression"
    if labels:
        # liblinear penalises the intercept; scaling makes that penalty weak
        two = {"solver": "liblinear", "intercept_scaling": 10.0} if task.kind == "binary" else {"solver": "saga", "tol": 1e-3}
        least = 1.0 / np.abs((x - x.mean(0)).T @ (y[:, None] == np.unique(y))).max()
        models = [LogisticRegression(C=least * c, l1_ratio=1.0, max_iter=1000, **two) for c in np.logspace(0.05, 3.5, 20)]
    else:
        most = np.abs((x - x.mean(0)).T @ (y - y.mean())).max() / len(x)
        models = [Lasso(most * a) for a in np.logspace(-0.02, -4.0, 20)]
    for model in models:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some do not converge
            guess = model.fit(x, y).predict(x_valid)
        if np.any(model.coef_):
            size = np.count_nonzero(model.coef_) + np.count_nonzero(model.intercept_)
            yield size, float(np.mean(guess != y_valid) if labels else np.mean((guess - y_valid) ** 2))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["breast_cancer", "diabetes", "wine"])
def test_linear_rows_are_as_good_as_scikit_learns_at_every_size(tmp_path: Path, name: str) -> None:
    done = study(tmp_path, task={"use": name, "validation": "holdout"}, train={"steps": 1}).run("serial")
    lines = done.frame[done.frame["method.use"] == "linear"]
    step = 1.0 / done.task.valid.samples if done.task.kind != "regression" else 0.005
    for parameters, error in path_of_scikit_learn(done.task):
        mine = lines.loc[lines["parameters"] <= parameters, "valid_error"].min()
        assert mine <= error + step + 1e-6, f"{parameters} parameters: {mine} against {error}"


# -- numbers from the data ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"validation": "holdout"},
        {"validation": "holdout", "balance": "classes"},
        {"validation": {"use": "folds", "folds": 3}},
        {"validation": {"use": "bootstrap", "repeats": 30}, "balance": "classes"},
    ],
)
def test_levels_and_learning_rates_are_those_of_what_rows_train_on(tmp_path: Path, options: dict[str, Any]) -> None:
    dice = np.random.default_rng(0)
    x = dice.normal(size=(90, 3)) * [1.0, 2.0, 5.0]
    frame = pd.DataFrame(x, columns=list("abc")).assign(y=np.where(x[:, 0] + dice.normal(size=90) > 1.2, "yes", "no"))
    frame.to_csv(tmp_path / "t.csv", index=False)
    task = table(path=str(tmp_path / "t.csv"), target="y", **options)
    path, split = path_of(task), task.train if task.resamples is None else task.development
    own = np.ones(split.samples) if split.weights is None else split.weights.double().numpy()
    drawn = [] if task.resamples is None else list(task.resamples.train.double().numpy())
    x, y = np.vstack([split.x.double(), np.ones(split.samples)]), split.y.double().numpy()[0]
    most, curved = 0.0, 0.0
    for w in [own, *(own * w for w in drawn)]:
        share = w / w.sum()
        most = max(most, np.abs(x[:-1] @ (share * (y - share @ y))).max())
        curved = max(curved, np.linalg.eigvalsh((x * share) @ x.T)[-1] / 4)
    assert path.levels[0] == pytest.approx(most, rel=0.1 if len(drawn) > 19 else 1e-6)
    assert most <= path.levels[0] * 1.1
    assert curved <= 1.0 / path.lr <= 1.25 * curved


def test_counts_are_divided_by_the_mean_of_all_that_is_resampled() -> None:
    y = torch.arange(12.0).view(1, -1)
    x = torch.randn(2, 12)
    train, valid, test = (Split(x[:, a:b], y[:, a:b]) for a, b in ((0, 4), (4, 8), (8, 12)))
    task = unscaled("counts", (train, valid, test))
    assert float(scored(task, Poisson(), {}).output_scale) == pytest.approx(1.5)
    folds = Resamples(torch.eye(2).repeat(1, 4), 1.0 - torch.eye(2).repeat(1, 4), "2 folds")
    made = scored(replace(task, resamples=folds), Poisson(), {})
    assert float(made.output_scale) == pytest.approx(3.5)
    x, _, each = parts(made)
    assert x.dtype == torch.float64
    assert len(each) == 3
    assert (
        1.0 / path_of(made).lr >= 7 / 3.5 * np.linalg.eigvalsh(np.cov(x.numpy(), bias=True))[-1]
    )  # the largest is a valid one


# -- reach -------------------------------------------------------------------------------------------------------------

REACH: dict[str, Any] = {"linear": False, "reach": 10, "train": {"steps": 150, "lr": 0.03}}


def test_levels_go_on_until_a_network_is_small(tmp_path: Path) -> None:
    first = study(tmp_path, **REACH).run("serial")
    frame = first.frame
    levels = sorted(frame["penalties.0.level"].unique())
    assert len(levels) > 2
    assert [b / a for a, b in itertools.pairwise(levels)] == pytest.approx([10.0] * (len(levels) - 1))
    own = frame[frame["edges"] > 0]
    assert int(own["parameters"].min()) <= 10
    assert frame["configuration"].nunique() == len(levels)
    assert sorted(path.name for path in first.folder.glob("plan-*.json")) == [
        f"plan-{n:03d}.json" for n in range(len(levels) - 1)
    ]
    before = {path: path.stat().st_mtime_ns for path in (first.folder / "packs").glob("*/*")}
    study(tmp_path, **REACH).run("serial")
    assert {path: path.stat().st_mtime_ns for path in (first.folder / "packs").glob("*/*")} == before


@pytest.mark.parametrize(
    "changes",
    [
        {"reach": None},
        {"penalties": [{"use": "l1", "level": {"choice": [1e-4, 1e-3]}}]},
        {"sampler": {"use": "random", "trials": 2}},
    ],
)
def test_where_levels_do_not_go_on(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert beyond(study(tmp_path, **REACH | changes).config, 1) == []


def test_what_counts_as_reached(tmp_path: Path) -> None:
    config = study(tmp_path, **REACH).config

    def told(*rows: tuple[str, float, int, int]) -> bool:
        columns = ["replica", "penalties.0.level", "edges", "parameters"]
        return reached(config, pd.DataFrame(rows, columns=columns).assign(status="finished"))

    assert told(("p0000/0000", 1e-4, 8, 10), ("p0000/0001", 1e-3, 0, 1))
    assert not told(("p0000/0000", 1e-4, 20, 25), ("p0000/0001", 1e-3, 10, 12))
    assert told(("p0000/0000", 1e-4, 20, 25), ("p0000/0001", 1e-3, 0, 1))  # nothing is left at the strongest level
    assert not told(("p0000/0000", 1e-3, 20, 25), ("l0000/0001", 1e-3, 3, 4))  # a line is not what is looked for
    assert told()


def test_further_points_stand_as_far_apart_as_the_range(tmp_path: Path) -> None:
    level = {"log": [1e-3, 1e-1], "points": 9}
    config = study(tmp_path, penalties=[{"use": "l1", "level": level}], reach=10, seeds=1).config
    found = [one["penalties.0.level"] for number in (1, 2) for one in beyond(config, number)]
    assert found == pytest.approx([0.1 * 10 ** (0.25 * n) for n in range(1, 5)])
