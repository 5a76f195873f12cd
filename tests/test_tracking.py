"""Real MLflow on real stores: sqlite files in temporary folders, and one real server."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from nasplug import ConfigError, NasplugError, Networks, files, hookimpl
from nasplug.compact import digest_of
from nasplug.config import flatten, parse
from nasplug.contracts import Regularizer
from nasplug.errors import scrub
from nasplug.events import EVENTS
from nasplug.plugins import Plugins, load_plugins
from nasplug.study import Study
from nasplug.tracking import Registered, Tracker, default_uri, end_killed, promote, spread
from nasplug.tracking.notes import address, plain

from .processes import PATIENCE

PASSWORD = "hunter2"


class Moody(Regularizer):
    """A penalty that fails where it is told to, but only in a large pack: planning, which tries two networks, cannot see it."""

    needs = frozenset({"blocks"})

    def __init__(self, fails: bool) -> None:
        self.fails = fails

    def __call__(self, nets: Networks) -> Tensor:
        if self.fails and nets.replicas > 2:
            raise RuntimeError(f"out of luck at http://me:{PASSWORD}@example.org")
        return sum((w.square().sum((1, 2)) for w in nets.blocks.values()), torch.zeros(nets.replicas))


class MoodyPlugin:
    @hookimpl
    def register_regularizers(self, register: Any) -> None:
        def moody(*, fails: bool = False) -> Moody:
            return Moody(fails)

        register("moody", moody)


def plugins() -> Plugins:
    """The installed ones and ours, in a registry of their own."""
    fresh = load_plugins.__wrapped__()
    fresh.add(MoodyPlugin(), "moody", "nasplug-moody", "1.2.3")
    return fresh


def study(store: Path, *, fails: bool = False, **changes: Any) -> Study:
    """Some twenty networks of breast_cancer in a pack; with ``fails`` a second pack that does not work."""
    raw: dict[str, Any] = {
        "study": "tiny",
        "store": str(store),
        "task": {"use": "breast_cancer", "validation": "holdout"},
        "method": {"use": "edges", "hidden": [4]},
        "penalties": [
            {"use": "l1", "level": {"log": [1e-4, 1e-1], "points": 5}},
            {"use": "moody", "level": 1e-6, "fails": {"choice": [False, True]} if fails else False},
        ],
        "discretizers": [{"use": "threshold", "tolerance": 0.05}],
        "train": {"steps": 60, "batch": "full", "lr": 0.05, "reports": 6, "compile": False},
        "seeds": 4,
        "linear": False,
        "reach": None,
        "resources": {"pack": 64},
        "mlflow": {"register": "served"},
    }
    return Study(parse(raw | changes), plugins())


def client_of(store: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(default_uri(store), default_uri(store))


def children_of(client: Any, parent: Any) -> list[Any]:
    found: list[Any] = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    return found


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database as MLflow makes it, in 2 seconds: tests that are not about making it begin with a copy."""
    folder = tmp_path_factory.mktemp("schema")
    client_of(folder).search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def store(tmp_path: Path, schema: Path) -> Path:
    """A store whose database exists."""
    shutil.copy(schema, tmp_path)
    return tmp_path


class Tracked(NamedTuple):
    study: Study
    client: Any
    parent: Any
    children: dict[str, Any]  # by replica, or by pack for failures


def look(done: Study) -> Tracked:
    client = client_of(Path(done.config.store))
    parent = client.get_run(json.loads((done.folder / "mlflow.json").read_text())["run_id"])
    found = children_of(client, parent)
    return Tracked(done, client, parent, {c.data.tags.get("nasplug.replica") or c.data.tags["nasplug.pack"]: c for c in found})


def models_of(where: Tracked) -> set[str]:
    """The replicas whose runs have a model, each one; no model is half-written or without its run."""
    models = where.client.search_logged_models([where.parent.info.experiment_id])
    found = {name: child for name, child in where.children.items() if child.outputs and child.outputs.model_outputs}
    assert {m.model_id for m in models} == {c.outputs.model_outputs[0].model_id for c in found.values()}
    assert {m.tags["nasplug.replica"] for m in models} == set(found)
    assert {str(m.status) for m in models} <= {"READY"}
    return set(found)


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    return look(study(tmp_path_factory.mktemp("a store"), fails=True).run("serial"))


