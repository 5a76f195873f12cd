"""The command line: every command with --help and --json, what it prints and writes, and how soon it answers."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from nasplug.cli import main
from nasplug.compact import digest_of
from nasplug.config import from_yaml, to_yaml
from nasplug.study import Study

from .processes import PATIENCE, descendants, outliving

STUDY: dict[str, Any] = {
    "study": "small",
    "task": {"use": "xor", "samples": 20},
    "method": {"use": "edges", "mode": "l1", "hidden": [{"choice": [2, 4]}]},
    "penalties": [{"use": "l1", "level": {"log": [0.001, 0.1], "points": 3}}],
    "discretizers": [{"use": "threshold", "eps": 0.01}],
    "train": {"steps": 30},
    "seeds": 2,
    "reach": None,
    "mlflow": None,
}
HEAVY = {"matplotlib", "mlflow", "numpy", "optuna", "pandas", "pyarrow", "pydantic", "ray", "rich", "sklearn", "torch"}


def ask(*command: str, status: int = 0) -> Result:
    done = CliRunner().invoke(main, list(command))
    if done.exit_code != status:
        raise AssertionError(done.output) from done.exception
    return done


def told(*command: str) -> Any:
    return json.loads(ask(*command, "--json").stdout)


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        elif not command.hidden:
            yield (*path, name)


COMMANDS = sorted(commands(main))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a study that ran, and the study's file beside it."""
    folder = tmp_path_factory.mktemp("ran")
    (folder / "study.yaml").write_text(to_yaml(STUDY | {"store": str(folder / "runs")}))
    ask("run", str(folder / "study.yaml"), "--runner", "serial", "--quiet")
    return folder


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(to_yaml(STUDY))
    return "study.yaml"


# help


def test_the_commands_are_the_documented_ones() -> None:
    assert [" ".join(c) for c in COMMANDS] == [
        "compare",
        "config schema",
        "config show",
        "config validate",
        "doctor",
        "enumerate",
        "explain",
        "export",
        "extend",
        "front",
        "history",
        "lineage",
        "look",
        "plan",
        "plugins",
        "predict",
        "promote",
        "register",
        "reproduce",
        "rollback",
        "run",
        "status",
        "stop",
        "sync",
        "ui",
    ]


@pytest.mark.parametrize("command", [(), ("config",), *COMMANDS], ids=" ".join)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_helps(command: tuple[str, ...], flag: str) -> None:
    found: click.Command = main
    for name in command:
        assert isinstance(found, click.Group)
        found = found.commands[name]
    output = ask(*command, flag).stdout
    assert output.startswith("Usage: ")
    assert found.help is not None
    assert " ".join(found.help.split(".")[0].split()) in " ".join(output.split())
    for parameter in found.params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[0] in output


