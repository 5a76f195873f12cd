"""`benchmarks/gpu.py`: it refuses a wrong step, says what it skips, and runs where little is installed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]

BARE = """
import importlib.machinery, importlib.metadata, importlib.util, runpy, sys

AWAY = {
    "click", "jsonschema", "matplotlib", "mlflow", "optuna", "pandas", "pyarrow", "pydantic", "pytest", "ray", "rich",
    "safetensors", "scipy", "sklearn", "yaml",
}

finder = importlib.machinery.PathFinder
find = finder.find_spec

def find_what_is_here(name, path=None, target=None):
    first = name.partition(".")[0]
    return None if first in AWAY or first.startswith("nasplug_") else find(name, path, target)

finder.find_spec = find_what_is_here
finder.find_distributions = lambda *args, **kwargs: iter(())  # nasplug itself is not installed
assert importlib.util.find_spec("ray") is importlib.util.find_spec("nasplug_edges") is None
assert not list(importlib.metadata.distributions(name="nasplug"))
sys.path.insert(0, "benchmarks")  # as for a script that is run by its path
sys.argv[0] = "benchmarks/gpu.py"
runpy.run_path("benchmarks/gpu.py", run_name="__main__")
"""


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gpu

    return gpu


def eager(gpu: ModuleType, name: str, k: int) -> Any:
    return gpu.Program(next(work for work in gpu.WORKLOADS if work.name == name), "eager", k)


@pytest.mark.parametrize("name", ["xor", "breast_cancer", "mixture", "wide"])
@pytest.mark.parametrize("k", [1, 9])
def test_a_right_step_is_near_float64(gpu: ModuleType, name: str, k: int) -> None:
    program = eager(gpu, name, k)
    off = gpu.compare(program, *gpu.packed(program.work, torch.arange(k), torch.float32, "eager"))
    assert 0 < off < gpu.TOLERANCE / 20


@pytest.mark.parametrize("name", ["xor", "breast_cancer", "mixture", "wide"])
@pytest.mark.parametrize("mode", ["vmap", "alone"])
def test_what_it_is_compared_with_does_the_same(gpu: ModuleType, name: str, mode: str) -> None:
    k = 1 if mode == "alone" else 3
    program = gpu.Program(eager(gpu, name, k).work, mode, k)
    assert 0 < gpu.compare(program, *gpu.packed(program.work, torch.arange(k), torch.float32, mode)) < gpu.TOLERANCE / 20


def test_fewer_bits_are_measured_and_nonsense_is_refused(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    program = eager(gpu, "xor", 2)
    monkeypatch.setattr(gpu, "deviation", lambda *_: 0.02)
    with pytest.raises(SystemExit, match=r"at most 0\.001 is float32"):
        gpu.compare(program, None, None)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert gpu.compare(program, None, None) == 0.02
    monkeypatch.setattr(gpu, "deviation", lambda *_: math.nan)
    with pytest.raises(SystemExit, match=r"at most 0\.1 is TF32"):
        gpu.compare(program, None, None)


def test_a_cpu_captures_no_steps(gpu: ModuleType) -> None:
    for mode in ("captured", "compiled_captured"):
        program = gpu.Program(eager(gpu, "xor", 4).work, mode, 4)
        assert gpu.run(program, gpu.Figures(), torch.device("cpu"), 1) == "steps are captured on a GPU alone"


def test_a_study_says_what_is_missing(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "NEEDED", ("torch", "nothing_of_this_name"))
    with pytest.raises(SystemExit, match="nothing_of_this_name cannot be imported"):
        gpu.main(["--study", "--quick", "--device", "cpu"])


@pytest.mark.slow
def test_a_study_is_timed_whole(gpu: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main(["--study", "--quick", "--networks", "100", "--device", "cpu"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["networks"] == 100
    assert found["seconds"] > 0
    assert "seconds_100k" not in found
    assert set(found["stages"]) == {"build", "train", "harden"}


@pytest.mark.parametrize("name", ["xor", "breast_cancer", "mixture", "wide"])
def test_a_step_stays_on_its_device(gpu: ModuleType, name: str) -> None:
    """A tensor that is left on the CPU does not go with those of another device."""
    meta = torch.device("meta")
    state, once = gpu.packed(eager(gpu, name, 3).work, torch.arange(3, device=meta), torch.float32, "eager")
    assert once().device == meta
    assert {leaf.device for leaf in (*state.params.values(), *state.moments.values())} == {meta}


def freeze_last_row(params: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> None:
    for name, leaf in params.items():
        leaf[-1] = before[name][-1]


def freeze_a_leaf(params: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> None:
    params["bias 1"].copy_(before["bias 1"])


def lose_a_number(params: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> None:
    params["weight 2"][0, 0, 0] = torch.nan


@pytest.mark.parametrize("spoil", [freeze_last_row, freeze_a_leaf, lose_a_number])
def test_a_wrong_step_ends_the_run(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, spoil: Any) -> None:
    import modes

    right = modes.step

    def wrong(search: Any, params: dict[str, Tensor], *rest: Any) -> Any:
        before = {name: leaf.clone() for name, leaf in params.items()}
        found = right(search, params, *rest)
        if search.dtype == torch.float32:  # the reference stays right
            spoil(params, before)
        return found

    monkeypatch.setattr(modes, "step", wrong)
    with pytest.raises(SystemExit) as stopped:
        gpu.main(["--device", "cpu", "--workloads", "xor", "--modes", "eager", "--sizes", "64"])
    assert "xor, eager, K = 64" in str(stopped.value.code)  # words: Python prints them and ends with status 1


def test_what_was_not_compiled_has_no_figure(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any, **options: Any) -> Any:
        def program(*arguments: Any) -> Any:
            raise torch._dynamo.exc.TorchDynamoException("backend='inductor' raised:\nKeyError: 'buf18'\n\nSet TORCH_LOGS")

        return program

    monkeypatch.setattr(torch, "compile", fails)
    figures, program = gpu.Figures(), gpu.Program(gpu.WORKLOADS[0], "compiled", 4)
    why = gpu.run(program, figures, torch.device("cpu"), 1)
    assert "(backend='inductor' raised: KeyError: 'buf18')" in why
    assert figures.ns == figures.compile_seconds == {}


def test_what_does_not_fit_is_named(gpu: ModuleType) -> None:
    cpu, figures, program = torch.device("cpu"), gpu.Figures(), eager(gpu, "wide", 64)
    assert gpu.reason_to_skip(program, figures, cpu, 5, 150.0, 150.0) == ""
    assert gpu.reason_to_skip(eager(gpu, "wide", 10**9), figures, cpu, 5, 150.0, 150.0).startswith("memory: about")
    assert "0 of 150 s are left" in gpu.reason_to_skip(program, figures, cpu, 5, 150.0, 0.1)
    gpu.put(figures.ns, program, 1e9)  # a second per network
    assert "more than one program's share" in gpu.reason_to_skip(program, figures, cpu, 5, 150.0, 150.0)


def test_a_size_of_nothing_is_refused(gpu: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        gpu.options(["--sizes", "0"])
    assert stopped.value.code == 2
    assert "one network at least" in capsys.readouterr().err


@pytest.mark.slow
def test_it_runs_where_little_is_installed() -> None:
    arguments = ["--device", "cpu", "--workloads", "xor", "--sizes", "64", str(10**9), "--seconds", "200"]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", BARE, *arguments], capture_output=True, text=True, check=False, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["torch"] == torch.__version__
    assert found["device"]
    ns = found["ns_per_network_step"]["xor"]
    assert set(ns) == {"eager", "compiled", "vmap", "alone"}
    assert all(set(sizes) == {"1" if mode == "alone" else "64"} and min(sizes.values()) > 0 for mode, sizes in ns.items())
    assert found["best_ns"]["xor"] == min(ns["eager"]["64"], ns["compiled"]["64"])
    assert found["skipped"]["xor"]["captured"]["64"] == "steps are captured on a GPU alone"
    assert ns["compiled"]["64"] < ns["eager"]["64"]
    assert found["limit"]["ns"] == {"xor": 0.122}
    assert found["limit"]["arithmetic_ns"] == {"xor": 0.003}
    assert found["limit"]["fraction"]["xor"]["eager"]["64"] == pytest.approx(0.1218 / ns["eager"]["64"], rel=1e-3)
    assert all(mode[str(10**9)].startswith("memory") for mode in found["skipped"]["xor"].values())
    assert found["memory_bytes"] > found["peak_bytes"] > 0


def test_a_study_of_directions_is_one_pack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import monotone

    (pack,) = monotone.study(tmp_path / "m", 120, 0, monotone.TRUE).plan()
    assert pack.rows == 4 * monotone.SEEDS


def test_the_share_of_workers_that_are_busy() -> None:
    import scale

    spans = {"a": (0.0, 4.0), "b": (1.0, 5.0), "c": (4.0, 9.0), "d": (6.0, 9.0)}  # the second worker waits from 5 to 6
    assert scale.busy(spans, 2) == (pytest.approx(9 / 10), 1.0, 5.0)
    with pytest.raises(SystemExit, match="4 packs never kept 3 workers busy"):
        scale.busy(spans, 3)
