"""Standard output belongs to the command, whoever prints; Ctrl-C and SIGTERM end a run whole, under Ray as under serial."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from nasplug.cli import main
from nasplug.events import PackReported, StudyStopped, read_events
from nasplug.life import standing, stop
from nasplug.study import Study
from tests.processes import PATIENCE, descendants, outliving

STUDY: dict[str, Any] = {
    "study": "small",
    "task": {"use": "xor", "samples": 20},
    "method": {"use": "edges", "mode": "l1", "hidden": [4]},
    "penalties": [{"use": "l1", "level": 0.001}],
    "discretizers": [{"use": "threshold", "eps": 0.01}],
    "train": {"steps": 20},
    "seeds": 2,
    "mlflow": None,
}
LOUD = """
    import os, subprocess, sys, time
    from nasplug import hookimpl
    from nasplug.contracts import Regularizer

    def shout():
        print("loud words")
        sys.stdout.write("loud words\\n")
        os.write(1, b"loud bytes\\n")
        subprocess.run(["echo", "loud child"], check=True)

    shout()

    class Loud(Regularizer):
        needs = frozenset({"blocks"})

        def __call__(self, nets):
            print("loud call")
            return sum(w.square().sum((1, 2)) for w in nets.blocks.values())

    def loud():
        shout()
        return Loud()

    @hookimpl
    def register_regularizers(register):
        shout()
        register("loud", loud)

    @hookimpl
    def pack_finished(pack):
        shout()

    patience_seconds = 0.1

    @hookimpl
    def study_finished():
        while True:
            print("loud for ever")
            time.sleep(0.001)
    """


def nasplug(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    paths = [str(cwd), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    line = [sys.executable, "-m", "nasplug", *command]
    return subprocess.run(line, cwd=cwd, env=env, capture_output=True, text=True, timeout=5 * PATIENCE, check=False)


@pytest.mark.slow
def test_what_a_plugin_prints_does_not_land_in_standard_output(tmp_path: Path) -> None:
    (tmp_path / "nasplug_loud.py").write_text(textwrap.dedent(LOUD))
    info = tmp_path / "nasplug_loud-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nasplug-loud\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nasplug]\nloud = nasplug_loud\n")
    study = {**STUDY, "penalties": [{"use": "loud", "level": 0.001}]}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    for command in (("run", "study.yaml", "--runner", "serial", "--quiet", "--json"), ("plan", "study.yaml", "--json")):
        done = nasplug(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
        json.loads(done.stdout)
        for said in ("loud words", "loud bytes", "loud child"):
            assert said in done.stderr
        if command[0] == "run":
            (line,) = (line for line in done.stderr.splitlines() if line.startswith("nasplug: "))
            told = "nasplug: plugin 'loud' (nasplug-loud 1.0) is still in study_finished; 1 of 3 events were not told to it"
            assert line == told


@pytest.mark.slow
def test_mlflow_that_does_not_answer_costs_nothing(tmp_path: Path) -> None:
    study = {**STUDY, "store": str(tmp_path), "mlflow": {"uri": "http://me:hush@127.0.0.1:1"}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    command = ["run", str(tmp_path / "study.yaml"), "--runner", "serial", "--quiet", "--json"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["best"]["status"] == "finished"
    assert found["untold"].endswith(f"to tell it: nasplug sync {tmp_path / 'small'}")
    assert "MLflow at http://127.0.0.1:1 failed" in done.stderr
    assert "hush" not in done.output
    (events,) = tmp_path.glob("*/events.jsonl")
    assert "hush" not in events.read_text()
    again = CliRunner().invoke(main, [*command, "mlflow.uri=null"])
    assert again.exit_code == 0, again.output
    state = json.loads((tmp_path / "small/mlflow.json").read_text())
    assert state["run_id"]


def terminal(command: list[str], cwd: Path) -> tuple[int, int]:
    """A process with a terminal of its own, whose output is thrown away; its number and the terminal's."""
    pid, there = pty.fork()
    if pid == 0:
        signal.signal(
            signal.SIGINT, signal.SIG_DFL
        )  # a suite that a shell started in its background ignores it, and so would this
        os.chdir(cwd)
        os.execv(command[0], command)

    def drain() -> None:
        try:
            while os.read(there, 65536):
                pass
        except OSError:
            return

    threading.Thread(target=drain, daemon=True).start()
    return pid, there


def key(pid: int, there: int) -> None:
    os.write(there, b"\x03")


def ask(pid: int, there: int) -> None:
    """SIGTERM, to whom the folder says."""
    folder = Path(os.readlink(f"/proc/{pid}/cwd")) / "small"
    assert standing(folder).state == "running"
    assert f"process {pid} " in stop(folder)


def trains(log: Path, pack: str) -> bool:
    """Whether a pack has reported in this run."""
    return log.exists() and any(isinstance(event, PackReported) and event.pack == pack for event in read_events(log))


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["serial", "ray"])
def test_a_run_that_is_stopped_ends_whole_and_goes_on_later(runner: str, tmp_path: Path) -> None:
    """Stopped when the first of two packs is done and the other trains: by Ctrl-C, and when it goes on, by SIGTERM."""
    config = {
        **STUDY,
        "store": str(tmp_path),
        "train": {"steps": {"choice": [50, 20_000]}},
        "mlflow": {"register": "small"} if runner == "ray" else None,
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "nasplug", "run", str(tmp_path / "study.yaml"), "--runner", runner]
    folder, first = tmp_path / "small", tmp_path / "small/packs/p0000/replicas.parquet"
    log = folder / "events.jsonl"
    for how in (key, ask):
        log.unlink(missing_ok=True)
        pid, there = terminal(command, tmp_path)
        deadline = time.monotonic() + PATIENCE
        while not (first.exists() and trains(log, "p0001")):
            assert time.monotonic() < deadline, "no pack got so far"
            time.sleep(0.05)
        children = descendants(pid)
        assert bool(children) == (runner == "ray")
        how(pid, there)
        _, status = os.waitpid(pid, 0)
        os.close(there)
        assert os.waitstatus_to_exitcode(status) == 130
        assert not outliving(children)
        assert not (folder / "best").exists()
        assert not (folder / "failures.parquet").exists()
        assert Study.open(folder).frame["replica"].tolist() == ["p0000/0000", "p0000/0001"]
        last = read_events(log)[-1]
        assert isinstance(last, StudyStopped)
        assert "Ctrl-C" in last.reason
        assert (standing(folder).state, standing(folder).packs_done) == ("stopped", 1)
        if runner == "ray":
            assert "model" not in json.loads((folder / "mlflow.json").read_text())
    written = first.stat().st_mtime_ns
    done = Study.from_dict({**config, "mlflow": None}).run("serial")
    assert done.frame["status"].tolist() == ["finished"] * 4
    assert first.stat().st_mtime_ns == written
