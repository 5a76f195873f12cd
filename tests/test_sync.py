"""Servers that are down, hang, fail, lose answers or are restarted: training goes on, and MLflow is told later, once."""

from __future__ import annotations

import http.client
import http.server
import itertools
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from nasplug import ConfigError, NasplugError, files, hookimpl
from nasplug.cli import main
from nasplug.config import to_yaml
from nasplug.study import Study
from nasplug.tracking import default_uri, served, tracker, untold
from nasplug.tracking.ledger import NOTE, STATE_FILE, note_of, story_of
from nasplug.tracking.schema import prepare

from .processes import PATIENCE


def raw(store: Path, **changes: Any) -> dict[str, Any]:
    """Twelve networks in two packs."""
    return {
        "study": "tiny",
        "store": str(store),
        "task": {"use": "xor", "samples": 40},
        "method": {"use": "edges", "hidden": [4]},
        "penalties": [{"use": "l1", "level": {"log": [1e-4, 1e-1], "points": 3}}],
        "discretizers": [{"use": "threshold", "tolerance": 0.05}],
        "train": {"steps": 40, "lr": 0.05, "reports": 4, "compile": False},
        "seeds": 4,
        "linear": False,
        "reach": None,
        "resources": {"pack": 6},
        "mlflow": {"register": "served"},
        **changes,
    }


def run(store: Path, **changes: Any) -> Study:
    return Study.from_dict(raw(store, **changes)).run("serial")


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as MLflow makes it, in 2 seconds."""
    database = tmp_path_factory.mktemp("schema") / "mlflow.db"
    prepare(database)
    return database


def ask(*command: object, status: int = 0) -> Result:
    done = CliRunner().invoke(main, [str(word) for word in command])
    assert done.exit_code == status, done.output + done.stderr
    return done


def client_of(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri, uri)


def whole(study: Study, uri: str) -> Any:
    """MLflow has all of a study, once; returns the client."""
    client = client_of(uri)
    (experiment,) = [one for one in client.search_experiments() if one.name == study.config.study]
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [one for one in runs if "mlflow.parentRunId" not in one.data.tags]
    assert parent.info.status == "FINISHED"
    assert parent.data.params["train.steps"] == "40"
    names = Counter(one.data.tags["nasplug.replica"] for one in runs if one is not parent)
    assert names == Counter(study.front()["replica"])
    assert {one.info.status for one in runs} == {"FINISHED"}
    best = str(study.best()["replica"])
    (model,) = client.search_logged_models([experiment.experiment_id])
    assert model.tags["nasplug.replica"] == best
    (version,) = client.search_model_versions("name = 'served'")
    assert version.tags["nasplug.replica"] == best
    assert dict(client.get_registered_model("served").aliases) == {"champion": version.version}
    for key in ("packs_done", "networks_done"):
        points = client.get_metric_history(parent.info.run_id, key)
        assert [point.step for point in points] == [1, 2]
    assert parent.data.metrics["networks"] == len(study.frame) == 12
    story = story_of(study.folder)
    assert story is not None
    assert (parent.info.start_time, parent.info.end_time) == (int(1000 * story.began), int(1000 * (story.ended or 0.0)))
    assert untold(study.folder) == ""
    return client


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A store whose database is none, as a server is none that is down: it fails at once, and can be mended."""
    (tmp_path / "mlflow.db").write_text("not a database, though long enough to have a header of a hundred bytes " * 3)
    return tmp_path


def mend(store: Path, schema: Path) -> None:
    shutil.copy(schema, store / "mlflow.db")


def test_what_could_not_be_told_is_told_later_by_one_command(broken: Path, schema: Path) -> None:
    path = broken / "tiny.yaml"
    path.write_text(to_yaml(raw(broken)))
    done = ask("run", path, "--runner", "serial", "--quiet")
    folder = broken / "tiny"
    words = f"MLflow does not have the results of this study yet; to tell it: nasplug sync {folder}"
    assert words in done.stdout
    assert words in ask("front", folder).stdout
    assert json.loads(ask("front", folder, "--json").stdout)["untold"] == words
    refused = ask("sync", broken, status=1)
    assert f"{folder}: not told: MLflow at sqlite:///{broken}/mlflow.db failed" in refused.stdout
    mend(broken, schema)
    told = ask("sync", broken, "--json")
    assert json.loads(told.stdout) == [{"folder": str(folder), "state": "told", "why": ""}]
    client = whole(Study.open(folder), default_uri(broken))
    assert ask("sync", folder).stdout == f"{folder}: nothing to tell\n"
    assert "untold" not in json.loads(ask("front", folder, "--json").stdout)
    before = len(client.search_runs([one.experiment_id for one in client.search_experiments()]))
    ask("run", path, "--runner", "serial", "--quiet")
    assert len(client.search_runs([one.experiment_id for one in client.search_experiments()])) == before


