"""Studies with losses and metrics of their own, from the file to the network that is served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from nasplug import ConfigError, Study
from nasplug.config import parse
from nasplug.folds import SCORE
from nasplug.plan import build_task, reached, settle
from nasplug.plan.tasks import column_of
from nasplug.plugins import load_plugins
from nasplug.report import front_picture, write_report
from nasplug.results import choose

SWEPT = {"use": "quantile", "level": {"choice": [0.1, 0.9]}}


def study(folder: Path, **changes: Any) -> Study:
    raw: dict[str, Any] = {
        "study": "small",
        "store": str(folder),
        "task": {"use": "addition", "samples": 60, "samples_valid": 30, "samples_test": 30},
        "method": {"use": "edges", "mode": "l1", "hidden": [3]},
        "penalties": [{"use": "l1", "level": {"choice": [1e-4, 1e-2]}}],
        "discretizers": [{"use": "threshold", "eps": 0.01}],
        "train": {"steps": 20, "lr": 0.05, "reports": 2},
        "seeds": 2,
        "mlflow": None,
    }
    return Study(parse(raw | changes))


def table(folder: Path, counts: bool = False, targets: int = 1, rows: int = 120) -> Path:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(rows, 3)), columns=["a", "b", "c"])
    for t in range(targets):
        exact = (frame["a"] + t * frame["b"]) * 10.0 ** (2 * t)
        frame[f"y{t}"] = rng.poisson(np.exp(frame["a"]) * 40) if counts else exact
    path = folder / "data.csv"
    frame.to_csv(path, index=False)
    return path


def test_losses_that_are_swept_make_packs_and_metrics_make_columns(tmp_path: Path) -> None:
    found = study(
        tmp_path,
        loss={"use": "huber", "delta": {"choice": [0.1, 1.0]}},
        metrics=[{"use": "mae"}, {"use": "pinball", "level": 0.9}],
    ).run("serial")
    frame = found.frame
    assert len(frame) == 8
    assert sorted(frame["loss.delta"].unique()) == [0.1, 1.0]
    for part in ("train", "valid", "test"):
        assert frame[[f"{part}_{name}" for name in ("loss", "error", "r2", "mae", "pinball_0_9")]].notna().all(axis=None)
    facts = {str(found.facts_of(name).loss) for name in frame["replica"]}
    assert facts == {"huber(delta=0.1)", "huber(delta=1)"}
    assert len(list((found.folder / "tasks").glob("*.json"))) == 2
    each = found.choices()
    assert sorted(each["loss.delta"]) == [0.1, 1.0]  # a choice for each, as errors of different losses do not compare
    for name, part in frame.groupby("loss.delta"):
        assert str(choose(part, found.facts_of)["replica"]) == str(each.loc[each["loss.delta"] == name, "replica"].iloc[0])
    page = (found.folder / "report.html").read_text(encoding="utf-8")
    assert ">Each loss</h2>" in page
    assert "Errors of different losses cannot be compared." in page
    ranges = [{"use": "l1", "level": {"log": [1e-4, 1e-2], "points": 2}}]
    config = parse(found.config.plain() | {"penalties": ranges})
    assert reached(config, frame.assign(parameters=5, edges=4))
    assert not reached(config, frame.assign(parameters=np.where(frame["loss.delta"] == 1.0, 5, 1000), edges=4))
    best = found.best()
    assert found.facts_of(str(best["replica"])).trivial["test_r2"] < 0.1
    served = found.network()(found.task_of(str(best["replica"])).test.x.T)
    assert served.shape == (30, 1)
    again = Study.open(found.folder)  # from the folder alone
    assert again.front()["replica"].tolist() == found.front()["replica"].tolist()


def test_counts_are_served_as_rates(tmp_path: Path) -> None:
    path = table(tmp_path, counts=True)
    found = study(
        tmp_path,
        task={"use": "table", "path": str(path), "target": "y0", "kind": "regression", "validation": {"use": "holdout"}},
        loss={"use": "poisson"},
        metrics=[{"use": "mae"}],
        train={"steps": 200, "lr": 0.05, "reports": 2},
    ).run("serial")
    best = found.best()
    network = found.network()
    record = network.record
    assert record["link"] == "exp"
    assert json.loads((found.folder / "best" / "network.json").read_text())["link"] == "exp"
    task = found.task_of(str(best["replica"]))
    raw = task.test.x.T * task.input_scale.float() + task.input_shift.float()
    served = network(raw).detach()[:, 0]
    wanted = task.test.y[0] * task.output_scale.float() + task.output_shift.float()
    assert float((served - wanted).abs().mean()) == pytest.approx(float(best["test_mae"]), rel=1e-3)
    assert bool((served > 0).all())
    assert float(best["test_mae"]) < 0.7 * found.facts_of(str(best["replica"])).trivial["test_mae"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": {"use": "logistic"}}, "is for of two labels"),
        ({"loss": {"use": "hubber"}}, "huber"),
        ({"loss": {"use": "huber", "delta": -1}}, "loss.delta"),
        ({"loss": {"use": "quantiles", "levels": [0.9, 0.1]}}, "rising"),
        ({"loss": {"use": "poisson"}}, "needs targets >= 0"),
        ({"metrics": [{"use": "auc"}]}, "'auc' is for"),
        ({"metrics": [{"use": "mae"}, {"use": "mae"}]}, "twice"),
        ({"metrics": [{"use": "pinball", "level": {"choice": [0.1, 0.9]}}]}, "cannot be swept"),
        ({"loss": SWEPT, "ensemble": 2}, r"ensemble: over several losses \(loss\.level\)"),
        ({"loss": SWEPT, "sampler": {"use": "tpe", "trials": 2}}, r"would look for the easiest loss \(loss\.level\)"),
    ],
)
def test_what_does_not_fit_is_refused_when_planned(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        study(tmp_path, **changes).plan()


def test_columns_of_metrics_are_words() -> None:
    assert column_of({"use": "pinball", "level": 0.9}) == "pinball_0_9"
    assert column_of({"use": "pinball", "level": 1e-05}) == "pinball_1e_05"
    assert SCORE.fullmatch(f"valid_{column_of({'use': 'my-own', 'level': 0.5})}")  # a mean over folds finds it


def test_the_loss_is_part_of_what_a_task_is(tmp_path: Path) -> None:
    one, other = (study(tmp_path, loss={"use": "huber", "delta": delta}).config for delta in (0.5, 1.0))
    digests = {build_task(settle(config, {}), load_plugins()).digest for config in (one, other, study(tmp_path).config)}
    assert len(digests) == 3


def test_three_targets_of_different_scales(tmp_path: Path) -> None:
    path = table(tmp_path, targets=3)
    found = study(
        tmp_path,
        task={"use": "table", "path": str(path), "target": ["y0", "y1", "y2"], "validation": {"use": "holdout"}},
        loss={"use": "quantiles", "levels": [0.25, 0.5]},
        train={"steps": 100, "lr": 0.05, "reports": 2},
    ).run("serial")
    network = found.network()
    assert network.record["targets"] == [f"y{t} q{level}" for t in range(3) for level in (0.25, 0.5)]
    assert network(torch.zeros(2, 3)).shape == (2, 6)


def test_any_score_chooses(tmp_path: Path) -> None:
    found = study(tmp_path, metrics=[{"use": "mae"}], choose={"by": "r2", "rule": "best"}).run("serial")
    frame = found.frame
    assert str(found.best()["replica"]) == frame.loc[frame["valid_r2"].idxmax(), "replica"]
    assert found.front()["valid_r2"].is_monotonic_increasing
    assert "rank" not in {*found.front(), *found.best().index, *found.choices()}
    page = (found.folder / "report.html").read_text(encoding="utf-8")
    assert "Chosen is the network of the front with the largest validation r2." in page
    assert "within the slack" not in page
    by_mae = Study(parse(found.config.plain() | {"choose": {"by": "mae", "rule": "best"}}))
    assert str(by_mae.best()["replica"]) == frame.loc[frame["valid_mae"].idxmin(), "replica"]
    assert float(by_mae.within(edges=12)["edges"]) <= 12
    near = Study(parse(found.config.plain() | {"choose": {"by": "r2", "rule": "within", "within": 0.5}}))
    assert float(near.best()["valid_r2"]) >= float(frame["valid_r2"].max()) - 0.5
    write_report(near)
    page = (found.folder / "report.html").read_text(encoding="utf-8")
    assert "Chosen is the smallest network of the front whose validation r2 is at most 0.5 below the best" in page
    on_front = by_mae.front()
    picture = front_picture(frame, str(by_mae.best()["replica"]), front=on_front)
    assert picture.count("○") <= len(on_front)
    with pytest.raises(ConfigError, match="'auc' is no score of this study"):
        study(tmp_path, choose={"by": "auc"}).plan()
