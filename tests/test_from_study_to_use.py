"""From a study to a model in use: a table with words and gaps, registered, served, exported, traced, reproduced, promoted."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result

from nasplug.cli import main

from .processes import PATIENCE

ROWS = 400
TABLE: dict[str, Any] = {
    "use": "table",
    "path": "flats.csv",
    "target": "let",
    "missing": {"size": "indicator", "town": "category"},
    "validation": "holdout",
}
FORMS = "pt2,onnx,python,c,fixed,sql,formula"


def flats(seed: int = 0) -> pd.DataFrame:
    """Rents with words, gaps, a date, truth; whether a flat was let within a week."""
    random = np.random.default_rng(seed)
    size = random.integers(20, 160, ROWS).astype(float)
    town = random.choice(np.array(["Rome", "Oslo", "Lima"], dtype=object), ROWS)
    lift = random.random(ROWS) < 0.5
    score = np.abs(size - 90) / 15 + 1.5 * (town == "Oslo") - 1.0 * lift + random.normal(scale=0.2, size=ROWS)
    size[::13] = np.nan
    town[::17] = None
    since = pd.date_range("2020-01-01", periods=ROWS, freq="36h").strftime("%Y-%m-%d")
    return pd.DataFrame(
        {
            "size": size,
            "town": town,
            "lift": lift,
            "since": since,
            "noise": random.normal(size=ROWS).round(3),
            "let": np.where(score > np.median(score), "soon", "late"),
        }
    )


def ask(*command: str, status: int = 0) -> Result:
    told = CliRunner().invoke(main, list(command))
    assert told.exit_code == status, f"{command}: {told.output}\n{told.exception!r}"
    return told


def config(folder: Path, name: str, **changes: Any) -> str:
    raw: dict[str, Any] = {
        "study": name,
        "store": str(folder / "runs"),
        "task": TABLE,
        "method": {"use": "edges", "mode": "annealed", "hidden": [4]},
        "penalties": [{"use": "l1", "level": {"log": [1.0e-4, 1.0e-2], "points": 3}}],
        "temperature": {"use": "linear", "start": 1.0, "end": 0.0, "until": 0.5},
        "discretizers": [{"use": "threshold", "tolerance": 0.02}],
        "train": {"steps": 300, "lr": 0.02},
        "seeds": 2,
        "mlflow": {"register": "flats"},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(raw | changes))
    return str(path)


def run(folder: Path, name: str, **changes: Any) -> dict[str, Any]:
    told = ask("run", config(folder, name, **changes), "--runner", "serial", "--quiet", "--json")
    return json.loads(told.stdout)  # type: ignore[no-any-return]


@contextmanager
def serving(uri: str, model: str, folder: Path) -> Iterator[str]:
    """``mlflow models serve`` on a free port of this machine, as a user starts it; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local", "--port", str(port)]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"  # as where a virtual environment is activated
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 2 * PATIENCE
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5)
                break
            except OSError:
                assert server.poll() is None, (folder / "server.log").read_text()
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(PATIENCE)


