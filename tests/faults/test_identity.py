"""A result is known by its content: data, config, plugins and nasplug itself; names and places decide nothing."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nasplug import identity, packs
from nasplug.cli import main
from nasplug.config import parse, to_yaml
from nasplug.data.datasets import from_arrays
from nasplug.errors import ConfigError, scrub
from nasplug.files import read_json, write_json
from nasplug.hookspecs import hookimpl
from nasplug.plan import forget_tasks, settle
from nasplug.plugins import Plugins, load_plugins
from nasplug.study import Study
from nasplug.tasks import Facts, Resamples, Split, Task
from nasplug.testing import example_task

few = settings(max_examples=30, deadline=None)

TABLE: dict[str, Any] = {
    "study": "table",
    "task": {"use": "table", "validation": "holdout", "path": "x.csv", "target": "y"},
    "method": {"use": "edges", "mode": "annealed", "hidden": [3]},
    "penalties": [{"use": "l1", "level": {"choice": [0.001, 0.01]}, "ramp": {"use": "linear"}}],
    "temperature": {"use": "linear", "start": 1.0, "end": 0.0, "until": 0.5},
    "discretizers": [{"use": "threshold", "eps": 0.01}],
    "train": {"steps": 20, "lr": 0.01, "reports": 2, "decay": {"use": "cosine"}},
    "linear": False,
    "reach": None,
    "resources": {"pack": 1},
    "mlflow": None,
}


def data(path: Path, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(40, 2))
    rows = "\n".join(f"{a:.6f},{b:.6f},{a - b + 0.5:.6f}" for a, b in x)
    path.write_text(f"a,b,y\n{rows}\n")
    return path


def table(folder: Path, **changes: Any) -> Study:
    task = {**TABLE["task"], "path": str(folder / "x.csv")}
    return Study.from_dict({**TABLE, "task": task, "store": str(folder / "runs"), **changes})


# The digest of a task.


def with_one(task: Any, name: str, value: Any) -> Task:
    made: Task = replace(task, **{name: value})
    return made


def changed(task: Any, name: str, at: int) -> Task:
    """One small thing of it is another."""
    value: Any = getattr(task, name)
    if isinstance(value, Split):
        if at % 3 == 2:  # weights where there were none
            return with_one(task, name, replace(value, weights=torch.ones_like(value.x[0])))
        part = "xy"[at % 2]
        tensor = getattr(value, part).clone()
        flat = tensor.view(-1)
        flat[at % len(flat)] = torch.nextafter(flat[at % len(flat)], torch.tensor(9e9, dtype=flat.dtype))
        return with_one(task, name, replace(value, **{part: tensor}))
    if isinstance(value, Tensor):
        moved = value.clone()
        moved[at % len(moved)] += 1e-6
        return with_one(task, name, moved)
    if isinstance(value, tuple):
        return with_one(task, name, (*value[:-1], value[-1] + ("x" if isinstance(value[-1], str) else 1)))
    if isinstance(value, Mapping):
        return with_one(task, name, {**value, "missing": f"filled with {at}"})
    part = torch.ones(2, 24)
    other = {
        "name": "other",
        "kind": "binary",
        "loss": "logistic",
        "image": (1, 1, task.inputs),
        "encoder": {"columns": []},
        "transform": {"use": "log"},
    }
    other |= {"resamples": Resamples(part, part, "2 folds"), "units": torch.ones(2, 1)}
    return with_one(task, name, other[name])


DECIDING = [f.name for f in fields(Task) if f.init and f.name not in ("source", "origin")]


@few
@given(name=st.sampled_from(DECIDING), at=st.integers(0, 1000))
def test_any_change_of_a_task_changes_its_digest(name: str, at: int) -> None:
    task = example_task("regression", samples=12)
    assert changed(task, name, at).digest != task.digest
    assert replace(task).digest == task.digest == replace(task, source="elsewhere").digest


def test_scaled_data_are_other_data() -> None:
    x, y = np.random.default_rng(0).normal(size=(60, 3)), np.random.default_rng(1).normal(size=60)
    one, other = (from_arrays(a, b, kind="regression") for a, b in ((x, y), (4 * x, 8 * y)))
    assert torch.equal(one.train.x, other.train.x)
    assert torch.equal(one.train.y, other.train.y)
    assert one.digest != other.digest
    assert from_arrays(x.copy(), y.copy(), kind="regression").digest == one.digest


def test_samples_moved_between_splits_are_other_data() -> None:
    task = example_task("regression", samples=12)
    assert replace(task, valid=task.test, test=task.valid).digest != task.digest
    assert replace(task, train=task.train.to("cpu", torch.float32)).digest != task.digest


@pytest.mark.parametrize("kind", ["regression", "binary", "classes"])
def test_facts_read_back_as_the_same(kind: Any) -> None:
    facts = example_task(kind).facts
    again = Facts.from_plain(json.loads(json.dumps(facts.plain())))
    assert again.plain() == facts.plain()
    assert torch.equal(again.input_scale, facts.input_scale)
    assert again.standard_error(0.25, "test") == facts.standard_error(0.25, "test")


# A study whose data, plugins or nasplug change.


def test_a_resume_on_changed_data_is_refused(tmp_path: Path) -> None:
    data(tmp_path / "x.csv")
    done = table(tmp_path).run("serial")
    frame = done.frame
    table(tmp_path).run("serial")
    data(tmp_path / "x.csv", seed=1)
    for refuse in (lambda: table(tmp_path).run("serial"), lambda: table(tmp_path).check()):
        with pytest.raises(ConfigError, match=r"changed: the data \(digest \w{12}, now \w{12}\).*--accept-changes"):
            refuse()
    with pytest.raises(ConfigError, match="its data have changed since p0000/0000 was trained on them"):
        Study.open(done.folder).task_of("p0000/0000")
    assert Study.open(done.folder).frame.equals(frame)  # looking at what was earned needs no data
    again = table(tmp_path).run("serial", accept_changes=True)
    assert set(again.frame["replica"]) == set(frame["replica"])
    assert (again.frame["valid_loss"] != frame["valid_loss"]).all()
    assert again.task_of("p0000/0000").digest == again.facts_of("p0000/0000").digest
    kept = done.folder / "earlier-1"
    assert {"packs", "replicas.parquet", "study.yaml", "identity.json"} <= {path.name for path in kept.iterdir()}
    assert Study.open(kept).frame.equals(frame)
    assert table(tmp_path).run("serial", accept_changes=True).frame.equals(again.frame)  # nothing changed: nothing set aside
    assert not (done.folder / "earlier-2").exists()
    data(tmp_path / "x.csv")
    fresh = table(tmp_path, store=str(tmp_path / "fresh")).run("serial")
    assert fresh.frame.equals(frame)


def test_data_that_only_moved_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path, another working directory: what counts is what is in the file."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        data(tmp_path / name / "x.csv")
    study = {**TABLE, "store": str(tmp_path / "runs")}
    monkeypatch.chdir(tmp_path / "one")
    frame = Study.from_dict(study).run("serial").frame
    monkeypatch.chdir(tmp_path / "two")
    assert Study.from_dict(study).run("serial").frame.equals(frame)


def test_another_nasplug_or_plugin_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data(tmp_path / "x.csv")
    done = table(tmp_path).run("serial")
    there = read_json(done.folder / "identity.json")
    assert set(there["makers"]) == {"nasplug", "nasplug-edges", "nasplug-regularizers", "nasplug-discretizers"}
    source = identity._source
    for name, module in (("nasplug", "nasplug"), ("nasplug-edges", "nasplug_edges")):
        with monkeypatch.context() as patch:
            patch.setattr(identity, "_source", lambda one, module=module: "f" * 64 if one == module else source(one))
            with pytest.raises(ConfigError, match=rf"changed: {name} \(0.1.0, source \w{{12}}; now 0.1.0, source f{{12}}\)"):
                table(tmp_path).run("serial")
    with monkeypatch.context() as patch:  # a plugin that the study does not use may be whatever it likes
        patch.setattr(identity, "_source", lambda one: "f" * 64 if one == "nasplug_swat" else source(one))
        table(tmp_path).check()


def test_data_that_change_while_a_study_runs_fail_their_packs(tmp_path: Path) -> None:
    data(tmp_path / "x.csv")
    study = table(tmp_path)
    planned = study.plan()
    data(tmp_path / "x.csv", seed=1)
    study.plan()  # forgets the tasks it had
    with pytest.raises(ConfigError, match="its data are not those that pack p0000 was planned with"):
        list(packs.run_pack(study.config, planned[0], study.plugins, tmp_path / "p0000"))


# Results from the folder alone.


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study: its data are gone, its folder stands elsewhere under another name."""
    before = tmp_path_factory.mktemp("before")
    data(before / "x.csv")
    done = table(before).run("serial")
    there = tmp_path_factory.mktemp("after") / "other name"
    shutil.move(done.folder, there)
    (before / "x.csv").unlink()
    return there