@pytest.mark.slow
def test_what_is_told_later_is_what_is_told_at_once(tmp_path: Path, schema: Path) -> None:
    """Also by somebody else, elsewhere: user, plugins, environment and times are those of the run."""
    done = run(tmp_path)
    moved = tmp_path / "elsewhere"
    shutil.copytree(done.folder, moved / "tiny")
    (moved / "tiny" / "mlflow.json").unlink()
    note = note_of(moved / "tiny")
    assert note is not None
    plain = files.read_json(moved / "tiny" / NOTE)
    files.write_json(moved / "tiny" / NOTE, {**plain, "user": "alice", "environment": {**note.environment, "cpu": "abacus"}})
    mend(moved, schema)
    assert Study.open(moved / "tiny").sync()
    first, later = whole(done, default_uri(tmp_path)), whole(Study.open(moved / "tiny"), default_uri(moved))

    def told(client: Any) -> dict[str, Any]:
        found = {}
        for one in client.search_runs([each.experiment_id for each in client.search_experiments()]):
            tags = {key: value for key, value in one.data.tags.items() if value != "alice"}
            here = ("mlflow.note.content", "mlflow.parentRunId", "nasplug.parent_run", "nasplug.folder", "mlflow.user")
            for key in (*here, "nasplug.lineage"):  # it has the store, which has moved
                tags.pop(key, None)
            files = {file.path for file in client.list_artifacts(one.info.run_id)}
            found[one.info.run_name] = (tags, one.data.params, one.data.metrics, files)
        return found

    for name, now in told(later).items():
        assert now == told(first)[name]
    runs = later.search_runs([each.experiment_id for each in later.search_experiments()])
    assert {one.data.tags["mlflow.user"] for one in runs} == {"alice"}


class Failing(http.server.BaseHTTPRequestHandler):
    """A server with an error of its own for everything."""

    def do_GET(self) -> None:
        self.send_error(500)

    do_POST = do_GET  # noqa: N815 - names of the library

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@contextmanager
def down() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    yield port