def post(address: str, body: str) -> tuple[int, Any]:
    request = urllib.request.Request(address, body.encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def bodies(rows: pd.DataFrame) -> dict[str, str]:
    """The same rows in every shape and order in which people have them."""
    turned = rows[list(rows.columns[::-1])]
    records = json.loads(turned.to_json(orient="records"))
    split = json.loads(rows.to_json(orient="split"))
    written = [{key: None if value is None else str(value) for key, value in row.items()} for row in records]
    return {
        "records, columns turned round": json.dumps({"dataframe_records": records}),
        "split": json.dumps({"dataframe_split": {k: split[k] for k in ("columns", "data")}}),
        "records, one column more": json.dumps({"dataframe_records": [{**row, "more": 1} for row in records]}),
        "text, as a file has it": json.dumps({"dataframe_records": written}),
    }


def served_is_what_was_trained(folder: Path, uri: str, test: pd.DataFrame, error: float) -> None:
    """Over HTTP the test rows get the table's score; wrong rows a 400 that names the column."""
    rows = test.drop(columns=["let", "noise"])
    with serving(uri, "models:/flats@champion", folder) as address:
        answers = []
        for shape, body in bodies(rows).items():
            status, told = post(address, body)
            assert status == 200, f"{shape}: {told}"
            answers.append([row["label"] for row in told["predictions"]])
            assert all(row["P(late)"] + row["P(soon)"] == pytest.approx(1.0) for row in told["predictions"])
        assert all(each == answers[0] for each in answers)
        assert float(np.mean(np.array(answers[0]) != test["let"].to_numpy())) == pytest.approx(error, abs=1e-6)
        gone = json.loads(rows.drop(columns="size").to_json(orient="records"))
        status, told = post(address, json.dumps({"dataframe_records": gone}))
        assert status == 400
        assert "size" in json.dumps(told)


def every_export_says_the_same(folder: Path, test: pd.DataFrame, error: float) -> None:
    """Each form in its own environment: a bare Python, gcc, sqlite, ONNX Runtime."""
    out = folder / "out"
    forms = FORMS if shutil.which("gcc") else "pt2,onnx,python,sql,formula"
    told = json.loads(ask("export", str(folder / "runs/best"), "--to", forms, "--out", str(out), "--json").stdout)
    assert all(not form["refused"] for form in told["forms"])
    rows = test.drop(columns="let")
    predict = runpy.run_path(str(out / "best.py"))["predict"]
    labels = [predict(row)["label"] for row in rows.to_dict("records")]
    assert float(np.mean(np.array(labels) != test["let"].to_numpy())) == pytest.approx(error, abs=1e-6)
    with sqlite3.connect(":memory:") as database:
        rows.reset_index(drop=True).to_sql("rows", database, index_label="id")
        said = pd.read_sql_query((out / "best.sql").read_text(), database).sort_values("id")
    assert said["label"].tolist() == labels
    if shutil.which("gcc"):
        for name in ("best_test.c", "best_fixed_test.c"):
            compiled = ["gcc", "-std=c99", "-Os", "-o", str(out / "check"), str(out / name), "-lm"]
            subprocess.run(compiled, check=True, timeout=120)
            subprocess.run([str(out / "check")], check=True, timeout=60, stdout=subprocess.DEVNULL)


@pytest.mark.slow
def test_from_a_table_to_a_model_in_use_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frame = flats()
    frame.to_csv("flats.csv", index=False)
    store, uri = str(tmp_path / "runs"), f"sqlite:///{tmp_path}/runs/mlflow.db"

    # A linear network is the first champion. What reads noise alone becomes challenger; what bends numbers becomes champion.
    champion = "models:/flats@champion"
    linear = {"method": {"use": "linear"}, "penalties": [{"use": "lasso", "level": 0.001}], "temperature": None}
    weak = run(tmp_path, "weak", **linear)
    assert aliases(store) == {"champion": "1"}
    worse = run(tmp_path, "worse", task={**TABLE, "exclude": ["size", "town", "lift", "since"], "missing": {}})
    assert worse["best"]["test_error"] > weak["best"]["test_error"]
    assert aliases(store) == {"champion": "1", "challenger": "2"}
    ask("promote", "flats", "--to", "2", "--store", store, status=1)
    ask("promote", "flats", "--to", "2", "--store", store, "--force", "--why", "a try")
    assert aliases(store)["champion"] == "2"
    ask("rollback", "flats", "--store", store, "--why", "enough tried")
    assert aliases(store)["champion"] == "1"
    best = run(tmp_path, "best", task={**TABLE, "numeric": "piecewise"})
    error = float(best["best"]["test_error"])
    assert error < 0.8 * weak["best"]["test_error"]
    assert aliases(store)["champion"] == "3"
    events = json.loads(ask("history", "flats", "--store", store, "--json").stdout)["events"]
    assert [event["version"] for event in events if event["alias"] == "champion"] == ["1", "2", "1", "3"]
    assert [event["why"].partition(".")[0] for event in events if event["forced"]] == ["a try"]

    test = frame.iloc[rows_of_test(tmp_path / "runs/best", frame)]
    served_is_what_was_trained(tmp_path, uri, test, error)
    every_export_says_the_same(tmp_path, test, error)

    # Where it came from, and the same again; also when the runs are deleted and collected, and the study's folder is gone.
    lineage = json.loads(ask("lineage", champion, "--store", store, "--format", "json").stdout)
    assert lineage["replica"]["name"] == best["best"]["replica"]
    policy = tmp_path / "policy.yaml"
    policy.write_text("reproduced: required\nparameters: 100\n")
    asked = ("promote", "flats", "--to", "3", "--policy", str(policy), "--store", store, "--json")
    ask("rollback", "flats", "--store", store)
    refused = json.loads(ask(*asked, status=1).stdout)
    assert [each["name"] for each in refused["conditions"] if not each["passed"]] == ["reproduced"]
    assert json.loads(ask("reproduce", "models:/flats/3", "--store", store, "--json").stdout)["reproduced"]
    ask(*asked)
    for gone in (False, True):
        if gone:
            collect(uri)
            shutil.rmtree(tmp_path / "runs/best")
        again = json.loads(ask("reproduce", champion, "--store", store, "--json").stdout)
        assert again["reproduced"]
        assert again["equal"]
        [told] = [pair for name, pair in again["scores"].items() if name.endswith("test_error")]
        assert told == [error, error]
    answers = ask("predict", champion, "flats.csv", "--store", store).stdout
    assert answers.splitlines()[0] == "label,P(late),P(soon)"


def rows_of_test(folder: Path, frame: pd.DataFrame) -> list[int]:
    """Which rows of the file are those of the test split: the ones that a split with the study's own seed holds back."""
    from nasplug import Study
    from nasplug.data.encoder import Encoder

    study = Study.open(folder)
    task = study.task
    encoder = Encoder.from_plain(task.encoder or {})
    x = (encoder.features(frame) - task.input_shift.double().numpy()) / task.input_scale.double().numpy()
    places = {tuple(row): place for place, row in enumerate(x.astype(np.float32).tolist())}
    return [places[tuple(row)] for row in task.test.x.T.tolist()]


def aliases(store: str) -> dict[str, str]:
    from mlflow import MlflowClient

    model = MlflowClient(f"sqlite:///{store}/mlflow.db").get_registered_model("flats")
    return {alias: str(version) for alias, version in model.aliases.items()}


def collect(uri: str) -> None:
    """Delete every run, and have MLflow collect what was deleted."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    for experiment in client.search_experiments():
        for found in client.search_runs([experiment.experiment_id]):
            client.delete_run(found.info.run_id)
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", uri, "--tracking-uri", uri]
    subprocess.run(command, check=True, timeout=300, stdout=subprocess.DEVNULL)
