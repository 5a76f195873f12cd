"""`nasplug.lineage`: where a network came from, beside it wherever it leaves, and the network trained again."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from nasplug import Study, files, lineage
from nasplug.cli import main
from nasplug.compact import digest_of
from nasplug.lineage.again import Reproduction, again, stand_in
from nasplug.tracing import find

SMALL: dict[str, Any] = {
    "study": "small",
    "method": {"use": "edges", "mode": "annealed", "hidden": [4]},
    "penalties": [{"use": "l1", "level": {"log": [1e-3, 1e-1], "points": 3}, "ramp": {"use": "linear", "until": 0.5}}],
    "temperature": {"use": "linear", "start": 1.0, "end": 0.0, "until": 0.5},
    "discretizers": [{"use": "threshold", "tolerance": 0.02}],
    "train": {"steps": 30, "batch": 16, "lr": 0.02, "finetune": 10},
    "seeds": 2,
    "linear": False,
    "mlflow": None,
}


def ask(*command: str, status: int = 0) -> Result:
    done = CliRunner().invoke(main, list(command))
    if done.exit_code != status:
        raise AssertionError(done.output) from done.exception
    return done


def written(frame: pd.DataFrame, path: Path) -> str:
    frame.to_csv(path, index=False)
    return str(path)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    random = np.random.default_rng(0)
    made = pd.DataFrame(random.normal(size=(90, 3)), columns=["a", "b", "c"])
    return made.assign(y=made["a"] - 2 * made["b"] + 0.1 * random.normal(size=90))


@pytest.fixture(scope="module")
def study(frame: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Of a table, tracked and registered."""
    there = tmp_path_factory.mktemp("lineage")
    task = {"use": "table", "path": written(frame, there / "t.csv"), "target": "y", "validation": "holdout"}
    raw = {**SMALL, "task": task, "store": str(there / "runs"), "mlflow": {"register": "small", "children": 1}}
    return Study.from_dict(raw).run("serial", report=False)


@pytest.fixture
def copied(study: Study, tmp_path: Path) -> Path:
    """A copy of the chosen network's folder."""
    shutil.copytree(study.folder / "best", tmp_path / "best")
    return tmp_path / "best"


def test_the_chosen_network_has_its_lineage_beside_it(study: Study) -> None:
    found = lineage.read(study.folder / "best" / lineage.FILE)
    row = study.best()
    assert found["replica"]["name"] == row["replica"]
    assert found["network"]["digest"] == digest_of(study.network())
    assert found["data"]["origin"] == study.task.origin.plain()  # type: ignore[union-attr]
    assert found["data"]["task"]["digest"] == study.task.digest
    assert found["study"]["config"]["penalties"][0]["level"]["points"] == 3
    assert found["replica"]["varies"]["penalties.0.level"] == row["penalties.0.level"]  # the same float
    assert found["scores"]["final"]["valid_error"] == row["valid_error"]
    assert found["scores"]["hard"]["valid_loss"] == row["cut_valid_loss"]
    assert found["scores"]["relaxed"]["valid_loss"] == row["relaxed_valid_loss"]
    assert found["pack"]["rows"] == 6
    assert found["training"]["environment"]["threads"] == 1
    assert found["plugins"]["made_by"]["nasplug-edges"].startswith("0.1.0, source ")
    assert found["schedules"]["temperature"]["use"] == "linear"


def test_it_is_a_function_of_the_folder_alone(study: Study) -> None:
    found = lineage.read(study.folder / "best" / lineage.FILE)
    again = study.lineage()
    assert json.loads(json.dumps(again)) == found
    assert lineage.digest(again) == lineage.digest(found)


def test_a_tampered_lineage_is_refused(copied: Path) -> None:
    file = copied / lineage.FILE
    file.write_text(file.read_text().replace('"seed": ', '"seed": 1'))
    with pytest.raises(files.DamageError, match="its content was changed"):
        lineage.read(file)
    assert "its content was changed" in ask("lineage", str(copied), status=2).output
    assert "its content was changed" in ask("reproduce", str(copied), status=2).output