def test_the_version() -> None:
    assert metadata.version("nasplug") in ask("--version").stdout


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    code = f"import sys, nasplug.cli; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_answers_at_once() -> None:
    """Nothing that takes time is imported for it: Python, click and ours alone."""
    code = """
import sys
from nasplug.cli import main
try:
    main(["--help"])
finally:
    print("imported:", *sorted({name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = done.stdout.splitlines()[-1].split()[1:]
    assert not {"torch", "ray", "mlflow", "optuna", "numpy", "pandas", "pyarrow", "sklearn", "pydantic", "yaml"} & set(imported)


# plan, show, validate, schema, plugins


def test_plan(file: str) -> None:
    output = ask("plan", file, "seeds=3").stdout
    assert "18 networks in " in output
    for words in ("penalties.0.level", "method.hidden.0", "inside a pack", "between packs", "runs/small"):
        assert words in output
    found = told("plan", file, "seeds=3", "resources.pack=4")
    assert found["study"] == "small"
    assert found["folder"] == "runs/small"
    assert found["seeds"] == 3
    assert found["configurations_a_generation"] == [6]
    assert found["axes"] == [
        {"path": "method.hidden.0", "place": "pack", "choice": [2, 4]},
        {"path": "penalties.0.level", "place": "row", "log": [0.001, 0.1], "points": 3},
    ]
    assert [pack["networks"] for pack in found["packs"]] == [3] * 6
    assert {str(pack["values"]) for pack in found["packs"]} == {"{'method.hidden.0': 2}", "{'method.hidden.0': 4}"}
    assert not Path("runs").exists()


def test_plan_of_draws(file: str) -> None:
    overrides = ("sampler={use: nsga2, trials: 12, generation: 5}", "penalties.0.level={log: [0.001, 0.1]}")
    assert told("plan", file, *overrides)["configurations_a_generation"] == [5, 5, 2]
    output = ask("plan", file, *overrides).stdout
    assert "first generation" in output
    assert "3 generations" in output


def test_show(file: str) -> None:
    shown = from_yaml(ask("config", "show", file, "train.lr=1e-4").stdout, "shown")
    assert shown == told("config", "show", file, "train.lr=1e-4")
    assert shown["train"]["lr"] == 1e-4
    assert shown["sampler"] == {
        "use": "grid",
        "trials": 64,
        "generation": 32,
        "seed": 0,
        "objectives": {"valid_loss": "minimize", "edges": "minimize"},
        "constraints": {},
    }
    Path("shown.yaml").write_text(to_yaml(shown))
    assert told("config", "show", "shown.yaml") == shown


def test_validate(file: str) -> None:
    assert ask("config", "validate", file).stdout == "study.yaml: good; 12 networks in 2 packs.\n"
    assert told("config", "validate", file) == {"config": "study.yaml", "networks": 12, "packs": 2}


def test_schema() -> None:
    found = json.loads(ask("config", "schema").stdout)
    assert found["$schema"].endswith("2020-12/schema")
    assert set(found["required"]) == {"study", "task", "method"}


def test_plugins_of_some_words_alone() -> None:
    offers = told("plugins", "l1", "schedule")["offers"]
    assert set(offers) == {"regularizer", "schedule"}
    assert [offer["name"] for offer in offers["regularizer"]] == ["l1"]
    assert len(offers["schedule"]) > 1
    refused = ask("plugins", "thresold", status=2).output
    assert "'thresold' is no kind, no name and no plugin. Did you mean 'threshold'?" in refused


def test_the_help_lists_every_command_once() -> None:
    lines = [line.split() for line in ask("--help").output.partition("From a table")[2].splitlines() if line.startswith("  ")]
    assert sorted(line[0] for line in lines) == sorted(name for name, one in main.commands.items() if not one.hidden)
    assert not any(line[-1].endswith("...") for line in lines)


def test_plugins() -> None:
    found = told("plugins")
    assert {"nasplug", "nasplug-edges", "nasplug-regularizers"} <= {p["distribution"] for p in found["plugins"]}
    assert "edges" in [o["name"] for o in found["offers"]["method"]]
    assert all(set(o) == {"name", "plugin", "distribution", "version", "summary", "options"} for o in found["offers"]["task"])
    output = ask("plugins").stdout
    for words in ("regularizer", "l1", "threshold", "nasplug-edges"):
        assert words in output


# run, front, ui


def test_run_writes_and_prints_a_study(file: str) -> None:
    done = ask("run", file, "--runner", "serial", "mlflow=null")
    assert "12 networks: 12 finished" in done.stdout
    assert "runs/small/report.html" in done.stdout.replace("\n", "")
    assert "100.0 %" in done.stderr
    assert "12/12" in done.stderr
    for name in ("study.yaml", "replicas.parquet", "report.html", "best", "packs"):
        assert Path("runs/small", name).exists(), name
    again = ask("run", file, "--runner", "serial")
    assert "12 networks: 12 finished" in again.stdout


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_run_plans_once(file: str, quiet: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[str] = []
    plan = Study.plan

    def counted(study: Study) -> Any:
        planned.append(study.config.study)
        return plan(study)

    monkeypatch.setattr(Study, "plan", counted)
    ask("run", file, "--runner", "serial", *quiet)
    assert planned == ["small"]
    ask("run", file, "--runner", "serial", *quiet)  # goes on
    assert planned == ["small"] * 2


def test_run_in_json_and_quiet(file: str) -> None:
    done = ask("run", file, "--runner", "serial", "--quiet", "--json")
    found = json.loads(done.stdout)
    assert done.stderr == ""
    assert found["folder"] == "runs/small"
    assert found["best"]["replica"] in [row["replica"] for row in found["front"]]
    assert set(found["front"][0]) >= {"valid_error", "test_error", "edges", "seed", "penalties.0.level", "method.hidden.0"}


def test_front_within_limits(ran: Path) -> None:
    folder = str(ran / "runs" / "small")
    frame = Study.open(folder).frame
    most = int(frame["edges"].median())
    found = told("front", folder, "--limit", f"edges={most}", "--limit", "latency_us=1e9")
    small = frame[(frame["status"] == "finished") & (frame["edges"] <= most)]
    assert found["valid_error"] == small["valid_error"].min()
    assert "us per sample here" in ask("front", folder, "--limit", f"edges={most}").stdout
    for limit, reason in (("edges", "needed: COLUMN=NUMBER"), ("edges=-1", "Raise a limit"), ("egdes=3", "Did you mean")):
        refused = CliRunner().invoke(main, ["front", folder, "--limit", limit])
        assert (refused.exit_code, reason in refused.stderr) == (2, True)


@pytest.mark.skipif(shutil.which("gcc") is None or shutil.which("size") is None, reason="no compiler")
def test_limits_of_a_chip(ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flash is measured once: what the folder keeps, no compiler measures again."""
    folder = str(ran / "runs" / "small")
    found = told("front", folder, "--limit", "flash_bytes=2048", "--limit", "macs=100")
    assert 0 < found["flash_bytes"] <= 2048
    assert found["macs"] <= 100
    assert f"{found['flash_bytes']:.0f} bytes of flash" in ask("front", folder, "--limit", "flash_bytes=2048").stdout
    (kept,) = {path.stem for path in (ran / "runs" / "small" / "flash").iterdir()}
    assert kept == digest_of(Study.open(folder).network(found["replica"]))
    shown = told("front", folder, "--measure", "flash_bytes", "--measure", "latency_us")["front"]
    assert {row["replica"]: row["flash_bytes"] for row in shown}[found["replica"]] == found["flash_bytes"]
    assert all(row["latency_us"] > 0 for row in shown)
    assert "flash bytes" in ask("front", folder, "--measure", "flash_bytes").stdout
    for odd in (["flash"], ["flash_bytes", "--limit", "macs=1"]):
        assert CliRunner().invoke(main, ["front", folder, "--measure", *odd]).exit_code == 2
    out = tmp_path / "chip"
    left = told("export", folder, "--to", "c,fixed", "--out", str(out), "--limit", "flash_bytes=2048", "--limit", "macs=100")
    assert left["digest"] == kept
    assert min(form["figures"]["flash_bytes"] for form in left["forms"] if not form["refused"]) == found["flash_bytes"]
    both = ["export", folder, "--out", str(out), "--limit", "macs=9", "--replica", "p0000/0000"]
    assert "take one of them" in CliRunner().invoke(main, both).stderr
    monkeypatch.setenv("PATH", str(tmp_path))
    bare = CliRunner().invoke(main, ["front", folder, "--limit", "flash_bytes=2048"])
    assert (bare.exit_code, "no gcc or cc" in bare.stderr) == (2, True)


