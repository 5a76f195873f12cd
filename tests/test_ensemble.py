"""The mean of several networks, served as one module."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from nasplug import ensemble, results
from nasplug.compact import compact, digest_of, export
from nasplug.config import parse
from nasplug.errors import ConfigError
from nasplug.study import Study
from nasplug.testing import example_networks
from nasplug.tracking import promote


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Study:
    raw: dict[str, Any] = {
        "study": "mean",
        "store": str(tmp_path_factory.mktemp("mean")),
        "task": {"use": "iris", "validation": "holdout"},
        "method": {"use": "edges", "hidden": [3]},
        "train": {"steps": 60, "lr": 0.05},
        "seeds": 4,
        "linear": False,
        "ensemble": 3,
        "mlflow": {"register": "served"},
    }
    return Study(parse(raw)).run("serial")


def test_an_ensemble_is_the_mean_of_its_members(done: Study) -> None:
    made = done.network("ensemble")
    names = results.members(done.frame, 3)
    assert [member["name"] for member in made.record["members"]] == names
    x = torch.tensor([[5.1, 3.5, 1.4, 0.2], [6.2, 2.9, 4.3, 1.3]])
    with torch.no_grad():
        alone = torch.stack([done.network(name)(x) for name in names])
        assert torch.equal(made(x), alone.mean(0))
        torch.testing.assert_close(made(x).sum(1), torch.ones(2, dtype=torch.float64))
    assert made.parameter_count == sum(done.network(name).parameter_count for name in names)
    table = pd.DataFrame(x.numpy(), columns=pd.Index(done.task.columns or done.task.features))
    assert made.predict(table)["label"].iloc[0] == "setosa"
    program = export(made, x)
    torch.testing.assert_close(program.module()(x), made(x))


def test_what_is_said_of_it_is_its_score_on_the_test_split(done: Study) -> None:
    told = json.loads((done.folder / "ensemble" / "scores.json").read_text())
    task, made = done.task, done.network("ensemble")
    raw = (task.test.x.double() * task.input_scale.double().view(-1, 1) + task.input_shift.double().view(-1, 1)).T
    with torch.no_grad():
        wrong = (made(raw).argmax(1) != task.test.y).double().mean()
    assert told["test_error"] == pytest.approx(float(wrong))
    assert told["sentence"] in (done.folder / "report.html").read_text()
    assert told["parameters"] == made.parameter_count


def test_a_metric_that_the_test_split_does_not_have_is_left_out(tmp_path: Path) -> None:
    data = pd.DataFrame(
        {"a": [0.1, 0.9, 0.2, 0.8] * 6, "label": ["no", "yes"] * 12, "part": ["train", "train", "valid", "valid"] * 6}
    )
    data.loc[data["label"].eq("no") & (data.index > 15), "part"] = "test"  # where one label has no AUC
    data.to_csv(tmp_path / "t.csv", index=False)
    validation = {"use": "column", "by": "part"}
    raw: dict[str, Any] = {
        "study": "one-label",
        "store": str(tmp_path),
        "task": {"use": "table", "path": str(tmp_path / "t.csv"), "target": "label", "validation": validation},
        "method": {"use": "edges", "hidden": [2]},
        "metrics": [{"use": "auc"}],
        "train": {"steps": 5},
        "seeds": 2,
        "linear": False,
        "reach": None,
        "ensemble": 2,
        "mlflow": None,
    }
    made = Study(parse(raw)).run("serial", report=False)
    told = json.loads((made.folder / "ensemble" / "scores.json").read_text())
    assert "test_error" in told
    assert "test_auc" not in told


def test_a_single_network_has_the_scores_of_the_table(done: Study) -> None:
    row = done.best()
    found = ensemble.scores(done.network(), done.task, done.task.test)
    assert found["error"] == pytest.approx(row["test_error"], abs=1e-6)
    assert found["loss"] == pytest.approx(row["test_loss"], rel=1e-3)


def test_it_is_registered_as_one_model(done: Study) -> None:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{done.folder.parent}/mlflow.db")
    model = mlflow.pyfunc.load_model("models:/served-ensemble@champion")
    table = pd.DataFrame([[5.1, 3.5, 1.4, 0.2], [6.2, 2.9, 4.3, 1.3]], columns=pd.Index(done.task.features))
    pd.testing.assert_frame_equal(model.predict(table[table.columns[::-1]]), done.network("ensemble").predict(table))


def test_it_is_registered_by_the_rules_of_networks(done: Study) -> None:
    from mlflow import MlflowClient

    uri, name = f"sqlite:///{done.folder.parent}/mlflow.db", "served-ensemble"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    first = client.get_model_version_by_alias(name, "champion")
    assert first.tags["nasplug.digest"] == digest_of(done.network("ensemble"))
    assert first.tags["nasplug.members"] == ", ".join(results.members(done.frame, 3))
    assert {"nasplug.study", "nasplug.parent_run", "nasplug.data_digest", "nasplug.test_error"} <= set(first.tags)
    run = client.get_run(first.run_id)
    assert [each.dataset.name for each in run.inputs.dataset_inputs] == [f"iris/{part}" for part in ("train", "valid", "test")]
    changed = Study(
        parse(done.config.plain() | {"study": "other", "ensemble": 2, "train": {"steps": 5, "lr": 0.05}, "seeds": 2})
    )
    changed.run("serial")
    if client.get_model_version_by_alias(name, "champion").version != 2:
        promote(uri, name, "2", force=True, why="a test")
    now = client.get_model_version_by_alias(name, "champion")
    assert (now.version, now.tags["nasplug.previous_champion"]) == (2, "1")
    assert client.get_model_version_by_alias(name, "challenger").version == 1
    done.run("serial")  # neither a second version of the same, nor the alias back
    assert client.get_model_version_by_alias(name, "champion").version == 2
    assert len(client.search_model_versions(f"name = '{name}'")) == 2
    experiment = client.get_experiment_by_name("mean").experiment_id
    assert len(client.search_runs([experiment], "tags.`nasplug.replica` = '/ensemble'")) == 1


def test_files_come_back_and_damage_is_named(tmp_path: Path) -> None:
    nets = example_networks(0, 3, parts=["biases"])
    made = ensemble.Ensemble({f"p0000/000{k}": compact(nets, k) for k in range(3)}).eval()
    ensemble.save(made, tmp_path)
    again = ensemble.load(tmp_path)
    assert digest_of(again) == digest_of(made)
    x = torch.randn(5, made.record["inputs"])
    with torch.no_grad():
        assert torch.equal(again(x), made(x))
    ensemble.save(ensemble.Ensemble({"other": compact(nets, 2)}), tmp_path / "other")
    for name in ("network.json", "weights.safetensors"):
        (tmp_path / "member-00" / name).write_bytes((tmp_path / "other" / "member-00" / name).read_bytes())
    with pytest.raises(ConfigError, match="member-00 is not p0000/0000"):
        ensemble.load(tmp_path)


def test_a_smaller_ensemble_leaves_no_member_of_a_larger_one(done: Study, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(done.folder, tmp_path / "smaller"))
    (folder / "ensemble" / "member-notes.txt").write_text("somebody's own")
    for size, left in ((2, {"member-00", "member-01"}), (None, set())):
        config = Study.open(folder).config.model_copy(update={"ensemble": size})
        Study(config, done.plugins).snapshot()._conclude({}, None, 0.0, report=False)
        assert {path.name for path in (folder / "ensemble").glob("member-0*")} == left
    assert [path.name for path in (folder / "ensemble").iterdir()] == ["member-notes.txt"]


def test_members_must_fit_together() -> None:
    one, other = compact(example_networks(0, 1, (3, 2, 1)), 0), compact(example_networks(0, 1, (4, 2, 1)), 0)
    with pytest.raises(ConfigError, match="b has other inputs, features than a"):
        ensemble.Ensemble({"a": one, "b": other})
    with pytest.raises(ConfigError, match="without members"):
        ensemble.Ensemble({})


def test_which_networks_are_members() -> None:
    rows = [("a", 0.3, -1, 5), ("b", 0.1, 0, 5), ("c", 0.2, -1, 5), ("d", 0.2, -1, 3), ("e", float("nan"), -1, 1)]
    frame = pd.DataFrame(rows, columns=["replica", "valid_loss", "fold", "parameters"]).assign(status="finished")
    assert results.members(frame, 2) == ["d", "c"]
    assert results.members(frame.drop(columns="fold"), 2) == ["b", "d"]


def test_a_study_over_data_sets_has_no_ensemble(done: Study) -> None:
    raw = done.config.plain() | {"task": {"use": "iris", "seed": {"grid": [0, 1]}}, "mlflow": None}
    with pytest.raises(ConfigError, match=r"ensemble: over several data sets \(task\.seed\)"):
        Study(parse(raw)).plan()
    alone = Study(parse(done.config.plain() | {"ensemble": None}))
    with pytest.raises(ConfigError, match="this study has no ensemble"):
        alone.network("ensemble")