@contextmanager
def hanging() -> Iterator[int]:
    """The system accepts; nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def failing() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Failing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize("server", [down, hanging, failing])
def test_a_server_that_does_not_answer_costs_no_training_and_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Callable[[], Any]
) -> None:
    monkeypatch.setattr(tracker, "ANSWER", 1)
    with server() as port:
        done = run(tmp_path, mlflow={"uri": f"http://me:secret@127.0.0.1:{port}", "register": "served"})
        assert set(done.frame["status"]) == {"finished"}
        assert (done.folder / "best" / "network.json").exists()
        assert "MLflow at http://127.0.0.1" in done.untracked
        assert "nasplug sync" in untold(done.folder)
        with pytest.raises(NasplugError, match="MLflow at http://127"):
            done.sync()


def test_a_study_that_was_stopped_is_told_to_have_failed(broken: Path, schema: Path) -> None:
    with pytest.raises(NasplugError, match="no network finished"):
        run(broken, train={"steps": 40, "lr": 1e30, "compile": False})
    folder = broken / "tiny"
    assert "was not told that this study was stopped" in untold(folder)
    mend(broken, schema)
    assert Study.open(folder).sync()
    assert untold(folder) == ""
    client = client_of(default_uri(broken))
    parent = client.get_run(files.read_json(folder / "mlflow.json")["run_id"])
    assert parent.info.status == "FAILED"
    assert "no network finished" in parent.data.tags["nasplug.stopped"]
    assert parent.data.metrics["packs_done"] == 2


def test_a_study_that_was_killed_is_told_to_be_killed(tmp_path: Path, schema: Path) -> None:
    """Killed after MLflow made its run, before that was written down: the run is found again and not made twice."""
    mend(tmp_path, schema)
    done = run(tmp_path, mlflow={"uri": default_uri(tmp_path), "children": 0})
    log = done.folder / "events.jsonl"
    log.write_bytes(b"".join(line for line in log.read_bytes().splitlines(True) if b"study_finished" not in line))
    client = client_of(default_uri(tmp_path))
    run_id = files.read_json(done.folder / "mlflow.json")["run_id"]
    (done.folder / "mlflow.json").unlink()
    with files.locked(done.folder, "the study"):
        assert untold(done.folder) == ""  # it runs
        assert ask("sync", done.folder).stdout == f"{done.folder}: it runs; MLflow is told meanwhile\n"
    assert "killed" in untold(done.folder)
    ask("sync", done.folder)
    assert client.get_run(run_id).info.status == "KILLED"
    again = run(tmp_path, mlflow={"uri": default_uri(tmp_path), "children": 0})
    assert files.read_json(again.folder / "mlflow.json")["run_id"] == run_id
    assert client.get_run(run_id).info.status == "FINISHED"
    assert len(client.search_runs([client.get_run(run_id).info.experiment_id])) == 1


def test_two_that_sync_at_once_tell_once(broken: Path, schema: Path) -> None:
    done = run(broken)
    mend(broken, schema)

    def sync(_: int) -> str:
        try:
            return str(Study.open(done.folder).sync())
        except ConfigError as error:
            return str(error)

    with ThreadPoolExecutor(3) as several:
        answers = list(several.map(sync, range(3)))
    assert answers.count("True") == 1
    assert all(answer in ("True", "False") or "is running already" in answer for answer in answers)
    whole(done, default_uri(broken))


@pytest.mark.slow
def test_other_data_are_not_told_as_those_of_the_study(broken: Path, schema: Path) -> None:
    table = broken / "table.csv"
    frame = pd.DataFrame({"x": [float(i) for i in range(60)], "y": [i % 7 + 0.5 for i in range(60)]})
    frame.to_csv(table, index=False)
    done = run(broken, task={"use": "table", "path": str(table), "target": "y", "validation": "holdout"})
    mend(broken, schema)
    frame.assign(x=frame["x"] * 2).to_csv(table, index=False)
    with pytest.raises(ConfigError, match="data have changed"):
        Study.open(done.folder).sync()
    frame.to_csv(table, index=False)
    assert Study.open(done.folder).sync()
    whole(done, default_uri(broken))


def test_nothing_is_untold_of_a_study_that_is_not_tracked(tmp_path: Path) -> None:
    done = run(tmp_path, mlflow=None)
    assert untold(done.folder) == ""
    assert not done.sync()
    assert ask("sync", tmp_path).stdout == f"{done.folder}: nothing to tell\n"
    assert ask("sync", tmp_path / "nowhere", status=2).stderr.startswith("Error: ")


@pytest.mark.slow
def test_sixteen_studies_begin_on_a_fresh_store(tmp_path: Path) -> None:
    """Forked, as starting Python sixteen times takes minutes; each has its own connection."""
    run(tmp_path / "warm", mlflow={"children": 0})
    children = {}
    for number in range(16):
        child = os.fork()
        if not child:
            status = 1
            try:
                done = run(tmp_path / "fresh", study=f"study{number}", seeds=2, mlflow={"children": 0})
                status = 0 if not done.untracked else 2
            finally:
                os._exit(status)
        children[child] = number
    ended = {children[child]: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children}
    assert set(ended.values()) == {0}, ended
    client = client_of(default_uri(tmp_path / "fresh"))
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert sorted(one.info.run_name for one in runs) == sorted(f"study{number}" for number in range(16))
    assert {one.info.status for one in runs} == {"FINISHED"}


class Server:
    """MLflow's own server, which can be killed and started again at its address."""

    def __init__(self, home: Path, database: str = "") -> None:
        """``database``: its URI; an sqlite file in ``home`` where none is given."""
        self.home = home
        self.database = database or f"sqlite:///{home}/mlflow.db"
        with down() as port:
            self.port = port
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", self.database, "--artifacts-destination", f"{self.home}/files"]
        env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=quiet, stderr=quiet, cwd=self.home, env=env, start_new_session=True)
        until = time.monotonic() + 2 * PATIENCE
        while True:
            assert self.process.poll() is None
            assert time.monotonic() < until
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=1):
                    break
            except OSError:
                time.sleep(0.25)
        client = client_of(f"http://127.0.0.1:{self.port}")  # the first questions may take longer than a study waits
        client.search_experiments()
        client.search_registered_models(max_results=1)

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, 9)
            self.process.wait(PATIENCE)
        self.process = None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, schema: Path) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("server")
    shutil.copy(schema, home)
    found = Server(home)
    found.start()
    yield found
    found.kill()


