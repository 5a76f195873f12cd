"""The compose file's own commands, run without Docker: its services as processes of this machine, its names as 127.0.0.1."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from nasplug.study import Study

from .processes import PATIENCE

ROOT = Path(__file__).parents[1]
TINY = "train.steps=30 train.finetune=0 train.compile=false penalties.0.level.points=2 seeds=2 linear=false reach=null"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
    return loaded


def test_every_service_is_the_one_image_and_waits_for_what_it_needs(compose: Mapping[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"ray-head", "ray-worker", "gpu-worker", "mlflow", "study"}
    for name, service in services.items():
        assert service["image"] == ("nasplug:gpu" if name == "gpu-worker" else "nasplug")
        assert (ROOT / "docker" / service["build"]["context"] / service["build"]["dockerfile"]).exists()
        assert service.get("volumes", []) == (["store:/data"] if name in ("mlflow", "study") else [])
        for needed, when in service.get("depends_on", {}).items():
            healthy = when["condition"] == "service_healthy"
            assert not healthy or "healthcheck" in services[needed], f"{name} waits for a check that {needed} does not have"


def test_the_token_is_given_at_start_and_baked_in_nowhere(compose: Mapping[str, Any]) -> None:
    assert {name for name, service in compose["services"].items() if service.get("env_file") == "ray.env"} == {
        "ray-head",
        "ray-worker",
        "gpu-worker",
        "study",
    }
    assert "ray.env" in (ROOT / "docker" / ".gitignore").read_text().split()
    assert (ROOT / "docker" / "Dockerfile.dockerignore").read_text().splitlines()[1] == "*"  # what is not named stays out
    assert "RAY_AUTH_MODE=token" in (ROOT / "docker" / "ray.env.example").read_text().splitlines()
    for file in ("Dockerfile", "compose.yaml", "ray.env.example"):
        assert not re.search(r"RAY_AUTH_TOKEN=\w", (ROOT / "docker" / file).read_text())


def test_the_image_copies_files_that_exist_and_runs_as_nobody_special() -> None:
    lines = (ROOT / "docker" / "Dockerfile").read_text().splitlines()
    sources = [source for line in lines if line.startswith("COPY ") for source in line.split()[1:-1]]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in (ROOT / "docker" / "Dockerfile.dockerignore").read_text().splitlines(), source
    assert "USER nasplug" in lines
    assert any(line.startswith("torch==") for line in (ROOT / "requirements.lock").read_text().splitlines())


def test_the_worker_with_gpus_starts_when_asked_for_and_its_image_has_a_torch_for_them(compose: Mapping[str, Any]) -> None:
    worker = compose["services"]["gpu-worker"]
    assert worker["profiles"] == ["gpu"]
    assert [name for name, service in compose["services"].items() if "profiles" in service] == ["gpu-worker"]
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    ((name, index),) = worker["build"]["args"].items()
    text = (ROOT / "docker" / "Dockerfile").read_text()
    assert f"ARG {name}=https://download.pytorch.org/whl/cpu\n" in text
    assert f"{name}={index}" in text, "the command in its head builds the same"
    for given, wanted in (
        (index, "pip install --no-cache-dir --index-url"),
        (f"{index}/cpu", "pip install --no-cache-dir --no-deps"),
    ):
        (step,) = re.findall(r"^RUN (case .*?\n.*)$", text, re.MULTILINE)
        command = step.replace("\\\n", " ").replace("pip install", "echo pip install").replace("requirements.lock", "/dev/null")
        said = subprocess.run(
            ["sh", "-c", command], env={"TORCH_INDEX": given, "PATH": os.environ["PATH"]}, capture_output=True, text=True
        )
        assert " ".join(said.stdout.split()).startswith(wanted), said.stdout


def test_the_job_of_kuberay_keeps_the_study_beside_the_driver() -> None:
    claim, job = yaml.safe_load_all((ROOT / "docker" / "kuberay.yaml").read_text())
    cluster = job["spec"]["rayClusterSpec"]
    head = cluster["headGroupSpec"]
    (worker,) = cluster["workerGroupSpecs"]
    assert (job["apiVersion"], job["kind"], cluster["rayVersion"]) == ("ray.io/v1", "RayJob", metadata.version("ray"))
    assert cluster["authOptions"] == {"mode": "token"}
    (volume,) = head["template"]["spec"]["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert "volumes" not in worker["template"]["spec"]
    assert worker["minReplicas"] <= worker["replicas"] <= worker["maxReplicas"]
    for group in (head, worker):
        (container,) = group["template"]["spec"]["containers"]
        assert container["image"] == "nasplug"
        flags = "".join(f" --{name}={value}" for name, value in group["rayStartParams"].items())
        known("start", f"--address=x:1{flags}")
    program, command, config, *more = job["spec"]["entrypoint"].split()
    assert (program, command) == ("nasplug", "run")
    assert more[:3] == ["--address", "auto", "store=/data/runs"]
    Study.from_yaml(ROOT / config, more[2:])


def test_the_file_for_ray_up_is_what_ray_accepts() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    given = yaml.safe_load((ROOT / "docker" / "ray-up.yaml").read_text())
    whole = prepare_config(given)
    validate_config(whole)
    assert {"head_ip", "worker_ips", "type"} <= whole["provider"].keys()
    for line in (*given["head_start_ray_commands"], *given["worker_start_ray_commands"]):
        mode, _, command = line.partition("ray ")
        known(*command.split())
        assert command == "stop" or mode == "RAY_AUTH_MODE=token "


def known(command: str, *flags: str) -> None:
    """A command line that Ray's own parser takes; nothing is started."""
    from ray.scripts.scripts import cli

    cli.commands[command].make_context(command, " ".join(flags).split())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ours(marker: str) -> list[int]:
    """The processes that work in our temporary folder: Ray's daemons outlive the command that started them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if marker in (folder / "cmdline").read_bytes().decode(errors="replace") and int(folder.name) != os.getpid():
                found.append(int(folder.name))
        except OSError:  # it has ended
            continue
    return found


def stop(marker: str) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in ours(marker):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        until = time.monotonic() + 5
        while ours(marker) and time.monotonic() < until:
            time.sleep(0.2)


RAY_IS_UP = "Ray runtime started"

Run = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def native(compose: Mapping[str, Any]) -> Iterator[tuple[Run, Callable[[str], str], Path]]:
    """Start a service's command here; its host names, ports and folder swapped for this machine's."""
    if sys.platform != "linux":
        pytest.skip("reads /proc to stop what it started")
    home = Path(tempfile.mkdtemp(prefix="nd", dir="/tmp"))  # short: Ray's sockets lie in it, and paths of sockets are short
    ray, mlflow = free_port(), free_port()
    swaps = {
        "ray-head:6379": f"127.0.0.1:{ray}",
        "--port=6379": f"--port={ray}",
        "http://mlflow:5000": f"http://127.0.0.1:{mlflow}",
        "mlflow:5000,localhost:5000,127.0.0.1:5000": f"127.0.0.1:{mlflow}",
        "http://127.0.0.1:5000": f"http://127.0.0.1:{mlflow}",
        "--port=5000": f"--port={mlflow}",
        "--host=0.0.0.0": "--host=127.0.0.1",
        "/data": str(home),
    }
    # what the services have in their containers, and nothing of the caller's Ray
    env = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_", "NASPLUG_"))}
    env |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_TMPDIR": str(home),
        "RAY_USAGE_STATS_ENABLED": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_NUM_THREADS": "1",
    }

    def swapped(text: str) -> str:
        for name, here in swaps.items():
            text = text.replace(name, here)
        return text

    def log_of(name: str) -> Path:
        return home / f"{name}.log"

    def spawn(name: str, command: list[str], more: str = "") -> subprocess.Popen[str]:
        words = [swapped(word) for word in command]
        words[-1] += more
        service = compose["services"][name]
        with log_of(name).open("a") as log:
            return subprocess.Popen(
                words,
                cwd=ROOT,
                env=env | service.get("environment", {}),
                stdout=log,
                stderr=log,
                start_new_session=True,
                text=True,
            )

    running: list[subprocess.Popen[str]] = []

    def start(name: str) -> subprocess.Popen[str]:
        process = spawn(name, compose["services"][name]["command"], f" {TINY}" if name == "study" else "")
        running.append(process)
        return process

    def ready(name: str) -> bool:
        """The service's own check; and a node of Ray has come up, as two that start at once on one machine take each
        other's ports (in containers each has its own)."""
        if "ray start" in " ".join(compose["services"][name]["command"][:2]) and RAY_IS_UP not in log_of(name).read_text():
            return False
        kind, *command = compose["services"][name].get("healthcheck", {"test": ["CMD", "true"]})["test"]
        assert kind == "CMD"
        return spawn(name, command).wait(PATIENCE) == 0

    def run(name: str) -> subprocess.Popen[str]:
        """As compose does: a service starts when those it depends on are up."""
        process = start(name)
        until = time.monotonic() + 2 * PATIENCE
        while name != "study" and not ready(name):
            said = log_of(name).read_text()[-3000:]
            assert process.poll() is None, said
            assert time.monotonic() < until, said
            time.sleep(0.5)
        return process

    try:
        yield run, swapped, home
    finally:
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
        stop(str(home))
        shutil.rmtree(home, ignore_errors=True)


@pytest.mark.slow
def test_the_services_work_together(native: tuple[Run, Callable[[str], str], Path]) -> None:
    run, swapped, home = native
    run("mlflow")
    run("ray-head")
    run("ray-worker")
    study = run("study")
    log = home / "study.log"
    try:
        assert study.wait(4 * PATIENCE) == 0, log.read_text()[-3000:]
    except subprocess.TimeoutExpired:
        pytest.fail(f"the study did not end: {log.read_text()[-3000:]}")

    from mlflow import MlflowClient

    uri = swapped("http://mlflow:5000")
    version = MlflowClient(uri, uri).get_model_version_by_alias("quickstart", "champion")
    done = Study.open(home / "runs" / "quickstart")
    assert version.tags["nasplug.replica"] == done.best()["replica"]
    state = json.loads((done.folder / "mlflow.json").read_text())
    assert state["uri"] == uri
    assert MlflowClient(uri, uri).get_run(state["run_id"]).data.metrics["networks"] == len(done.frame) == 16
    assert (done.folder / "ray").is_dir(), "the packs were trials of the cluster"
    assert any((home / "mlflow" / "files").rglob("*.pt2")), "the model's files are with the server"
    assert "quickstart@champion" in log.read_text()
