"""Packs that do not fit in memory: allocators that really refuse, and networks that end as they would have."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nasplug.machine import out_of_memory
from nasplug.packs import run_pack, training
from nasplug.plugins import load_plugins
from nasplug.study import Study

from .other_device import other_device

GREEDY = """
import json, os
import torch
from nasplug import Discretizer, Regularizer, hookimpl

def take(nets, most, width=0, calls=None):
    if nets.replicas > most and nets.widths[1] > width and (calls is None or len(calls) > 40):
        torch.empty(2**46)  # 256 TB, which no allocator gives
    if calls is not None:
        calls.append(1)

class Greedy(Regularizer):
    needs = frozenset({"blocks"})
    calls = []
    def __init__(self, share, most, width, late):
        self.share, self.most, self.width, self.late = share, most, width, late
    def __call__(self, nets):
        if "PLACES" in os.environ and "ray" in __import__("sys").modules:
            import ray
            if ray.get_runtime_context().worker.mode == ray.WORKER_MODE:
                got = ray.get_runtime_context().get_assigned_resources()
                told = {"rows": nets.replicas, "gpus": ray.get_gpu_ids(), **got}
                with open(os.path.join(os.environ["PLACES"], f"{os.getpid()}-{nets.replicas}"), "w") as file:
                    json.dump(told, file)
        take(nets, self.most, self.width, self.calls if self.late else None)
        return self.share * sum(w.abs().flatten(1).sum(1) for w in nets.blocks.values())

class Cut(Discretizer):
    needs = frozenset({"blocks"})
    def __init__(self, most):
        self.most = most
    def __call__(self, nets, score):
        take(nets, self.most)
        return nets

def greedy(*, share: float = 1.0, most: int = 3, width: int = 0, late: bool = False) -> Greedy:
    "A penalty that takes too much memory of more networks."
    return Greedy(share, most, width, late)

def greedy_cut(*, most: int = 3) -> Cut:
    "A discretizer that takes too much memory of more networks."
    return Cut(most)

@hookimpl
def register_regularizers(register):
    register("greedy", greedy)

@hookimpl
def register_discretizers(register):
    register("greedy", greedy_cut)
