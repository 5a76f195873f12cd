"""A cluster whose nodes have nothing in common but a cable: each with its own address, files, processes and host name.

Linux namespaces make them on one machine. That takes root, and nothing outside the namespaces is reached or changed.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
import yaml

from nasplug.study import Study
from tests.faults.broken_plugins import put
from tests.processes import PATIENCE

TOOLS = ("unshare", "nsenter", "ip", "mount", "hostname")
HEAD, PLUG, WORKER = "10.203.0.1", "10.203.0.3", "10.203.0.2"
APART = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]
HELD = """
import time
from pathlib import Path

import nasplug.packs.training
from nasplug import hookimpl
from nasplug.contracts import Regularizer

nasplug.packs.training.CHECKPOINT_SECONDS = 0.0


class Held(Regularizer):
    needs = frozenset({"blocks"})

    def __init__(self, until):
        self._until, self._calls = Path(until), 0

    def __call__(self, nets):
        self._calls += 1
        while self._calls > 200 and not self._until.exists():
            time.sleep(0.05)
        return sum(w.abs().sum((1, 2)) for w in nets.blocks.values())


def held(*, until: str = ""):
    return Held(until)


@hookimpl
def register_regularizers(register):
    register("held", held)
"""
"""A penalty in which training waits, after its first reports, until a file is there."""
SOON = {"RAY_health_check_period_ms": "1000", "RAY_health_check_timeout_ms": "2000", "RAY_health_check_failure_threshold": "5"}


class Island:
    """A machine of its own, as far as its programs can tell; ``bare``: folders that are empty there."""

    def __init__(self, name: str, bare: Sequence[Path]) -> None:
        said = [f"hostname {name}", "ip link set lo up", *(f"mount -t tmpfs none {folder}" for folder in ("/dev/shm", *bare))]
        self._outside = subprocess.Popen(
            [*APART, "sh", "-c", " && ".join([*said, "echo up", "exec sleep infinity"])], stdout=subprocess.PIPE, text=True
        )
        assert self._outside.stdout is not None
        assert self._outside.stdout.readline() == "up\n"
        (inside,) = psutil.Process(self._outside.pid).children()
        self.pid = inside.pid

    def command(self, *words: str) -> list[str]:
        """The command that runs another one here."""
        return ["nsenter", "--target", str(self.pid), "--net", "--mount", "--uts", "--pid", *words]

    def run(self, *words: str, env: dict[str, str] | None = None) -> None:
        done = subprocess.run(self.command(*words), env=env, capture_output=True, text=True, timeout=120, cwd="/")
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"

    def sink(self) -> None:
        """The machine with all its programs is gone at once."""
        self._outside.kill()
        self._outside.wait()


@pytest.fixture
def islands(tmp_path: Path) -> Iterator[tuple[Island, Island, Path]]:
    """Two, with a cable between them; and a short folder, which is empty on the second, as is the test's own."""
    if sys.platform != "linux" or os.geteuid() or not all(map(shutil.which, TOOLS)):
        pytest.skip(f"needs Linux, root and {', '.join(TOOLS)}")
    if subprocess.run([*APART, "true"], capture_output=True).returncode:
        pytest.skip("namespaces are not allowed here")
    short = Path(tempfile.mkdtemp(prefix="ni"))  # Ray's sockets lie in it, and paths of sockets are short
    head, worker = Island("head", ()), Island("worker", (short, tmp_path))
    try:
        subprocess.run(
            f"ip link add cable netns {head.pid} type veth peer name cable netns {worker.pid}".split(), check=True, timeout=30
        )
        head.run("ip", "address", "add", f"{HEAD}/32", "dev", "lo")  # there also when the cable is gone
        for island, address in ((head, PLUG), (worker, WORKER)):
            island.run("ip", "address", "add", f"{address}/24", "dev", "cable")
            island.run("ip", "link", "set", "cable", "up")
        yield head, worker, short
    finally:
        head.sink()
        worker.sink()
        shutil.rmtree(short, ignore_errors=True)


@pytest.fixture
def common() -> Iterator[Path]:
    """A folder that both nodes have, as they have Python; no study is in it."""
    with tempfile.TemporaryDirectory(prefix="nc") as folder:
        yield Path(folder)


@pytest.mark.slow
def test_a_cluster_without_a_shared_file_system(islands: tuple[Island, Island, Path], common: Path, tmp_path: Path) -> None:
    """Two packs, one on each node; the node beside the driver's is lost when both have sent a checkpoint."""
    head, worker, short = islands
    desk = tmp_path / "desk"
    desk.mkdir()
    (desk / "sums.csv").write_text("a,b,c\n" + "".join(f"{i % 7},{i % 5},{i % 7 + i % 5 + 0.5}\n" for i in range(60)))
    study = {
        "study": "apart",
        "task": {"use": "table", "validation": "holdout", "path": "sums.csv", "target": "c", "kind": "regression"},
        "method": {"use": "edges", "mode": "l1", "hidden": [4]},
        "penalties": [{"use": "held", "until": str(common / "go"), "level": {"choice": [0.001, 0.01]}}],
        "train": {"steps": 2000, "lr": 0.01, "reports": 25, "finetune": 5, "compile": False},
        "resources": {"pack": 4},
        "seeds": 4,
        "linear": False,
        "reach": None,
        "mlflow": None,
    }
    (desk / "study.yaml").write_text(yaml.safe_dump(study))
    (short / "token").write_text(token := secrets.token_hex(16))
    put(common, "nasplug-held", HELD)
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    quiet["PYTHONPATH"] = os.pathsep.join([str(common), *sys.path])
    quiet |= {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", **SOON}
    node = quiet | {"RAY_AUTH_TOKEN": token}
    ray = [str(Path(sys.executable).parent / "ray"), "start", "--num-cpus=1", "--object-store-memory=100000000"]
    head.run(
        *ray, "--head", f"--node-ip-address={HEAD}", "--port=6379", "--include-dashboard=false", f"--temp-dir={short}", env=node
    )
    worker.run(*ray, f"--node-ip-address={WORKER}", f"--address={HEAD}:6379", env=node)
    run = [sys.executable, "-m", "nasplug", "run", "study.yaml", "--address", f"{HEAD}:6379", "--quiet"]
    log, folder = desk / "log", desk / "runs/apart"
    with log.open("w") as said:
        driver = subprocess.Popen(
            head.command(f"--wd={desk}", *run),
            env=quiet | {"RAY_AUTH_TOKEN_PATH": str(short / "token")},
            stdout=said,
            stderr=said,
        )
    until = time.monotonic() + 5 * PATIENCE
    lost = False
    while driver.poll() is None:
        assert time.monotonic() < until, log.read_text()
        if not lost and len(list(folder.glob("packs/*/checkpoint.safetensors"))) == 2:
            worker.sink()
            (common / "go").touch()
            lost = True
        time.sleep(0.05)
    assert driver.returncode == 0, log.read_text()[-3000:]
    assert lost
    assert token not in log.read_text()
    resumed = [path for path in folder.glob("packs/*/pack.json") if '"resumed_at": 0.0' not in path.read_text()]
    assert len(resumed) == 1
    serial = [sys.executable, "-m", "nasplug", "run", "study.yaml", "store=serial", "--runner", "serial", "--quiet"]
    subprocess.run(serial, cwd=desk, env=quiet, check=True, stdout=subprocess.DEVNULL)
    assert Study.open(folder).frame.equals(Study.open(desk / "serial/apart").frame)
    left, right = ({path.relative_to(home) for path in home.glob("packs/**/*")} for home in (folder, desk / "serial/apart"))
    assert left == right