def test_parent_run_holds_the_whole_study(tracked: Tracked) -> None:
    done, client, parent, _ = tracked
    data = parent.data
    assert parent.info.status == "FINISHED"
    assert client.get_experiment(parent.info.experiment_id).name == "tiny"
    assert data.params["train.steps"] == "60"
    assert data.params["method.hidden"] == "[4]"
    assert json.loads(data.params["penalties.0.level"]) == {"log": [1e-4, 1e-1], "points": 5}
    assert not any(key.startswith(("mlflow", "store", "resources")) for key in data.params)
    assert data.tags["nasplug.plugin.moody"] == "1.2.3"
    assert data.tags["nasplug.version.torch"] == torch.__version__
    frame = done.frame
    assert data.metrics["networks"] == len(frame) == 40
    assert data.metrics["networks_failed"] == 20
    assert data.metrics["networks_finished"] + data.metrics["networks_diverged"] == 20
    best = done.best()
    assert data.metrics["chosen_test_error"] == best["test_error"]
    assert data.metrics["chosen_edges"] == best["edges"]
    assert data.metrics["best_valid_error"] == frame["valid_error"].min()
    assert data.tags["nasplug.chosen"] == best["replica"]
    note = data.tags["mlflow.note.content"]
    assert note.startswith(f"**{best['replica']}** tells benign from malignant with {int(best['parameters'])} parameters")
    assert f"| validation error | {100 * best['valid_error']:.2f} % |" in note
    assert f"({address(parent.info.experiment_id, parent.info.run_id)}/artifacts/report.html)" in note
    files = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"study.yaml", "plugins.json", "environment.json", "replicas.parquet", "report.html", "front.csv"} <= files
    points = client.get_metric_history(parent.info.run_id, "networks_done")
    assert [(point.step, point.value) for point in points][-1] == (1, 20)


def test_what_is_read_of_a_model_and_its_version(tracked: Tracked) -> None:
    done, client, _, children = tracked
    best = done.best()
    model = client.get_registered_model("served")
    assert "tells benign from malignant" in model.description
    assert 'mlflow.pyfunc.load_model("models:/served@champion")' in model.description
    words = client.get_model_version_by_alias("served", "champion").description
    assert f"test error **{100 * best['test_error']:.2f} %**" in words
    run = children[str(best["replica"])].info
    assert address(run.experiment_id, run.run_id) in words
    assert plain("a|b_*c*\n<x>") == r"a\|b\_\*c\*\\n\<x\>"


def test_data_is_an_input_with_its_digest(tracked: Tracked) -> None:
    for run in (tracked.parent, tracked.children[str(tracked.study.best()["replica"])]):
        inputs = {i.dataset.name: i for i in run.inputs.dataset_inputs}
        assert {name: i.tags[0].value for name, i in inputs.items()} == {
            "breast_cancer/train": "training",
            "breast_cancer/valid": "validation",
            "breast_cancer/test": "testing",
        }
        for given in inputs.values():
            assert given.dataset.digest == tracked.study.task.digest[:36]
            assert "Breast Cancer Wisconsin" in given.dataset.source
        assert json.loads(inputs["breast_cancer/test"].dataset.profile)["num_rows"] == tracked.study.task.test.samples


