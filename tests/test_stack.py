"""Networks with data of their own: a pack over data sets is its rows, each on its own data, from training to serving."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from nasplug import packs, results
from nasplug.cli import main
from nasplug.errors import ConfigError
from nasplug.networks import forward
from nasplug.study import Study
from nasplug.tasks import Kind, stack
from nasplug.tasks.metrics import Mae
from nasplug.testing import example_task
from nasplug.train import evaluate, train

from .stand_ins import Dense, Squares, search

KINDS: list[Kind] = ["regression", "binary", "classes"]


@pytest.mark.parametrize("batch", [None, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_a_pack_over_data_sets_is_its_rows(kind: Kind, batch: int | None) -> None:
    tasks = [example_task(kind, seed=seed) for seed in range(3)]
    index = [0, 2, 1, 2]
    base = search(Dense(hidden=(4,)), kind=kind, penalties=(Squares(),), batch=batch)
    whole = replace(base, task=stack(tasks, index))
    *_, together = train(whole, every=10)
    for k, at in enumerate(index):
        row = torch.tensor([k])
        for alone in (replace(base, task=tasks[at]).take(row), whole.take(row)):
            *_, single = train(alone, every=10)
            for name, values in together.metrics.items():
                assert torch.allclose(values[row], single.metrics[name], rtol=0, atol=1e-10), (k, name)
            for name, leaf in together.state.params.items():
                assert torch.allclose(leaf[row], single.state.params[name], rtol=0, atol=1e-10), (k, name)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_each_networks_own(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [example_task(kind, seed=seed) for seed in range(3)]
    if kind == "regression":  # in units of the target, which each data set has its own of
        scored = [replace(task, scores={"mae": Mae()}) for task in tasks]
        tasks = [replace(task, output_scale=(1.0 + at) * task.output_scale) for at, task in enumerate(scored)]
    task = stack(tasks, [0, 1, 2, 1, 0])
    method = Dense(hidden=(4,))
    nets = method.relax(method.init(task, torch.arange(5)), torch.ones(5))
    whole = evaluate(task, task.valid, nets, forward)
    monkeypatch.setattr(
        "nasplug.train.scoring.CHUNK_FLOATS", 2 * task.valid.samples * sum(nets.widths[1:])
    )  # two rows at a time
    pieces = evaluate(task, task.valid, nets, forward)
    for name, values in whole.items():
        assert torch.allclose(values, pieces[name], rtol=0, atol=1e-12), name
        for k, at in enumerate([0, 1, 2, 1, 0]):
            alone = evaluate(tasks[at], tasks[at].valid, nets, forward)[name]
            assert torch.allclose(values[k], alone[k], rtol=0, atol=1e-10), (name, k)


def test_a_stack_knows_its_shape() -> None:
    task = stack([example_task("classes", seed=s) for s in range(2)], [1, 0, 1])
    assert (task.stacked, task.inputs, task.outputs, task.train.samples) == (True, 3, 3, 24)
    assert task.train.x.shape == (3, 3, 24)
    assert task.train.y.shape == (3, 24)
    assert torch.equal(task.take(torch.tensor([2])).valid.x[0], example_task("classes", seed=1).valid.x)
    assert not example_task().stacked
    with pytest.raises(ConfigError, match="in one stack; needed: equal ones"):
        stack([example_task(), example_task(samples=30)], [0, 1])


def plain(store: Path, **changes: Any) -> dict[str, Any]:
    functions = ["Booth", "Ackley", "Sphere"]
    return {
        "study": "functions",
        "store": str(store),
        "task": {"use": "cornn", "train": 60, "test": 40, "function": {"choice": functions}, "seed": {"choice": [0, 1]}},
        "method": {"use": "edges", "mode": "l1", "hidden": [5]},
        "penalties": [{"use": "l1", "level": {"choice": [0.001, 0.01]}}],
        "discretizers": [{"use": "threshold"}, {"use": "fold"}],
        "train": {"steps": 30, "batch": 16, "finetune": 5, "dtype": "float64", "keep": "best"},
        "seeds": 2,
        "resources": {"pack": 100},
        "mlflow": None,
    } | changes


@pytest.mark.reports
def test_a_study_over_data_sets_is_one_pack_and_equals_a_study_a_data_set(tmp_path: Path) -> None:
    done = Study.from_dict(plain(tmp_path)).run("serial")
    frame = done.frame
    assert len(list((done.folder / "packs").iterdir())) == 1
    assert (frame["status"] == "finished").all()
    assert frame.groupby(["task.function", "task.seed"]).size().tolist() == [4] * 6
    for number, (function, seed) in enumerate([("Ackley", 0), ("Sphere", 1)]):
        task = {"use": "cornn", "train": 60, "test": 40, "function": function, "seed": seed}
        alone = Study.from_dict(plain(tmp_path, study=f"alone-{number}", task=task)).run("serial")
        mine = frame[(frame["task.function"] == function) & (frame["task.seed"] == seed)].reset_index(drop=True)
        for column in ("test_error", "valid_loss", "relaxed_valid_loss", "edges", "test_r2"):
            assert mine[column].tolist() == pytest.approx(alone.frame[column].tolist(), abs=1e-9), column
        ours, theirs = (done.network(str(mine["replica"][0])), alone.network(str(alone.frame["replica"][0])))
        x = torch.randn(20, 2) * 10
        assert torch.allclose(ours(x), theirs(x), rtol=1e-4, atol=1e-5)  # each in the units of its own function
        assert done.task_of(str(mine["replica"][0])).digest == alone.task.digest
    each = done.choices().set_index(["task.function", "task.seed"])
    assert len(each) == 6
    mine = frame[(frame["task.function"] == "Ackley") & (frame["task.seed"] == 0)]
    assert each.loc[("Ackley", 0), "replica"] in set(mine["replica"])
    assert each.loc[("Ackley", 0), "valid_error"] <= mine["valid_error"].min() + results.slack(
        done.facts_of(str(mine["replica"].iloc[0])), float(mine["valid_error"].min())
    )
    page = (done.folder / "report.html").read_text()
    assert ">Each data set</h2>" in page
    assert len((done.folder / "choices.csv").read_text().splitlines()) == 7
    shown = CliRunner().invoke(main, ["front", str(done.folder)]).output
    assert "errors of different data sets cannot be compared" in shown
    assert len(json.loads(CliRunner().invoke(main, ["front", str(done.folder), "--json"]).output)["choices"]) == 6
    plan = results.pack_record(done.folder, "p0000")["pack"]
    assert set(plan["columns"]) == {"task.function", "task.seed", "penalties.0.level"}


def test_a_drawn_study_over_data_sets_resumes(tmp_path: Path) -> None:
    raw = plain(tmp_path, sampler={"use": "random", "trials": 5, "seed": 3})
    first = Study.from_dict(raw).run("serial")
    again = Study.from_dict(raw).run("serial")
    assert first.frame.equals(again.frame)
    assert len(first.frame) == 10


def test_a_pack_over_data_sets_that_fails_is_told_and_the_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = packs.run_pack

    def run_pack(study: Any, pack: Any, *rest: Any, **options: Any) -> Any:
        if pack.id == "p0000":
            raise RuntimeError("out of memory")
        return whole(study, pack, *rest, **options)

    monkeypatch.setattr("nasplug.runner.serial.run_pack", run_pack)
    frame = Study.from_dict(plain(tmp_path, resources={"pack": 12})).run("serial").frame
    failed = frame[frame["status"] == "failed"]
    assert len(failed) == 12
    assert failed["error"].str.contains("out of memory").all()
    assert set(failed["task.function"]) <= {"Booth", "Ackley", "Sphere"}
    assert (frame["status"] == "finished").sum() == 12


@pytest.mark.slow
def test_a_study_over_data_sets_is_tracked(tmp_path: Path) -> None:
    done = Study.from_dict(plain(tmp_path, mlflow={"register": "functions"})).run("serial")
    tracked = json.loads((done.folder / "mlflow.json").read_text())
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=tracked["uri"])
    run = client.get_run(tracked["run_id"])
    assert len({one.dataset.digest for one in run.inputs.dataset_inputs}) == 6
    version = client.get_model_version_by_alias("functions", "champion")
    children = client.search_runs([tracked["experiment_id"]], f"tags.`mlflow.parentRunId` = '{tracked['run_id']}'")
    names = {child.data.tags["nasplug.replica"] for child in children}
    assert names == {*done.front()["replica"], *done.choices()["replica"]}
    replica = str(done.best()["replica"])
    assert version.tags["nasplug.data_digest"] == done.task_of(replica).digest
