"""A study that is sent to a cluster as a job: what travels, what is refused, and a real job server where Ray has one."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from nasplug.cli import main
from nasplug.errors import ConfigError, NasplugError, PluginError
from nasplug.plugins import load_plugins
from nasplug.runner import check_store, jobs, packed, unpacked
from nasplug.runner.jobs import _Log
from nasplug.study import Study
from tests.processes import PATIENCE, end

SUMS = "a,b,c\n" + "".join(f"{i % 7},{i % 5},{i % 7 + i % 5 + 0.5}\n" for i in range(60))


def config(path: str, store: str, **changes: Any) -> dict[str, Any]:
    return {
        "study": "sent",
        "store": store,
        "task": {"use": "table", "validation": "holdout", "path": path, "target": "c", "kind": "regression"},
        "method": {"use": "edges", "mode": "l1", "hidden": [4]},
        "penalties": [{"use": "l1", "level": {"choice": [0.001, 0.01]}}],
        "train": {"steps": 20, "lr": 0.01, "reports": 2, "finetune": 5, "compile": False},
        "resources": {"pack": 4},
        "seeds": 4,
        "linear": False,
        "reach": None,
        "mlflow": None,
    } | changes


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "desk/data").mkdir(parents=True)
    (tmp_path / "desk/data/sums.csv").write_text(SUMS)
    monkeypatch.chdir(tmp_path / "desk")
    return tmp_path / "desk"


def test_files_travel_under_the_names_that_the_config_there_has(desk: Path, tmp_path: Path) -> None:
    plugins = load_plugins()
    for number, given in enumerate(("data/sums.csv", str(desk / "data/sums.csv"), "../desk/data/sums.csv")):
        study = Study.from_dict(config(given, "/store"))
        parcel = packed(study.config, plugins, there := _made(tmp_path / f"parcel{number}"))
        (name,) = parcel.files
        assert (there / name).read_text() == SUMS
        assert name == given if number == 0 else name.startswith("sent/")
        arrived = unpacked(there, plugins)
        assert arrived.task.options["path"] == name
        assert arrived.model_copy(update={"task": study.config.task}) == study.config
        again = packed(study.config, plugins, _made(tmp_path / f"again{number}"))
        assert again.digest == parcel.digest
        changed = study.config.model_copy(update={"seeds": 5})
        assert packed(changed, plugins, _made(tmp_path / f"other{number}")).digest != parcel.digest


def test_what_git_leaves_out_is_sent(desk: Path, tmp_path: Path) -> None:
    """Ray leaves out of a job's folder what a file of git's says."""
    (desk / "data/.gitignore").write_text("*\n")
    study = Study.from_dict(config("data/sums.csv", "/store")).config
    folder = study.model_copy(
        update={"task": study.task.model_copy(update={"options": {**study.task.options, "path": "data"}})}
    )
    parcel = packed(folder, load_plugins(), _made(tmp_path / "parcel"))
    assert list(parcel.files) == ["data/sums.csv"]
    assert not list(parcel.folder.rglob(".gitignore"))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_too_much_is_not_sent(desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nasplug.runner.parcel.MOST_BYTES", 300)
    with pytest.raises(ConfigError, match=r"larger than .* MB .with data/sums.csv.*run nasplug there"):
        packed(Study.from_dict(config("data/sums.csv", "/store")).config, load_plugins(), _made(tmp_path / "parcel"))


def test_every_difference_is_said_where_it_arrives(desk: Path, tmp_path: Path) -> None:
    plugins = load_plugins()
    packed(Study.from_dict(config("data/sums.csv", "/store")).config, plugins, there := _made(tmp_path / "parcel"))
    text = (there / "sent.json").read_text()
    (there / "sent.json").write_text(text.replace('"nasplug": "0', '"nasplug": "9').replace("nasplug-mixture", "nasplug-other"))
    with pytest.raises(PluginError, match="the machine that sent the study and the cluster differ") as told:
        unpacked(there, plugins)
    for words in ("nasplug: machine that sent the study has 9", "nasplug-mixture: ", "nasplug-other: ", "on every node"):
        assert words in str(told.value)
    (there / "sent.json").unlink()
    with pytest.raises(ConfigError, match="no study was sent here"):
        unpacked(there, plugins)


def test_a_store_that_would_be_removed(desk: Path) -> None:
    for store in ("/data/runs", "~/runs", "memory://bucket"):
        check_store(Study.from_dict(config("data/sums.csv", store)).config)
    with pytest.raises(ConfigError, match=r"'runs' is relative.*store=/data/runs.*store=s3://bucket/path"):
        check_store(Study.from_dict(config("data/sums.csv", "runs")).config)


@pytest.mark.parametrize(
    ("words", "told", "status"),
    [
        (["--address", "http://"], "needed: http://HOST:8265", 2),
        (["--address", "http://[::1"], "needed: http://HOST:8265", 2),
        (["--address", "http://me:secret@127.0.0.1:1"], "without a name or password", 2),
        (["--address", "http://127.0.0.1:1"], "pip install 'ray[default]' there", 1),
        (["--address", "http://127.0.0.1:1", "--runner", "serial"], "--runner serial with the job address", 2),
        (["--address", "http://127.0.0.1:1", "--json"], "--json with the job address", 2),
    ],
)
def test_what_is_refused(desk: Path, words: list[str], told: str, status: int) -> None:
    (desk / "study.yaml").write_text(yaml.safe_dump(config("data/sums.csv", "/store")))
    done = CliRunner().invoke(main, ["run", "study.yaml", *words])
    assert (done.exit_code, told in done.output, "secret" in done.output) == (status, True, False), done.output


def test_an_address_of_jobs_is_not_joined(desk: Path) -> None:
    with pytest.raises(ConfigError, match=r"only nasplug run sends some; needed here: auto or host:port"):
        Study.from_dict(config("data/sums.csv", "runs")).run(address="http://127.0.0.1:8265")


def test_a_log_that_is_read_again_is_told_once() -> None:
    told: list[str] = []
    log = _Log(told.append)
    log.take("Running entrypoint for job x: y\none\ntw")
    log.again()
    log.take("Running entrypoint for job x: y\none\ntwo\nthr")
    log.end()
    assert told == ["one", "two", "thr"]


@pytest.mark.parametrize("drops", [False, True])
def test_a_job_server_behind_a_bad_proxy_is_said_in_one_line(drops: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers, and gives no log: with a status of the proxy's own, or with nothing."""

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.endswith("/tail"):
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(b'{"version": "4", "ray_version": "2", "ray_commit": "x", "session_name": "s"}')
            elif not drops:
                self.send_error(502)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nothing is said."""

    monkeypatch.setattr(jobs, "LOST_SECONDS", -1.0)
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            with pytest.raises(NasplugError, match="the same command follows it again"):
                jobs.follow(jobs.Job("x", "s", "/f", "RUNNING"), f"http://127.0.0.1:{proxy.server_port}", print)
        finally:
            proxy.shutdown()


def listens(port: int) -> bool:
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Ray head with its job server; it asks for a token."""
    ports = []
    for _ in range(3):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(16))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    short = Path(tempfile.mkdtemp(prefix="nj"))  # Ray's sockets lie in it, and paths of sockets are short
    said = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={ports[0]}", "--num-cpus=1"]
    more = ["--include-dashboard=true", f"--dashboard-port={ports[1]}", f"--dashboard-agent-listen-port={ports[2]}"]
    more += [f"--temp-dir={short}", "--object-store-memory=100000000"]
    with (short / "said").open("w") as log:
        head = subprocess.Popen([*said, *more], stdout=log, stderr=log)
    try:
        until = time.monotonic() + PATIENCE
        while not listens(ports[1]):  # asking costs less than a command, which takes the time of what starts
            assert time.monotonic() < until, (short / "said").read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{ports[1]}"
    finally:
        end(head.pid)
        head.wait()
        shutil.rmtree(short, ignore_errors=True)