def test_each_network_of_the_front_is_a_child_run(tracked: Tracked) -> None:
    done, client, parent, children = tracked
    front = done.front("all")
    assert {name for name in children if "/" in name} == set(front["replica"])
    for row in front.to_dict("records"):
        run = children[row["replica"]]
        assert run.info.status == "FINISHED"
        assert float(run.data.params["penalties.0.level"]) == row["penalties.0.level"]
        assert run.data.params["seed"] == str(row["seed"])
        for key in ("valid_error", "test_error", "relaxed_valid_error", "cut_valid_error", "edges", "neurons"):
            assert run.data.metrics[key] == row[key]
        assert len(client.get_metric_history(run.info.run_id, "history/valid_loss")) == 6
        assert {f.path for f in client.list_artifacts(run.info.run_id, "network")} == {
            "network/lineage.json",
            "network/network.json",
            "network/weights.safetensors",
        }
        tags = run.data.tags
        assert tags["nasplug.method"].startswith("edges (nasplug-edges ")
        assert tags["nasplug.penalties"] == ", ".join(
            f"{name} ({owner})"
            for name, owner in (
                ("l1", "nasplug-regularizers " + _version("nasplug-regularizers")),
                ("moody", "nasplug-moody 1.2.3"),
            )
        )
        assert tags["nasplug.parent_run"] == parent.info.run_id
        assert tags["nasplug.data_digest"] == done.task.digest
        assert tags["nasplug.chosen"] == ("true" if row["replica"] == done.best()["replica"] else "false")
        assert tags["nasplug.digest"] == digest_of(done.network(row["replica"]))
    assert len(front) > 2
    assert models_of(tracked) == {done.best()["replica"]}  # the others get theirs when they are asked for


def _version(distribution: str) -> str:
    from importlib.metadata import version

    return version(distribution)


def test_scores_are_linked_to_the_model_and_the_data(tracked: Tracked) -> None:
    run = tracked.children[str(tracked.study.best()["replica"])]
    (output,) = run.outputs.model_outputs
    model = tracked.client.get_logged_model(output.model_id)
    assert model.source_run_id == run.info.run_id
    assert str(model.status) == "READY"
    scores = {metric.key: metric for metric in model.metrics}
    assert scores["test_error"].dataset_name == "breast_cancer/test"
    assert scores["test_error"].dataset_digest == tracked.study.task.digest[:36]
    assert scores["relaxed_valid_error"].dataset_name == "breast_cancer/valid"
    assert scores["edges"].dataset_name is None


def test_a_failed_pack_is_a_failed_child_with_its_error_and_no_secret(tracked: Tracked) -> None:
    failed = {name: run for name, run in tracked.children.items() if "/" not in name}
    assert len(failed) == 1
    run = next(iter(failed.values()))
    assert run.info.status == "FAILED"
    assert "out of luck" in run.data.tags["nasplug.error"]
    assert PASSWORD not in run.data.tags["nasplug.error"]
    assert run.data.metrics["networks"] == 20


def test_the_chosen_network_is_registered_with_its_lineage(tracked: Tracked) -> None:
    done, client, parent, children = tracked
    version = client.get_model_version_by_alias("served", "champion")
    best = done.best()
    assert version.run_id == children[best["replica"]].info.run_id
    assert version.source == f"models:/{children[best['replica']].outputs.model_outputs[0].model_id}"
    assert version.tags["nasplug.replica"] == best["replica"]
    assert version.tags["nasplug.parent_run"] == parent.info.run_id
    assert version.tags["nasplug.data_digest"] == done.task.digest
    assert "nasplug-moody==1.2.3" in version.tags["nasplug.plugins"]
    assert float(version.tags["nasplug.test_error"]) == pytest.approx(best["test_error"], rel=1e-5)
    state = json.loads((done.folder / "mlflow.json").read_text())
    assert (state["model"], state["version"], state["alias"]) == ("served", str(version.version), "champion")
    assert state["run_id"] == parent.info.run_id


def _count(where: Tracked) -> tuple[set[str], list[str], int]:
    versions = [v.version for v in where.client.search_model_versions("name = 'served'")]
    models = where.client.search_logged_models([where.parent.info.experiment_id])
    return {run.info.run_id for run in where.children.values()}, versions, len(models)


def test_running_again_continues_the_same_run_and_doubles_nothing(tracked: Tracked) -> None:
    before = _count(tracked)
    again = study(Path(tracked.study.config.store), fails=True).run("serial")
    now = look(again)
    assert now.parent.info.run_id == tracked.parent.info.run_id
    assert now.parent.info.status == "FINISHED"
    assert _count(now) == before
    assert len(now.client.search_runs([now.parent.info.experiment_id])) == 1 + len(now.children)


