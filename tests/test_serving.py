"""What MLflow serves answers as the study does, for rows as people have them, where nasplug is not installed."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest
import torch
from packaging.requirements import Requirement

from nasplug import NasplugError, Study
from nasplug.compact import CompactNetwork, compact
from nasplug.data.datasets import iris
from nasplug.data.images import from_images
from nasplug.ensemble import Ensemble
from nasplug.tasks import Task
from nasplug.testing import example_networks
from nasplug.tracking import default_uri, served
from nasplug.tracking.packaging import package
from nasplug.tracking.places import SAFE

from .test_served import held_out, people, trained

TABLE = {"missing": {"age": "indicator", "city": "category"}, "numeric": "piecewise", "bins": 4}
MODEL = "models:/people@champion"


@pytest.fixture(autouse=True)
def _no_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SAFE.items():
        monkeypatch.setenv(name, value)


def packaged(network: CompactNetwork | Ensemble, task: Task, folder: Path) -> Any:
    """A model's folder, loaded by MLflow."""
    import mlflow.pyfunc
    from mlflow.models import Model

    package(network, task, folder, Model())
    return mlflow.pyfunc.load_model(str(folder))


def alike(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    """Exactly: it is the same arithmetic."""
    pd.testing.assert_frame_equal(found, wanted, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["regression", "classes", "rank", "rates"])
def test_the_studys_own_scores_are_those_of_the_model(tmp_path: Path, kind: str) -> None:
    frame = people("regression" if kind in ("rank", "rates") else kind)
    options, loss = dict(TABLE), None
    if kind == "rank":
        options["transform"] = "rank"
    if kind == "rates":
        frame["y"] = np.random.default_rng(1).poisson(3.0 + 4.0 * (frame["city"] == "Oslo"))
        options |= {"kind": "regression"}
        loss = "poisson"
    study = trained(tmp_path, frame, loss=loss, **options)
    network = study.network()
    model = packaged(network, study.task, tmp_path / "model")
    given = pd.read_csv(tmp_path / "people.csv").drop(columns="y").sample(frac=1, axis=1, random_state=0).assign(more=1)
    alike(model.predict(given), network.predict(frame))
    test = held_out(study, frame)
    answers = model.predict(given.loc[test.index])
    error = float(study.best()["test_error"])
    if kind == "regression":
        off = ((answers["y"] - test["y"]) ** 2).mean() / float(study.task.output_scale) ** 2
        assert float(off) == pytest.approx(error, rel=1e-4)
    elif kind == "classes":
        assert float((answers["label"] != test["y"].astype(str)).mean()) == pytest.approx(error, abs=1e-6)
    else:
        assert answers["y"].between(0, 2e7).all()
    assert list(model.metadata.get_output_schema().input_names()) == list(answers.columns)
    alike(model.predict(model.input_example), network.predict(model.input_example))
    reads_all(study.task, frame, given, tmp_path / "all")


def reads_all(task: Task, frame: pd.DataFrame, given: pd.DataFrame, folder: Path) -> None:
    """A network that nobody trained reads every column: what is read from a file and what was in memory are the same."""
    network = compact(example_networks(parts={"biases"}, widths=(task.inputs, 4, task.outputs)), 0, task)
    model = packaged(network, task, folder)
    assert model.metadata.get_input_schema().input_names() == ["age", "city", "since", "member", "noise"]
    alike(model.predict(given), network.predict(frame))
    example = model.input_example
    raw = given.set_index(pd.to_datetime(given["since"])).loc[pd.to_datetime(example["since"], format="ISO8601")]
    assert example["city"].tolist() == raw["city"].tolist()
    assert example["age"].tolist() == raw["age"].tolist()
    assert example["member"].tolist() == raw["member"].tolist()
    np.testing.assert_allclose(example["noise"], raw["noise"], atol=1e-4)
    alike(model.predict(example), network.predict(example))


def test_pixels_are_a_tensor(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    task = from_images(random.integers(0, 255, (40, 1, 1, 8)), random.integers(0, 3, 40), name="little")
    network = compact(example_networks(parts={"kernels", "kernel_biases", "biases"}, widths=(8, 4, 3)), 0, task)
    model = packaged(network, task, tmp_path)
    x = random.uniform(0, 255, (5, 8))
    with torch.no_grad():
        wanted = network(torch.from_numpy(x)).numpy()
    answers = model.predict(x)
    np.testing.assert_allclose(answers.iloc[:, 1:].to_numpy(), wanted)
    assert list(answers) == ["label", *(f"P({label})" for label in task.targets)]
    assert model.predict(model.input_example).shape == (3, 4)
    assert model.metadata.signature.inputs.inputs[0].shape == (-1, 8)


def test_a_network_that_reads_nothing_and_an_empty_table_have_answers(tmp_path: Path) -> None:
    task = iris()
    network = compact(example_networks(parts={"biases"}, widths=(4, 3)), 0, task)
    table = pd.DataFrame(0, index=range(2), columns=[*network.record["features"], "more"])
    model = packaged(network, task, tmp_path / "all")
    assert model.metadata.get_input_schema().input_names() == list(task.features)
    alike(model.predict(table), network.predict(table))
    assert model.predict(table.head(0)).shape == (0, 4)
    nothing = compact(example_networks(parts={"biases"}, widths=(4, 3)).map(torch.zeros_like), 0, task)
    constant = packaged(nothing, task, tmp_path / "none")
    assert constant.metadata.get_input_schema() is None
    alike(constant.predict(table), nothing.predict(table))


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study of people with words, gaps, dates and truth values, and its model in a registry."""
    return trained(tmp_path_factory.mktemp("served"), people("binary"), {"register": "people"}, **TABLE)


@pytest.fixture
def uri(registered: Study) -> Iterator[str]:
    """The store, as MLflow's own."""
    import mlflow

    address = default_uri(Path(registered.config.store))
    mlflow.set_tracking_uri(address)
    yield address
    mlflow.set_tracking_uri(None)


def rows(study: Study, count: int = 60) -> pd.DataFrame:
    return pd.read_csv(Path(study.config.store).parent / "people.csv").drop(columns="y").head(count)


@pytest.mark.usefixtures("uri")
def test_rows_are_taken_as_people_have_them(registered: Study) -> None:
    import mlflow.pyfunc

    model, given = mlflow.pyfunc.load_model(MODEL), rows(registered)
    read = model.metadata.get_input_schema().input_names()
    assert {"age", "city"} <= set(read) <= {"age", "city", "since", "member", "noise"}
    wanted = registered.network().predict(given)
    alike(model.predict(given[list(reversed(given.columns))].assign(more=1)), wanted)
    alike(model.predict(given[read]), wanted)
    alike(model.predict(given.assign(since=pd.to_datetime(given["since"]), city=given["city"].astype("category"))), wanted)
    alike(model.predict(given.assign(member=given["member"].astype(str).str.lower()).astype({"age": "Int64"})), wanted)
    whole = given.dropna(subset="age").astype({"age": int})
    alike(model.predict(whole), wanted.loc[whole.index])
    one = given.head(1).assign(age=None, city=None)
    assert model.predict(one).notna().all(axis=None)
    strange = given.head(3).assign(city=["Atlantis", "Village 1", "Oslo"])
    answers = model.predict(strange)
    alike(answers, registered.network().predict(strange))
    assert str(answers["label"].iloc[0]) in ("True", "False")


@pytest.mark.usefixtures("uri")
def test_a_column_that_is_missing_or_wrong_is_named_by_python_and_by_a_server(registered: Study) -> None:
    import mlflow.pyfunc
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc.scoring_server import invocations

    model, given = mlflow.pyfunc.load_model(MODEL), rows(registered, 3)
    for wrong, words in (
        (given.drop(columns="age"), r"missing inputs \['age'\]"),
        (given.assign(age=[1.0, 2.0, "old"]), r"column 'age', row 3: 'old' is not a number"),
        (given.assign(age=[1.0, np.inf, 2.0]), r"column 'age', row 2: an infinite value"),
    ):
        with pytest.raises(MlflowException, match=words):
            model.predict(wrong)
        request = json.dumps({"dataframe_split": wrong.replace(np.inf, "inf").astype(object).to_dict("split")}, default=str)
        with pytest.raises(MlflowException, match=words) as raised:
            invocations(request.replace("NaN", "null"), "application/json", model, model.metadata.get_input_schema())
        assert raised.value.get_http_status_code() == 400


@pytest.mark.slow
@pytest.mark.usefixtures("uri")
def test_mlflow_evaluates_it(registered: Study, tmp_path: Path) -> None:
    import mlflow

    frame = people("binary")
    test = held_out(registered, frame).assign(y=lambda t: t["y"].astype(str))
    with mlflow.start_run():
        told = mlflow.models.evaluate(
            MODEL,
            test,
            targets="y",
            model_type="classifier",
            model_config={"only": "label"},
            evaluator_config={"pos_label": "True"},
        )
        answer = mlflow.models.evaluate(
            MODEL,
            test.assign(y=test["y"] == "True"),
            targets="y",
            predictions="P(True)",
            model_type="regressor",
            evaluator_config={"log_model_explainability": False},  # MLflow's explainer fails on text columns of pandas 3
        )
    wanted = registered.network().predict(test)["P(True)"] - (test["y"] == "True")
    assert answer.metrics["mean_squared_error"] == pytest.approx(float((wanted**2).mean()))
    assert 1.0 - told.metrics["accuracy_score"] == pytest.approx(float(registered.best()["test_error"]), abs=1e-6)
    request = tmp_path / "rows.csv"
    test.drop(columns="y").to_csv(request, index=False)
    answers = tmp_path / "answers.json"
    mlflow.models.predict(MODEL, input_path=str(request), content_type="csv", env_manager="local", output_path=str(answers))
    alike(
        pd.DataFrame(json.loads(answers.read_text())["predictions"]), registered.network().predict(test).reset_index(drop=True)
    )


def folder_of(uri: str) -> Path:
    """Where the model's files are."""
    from mlflow import MlflowClient

    client = MlflowClient(uri, uri)
    model = str(client.get_model_version_by_alias("people", "champion").source).removeprefix("models:/")
    return Path(unquote(urlsplit(client.get_logged_model(model).artifact_location).path))


def test_files_that_are_not_those_that_were_logged_are_refused(registered: Study, uri: str, tmp_path: Path) -> None:
    import mlflow.pyfunc
    from mlflow.exceptions import MlflowException

    home = folder_of(uri)
    index, *needed = Path(mlflow.pyfunc.get_model_dependencies(MODEL)).read_text().splitlines()
    assert index.startswith("--extra-index-url https://download.pytorch.org/whl/cpu")
    assert [Requirement(line).name for line in needed] == ["torch", "mlflow", "numpy", "pandas"]
    assert all(Requirement(line).specifier.contains(version(Requirement(line).name)) for line in needed)
    assert not [path for path in home.rglob("*") if path.suffix in (".pkl", ".pickle")]
    assert str(Path(registered.config.store)) not in (home / "MLmodel").read_text().replace(home.as_uri(), "")
    for name in ("graph.pt2", "rows.py"):
        shutil.copytree(home, tmp_path / name)
        (tmp_path / name / name).write_bytes((home / name).read_bytes() + b"\n")
        with pytest.raises(MlflowException, match=rf"{name} is not the file that was logged"):
            mlflow.pyfunc.load_model(str(tmp_path / name))
    record = home / "network" / "network.json"
    before = record.read_text()
    try:
        record.write_text(before.replace("sigmoid", "softmax"))
        with pytest.raises(NasplugError, match=r"network\.json"):
            served(uri, MODEL)
    finally:
        record.write_text(before)
    assert served(uri, MODEL).record == registered.network().record
    away = record.parent.rename(home / "away")
    try:
        assert served(uri, MODEL).record == registered.network().record  # as of versions that had none: from the run
    finally:
        away.rename(record.parent)


FRESH = """
import json, sys, warnings
import pandas as pd
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/people@champion")
model.predict(pd.read_csv(sys.argv[2])).to_json(sys.argv[3], orient="records", double_precision=15)
assert not [name for name in sys.modules if name == "nasplug" or name.startswith("nasplug.")]
try:
    import nasplug
except ModuleNotFoundError:
    print("alone")
"""


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Another environment, which has what this one has installed but for nasplug, of which only a link is installed here."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    (site,) = (tmp_path / "venv" / "lib").glob("python3*/site-packages")
    (site / "here.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    return tmp_path / "venv" / "bin" / "python"


def post(port: int, body: str, kind: str = "application/json") -> tuple[int, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", body.encode(), {"Content-Type": kind}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.mark.slow
def test_it_is_served_where_nasplug_is_not(registered: Study, uri: str, tmp_path: Path, python: Path) -> None:
    given = rows(registered)
    wanted = registered.network().predict(given).to_dict("records")
    given.to_csv(tmp_path / "rows.csv", index=False)
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | SAFE
    command = [str(python), "-c", FRESH, uri, str(tmp_path / "rows.csv"), str(tmp_path / "answers.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=clean)
    assert done.stdout.strip() == "alone", done.stderr[-3000:]
    assert "mismatch" not in done.stderr
    close(json.loads((tmp_path / "answers.json").read_text()), wanted)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    from mlflow.pyfunc.scoring_server import get_cmd

    environment = get_cmd(str(folder_of(uri)), port, "127.0.0.1")[1]
    environment = {key: value for key, value in environment.items() if key != "PYTHONPATH"} | {"MLFLOW_TRACKING_URI": uri}
    app = "mlflow.pyfunc.scoring_server.app:app"
    server = subprocess.Popen([str(python), "-m", "uvicorn", "--port", str(port), app], env=environment, cwd=tmp_path)
    try:
        for _ in range(900):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5)
                break
            except OSError:
                time.sleep(0.2)
        for shape in ("split", "records"):
            body = json.dumps({f"dataframe_{shape}": json.loads(given.to_json(orient=shape))})
            status, told = post(port, body)
            assert status == 200, told
            close(told["predictions"], wanted)
        status, told = post(port, json.dumps({"dataframe_records": [{"age": "old", "city": "Rome"}]}))
        assert status == 400
        assert "column 'age', row 1: 'old' is not a number" in told["message"]
    finally:
        server.terminate()
        server.wait(30)


def close(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    alike(pd.DataFrame(found), pd.DataFrame(wanted))


def test_a_version_outlives_the_runs_that_made_it(registered: Study, uri: str) -> None:
    """The last of this file: it deletes the runs of the study that the others share."""
    import mlflow.pyfunc
    from click.testing import CliRunner
    from mlflow import MlflowClient
    from mlflow.cli import gc

    client, given = MlflowClient(uri, uri), rows(registered)
    wanted = registered.network().predict(given)
    version = client.get_model_version_by_alias("people", "champion")
    experiment = client.get_run(version.run_id).info.experiment_id
    runs = [run.info.run_id for run in client.search_runs([experiment])]
    for run in runs:
        client.delete_run(run)
    for what in (len(runs), 1):
        told = CliRunner().invoke(gc, ["--backend-store-uri", uri, "--tracking-uri", uri])
        assert told.exit_code == 0, told.output
        assert told.output.count("permanently deleted") == what
        alike(mlflow.pyfunc.load_model(MODEL).predict(given), wanted)
        alike(served(uri, MODEL).predict(given), wanted)
        if what > 1:
            client.delete_experiment(experiment)
    assert [v.version for v in client.search_model_versions("name = 'people'")] == [version.version]