def test_what_is_no_lineage_is_refused(copied: Path) -> None:
    (copied / lineage.FILE).unlink()
    assert "has no lineage.json" in ask("lineage", str(copied), status=2).output
    files.write_json(copied / lineage.FILE, {"format": 1})
    assert "is not the lineage of a network" in ask("lineage", str(copied), status=2).output


def test_a_later_format_is_refused(study: Study, copied: Path) -> None:
    lineage.write({**study.lineage(), "format": 2}, copied)
    assert "install a later nasplug" in ask("lineage", str(copied), status=2).output


def test_it_is_told_as_a_tree_json_and_a_flowchart(study: Study) -> None:
    where, name = str(study.folder), str(study.best()["replica"])
    text = ask("lineage", where).output
    stages = ["data: ", "encoder: ", "study: ", "pack: ", "replica: ", "relaxed: ", "hard: ", "final: ", "network: "]
    places = [text.index(stage) for stage in stages]
    assert places == sorted(places)
    assert name in text
    assert json.loads(ask("lineage", where, "--format", "json").output) == json.loads(json.dumps(study.lineage()))
    chart = ask("lineage", where, "--format", "mermaid").output.splitlines()
    assert chart[0] == "flowchart TD"
    assert chart[-1] == f"  s{len(stages) - 2} --> s{len(stages) - 1}"


def test_the_page_is_whole_by_itself(study: Study) -> None:
    class Page(HTMLParser):
        tags: list[str] = []  # noqa: RUF012
        links: list[Any] = []  # noqa: RUF012

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.tags.append(tag)
            self.links += [value for name, value in attrs if name in ("src", "href")]

    record = study.lineage()
    record["study"]["name"] = "<script>alert(1)</script>\x1b[31m"
    text = lineage.page(lineage.stages(record), record)
    page = Page()
    page.feed(text)
    assert not {"script", "link", "img"} & set(page.tags)
    assert not page.links
    assert page.tags.count("h1") == 1
    assert page.tags.count("h2") == len(lineage.stages(record))
    assert '<html lang="en">' in text
    assert "\x1b" not in text


def test_labels_cannot_break_out_of_the_flowchart(study: Study) -> None:
    record = study.lineage()
    record["study"]["name"] = 'x"]; click s0 "javascript:alert(1)"'
    lines = lineage.mermaid(lineage.stages(record)).splitlines()
    assert all(line.count('"') in (0, 2) for line in lines)


def test_an_export_has_it_with_what_was_exported(study: Study, tmp_path: Path) -> None:
    ask("export", str(study.folder), "--out", str(tmp_path / "out"))
    found = lineage.read(tmp_path / "out" / lineage.FILE)
    assert [form["form"] for form in found["exports"]] == ["python"]
    assert lineage.digest(found) == lineage.digest(study.lineage())
    assert "python: small.py" in ask("lineage", str(tmp_path / "out")).output
    code = tmp_path / "out" / "small.py"
    code.write_text(code.read_text() + "# by hand\n")
    assert "small.py: not as they were exported" in ask("lineage", str(tmp_path / "out"), status=1).output
    ask("export", str(study.folder), "--to", "formula", "--out", str(tmp_path / "out"))  # another form beside it
    assert "small.py: not as they were exported" in ask("lineage", str(tmp_path / "out"), status=1).output
    ask("export", str(study.folder), "--out", str(tmp_path / "out"))
    ask("lineage", str(tmp_path / "out"))
    code.unlink()
    assert "small.py: not as they were exported" in ask("lineage", str(tmp_path / "out"), status=1).output