def test_a_half_written_child_is_made_anew_and_the_alias_completed(tracked: Tracked) -> None:
    best = str(tracked.study.best()["replica"])
    old = tracked.children[best].info.run_id
    tracked.client.delete_tag(old, "nasplug.complete")
    tracker = Tracker(tracked.study.config, tracked.study.plugins)
    tracker.study_finished(tracked.study.config.plain(), tracked.study.folder)
    now = look(tracked.study)
    assert set(now.children) == set(tracked.children)
    assert now.children[best].info.run_id != old
    version = now.client.get_model_version_by_alias("served", "champion")
    assert version.run_id == now.children[best].info.run_id
    assert tracker.registered == Registered("served", str(version.version), "champion")
    assert models_of(now) == {best}


def test_any_network_is_registered_when_it_is_asked_for(store: Path) -> None:
    """One of the front, whose run is there; one that is not on it and has none; and one in a name of its own."""
    done = study(store).run("serial")
    client, best = client_of(store), str(done.best()["replica"])
    on = next(name for name in done.front()["replica"] if name != best)
    off = next(name for name in done.frame["replica"] if name not in set(done.front()["replica"]))
    before = look(done)
    for name in (on, off):
        found = done.register(name, "others")
        version = client.get_model_version("others", found.version)
        assert version.tags["nasplug.replica"] == name
        assert version.tags["nasplug.digest"] == digest_of(done.network(name))
        assert version.tags["nasplug.parent_run"] == before.parent.info.run_id
    now = look(done)
    assert models_of(now) == {best, on, off}
    assert now.children[on].info.run_id == before.children[on].info.run_id
    assert set(now.children) == {*before.children, off}
    assert (now.children[off].data.tags["nasplug.front"], now.children[off].data.tags["nasplug.chosen"]) == ("false", "false")
    assert len(client.get_metric_history(now.children[off].info.run_id, "history/valid_loss")) == 6
    for name in (on, off):  # scores are the model's, too, and there once
        (output,) = now.children[name].outputs.model_outputs
        scores = {metric.key: metric for metric in client.get_logged_model(output.model_id).metrics}
        assert scores["test_error"].dataset_name == "breast_cancer/test"
        assert scores["edges"].value == now.children[name].data.metrics["edges"]
        assert len(client.get_metric_history(now.children[name].info.run_id, "test_error")) == 1
    assert now.parent.info.status == "FINISHED"
    assert json.loads((done.folder / "mlflow.json").read_text())["model"] == "served"
    assert done.register(on, "others").version == "1"
    assert len(client.search_model_versions("name = 'others'")) == 2
    again = look(study(store).run("serial"))  # whatever has a model keeps it
    assert models_of(again) == {best, on, off}
    assert {name: child.info.run_id for name, child in again.children.items()} == {
        name: child.info.run_id for name, child in now.children.items()
    }


def test_an_export_that_was_killed_is_made_again(store: Path) -> None:
    done = study(store).run("serial")
    off = next(name for name in done.frame["replica"] if name not in set(done.front()["replica"]))
    done.register(off, "others")
    client, old = client_of(store), look(done).children[off]
    client.set_tag(old.info.run_id, "nasplug.complete", "false")
    client.create_logged_model(old.info.experiment_id, "orphan", old.info.run_id)  # killed before its run was told of it
    found = done.register(off, "others")
    now = look(done)
    assert now.children[off].info.run_id != old.info.run_id
    assert models_of(now) == {off, str(done.best()["replica"])}
    assert client.get_model_version("others", found.version).run_id == now.children[off].info.run_id


def test_another_chosen_network_gets_its_model_in_the_run_that_it_has(store: Path) -> None:
    first = study(store).run("serial")
    best, children = str(first.best()["replica"]), look(first).children
    second = study(store, choose={"rule": "within", "within": 0.2}).run("serial")
    other = str(second.best()["replica"])
    assert other != best
    now = look(second)
    assert models_of(now) == {best, other}
    assert now.children[other].info.run_id == children[other].info.run_id
    version = files.read_json(second.folder / "mlflow.json")["version"]
    assert client_of(store).get_model_version("served", version).run_id == children[other].info.run_id


