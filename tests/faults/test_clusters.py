"""Clusters that do not let us in, and workers that have other plugins than the driver: said in the words of the trouble."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nasplug.config import parse
from nasplug.errors import ConfigError, NasplugError
from nasplug.hookspecs import Register, hookimpl
from nasplug.plugins.loading import load_plugins
from nasplug.runner import RayRunner
from nasplug.study import Study
from tests.faults.clusters import head

STUDY = {
    "study": "small",
    "task": {"use": "xor", "samples": 20},
    "method": {"use": "edges", "mode": "l1", "hidden": [2]},
    "train": {"steps": 2},
    "resources": {"retries": 0},
    "mlflow": None,
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[str, int]]:
    with head() as found:
        yield found


@pytest.fixture
def guarded(cluster: tuple[str, int]) -> str:
    return cluster[0]


def run(address: str, folder: Path, **token: str) -> subprocess.CompletedProcess[str]:
    study = folder / "study.yaml"
    study.write_text(str(STUDY | {"store": str(folder / "runs")}).replace("None", "null"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    return subprocess.run(
        [sys.executable, "-m", "nasplug", "run", str(study), "--address", address, "--quiet"],
        capture_output=True,
        text=True,
        check=False,
        env=kept | {"HOME": str(folder)} | token,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("token", "said"),
    [
        ({}, "wants a token, and none is given"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "f" * 32}, "wants another token than that in RAY_AUTH_TOKEN"),
    ],
)
def test_a_cluster_that_wants_a_token_says_so(guarded: str, tmp_path: Path, token: dict[str, str], said: str) -> None:
    done = run(guarded, tmp_path, **token)
    assert done.returncode == 1
    assert f"Error: Ray at address '{guarded}' {said}. Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN (or " in done.stderr
    assert "does not answer" not in done.stderr
    assert "Traceback" not in done.stderr
    assert "f" * 32 not in done.stderr


def test_a_token_that_is_not_there_is_refused_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RAY_AUTH")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    config = parse(STUDY)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(ConfigError, match=r"RAY_AUTH_MODE is 'token', and no token is given\. Set RAY_AUTH_MODE=token, and"):
        RayRunner("127.0.0.1:1").check(config)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(ConfigError, match=r"RAY_AUTH_TOKEN_PATH: .*token cannot be read \(No such file"):
        RayRunner("127.0.0.1:1").check(config)
    (tmp_path / "token").write_text(" \n")
    with pytest.raises(ConfigError, match="token is empty; needed: the cluster's token"):
        RayRunner("127.0.0.1:1").check(config)
    (tmp_path / "token").write_text("hush")
    with pytest.raises(NasplugError, match="does not answer") as refused:
        RayRunner("127.0.0.1:1").check(config)
    assert "hush" not in str(refused.value)


def offering(name: str) -> object:
    """A plugin with a schedule of that name."""

    class Offering:
        @hookimpl
        def register_schedules(self, register: Register) -> None:
            register(name, lambda: lambda progress: progress)

    return Offering()


@pytest.mark.slow
def test_a_worker_with_other_plugins_tells_every_difference(tmp_path: Path) -> None:
    plugins = load_plugins.__wrapped__()
    for name in ("one", "two"):
        plugins.add(offering(name), name, f"nasplug-{name}", "1.2")
    with pytest.raises(NasplugError) as refused:
        Study(parse(STUDY | {"store": str(tmp_path)}), plugins).run("ray")
    told = str(refused.value)
    assert "the driver and this worker differ; " in told
    assert "nasplug-one: driver has 1.2, this worker has none; nasplug-two: driver has 1.2, this worker has none; " in told
    assert "install the same on every node" in told