def told(*command: str) -> Any:
    done = CliRunner().invoke(main, list(command), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout) if "--json" in command else done.stdout


def test_a_study_without_its_data_is_read(moved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(moved)
    study = Study.open(".")
    assert study.config.study == "other name"
    assert len(study.front()) > 0
    network = study.network()
    assert network.record["features"] == ["a", "b"]
    assert network(torch.zeros(2, 2)).shape == (2, 1)
    assert float(network.get_buffer("output_scale")) != 1.0
    assert "Front of 'other name'" in told("front", ".")
    assert told("front", ".", "--json")["folder"] == str(moved)
    assert told("front", ".", "--limit", "edges=100", "--json")["replica"]
    forget_tasks()  # those of this process, which trained it
    with pytest.raises(ConfigError, match=r"x\.csv"):
        study.task_of("p0000/0000")  # this one does


def test_a_folder_may_be_called_what_no_new_study_may(moved: Path) -> None:
    settled = settle(Study.open(moved).config, {"train.steps": 7})
    assert (settled.study, settled.folder, settled.train.steps) == ("other name", moved, 7)


def test_json_has_all_digits_and_owners_are_a_mapping(moved: Path) -> None:
    frame = Study.open(moved).frame.set_index("replica")
    found = told("front", str(moved), "--json")
    for row in (*found["front"], found["best"]):
        for name, value in row.items():
            if isinstance(value, float):
                assert value == frame.loc[row["replica"], name], name
        owners = row["owners"]
        assert {"method", "task", "temperature", "train.decay", "penalties.0", "penalties.0.ramp"} <= set(owners)
        assert owners["temperature"].startswith("linear (nasplug ")
    assert any(len(repr(value)) > 14 for value in found["best"].values() if isinstance(value, float))


# Secrets.


class Warehouse:
    """A stranger's plugin: a task that needs a password."""

    @hookimpl
    def register_tasks(self, register: Any) -> None:
        register("warehouse", warehouse)


def warehouse(*, url: str, token: str = "") -> Task:
    """Numbers from afar."""
    if "hush" not in url:
        raise ConfigError(f"the warehouse at {url} wants a password")
    return replace(example_task("regression", samples=20 + url.count("you")), source=f"from {url}")


def warehoused(store: Path, task: Mapping[str, Any]) -> Study:
    plugins: Plugins = load_plugins.__wrapped__()
    plugins.add(Warehouse(), "warehouse", "tests", "0")
    return Study(parse({**TABLE, "task": {"use": "warehouse", **task}, "store": str(store)}), plugins)


@pytest.mark.parametrize("swept", [False, True])
def test_a_secret_is_never_written_and_never_in_the_way(swept: bool, tmp_path: Path) -> None:
    urls = [f"postgresql://me:hush@db{n}/x?password=hush2" for n in range(2)]
    task = {"url": {"grid": urls} if swept else urls[0], "token": "hush3"}
    done = warehoused(tmp_path, task).run("serial")
    for path in sorted(done.folder.rglob("*")):
        if path.is_file():
            assert b"hush" not in path.read_bytes(), path
    assert set(done.frame["status"]) == {"finished"}
    if swept:
        assert set(done.frame["task.url"]) == {scrub(url) for url in urls}
    (done.folder / "packs/p0001/replicas.parquet").unlink()
    again = warehoused(tmp_path, task).run("serial")  # resumed, with its password
    assert again.frame.equals(done.frame)
    assert len(Study.open(done.folder).front()) > 0
    assert again.task_of("p0001/0000").digest == again.facts_of("p0001/0000").digest


def test_data_sets_that_differ_in_a_password_alone_are_refused(tmp_path: Path) -> None:
    urls = ["postgresql://me:hush@db/x", "postgresql://you:hush@db/x"]
    with pytest.raises(ConfigError, match=r"task.url: two of its values differ in a secret alone"):
        warehoused(tmp_path, {"url": {"grid": urls}}).plan()


def test_what_is_a_secret() -> None:
    assert scrub({"task.password": "a", "token": "b", "tokens": "c", "keys": {"api_key": "d", "key": "e"}, "n": 1}) == {
        "task.password": "***",
        "token": "***",
        "tokens": "c",
        "keys": {"api_key": "***", "key": "e"},
        "n": 1,
    }


# Records that stand for one another.


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("finished")
    data(home / "x.csv")
    table(home).run("serial")
    return home


LOST: dict[str, Callable[[Path], Any]] = {
    "study.yaml cut": lambda folder: (folder / "study.yaml").write_bytes((folder / "study.yaml").read_bytes()[:40]),
    "study.yaml empty": lambda folder: (folder / "study.yaml").write_bytes(b""),
    "identity.json cut": lambda folder: (folder / "identity.json").write_bytes(b'{"config"'),
    "identity.json missing": lambda folder: (folder / "identity.json").unlink(),
    "plan-000.json cut": lambda folder: (folder / "plan-000.json").write_bytes(b'{"packs": [{"id'),
    "tasks empty": lambda folder: [path.write_bytes(b"") for path in (folder / "tasks").iterdir()],
    "replicas.parquet cut": lambda folder: (folder / "replicas.parquet").write_bytes(b"PAR1"),
}


@pytest.mark.parametrize("how", LOST)
def test_a_lost_record_is_made_again(how: str, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = Path(shutil.copytree(finished, tmp_path / "home"))
    path = str(finished / "x.csv")
    study = table(home, task={**TABLE["task"], "path": path})
    before = Study.open(finished / "runs/table").frame
    times = {p: p.stat().st_mtime_ns for p in study.folder.glob("packs/*/*")}
    LOST[how](study.folder)
    assert study.run("serial").frame.equals(before)
    assert times == {p: p.stat().st_mtime_ns for p in study.folder.glob("packs/*/*")}  # no pack ran again
    assert Study.open(study.folder).network().record == Study.open(finished / "runs/table").network().record


@pytest.mark.parametrize("record", ["identity.json", "plan-000.json"])
def test_a_lost_record_and_changed_data_are_refused(record: str, finished: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(finished, tmp_path / "home"))
    (home / "runs/table" / record).write_text("{")
    shutil.copy(home / "x.csv", tmp_path / "kept.csv")
    with pytest.raises(ConfigError, match="different: task"):  # another path is another config
        table(home).check()
    moved = {**TABLE["task"], "path": str(finished / "x.csv")}
    good = (finished / "x.csv").read_bytes()
    try:
        data(finished / "x.csv", seed=1)
        with pytest.raises(ConfigError, match=r"identity.json was lost, and p0000, p0001 would not be made|the data \(digest"):
            table(home, task=moved).check()
    finally:
        (finished / "x.csv").write_bytes(good)


def test_a_lost_plan_on_a_machine_that_would_divide_otherwise_is_refused(finished: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(finished, tmp_path / "home"))
    (home / "runs/table/plan-000.json").unlink()
    study = table(home, task={**TABLE["task"], "path": str(finished / "x.csv")}, resources={"pack": 2})
    with pytest.raises(ConfigError, match=r"plan-000.json was lost, and p0000, p0001 would not be made in the same way now"):
        study.check()
    done = study.run("serial", accept_changes=True)
    assert sorted(done.frame["replica"]) == ["p0000/0000", "p0000/0001"]


def test_both_records_lost_is_refused(finished: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(finished, tmp_path / "home"))
    study = table(home, task={**TABLE["task"], "path": str(finished / "x.csv")})
    for name in ("study.yaml", "identity.json"):
        (study.folder / name).write_text("{")
    with pytest.raises(ConfigError, match=r"study.yaml cannot be read: it carries no digest.*another name.*remove that folder"):
        study.run("serial")


def test_the_command_line_says_what_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data(tmp_path / "x.csv")
    Path("s.yaml").write_text(to_yaml(TABLE))
    run = ["run", "s.yaml", "--runner", "serial", "--quiet"]
    assert CliRunner().invoke(main, run).exit_code == 0
    data(tmp_path / "x.csv", seed=2)
    refused = CliRunner().invoke(main, run)
    assert refused.exit_code == 2
    assert "changed: the data (digest" in refused.stderr
    assert CliRunner().invoke(main, ["config", "validate", "s.yaml"]).exit_code == 2
    assert CliRunner().invoke(main, [*run, "--accept-changes"]).exit_code == 0
    assert (tmp_path / "runs/table/earlier-1/identity.json").exists()
    assert os.listdir(tmp_path / "runs") == ["table"]


def test_no_number_is_lost_in_a_record(tmp_path: Path) -> None:
    values = {"a": [0.1 + 0.2, 1e-308, math.pi, 2**53 + 1]}
    write_json(tmp_path / "a.json", values)
    assert read_json(tmp_path / "a.json") == values


def test_the_front_is_shown_where_the_record_of_mlflow_is_lost_or_its_store_moved(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished / "runs/table", tmp_path / "table"))
    (folder / "mlflow.json").write_text("{")
    assert "mlflow.json cannot be read: it carries no digest" in told("front", str(folder)).replace("\n", " ")
    write_json(
        folder / "mlflow.json", {"uri": f"sqlite:///{tmp_path}/away/mlflow.db", "model": "m", "version": 1, "alias": "a"}
    )
    shown = told("front", str(folder)).replace("\n", " ")
    assert "The store has moved since this was tracked" in shown
    assert "version 1 of" in shown