def test_an_untracked_study_is_tracked_when_a_network_of_it_is_registered(store: Path) -> None:
    done = study(store, mlflow=None, ensemble=3).run("serial")
    assert done.register().name == "tiny"
    assert look(done).parent.info.status == "FINISHED"
    assert set(look(done).children) >= set(done.front()["replica"])
    mean = done.register("ensemble")
    version = client_of(store).get_model_version(mean.name, mean.version)
    assert (mean.name, version.tags["nasplug.replica"]) == ("tiny-ensemble", "/ensemble")


def test_what_cannot_be_registered_is_refused(store: Path) -> None:
    done = study(store, mlflow=None).run("serial")
    with pytest.raises(ConfigError, match="p0000/9999"):
        done.register("p0000/9999")
    with pytest.raises(ConfigError, match="no ensemble"):
        done.register("ensemble")
    for name in ("", " ", "it's", "a/b", "a@b", "x" * 201):  # names that searches and addresses of models cannot hold
        with pytest.raises(ConfigError, match="needed: a model's name"):
            done.register(name=name)
    with files.locked(done.folder, "the study"), pytest.raises(ConfigError):
        done.register()
    assert not (done.folder / "mlflow.json").exists()


def test_the_command_registers(tracked: Tracked) -> None:
    from click.testing import CliRunner

    from nasplug.cli import main

    name = str(tracked.study.front()["replica"].iloc[0])
    command = ["register", str(tracked.study.folder), "--replica", name, "--name", "by-hand"]
    told = CliRunner().invoke(main, command)
    assert told.exit_code == 0, told.output
    assert f"{name} of {tracked.study.folder} is models:/by-hand/1" in told.output
    again = CliRunner().invoke(main, [*command, "--json"])
    assert json.loads(again.stdout) | {"replica": name, "name": "by-hand", "version": "1"} == json.loads(again.stdout)


def test_a_killed_run_is_said_to_be_killed_by_the_next_one(store: Path) -> None:
    """Killed before it was written down: the next run of the study cannot go on with it, but nothing stays RUNNING."""
    first = study(store, mlflow={"children": 1})
    tracker = Tracker(first.config, first.plugins)
    tracker.study_started(first.config.plain(), first.folder)
    (first.folder / "mlflow.json").unlink()
    shutil.rmtree(first.folder)
    second = look(study(store, mlflow={"children": 1}).run("serial"))
    assert second.parent.info.run_id != tracker.run
    assert second.client.get_run(tracker.run).info.status == "KILLED"
    assert second.parent.info.status == "FINISHED"


def test_a_run_that_was_killed_is_said_to_be_killed_by_a_look_at_its_study(store: Path) -> None:
    killed = study(store, mlflow={"children": 1}).run("serial")
    log = killed.folder / EVENTS  # of a run that was killed it has the beginning
    log.write_bytes(log.read_bytes().partition(b"\n")[0] + b"\n")
    tracker = Tracker(killed.config, killed.plugins)
    tracker.study_started(killed.config.plain(), killed.folder)
    with files.locked(killed.folder, "the study"):
        assert not end_killed(killed.folder)  # it runs
    assert tracker._client.get_run(tracker.run).info.status == "RUNNING"
    assert end_killed(killed.folder)
    assert tracker._client.get_run(tracker.run).info.status == "KILLED"
    assert not end_killed(killed.folder)
    done = look(study(store, mlflow={"children": 1}).run("serial"))
    assert (done.parent.info.run_id, done.parent.info.status) == (tracker.run, "FINISHED")
    assert not end_killed(done.study.folder)