def test_front(ran: Path) -> None:
    study = Study.open(ran / "runs" / "small")
    found = told("front", str(ran / "runs" / "small"))
    assert found["best"]["replica"] == study.best()["replica"]
    assert [row["edges"] for row in found["front"]] == study.front()["edges"].tolist()
    assert "12 networks: 12 finished" in ask("front", str(ran / "runs" / "small")).stdout


def test_a_folder_may_be_moved(ran: Path, tmp_path: Path) -> None:
    (ran / "runs" / "small").rename(tmp_path / "moved")
    try:
        assert told("front", str(tmp_path / "moved"))["front"]
    finally:
        (tmp_path / "moved").rename(ran / "runs" / "small")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL])  # other ends: test_ui.py
def test_ui_opens_mlflow_on_a_store_and_ends_with_all_that_it_started(tmp_path: Path, number: signal.Signals) -> None:
    database = tmp_path / "mlflow.db"
    database.touch()
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "nasplug", "ui", str(tmp_path), "--port", str(port)]
    page = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert page.stdout is not None
    assert page.stdout.readline() == f"MLflow on sqlite:///{database}: http://127.0.0.1:{port} (stop with Ctrl-C)\n"
    for _ in range(240):
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            assert answer.status == 200
            break
        time.sleep(0.5)
    started = descendants(page.pid)
    assert started
    page.send_signal(number)
    assert page.wait(PATIENCE) == (128 + number if number == signal.SIGTERM else -number)
    assert not outliving(started)