@contextmanager
def careless(port: int, seed: int) -> Iterator[tuple[int, dict[str, bool]]]:
    """Before a server, while its ``on`` is true: some requests get an error, some are carried out and get no answer.

    Once it is away for a while: requests are neither carried out nor answered.
    """
    draw, state, count = random.Random(seed), {"on": True}, itertools.count()
    leaves = draw.randrange(100)
    away = range(leaves, leaves + draw.randrange(30))

    class Between(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            lot = draw.random() if state["on"] else 1.0
            if next(count) in away and state["on"]:
                self.close_connection = True
                return
            if lot < 0.08:
                self.send_error(503)
                return
            there = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            there.request(self.command, self.path, body, {**self.headers, "Host": f"127.0.0.1:{port}"})
            answer = there.getresponse()
            content = answer.read()
            there.close()
            if lot < 0.2:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - names of the library

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Between) as between:
        threading.Thread(target=between.serve_forever, daemon=True).start()
        yield between.server_address[1], state
        between.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(int(os.environ.get("NASPLUG_FAULT_SEEDS", "1"))))
def test_a_server_that_loses_answers_has_everything_once(
    seed: int, tmp_path: Path, server: Server, record_property: Callable[[str, object], None]
) -> None:
    with careless(server.port, seed=seed + 1) as (port, state):
        done = run(tmp_path, study=f"lossy{seed}", mlflow={"uri": f"http://127.0.0.1:{port}", "register": "served"})
        record_property("untold at first", bool(done.untracked))
        assert set(done.frame["status"]) == {"finished"}
        for attempt in range(6):
            state["on"] = attempt < 4
            try:
                done.sync()
            except NasplugError:
                continue
            break
        whole(done, f"http://127.0.0.1:{server.port}")
    client_of(f"http://127.0.0.1:{server.port}").delete_registered_model("served")


@pytest.mark.slow
def test_a_server_that_is_killed_meanwhile_is_told_when_it_is_there_again(tmp_path: Path, server: Server) -> None:
    class Killing:
        @hookimpl
        def pack_finished(self) -> None:
            server.kill()

    place = {"uri": f"http://127.0.0.1:{server.port}", "register": "served"}
    done = Study.from_dict(raw(tmp_path, study="restarted", mlflow=place)).run("serial", observers=[Killing()])
    assert done.untracked
    server.start()
    assert done.sync()
    whole(done, f"http://127.0.0.1:{server.port}")


def test_a_served_model_outlives_its_child_run(tmp_path: Path, schema: Path) -> None:
    """Telling again cleans up after lost answers; what a person deleted the run of is no such thing."""
    shutil.copy(schema, tmp_path / "mlflow.db")
    done = run(tmp_path)
    client = client_of(default_uri(tmp_path))
    (version,) = client.search_model_versions("name = 'served'")
    model = client.get_logged_model(version.source.removeprefix("models:/"))
    client.delete_run(model.source_run_id)
    Study.open(done.folder).run("serial", report=False)
    assert client.get_logged_model(model.model_id).status == "READY"
    assert served(default_uri(tmp_path), "models:/served@champion").record["kept_inputs"]


def test_a_copied_folder_leaves_the_run_of_the_first_alone(tmp_path: Path, schema: Path) -> None:
    """A copy has the key of the folder that it was copied from; it may be anybody's."""
    shutil.copy(schema, tmp_path / "mlflow.db")
    first = run(tmp_path, mlflow={"experiment": "shared"})
    client = client_of(default_uri(tmp_path))
    experiment = client.get_experiment_by_name("shared").experiment_id
    before = {one.info.run_id: one.info.end_time for one in client.search_runs([experiment])}
    shutil.copytree(first.folder, tmp_path / "copied")
    (tmp_path / "copied" / STATE_FILE).unlink()
    run(tmp_path, study="copied", mlflow={"experiment": "shared"})
    after = {one.info.run_id: one.info.end_time for one in client.search_runs([experiment])}
    assert before.items() <= after.items()
    assert len(after) == 2 * len(before)


def test_a_look_at_a_finished_study_does_not_call_it_killed(
    tmp_path: Path, schema: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(schema, tmp_path / "mlflow.db")

    def away(*_: object) -> None:
        raise NasplugError("away")

    with monkeypatch.context() as patched:
        patched.setattr(tracker.Tracker, "_finish", away)
        patched.setattr(tracker, "PAUSES", ())
        done = run(tmp_path)
    assert untold(done.folder)
    ask("front", done.folder)
    client = client_of(default_uri(tmp_path))
    (told,) = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    assert told.info.status == "RUNNING"
    ask("sync", done.folder)
    whole(done, default_uri(tmp_path))