@pytest.mark.slow
def test_a_job_goes_on_is_followed_again_stopped_and_resumed(server: str, desk: Path, tmp_path: Path) -> None:
    train = {"steps": 16_000, "lr": 0.01, "reports": 100, "finetune": 5, "compile": False}  # long: two commands start meanwhile
    study = config("data/sums.csv", str(tmp_path / "there"), train=train)
    (desk / "study.yaml").write_text(yaml.safe_dump(study))
    nasplug, at = [sys.executable, "-m", "nasplug"], ["--address", server]
    wrong = os.environ | {"RAY_AUTH_TOKEN": "0" * 32}
    denied = subprocess.run([*nasplug, "status", *at], capture_output=True, text=True, env=wrong)
    told = "wants another token than that in RAY_AUTH_TOKEN"
    assert (denied.returncode, told in denied.stderr) == (1, True), denied.stderr

    def begun() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*nasplug, "run", "study.yaml", *at],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background ignores it
        )

    def until_line(words: str, run: subprocess.Popen[str]) -> list[str]:
        assert run.stdout is not None
        lines: list[str] = []
        for line in run.stdout:
            lines.append(line)
            if words in line:
                return lines
        raise AssertionError("".join(lines))

    first = begun()
    (sent,) = until_line("Sent as the job", first)[-1:]
    assert "with data/sums.csv" in sent
    until_line("0 running, networks 0/8", first)
    first.send_signal(signal.SIGINT)
    said, _ = first.communicate(timeout=PATIENCE)
    name = sent.split()[4]
    assert (first.returncode, f"to stop it: nasplug stop {name} --address {server}" in said) == (130, True), said
    seen = subprocess.Popen([*nasplug, "status", *at], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    second = begun()
    until_line(f"It runs already, as the job {name}", second)
    listed, _ = seen.communicate(timeout=PATIENCE)
    assert (seen.returncode, name in listed) == (0, True), listed
    stopped = subprocess.run([*nasplug, "stop", name, "--wait", str(PATIENCE), *at], capture_output=True, text=True)
    assert (stopped.returncode, "Stopped: the job" in stopped.stdout) == (0, True), stopped.stderr
    said, _ = second.communicate(timeout=PATIENCE)
    assert (second.returncode, "was stopped; the same command goes on" in said) == (1, True), said
    third = subprocess.run([*nasplug, "run", "study.yaml", *at], capture_output=True, text=True)
    assert third.returncode == 0, third.stdout + third.stderr
    assert f"{tmp_path}/there/sent is on the cluster" in third.stderr
    assert os.environ["RAY_AUTH_TOKEN"] not in sent + said + third.stdout + third.stderr
    serial = Study.from_dict(study | {"store": str(tmp_path / "serial")}).run("serial", report=False)
    assert Study.open(tmp_path / "there/sent").frame.equals(serial.frame)