@pytest.mark.slow
def test_an_ensemble_has_the_lineage_of_its_members(frame: pd.DataFrame, tmp_path: Path) -> None:
    task = {"use": "table", "path": written(frame, tmp_path / "t.csv"), "target": "y", "validation": "holdout"}
    raw = {**SMALL, "task": task, "store": str(tmp_path / "runs"), "ensemble": 2}
    study = Study.from_dict({**raw, "mlflow": {"register": "mean", "children": 1}}).run("serial", report=False)
    where, store = str(study.folder / "ensemble"), str(tmp_path / "runs")
    record = lineage.read(study.folder / "ensemble" / lineage.FILE)
    names = [member["name"] for member in study.network("ensemble").record["members"]]
    assert [member["replica"]["name"] for member in record["members"]] == names
    assert record["scores"]["test_error"] == files.read_json(study.folder / "ensemble" / "scores.json")["test_error"]
    assert "members: 2 networks" in ask("lineage", where).output
    assert "the ensemble of 2 networks" in ask("lineage", where, "--format", "html").output
    assert "reproduce its members" in ask("reproduce", where, status=2).output
    assert "version: models:/mean-ensemble/1" in ask("lineage", "models:/mean-ensemble/1", "--store", store).output


def test_another_replica(study: Study) -> None:
    other = next(name for name in study.frame["replica"] if name != study.best()["replica"])
    assert find(str(study.folder), replica=other).record["replica"]["name"] == other
    assert ask("lineage", str(study.folder / "best"), "--replica", other, status=2)


# -- registered models -------------------------------------------------------------------------------------------------


def test_a_version_tells_its_lineage_and_is_trained_again_without_the_study(study: Study, tmp_path: Path) -> None:
    """From the version's own files: the study's folder is gone."""
    store = str(study.folder.parent)
    away = study.folder.rename(study.folder.with_name("away"))
    try:
        text = ask("lineage", "models:/small@champion", "--store", store).output
        assert "version: models:/small/1 (champion)" in text
        told = json.loads(ask("reproduce", "models:/small/1", "--store", store, "--json", "--out", str(tmp_path)).stdout)
    finally:
        away.rename(study.folder)
    assert tags_of(store)["nasplug.reproduced"] == datetime.now(UTC).date().isoformat()
    said = ask("reproduce", "models:/small/1", "--store", store, "--out", str(tmp_path), status=2).output
    assert "holds a network already" in said
    assert told["equal"]
    assert told["scores_equal"]
    assert told["digest"] == digest_of(study.network())
    assert find(str(study.folder)).record["network"]["digest"] == told["digest"]
    error = study.best()["valid_error"]
    assert told["scores"]["final valid_error"] == [error, error]  # floats read back exactly


def tags_of(store: str) -> dict[str, str]:
    from mlflow import MlflowClient

    return dict(MlflowClient(tracking_uri=f"sqlite:///{store}/mlflow.db").get_model_version("small", "1").tags)