"""

SMALL: dict[str, Any] = {
    "study": "small",
    "task": {"use": "xor", "samples": 20},
    "method": {"use": "edges", "mode": "annealed", "hidden": [4]},
    "temperature": {"use": "linear", "start": 1.0, "end": 0.0, "until": 0.5},
    "discretizers": [{"use": "threshold", "eps": 0.01}],
    "train": {"steps": 60, "lr": 0.01, "batch": 5, "finetune": 10, "dtype": "float64", "keep": "best"},
    "seeds": 10,
    "resources": {"pack": 10},
    "linear": False,
    "mlflow": None,
}


@pytest.fixture(autouse=True)
def greedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The plugin, installed in a folder of its own."""
    place = tmp_path / "plugin"
    record = place / "nasplug_greedy-1.dist-info"
    record.mkdir(parents=True)
    (place / "nasplug_greedy.py").write_text(GREEDY)
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: nasplug-greedy\nVersion: 1\n")
    (record / "entry_points.txt").write_text("[nasplug]\ngreedy = nasplug_greedy\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(str(place))
    sys.modules.pop("nasplug_greedy", None)
    load_plugins.cache_clear()
    yield place
    load_plugins.cache_clear()


def study(store: Path, most: int, **changes: Any) -> Study:
    penalty = {"use": "greedy", "level": 0.001, "most": most}
    return Study.from_dict({"penalties": [penalty], **SMALL, **changes, "store": str(store)})


def same(one: Study, other: Study) -> None:
    """The same networks in the same places."""
    first, second = (s.frame.sort_values("replica").reset_index(drop=True) for s in (one, other))
    assert first["replica"].tolist() == second["replica"].tolist()
    assert first["seed"].tolist() == second["seed"].tolist()
    assert first["status"].tolist() == second["status"].tolist()
    for column in ("valid_loss", "test_loss", "relaxed_valid_loss"):
        np.testing.assert_allclose(first[column], second[column], rtol=1e-9, atol=1e-12)
    assert first["edges"].equals(second["edges"])
    for pack in ("p0000",):
        a, b = one.networks(pack), other.networks(pack)
        for edge, w in a.blocks.items():
            torch.testing.assert_close(w, b.blocks[edge], rtol=1e-9, atol=1e-12, equal_nan=True)


def portions(done: Study, pack: str = "p0000") -> int:
    return int(json.loads((done.folder / f"packs/{pack}/pack.json").read_text())["portions"])


STOP = {"stop": {"use": "halving", "rungs": 2, "keep": 0.5, "by": ["valid_loss", "edges"]}}


@pytest.mark.parametrize("changes", [pytest.param({}, marks=pytest.mark.slow), STOP], ids=["plain", "stop"])
def test_a_pack_that_does_not_fit_is_halved_and_its_networks_are_the_same(
    tmp_path: Path, changes: Mapping[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    whole = study(tmp_path / "a", 99, **changes).run("serial", report=False)
    assert portions(whole) == 1
    with caplog.at_level(logging.WARNING, "nasplug"):
        halved = study(tmp_path / "b", 3, **changes).run("serial", report=False)
    assert portions(halved) == 4
    assert "p0000 did not fit in memory; its 10 networks were trained in 4 portions" in caplog.text
    same(whole, halved)


@pytest.mark.slow
def test_discretizing_is_halved_too(tmp_path: Path) -> None:
    cut = [{"use": "threshold", "eps": 0.01}, {"use": "greedy", "most": 99}]
    whole = study(tmp_path / "a", 99, discretizers=cut).run("serial", report=False)
    cut[1]["most"] = 4
    halved = study(tmp_path / "b", 99, discretizers=cut).run("serial", report=False)
    assert (portions(whole), portions(halved)) == (1, 4)
    same(whole, halved)


def test_a_network_that_does_not_fit_alone_has_failed_and_the_study_has_not(tmp_path: Path) -> None:
    penalty = {"use": "greedy", "level": 0.001, "most": 0, "width": 4, "late": True}
    hidden = {"choice": [[4], [5]]}
    method = {"use": "edges", "mode": "annealed", "hidden": hidden}
    done = study(tmp_path, 0, method=method, penalties=[penalty], seeds=3).run("serial", report=False)
    wide = done.frame[done.frame["status"] == "failed"]
    assert len(wide) == 3
    assert done.frame["status"].tolist().count("finished") == 3
    (told,) = set(wide["error"])
    assert "one network of this pack does not fit in the memory of cpu" in told
    assert "you tried to allocate 281474976710656 bytes" in told
    assert "Traceback" not in told


def test_a_halved_pack_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = study(tmp_path / "a", 99).run("serial", report=False)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    halved = study(tmp_path / "b", 3)
    (pack,) = halved.plan()
    running = run_pack(halved.config, pack, halved.plugins, halved.folder / "packs" / pack.id)
    seen = [next(running).step for _ in range(7)]
    running.close()  # as if it were killed
    assert seen == [3, 6, 9, 12, 15, 18, 21]
    same(whole, halved.run("serial", report=False))
    record = json.loads((halved.folder / "packs/p0000/pack.json").read_text())
    assert record["seconds"]["resumed_at"] == 21
    assert record["portions"] == 4


@pytest.mark.slow
def test_portions_of_another_device_wait_in_the_cpus_memory(tmp_path: Path) -> None:
    whole = study(tmp_path / "a", 99, **STOP).run("serial", report=False)
    halved = study(tmp_path / "b", 3, **STOP)
    (pack,) = halved.plan()
    with other_device() as device:
        for _ in run_pack(halved.config, pack, halved.plugins, halved.folder / "packs" / pack.id, device=device):
            pass
    record = json.loads((halved.folder / "packs/p0000/pack.json").read_text())
    assert (record["portions"], record["device"]) == (4, device)
    same(whole, halved.run("serial", report=False))  # trains nothing: the pack is there


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of range"), False),
    ],
)
def test_which_errors_are_of_memory(error: Exception, ends: bool) -> None:
    assert out_of_memory(error) is ends


def test_an_allocator_of_numpy_and_of_torch_that_refuse() -> None:
    for allocate in (lambda: torch.empty(2**46), lambda: np.empty(2**46)):
        with pytest.raises((RuntimeError, MemoryError)) as refused:
            allocate()
        assert out_of_memory(refused.value)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_a_process_whose_memory_is_limited(tmp_path: Path) -> None:
    """The kernel refuses: 64 wide networks take more than the 600 MB that the process may still have.

    A small study goes first: threads and modules that come later would find no room either, which is no matter of packs.
    """
    config = SMALL | {
        "store": str(tmp_path),
        "method": {"use": "edges", "mode": "l1", "hidden": [512]},
        "task": {"use": "xor", "samples": 2000},
        "penalties": [{"use": "l1", "level": 0.001}],
        "temperature": None,
        "train": {"steps": 2, "lr": 0.01, "compile": False, "reports": 2},
        "seeds": 64,
        "resources": {"pack": 64},
    }
    code = f"""
    import json, resource
    from nasplug.study import Study
    config = json.loads({json.dumps(json.dumps(config))})
    Study.from_dict(config | {{"study": "before", "seeds": 4}}).run("serial", report=False)
    study = Study.from_dict(config)
    packs = study.plan()
    now = 1024 * int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmSize")))
    resource.setrlimit(resource.RLIMIT_AS, (now + 600 * 2**20, resource.RLIM_INFINITY))
    study.run("serial", report=False)
    """
    # Arrow's own pools and arenas of malloc per thread reserve addresses, which the limit counts.
    env = os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    finished = Study.open(tmp_path / "small")
    assert set(finished.frame["status"]) == {"finished"}
    assert portions(finished) > 1


@pytest.mark.slow
def test_ray_places_packs_by_their_size_and_halves_those_that_do_not_fit(tmp_path: Path, greedy: Path) -> None:
    """Two GPUs that Ray alone counts: which pack asks for what is tested, and where it would go, not a GPU."""
    places = tmp_path / "places"
    places.mkdir()
    config = SMALL | {
        "store": str(tmp_path),
        "task": {"use": "xor", "samples": {"choice": [16, 20, 24]}},
        "penalties": [{"use": "greedy", "level": {"choice": [0.001, 0.01]}, "most": 5}],
        "seeds": 4,
        "resources": {"pack": 8, "cpus": 0.25, "gpus": 0.5, "device": "cpu", "cpu_below": 5},
    }
    small = config | {"study": "few", "seeds": 2}
    code = f"""
    import json, os
    import ray
    ray.init(num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
    from nasplug.study import Study
    for config in json.loads({json.dumps(json.dumps([config, small]))}):
        Study.from_dict(config).run("ray", report=False)
    """
    env = os.environ | {"PLACES": str(places), "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False, env=env, timeout=480
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name, halved, rows in (("small", 2, 24), ("few", 1, 12)):
        ran = Study.open(tmp_path / name)
        assert ran.frame["status"].tolist() == ["finished"] * rows
        assert {portions(ran, pack) for pack in ("p0000", "p0001", "p0002")} == {halved}
    told = [json.loads(path.read_text()) for path in places.iterdir()]
    large, few = ([one for one in told if one["rows"] == rows] for rows in (8, 4))
    assert {one["GPU"] for one in large} == {0.5}
    assert {gpu for one in large for gpu in one["gpus"]} <= {0, 1, "0", "1"}
    assert any("GPU" not in one for one in few), "packs of 4 are on CPUs"
    assert {one["CPU"] for one in told} == {0.25}