@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_a_look_at_a_study_asks_no_server(tmp_path: Path, scheme: str) -> None:
    """Its folder may be anybody's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        state = {"uri": f"{scheme}://127.0.0.1:{server.getsockname()[1]}/x", "run_id": "r", "running": True}
        files.write_json(tmp_path / "mlflow.json", state)
        assert not end_killed(tmp_path)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_look_at_a_study_makes_and_migrates_no_database(tmp_path: Path) -> None:
    empty = tmp_path / "empty.db"
    empty.touch()
    for database in (tmp_path / "missing.db", empty):
        files.write_json(tmp_path / "mlflow.json", {"uri": f"sqlite:///{database}", "run_id": "r", "running": True})
        assert not end_killed(tmp_path)
    assert not (tmp_path / "missing.db").exists()
    assert empty.stat().st_size == 0


def test_the_same_network_is_not_registered_twice_and_takes_no_alias_back(store: Path) -> None:
    first = study(store).run("serial")
    client = client_of(store)
    study(store, study="second", seeds=[5, 6]).run("serial")
    promote(default_uri(store), "served", "2", force=True, why="a test")
    client.delete_run(look(first).parent.info.run_id)
    again = study(store).run("serial")  # another parent run, the same content
    assert len(client.search_model_versions("name = 'served'")) == 2
    assert str(client.get_model_version_by_alias("served", "champion").version) == "2"
    assert json.loads((again.folder / "mlflow.json").read_text())["version"] == "1"


@pytest.mark.slow
def test_a_deleted_run_or_a_new_uri_begins_a_new_run_and_says_so(store: Path, schema: Path) -> None:
    first = study(store).run("serial")
    old = look(first).parent.info.run_id
    look(first).client.delete_run(old)
    second = look(study(store).run("serial"))
    assert second.parent.info.run_id != old
    assert second.parent.data.tags["nasplug.continues"] == f"continues run {old}, which was deleted"
    other = store / "elsewhere" / "other.db"
    other.parent.mkdir()
    shutil.copy(schema, other)
    uri = f"sqlite:///{other}"
    third = study(store, mlflow={"uri": uri})
    third.run("serial")
    state = json.loads((third.folder / "mlflow.json").read_text())
    assert state["uri"] == uri
    assert "model" not in state
    from mlflow import MlflowClient

    there = MlflowClient(uri, uri).get_run(state["run_id"])
    assert "the tracking URI changed" in there.data.tags["nasplug.continues"]
    assert there.info.artifact_uri.startswith((store / "elsewhere" / "mlartifacts").as_uri())


@pytest.mark.slow
def test_a_second_study_takes_the_alias_and_the_first_does_not_take_it_back(store: Path) -> None:
    first = study(store).run("serial")
    client = client_of(store)
    study(store, study="second", seeds=[5, 6]).run("serial")
    promote(default_uri(store), "served", "2", force=True, why="a test")
    now = client.get_model_version_by_alias("served", "champion")
    assert (str(now.version), now.tags["nasplug.study"], now.tags["nasplug.previous_champion"]) == ("2", "second", "1")
    assert str(client.get_model_version_by_alias("served", "challenger").version) == "1"
    first.run("serial")
    assert str(client.get_model_version_by_alias("served", "champion").version) == "2"
    assert len(client.search_model_versions("name = 'served'")) == 2


def test_few_children_are_spread_over_the_front_with_the_chosen_one(store: Path) -> None:
    done = study(store, mlflow={"register": "served", "children": 1}).run("serial")
    assert set(look(done).children) == {str(done.best()["replica"])}
    none = study(store, study="untold", mlflow={"children": 0}).run("serial")
    assert look(none).children == {}


def test_mlflow_globals_stay_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.invalid:1")
    monkeypatch.chdir(tmp_path)
    before = (mlflow.get_tracking_uri(), mlflow.get_registry_uri(), dict(os.environ), mlflow.active_run())
    levels = [logging.getLogger(name).level for name in ("mlflow", "alembic", "urllib3")]
    study(tmp_path / "store").run("serial")
    assert (mlflow.get_tracking_uri(), mlflow.get_registry_uri(), dict(os.environ), mlflow.active_run()) == before
    assert [logging.getLogger(name).level for name in ("mlflow", "alembic", "urllib3")] == levels
    assert {path.name for path in tmp_path.iterdir()} == {"store"}


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    study(tmp_path).run("serial")
    out, err = capfd.readouterr()
    assert "mlflow" not in (out + err).lower()
    assert "alembic" not in (out + err).lower()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def unreachable(done: Study, capfd: pytest.CaptureFixture[str]) -> None:
    """The study ran to its end, and what MLflow was not told is said, without a password."""
    assert set(done.frame["status"]) == {"finished"}
    assert (done.folder / "best" / "network.json").exists()
    told = capfd.readouterr().err
    assert "Tracker (nasplug " in done.untracked
    assert "MLflow at" in done.untracked
    assert done.untracked in told
    assert PASSWORD not in told


def test_an_unreachable_server_does_not_stop_a_study(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    uri = f"http://me:{PASSWORD}@127.0.0.1:{free_port()}"
    unreachable(study(tmp_path, mlflow={"uri": uri}).run("serial"), capfd)
    again = study(tmp_path).run("serial")  # the server is there now, so to speak
    assert again.untracked == ""
    assert look(again).parent.info.status == "FINISHED"


@pytest.mark.parametrize("what", ["folder", "text", "port"])
def test_a_database_that_is_none_does_not_stop_a_study(tmp_path: Path, what: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mlflow.db"
    if what == "folder":
        path.mkdir()
    else:
        path.write_text("not a database, though long enough to have a header of a hundred bytes " * 3)
    uri = f"sqlite:///{path}" if what != "port" else f"postgresql://me:{PASSWORD}@127.0.0.1:{free_port()}/mlflow"
    unreachable(study(tmp_path, mlflow={"uri": uri}).run("serial"), capfd)


def test_a_deleted_experiment_is_named(store: Path) -> None:
    done = study(store).run("serial")
    where = look(done)
    where.client.delete_experiment(where.parent.info.experiment_id)
    again = study(store).run("serial")
    assert re.search(r"was deleted .* restore", again.untracked)


def test_results_survive_a_store_that_fails_at_the_end(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = study(store)
    tracker = Tracker(done.config, done.plugins)
    study(store, mlflow=None).run("serial")
    tracker.study_started(done.config.plain(), done.folder)
    database = store / "mlflow.db"
    with sqlite3.connect(database) as connection:
        connection.execute("ALTER TABLE runs RENAME TO gone")
    tracker.pack_finished()
    monkeypatch.setattr("nasplug.tracking.tracker.PAUSES", ())
    with pytest.raises(NasplugError, match=rf"(?s)results are safe in {done.folder}.*nasplug sync {done.folder}"):
        tracker.study_finished(done.config.plain(), done.folder)
    with sqlite3.connect(database) as connection:
        connection.execute("ALTER TABLE gone RENAME TO runs")
    done.run("serial")
    assert look(done).parent.info.status == "FINISHED"


def test_an_untracked_study_can_be_tracked_later(store: Path) -> None:
    done = study(store, mlflow=None).run("serial")
    later = study(store)
    tracker = Tracker(later.config, later.plugins)
    tracker.study_finished(later.config.plain(), later.folder)
    assert tracker.registered == Registered("served", "1", "champion")
    assert set(look(done).children) == set(done.front()["replica"])


def test_a_stopped_study_is_said_to_have_failed(store: Path) -> None:
    done = study(store)
    tracker = Tracker(done.config, done.plugins)
    tracker.study_started(done.config.plain(), done.folder)
    tracker.study_stopped(done.config.plain(), done.folder, f"no network finished, see http://me:{PASSWORD}@x")
    parent = client_of(store).get_run(tracker.run)
    assert parent.info.status == "FAILED"
    assert parent.data.tags["nasplug.stopped"] == "no network finished, see http://x"


def test_every_task_of_a_swept_one_is_an_input(store: Path) -> None:
    done = study(store, task={"use": "breast_cancer", "validation": "holdout", "seed": {"choice": [0, 1]}}, seeds=2).run(
        "serial"
    )
    where = look(done)
    assert len({i.dataset.digest for i in where.parent.inputs.dataset_inputs}) == 2
    for name, run in where.children.items():
        own = {i.dataset.digest for i in run.inputs.dataset_inputs}
        assert own == {run.data.tags["nasplug.data_digest"][:36]}, name


FIRST = """
import sys
from pathlib import Path
from nasplug.config import parse
from nasplug.plugins import load_plugins
from nasplug.tracking import Tracker
config = parse({"study": sys.argv[2], "store": sys.argv[1], "task": {"use": "breast_cancer"}, "method": {"use": "edges"}})
Tracker(config, load_plugins()).study_started(config.plain(), config.folder)
"""


@pytest.mark.slow
def test_several_studies_may_begin_on_a_fresh_store(tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", FIRST, str(tmp_path), f"study{i}"] for i in range(2)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    errors = [process.communicate()[1][-500:] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    assert {e.name for e in client_of(tmp_path).search_experiments()} >= {f"study{i}" for i in range(2)}


@pytest.fixture
def server(tmp_path: Path, schema: Path) -> Iterator[tuple[str, Path]]:
    port = free_port()
    home = tmp_path / "server"
    home.mkdir()
    shutil.copy(schema, home)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}", "--artifacts-destination", str(home / "files")]
    with (home / "log.txt").open("w") as log:
        env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=home, env=env, start_new_session=True)
    try:
        for _ in range(960):
            assert process.poll() is None, (home / "log.txt").read_text()[-2000:]
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                    break
            except OSError:
                time.sleep(0.25)
        yield f"127.0.0.1:{port}", home
    finally:
        os.killpg(process.pid, 15)
        process.wait(PATIENCE)


@pytest.mark.slow
def test_a_server_gets_everything_but_the_password(tmp_path: Path, server: tuple[str, Path]) -> None:
    address, home = server
    done = study(tmp_path, fails=True, mlflow={"uri": f"http://me:{PASSWORD}@{address}", "register": "served"}).run("serial")
    from mlflow import MlflowClient

    client = MlflowClient(f"http://{address}", f"http://{address}")
    version = client.get_model_version_by_alias("served", "champion")
    assert version.tags["nasplug.replica"] == done.best()["replica"]
    parent = client.get_run(json.loads((done.folder / "mlflow.json").read_text())["run_id"])
    assert len(children_of(client, parent)) == len(done.front()) + 1
    assert "study.yaml" in {file.path for file in client.list_artifacts(parent.info.run_id)}
    files = [path for path in home.rglob("*") if path.is_file()]
    assert any(path.suffix == ".pt2" for path in files)
    for path in [*files, done.folder / "mlflow.json"]:
        assert PASSWORD.encode() not in path.read_bytes(), path


def test_flatten_keeps_sweeps_and_lists_of_numbers_whole() -> None:
    raw = {"a": {"b": 1, "c": None}, "d": [{"e": [1, 2]}, {"e": {"log": [1, 2], "points": 3}}], "f": "x", "g": []}
    assert flatten(raw) == {"a.b": "1", "d.0.e": "[1, 2]", "d.1.e": '{"log": [1, 2], "points": 3}', "f": "x", "g": "[]"}


@pytest.mark.parametrize(
    ("names", "most", "needed", "picked"),
    [
        ("abc", 5, "b", "abc"),
        ("abcdefghi", 3, "e", "aei"),
        ("abcdefghi", 3, "f", "afi"),
        ("abcdefghi", 3, "b", "bei"),
        ("abcdefghi", 1, "f", "f"),
        ("abcdefghi", 0, "f", "f"),
        ("abcdefghi", 0, None, ""),
    ],
)
def test_spread(names: str, most: int, needed: str | None, picked: str) -> None:
    assert "".join(spread(list(names), most, needed)) == picked


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("http://user:pass@host:5000/x", "http://host:5000/x"),
        ("postgresql+psycopg2://u:p%40@db/m (refused)", "postgresql+psycopg2://db/m (refused)"),
        ("https://host/x?token=abc&a=1", "https://host/x?token=***&a=1"),
        ("sqlite:////tmp/a@b/mlflow.db", "sqlite:////tmp/a@b/mlflow.db"),
        ("me@example.org", "me@example.org"),
    ],
)
def test_scrub(text: str, clean: str) -> None:
    assert scrub(text) == clean
    assert scrub({"a": [text]}) == {"a": [clean]}