def test_a_version_that_nasplug_did_not_register(study: Study) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{study.folder.parent / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.create_registered_model("stranger")
    client.create_model_version("stranger", (study.folder / "tasks").as_uri())
    told = ask("lineage", "models:/stranger/1", "--store", str(study.folder.parent), status=2).output
    assert "this nasplug did not register it" in told
    told = ask("lineage", "models:/nobody/1", "--store", str(study.folder.parent), status=2).output
    assert "models:/nobody/1 is not in the registry at" in " ".join(told.split())


def test_a_version_with_another_lineage_is_refused(study: Study) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{study.folder.parent / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    before = client.get_model_version("small", "1").tags["nasplug.lineage"]
    assert before == lineage.digest(study.lineage())
    client.set_model_version_tag("small", "1", "nasplug.lineage", "0" * 64)
    try:
        told = ask("lineage", "models:/small/1", "--store", str(study.folder.parent), status=1).output
    finally:
        client.set_model_version_tag("small", "1", "nasplug.lineage", before)
    assert "is not the one that was registered" in told


@pytest.mark.slow
def test_a_study_that_starts_from_a_logged_model_has_it_as_an_input(tmp_path: Path) -> None:
    """And it is reproduced; another start is told as the cause."""
    from mlflow import MlflowClient

    booth = {"use": "cornn", "function": "Booth", "train": 60, "test": 20}
    mixture = {"use": "mixture", "hidden": [4], "candidates": ["tanh", "sigmoid"]}
    first = {**SMALL, "task": booth, "store": str(tmp_path), "method": mixture, "penalties": [], "seeds": 1}
    first |= {"discretizers": [{"use": "argmax"}], "mlflow": {"register": "first", "children": 1}}
    begin = Study.from_dict(first).run("serial", report=False)
    warm = {"use": "swat", "depth": 1, "start": str(begin.folder / "best")}
    second = {**first, "study": "second", "method": warm, "discretizers": [], "mlflow": {"children": 1}}
    study = Study.from_dict(second).run("serial", report=False)
    record = study.lineage()
    assert record["plugins"]["owners"]["method.start"] == digest_of(begin.network())
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.get_experiment_by_name("second")
    (child,) = client.search_runs([experiment.experiment_id], "tags.`nasplug.chosen` = 'true'")
    (model,) = client.get_run(child.info.run_id).inputs.model_inputs
    assert client.get_logged_model(model.model_id).tags["nasplug.digest"] == digest_of(begin.network())
    told = again(record, study.network(), study.plugins)[0]
    assert told.equal
    assert not told.differences
    record["plugins"]["owners"]["method.start"] = "0" * 64
    assert [one.what for one in again(record, study.network(), study.plugins)[0].differences] == ["start"]


@pytest.mark.slow
def test_a_network_that_went_on_while_others_were_stopped_is_reproduced(tmp_path: Path) -> None:
    raw = {**SMALL, "task": {"use": "xor"}, "store": str(tmp_path), "seeds": 4, "train": {"steps": 60, "lr": 0.02}}
    study = Study.from_dict({**raw, "stop": {"use": "halving", "rungs": 1, "keep": 0.5}}).run("serial", report=False)
    assert (study.frame["status"] == "stopped").any()
    assert anew(study).reproduced


# -- trained again -----------------------------------------------------------------------------------------------------


def anew(study: Study, record: dict[str, Any] | None = None, data: str | None = None) -> Reproduction:
    return again(study.lineage() if record is None else record, study.network(), study.plugins, data)[0]


def test_a_network_is_reproduced(study: Study) -> None:
    told = ask("reproduce", str(study.folder)).output
    assert "weights: equal, bit by bit" in told
    assert "data, code and machine: as they were" in told


def test_changed_data_are_the_cause(study: Study, frame: pd.DataFrame, tmp_path: Path) -> None:
    moved = written(frame, tmp_path / "moved.csv")
    assert not anew(study, data=moved).differences
    other = written(frame.assign(a=frame["a"] * 1.01), tmp_path / "other.csv")
    told = anew(study, data=other)
    assert not told.reproduced
    assert [(one.cause, one.what) for one in told.differences] == [("data", "raw data")]
    told_in_words = ask("reproduce", str(study.folder), "--data", other, status=1).output
    assert "not reproduced" in told_in_words
    assert "different: data, raw data" in told_in_words


def test_other_rows_are_the_cause(study: Study) -> None:
    record = study.lineage()
    record["study"]["config"]["task"]["seed"] = 1
    told = anew(study, record)
    assert not told.reproduced
    assert {one.what for one in told.differences} == {f"rows of the {part} split" for part in ("train", "valid", "test")}


def test_another_encoder_is_the_cause(study: Study) -> None:
    record = study.lineage()
    record["study"]["config"]["task"]["numeric"] = "piecewise"
    told = anew(study, record)
    assert not told.architecture
    assert [(one.cause, one.what) for one in told.differences] == [("data", "encoder")]


def test_other_versions_and_machines_are_named(study: Study) -> None:
    record = study.lineage()
    there = record["training"]["environment"]
    there["packages"]["torch"], there["python"], there["threads"], there["cpu"] = "1.0", "2.7", 4, "abacus"
    record["plugins"]["made_by"]["nasplug-edges"] = "0.0.1, source 0"
    told = anew(study, record)
    assert told.reproduced  # none of it made a difference
    assert {(one.cause, one.what) for one in told.differences} == {
        ("package", "torch"),
        ("plugin", "nasplug-edges"),
        ("python", "python"),
        ("threads", "threads"),
        ("processor", "cpu"),
    }


def test_a_plugin_that_is_missing_is_named_and_its_lineage_still_told(study: Study, copied: Path) -> None:
    record = study.lineage()
    record["plugins"]["made_by"]["nasplug-gone"] = "3.1, source 0"
    record["plugins"]["owners"]["method"] = "gone (nasplug-gone 3.1)"
    lineage.write(record, copied)
    assert "method gone (nasplug-gone 3.1)" in ask("lineage", str(copied)).output
    assert "made by nasplug-gone 3.1, which is not installed" in ask("reproduce", str(copied), status=2).output


def test_a_secret_and_lost_data_are_refused(study: Study, copied: Path, tmp_path: Path) -> None:
    record = study.lineage()
    record["study"]["config"]["task"]["token"] = "***"
    lineage.write(record, copied)
    assert "held a secret" in ask("reproduce", str(copied), status=2).output
    told = ask("reproduce", str(study.folder), "--data", str(tmp_path / "none.csv"), status=2).output
    assert "there is no file" in told


def test_other_weights_are_no_reproduction(study: Study) -> None:
    other = next(name for name in study.frame["replica"] if name != study.best()["replica"])
    told, _ = again(study.lineage(), study.network(other), study.plugins)
    assert told.equal  # it is that of the lineage, whatever was given beside it
    record = study.lineage(other)
    record["replica"]["name"], record["network"]["digest"] = "p0000/0001", "0" * 64
    found, _ = again(record, study.network(), study.plugins)
    assert not found.equal
    assert found.digest == digest_of(study.network(other))


def test_a_network_whose_files_are_gone_is_compared_by_its_digest(study: Study) -> None:
    told, _ = again(study.lineage(), None, study.plugins)
    assert told.reproduced
    assert told.equal


@pytest.mark.parametrize("rows", [1, 3, 31, 32, 33, 64, 100, 4096])
def test_a_stand_in_is_small_and_lies_as_its_row_does(rows: int) -> None:
    for row in {0, min(1, rows - 1), rows // 2, rows - 1}:
        count, at = stand_in(rows, row)
        assert 0 <= at < count <= min(rows, 47)
        assert (row - at) % 16 == (rows - count) % 16 == 0


METHODS: dict[str, dict[str, Any]] = {
    "edges": {},
    "mixture": {"method": {"use": "mixture", "hidden": [4]}, "discretizers": [{"use": "argmax"}]},
    "sparcs": {
        "method": {"use": "sparcs", "hidden": [5]},
        "penalties": [{"use": "eigenvalue", "level": {"log": [1e-3, 1e-1], "points": 3}}],
        "temperature": None,
        "discretizers": [{"use": "obs"}],
    },
    "swat": {"task": {"use": "cornn", "function": "Booth", "train": 60, "test": 20}, "method": {"use": "swat", "depth": 1}},
}


@pytest.mark.slow
@pytest.mark.parametrize("method", list(METHODS))
def test_twenty_networks_of_four_methods_are_reproduced_bit_by_bit(method: str, tmp_path: Path) -> None:
    """Of packs of several sizes, on folds and refitted, with fine-tuning, beside linear networks."""
    task = {"use": "diabetes", "validation": {"use": "folds", "folds": 3}}
    raw = {**SMALL, "task": task, "store": str(tmp_path), "seeds": 5, **METHODS[method]}
    raw |= {"linear": method == "edges", "resources": {"pack": {"edges": 45, "mixture": 20, "sparcs": 7, "swat": 15}[method]}}
    study = Study.from_dict(raw).run("serial", report=False)
    frame = study.frame[study.frame["status"] == "finished"]
    names = [str(name) for name in frame["replica"].sample(5, random_state=0)]
    if method == "edges":
        names[0] = next(str(name) for name in frame["replica"] if name.startswith("l"))
    if "fold" in frame:
        names[1] = str(frame[frame["fold"] < 0]["replica"].iloc[-1])
    for name in names:
        told, _ = again(study.lineage(name), study.network(name), study.plugins)
        assert told.equal, (name, told)
        assert told.reproduced, (name, told)
        assert not told.differences