# statuses


def test_a_study_in_which_nothing_finished_has_status_1(file: str) -> None:
    done = ask("run", file, "--runner", "serial", "--quiet", "train.lr=1e30", "method.hidden=[2]", status=1)
    assert done.stderr == (
        "Error: no network finished with finite scores: all diverged; the numbers of a network are not finite from step 2 on; "
        "try a smaller train.lr, or train.clip\n"
    )
    assert done.stdout == ""


def test_a_study_in_which_every_pack_failed_says_why(file: str) -> None:
    Path("runs/small/packs").mkdir(parents=True)
    Path("runs/small/packs/p0000").write_text("in the way")
    done = ask("run", file, "--runner", "serial", "--quiet", "method.hidden=[2]", status=1)
    assert done.stderr.startswith("Error: no network finished: 1 packs failed, p0000 with: ")
    assert "File exists" in done.stderr
    assert "run again" in done.stderr


def test_a_stopped_run_says_how_to_go_on(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Study, "run", stop)
    done = ask("run", file, "--quiet", status=130)
    assert done.stderr == "Stopped. What finished is kept; run the same command again to go on.\n"


@pytest.mark.parametrize("command", [("nonsense",), ("run",), ("plan", "--nonsense", "x"), ("front",)], ids=" ".join)
def test_wrong_commands_have_status_2(command: tuple[str, ...]) -> None:
    assert ask(*command, status=2).stderr.startswith("Usage: ")


# Ray, in a process of its own


def command_line(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nasplug", *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=5 * PATIENCE,
    )


@pytest.mark.slow
def test_ray_reads_data_where_the_driver_does_and_tells_why_a_pack_failed(tmp_path: Path) -> None:
    (tmp_path / "sums.csv").write_text("a,b,c\n" + "".join(f"{i % 7},{i % 5},{i % 7 + i % 5 + 0.5}\n" for i in range(60)))
    task = {"use": "table", "validation": "holdout", "path": "sums.csv", "target": "c", "kind": "regression"}
    (tmp_path / "study.yaml").write_text(to_yaml(STUDY | {"task": task, "linear": False, "resources": {"retries": 0}}))
    (tmp_path / "runs/small/packs").mkdir(parents=True)
    (tmp_path / "runs/small/packs/p0001").write_text("in the way")
    done = command_line(tmp_path, "run", "study.yaml", "--quiet", "--json")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)["front"]
    frame = Study.open(tmp_path / "runs/small").frame
    assert frame.groupby("status").size().to_dict() == {"finished": 6, "failed": 6}
    assert frame["error"].dropna().str.contains("File exists").all()
    assert list((tmp_path / "runs/small/ray/tune").glob("*/error.txt"))


def test_a_refusal_shows_no_secret(tmp_path: Path) -> None:
    """What is refused may be a URI with a password, and a plugin's own error may hold one."""
    refused = CliRunner().invoke(main, ["plan", "postgresql://me:hunter2@db.example.org/study.yaml"])
    assert refused.exit_code == 2
    assert "db.example.org" in refused.stderr
    assert "hunter2" not in refused.stderr
