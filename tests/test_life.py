"""How studies stand, seen from another process; stopping them; what of a machine is in their way."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from nasplug import ConfigError, NasplugError, files
from nasplug.cli import main
from nasplug.events import Event, PackFailed, PackReported, StudyFinished, StudyStarted, StudyStopped, as_line
from nasplug.hookspecs import Counts, Progress
from nasplug.life import examine, standing, standings, stop
from nasplug.life.doctor import Finding


def study(store: Path, name: str, events: Sequence[Event] | None) -> Path:
    """A folder with this log, as a run leaves it."""
    folder = store / name
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text("study: x\n")
    if events is not None:
        (folder / "events.jsonl").write_bytes(b"".join(map(as_line, events)))
    return folder


def begun(store: Path) -> list[Event]:
    half = Progress(0.5, 50, 100, 4, 0, 0.25, 1.0, 200.0)
    return [StudyStarted({}, store, Counts(2, 8)), PackReported("p0000", half), PackFailed("p0001", "no memory")]


def test_a_study_says_how_its_last_run_ended(tmp_path: Path) -> None:
    start = begun(tmp_path)
    study(tmp_path, "new", None)
    study(tmp_path, "killed", start)
    study(tmp_path, "stopped", [*start, StudyStopped({}, tmp_path, "stopped by Ctrl-C or a signal")])
    study(tmp_path, "finished", [*start, StudyFinished({}, tmp_path)])
    found = {each.folder.name: each for each in standings(tmp_path)}
    assert {name: each.state for name, each in found.items()} == {name: name for name in found} | {"new": "new"}
    assert found["stopped"].why == "stopped by Ctrl-C or a signal"
    killed = found["killed"]
    assert (killed.packs, killed.packs_done, killed.packs_failed, killed.networks) == (2, 0, 1, 8)
    assert killed.share == pytest.approx((0.5 * 4 + 4) / 8)
    assert killed.left is None
    assert killed.began is not None
    told = CliRunner().invoke(main, ["status", str(tmp_path), "--json"])
    assert [each["state"] for each in json.loads(told.stdout)] == ["finished", "killed", "new", "stopped"]
    assert not any(each["untold"] for each in json.loads(told.stdout))
    shown = CliRunner().invoke(main, ["status", str(tmp_path)])
    assert "stopped: stopped by Ctrl-C or a signal" in shown.stdout
    assert "75%" in shown.stdout


def test_what_mlflow_was_not_told_is_said(tmp_path: Path) -> None:
    begin = [StudyStarted({"mlflow": {}}, tmp_path, Counts(2, 8))]
    folder = study(tmp_path, "here", [*begin, StudyFinished({}, tmp_path)])
    words = f"to tell it: nasplug sync {folder}"
    for command in ("status", "doctor"):
        assert words in CliRunner().invoke(main, [command, str(tmp_path)]).stdout.replace("\n", "")


def test_a_study_that_runs_is_seen_and_not_disturbed(tmp_path: Path) -> None:
    folder = study(tmp_path, "here", begun(tmp_path))
    with files.locked(folder, "the study"):
        found = standing(folder)
        assert found.state == "running"
        assert "process" in found.why
        assert found.left is not None
    assert standing(folder).state == "killed"
    with files.locked(folder, "the study"):  # a look has left no lock
        pass


@pytest.mark.parametrize("events", [b"", b"{", b"[1]\n{}\n\xff\n"])
def test_a_log_that_is_cut_or_garbled_says_what_it_can(tmp_path: Path, events: bytes) -> None:
    folder = study(tmp_path, "here", [])
    (folder / "events.jsonl").write_bytes(events)
    assert standing(folder).state == "killed"


def test_there_is_nothing_to_stop_where_nothing_runs(tmp_path: Path) -> None:
    folder = study(tmp_path, "here", begun(tmp_path))
    with pytest.raises(ConfigError, match="no process runs this study"):
        stop(folder)
    with pytest.raises(ConfigError, match="is not a study's folder"):
        stop(tmp_path)
    with pytest.raises(ConfigError, match="no study here"):
        standings(tmp_path / "nowhere")


@pytest.mark.parametrize("who", ["process 1 on elsewhere", "garbled"])
def test_a_run_on_another_machine_is_stopped_there(tmp_path: Path, who: str) -> None:
    folder = study(tmp_path, "here", begun(tmp_path))
    with files.locked(folder, "the study"):
        (folder / ".lock").write_text(who)
        with pytest.raises(NasplugError, match="stop it"):
            stop(folder)


def test_a_process_that_does_not_end_is_said_to_be_there_still(tmp_path: Path) -> None:
    folder = study(tmp_path, "here", begun(tmp_path))
    code = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); from pathlib import Path\n"
        "from nasplug.files import locked\n"
        "with locked(Path(sys.argv[1]), 'the study'): print('there', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(NasplugError, match=f"process {process.pid} on {socket.gethostname()} was asked to stop"):
            stop(folder, 0.2)
    finally:
        process.kill()
        process.wait()


def verdicts(found: Sequence[Finding], part: str) -> list[str]:
    return [each.verdict for each in found if each.part == part]


def test_a_machine_that_runs_studies_is_good(tmp_path: Path) -> None:
    found = examine(tmp_path / "runs")
    assert "bad" not in [each.verdict for each in found]
    assert {each.part for each in found} >= {"python", "packages", "plugins", "cpu", "gpu", "ray", "store", "mlflow"}
    assert not (tmp_path / "runs").exists()


def test_what_is_wrong_is_named_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 100)
    study(tmp_path, "killed", begun(tmp_path))
    found = examine(tmp_path)
    assert verdicts(found, "mlflow") == ["bad"]
    assert any(each.verdict == "note" and "was killed" in each.what for each in found)
    told = CliRunner().invoke(main, ["doctor", str(tmp_path), "--json"])
    assert told.exit_code == 1
    assert all(each["remedy"] for each in json.loads(told.stdout) if each["verdict"] == "bad")
    (tmp_path / "mlflow.db").unlink()
    with sqlite3.connect(tmp_path / "mlflow.db") as old:
        old.execute("CREATE TABLE runs (x TEXT)")
    assert verdicts(examine(tmp_path), "mlflow") == ["note"]
    (tmp_path / "file").write_text("")
    assert verdicts(examine(tmp_path / "file"), "store") == ["bad"]
    shown = CliRunner().invoke(main, ["doctor", str(tmp_path / "file")])
    assert shown.exit_code == 1
    assert shown.stdout.splitlines()[-1].startswith("bad")
