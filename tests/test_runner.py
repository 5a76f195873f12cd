"""Both runners for real: the same results, packs that fail, several nodes. Kills: faults/test_moments.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nasplug import files, hookimpl
from nasplug.errors import NasplugError
from nasplug.folder import claim, held
from nasplug.packs import TABLE
from nasplug.runner import RayRunner
from nasplug.runner.joining import in_ready_workers, unanswered
from nasplug.study import Study

from .processes import PATIENCE

SMALL: dict[str, Any] = {
    "study": "small",
    "task": {"use": "xor", "samples": 20},
    "method": {"use": "edges", "mode": "annealed", "hidden": [4]},
    "penalties": [{"use": "l1", "level": {"choice": [0.001, 0.01]}, "ramp": {"use": "linear"}}],
    "temperature": {"use": "linear", "start": 1.0, "end": 0.0, "until": 0.5},
    "discretizers": [{"use": "threshold", "eps": 0.01}],
    "train": {"steps": 60, "lr": 0.01, "finetune": 10},
    "seeds": 4,
    "resources": {"pack": 4},
    "mlflow": None,
}


def study(store: Path, **changes: Any) -> Study:
    return Study.from_dict({**SMALL, "store": str(store), **changes})


def comparable(frame: Any) -> Any:
    return frame.sort_values("replica").reset_index(drop=True)


def test_serial_study_is_reproducible_and_resumes(tmp_path: Path, gpus: int) -> None:
    resources = {"pack": 4, "gpus": gpus}
    first = study(tmp_path / "a", resources=resources).run("serial")
    again = study(tmp_path / "b", resources=resources).run("serial")
    for column in ("valid_loss", "test_loss", "edges"):
        assert (comparable(first.frame)[column] == comparable(again.frame)[column]).all()
    written = {p: p.stat().st_mtime_ns for p in (tmp_path / "a").glob(f"small/packs/*/{TABLE}")}
    assert len(written) == 2
    study(tmp_path / "a", resources=resources).run("serial")
    assert written == {p: p.stat().st_mtime_ns for p in written}


def test_a_study_leaves_the_arithmetic_of_its_process_alone(tmp_path: Path) -> None:
    study(tmp_path).run("serial")
    assert float(torch.full((), 1e-40) * 1.0) > 0.0


def test_rows_do_not_depend_on_their_pack(tmp_path: Path, gpus: int) -> None:
    double = {**SMALL["train"], "dtype": "float64"}
    whole = study(tmp_path / "a", train=double, resources={"pack": 8, "gpus": gpus}).run("serial").frame
    split = study(tmp_path / "b", train=double, resources={"pack": 1, "gpus": gpus}).run("serial").frame
    key = ["penalties.0.level", "seed"]
    whole, split = whole.sort_values(key), split.sort_values(key)
    np.testing.assert_allclose(whole["valid_loss"], split["valid_loss"], rtol=1e-9, atol=1e-12)
    assert whole["edges"].tolist() == split["edges"].tolist()


def test_a_diverging_row_is_reported_and_harms_no_neighbour(tmp_path: Path, gpus: int) -> None:
    resources = {"pack": 64, "gpus": gpus}
    rates = {"choice": [0.01, 1e30]}
    mixed = study(tmp_path / "a", train={**SMALL["train"], "lr": rates}, resources=resources).run("serial").frame
    wild = mixed[mixed["train.lr"] > 1]
    tame = mixed[mixed["train.lr"] < 1]
    assert set(wild["status"]) == {"diverged"}
    assert set(tame["status"]) == {"finished"}
    rates = {"choice": [0.01, 0.02]}
    calm = study(tmp_path / "b", train={**SMALL["train"], "lr": rates}, resources=resources).run("serial").frame
    calm = calm[calm["train.lr"] == 0.01]
    assert tame["valid_loss"].tolist() == calm["valid_loss"].tolist()
    assert tame["edges"].tolist() == calm["edges"].tolist()


def test_a_pack_that_fails_for_good_leaves_the_others(tmp_path: Path) -> None:
    broken = study(tmp_path)
    (broken.folder / "packs").mkdir(parents=True)
    (broken.folder / "packs" / "p0001").write_text("a file where the pack's folder should be")
    frame = broken.run("serial").frame
    counts = frame["status"].value_counts().to_dict()
    assert counts == {"finished": 4, "failed": 4}
    assert frame[frame["status"] == "failed"]["error"].str.contains("p0001").all()
    assert broken.best()["replica"].startswith("p0000")
    (broken.folder / "packs" / "p0001").unlink()
    assert set(study(tmp_path).run("serial").frame["status"]) == {"finished"}


@pytest.mark.slow
def test_ray_gives_what_serial_gives(tmp_path: Path) -> None:
    """Two studies by one runner, one after the other, and while the first one runs a third, which is refused."""
    runner, refused, before = RayRunner(), [], dict(os.environ)
    kept = Path.home() / ".ray" / "auth_token"
    written = kept.stat().st_mtime_ns if kept.exists() else 0

    class Second:
        @hookimpl
        def pack_finished(self, pack: str, folder: Path) -> None:
            with pytest.raises(NasplugError, match="another study of this process has started Ray") as told:
                study(tmp_path / "third").run(runner)
            refused.append(told)

    ray_frame = comparable(study(tmp_path / "ray").run(runner, observers=[Second()]).frame)
    assert len(refused) == len(list((tmp_path / "ray/small/packs").iterdir()))
    assert not [name for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN") if os.environ.get(name) != before.get(name)]
    study(tmp_path / "more", seeds=1).run(runner)  # Ray's library remembers the token of the first
    assert not (tmp_path / "third").exists() or not list((tmp_path / "third").rglob("*.*"))
    serial_frame = comparable(study(tmp_path / "serial").run("serial").frame)
    assert ray_frame["replica"].tolist() == serial_frame["replica"].tolist()
    whole = {path.relative_to(tmp_path / "serial"): path for path in (tmp_path / "serial/small/packs").rglob("*")}
    assert whole.keys() == {path.relative_to(tmp_path / "ray") for path in (tmp_path / "ray/small/packs").rglob("*")}
    for name in [name for name in whole if name.suffix == ".safetensors"]:
        (ours, told), (theirs, same) = files.read_tensors(tmp_path / "ray" / name), files.read_tensors(whole[name])
        assert told == same
        assert all(torch.equal(ours[key], theirs[key]) for key in ours.keys() | theirs.keys())
    for column in ("valid_loss", "test_loss", "edges"):
        assert ray_frame[column].tolist() == serial_frame[column].tolist()
    assert (kept.stat().st_mtime_ns if kept.exists() else 0) == written  # nothing is left in the user's home


COLLECTED = """
import threading, time
from nasplug.runner.joining import join, leave

for _ in range(2):
    assert join(None, 1)
    import ray  # its library reads the token that was made for it

    refs, ended = [ray.put(n) for n in range(3000)], threading.Event()

    def work():
        while refs and not ended.is_set():
            cycle = [refs.pop()]
            cycle.append(cycle)
            del cycle
            for _ in range(40):
                [[] for _ in range(20)]  # so many objects that Python collects
            time.sleep(0.0002)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.05)
    leave(started=True)
    assert refs
    ended.set()
    thread.join()
print("whole")
"""


@pytest.mark.slow
def test_what_other_threads_collect_while_ray_stops_ends_no_process() -> None:
    done = subprocess.run([sys.executable, "-c", COLLECTED], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, done.stdout.split()) == (0, ["whole"]), done.stderr[-2000:]


def test_what_of_rays_inside_spares_time_is_where_it_was() -> None:
    """An autoscaler that can be ended first; the variable for which Tune's trials would not take workers that are ready."""
    from ray._private import node, worker
    from ray.tune.execution import class_cache

    assert callable(node.Node.kill_monitor)
    assert hasattr(worker, "_global_node")
    before = dict(class_cache.DEFAULT_ENV_VARS)
    with in_ready_workers():
        assert not class_cache.DEFAULT_ENV_VARS
    assert before == class_cache.DEFAULT_ENV_VARS


def test_who_does_not_answer_is_told_in_whole_sentences() -> None:
    for why in ("the GCS has become overloaded.", "the GCS has become overloaded"):
        assert unanswered("Ray", why, "Take serial") == "Ray does not answer: the GCS has become overloaded. Take serial"


def test_a_worker_imports_what_it_needs() -> None:
    """What plugins have beside the parts of studies, commands say, imports the rest when it is called."""
    code = """
import sys
import nasplug.runner.workers
from nasplug.plugins import load_plugins
load_plugins()
print("imported:", *sorted(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stdout.splitlines()[-1].split()[1:])
    assert "torch" in imported
    unwanted = {"nasplug.study", "nasplug.report", "nasplug.tracking", "nasplug.results", "matplotlib", "mlflow", "optuna"}
    assert not unwanted & imported


@pytest.mark.slow
def test_two_nodes_and_fractions_of_gpus(tmp_path: Path) -> None:
    """Two raylets on this machine; GPUs are counted by Ray alone here, so what is tested is the scheduling."""
    code = f"""
import json, os
os.environ["RAY_AUTH_MODE"] = "disabled"
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={{"num_cpus": 1, "num_gpus": 1, "include_dashboard": False}})
cluster.add_node(num_cpus=1, num_gpus=1)
from nasplug.study import Study
config = json.loads({json.dumps(json.dumps({**SMALL, "store": str(tmp_path), "seeds": 16}))})
config["resources"] = {{"cpus": 0.5, "gpus": 0.5, "pack": 8, "device": "cpu"}}
study = Study.from_dict(config).run("ray", address=cluster.address)
assert set(study.frame["status"]) == {{"finished"}} and len(study.frame) == 32
cluster.shutdown()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=5 * PATIENCE)
    assert done.returncode == 0, done.stderr[-3000:]


def test_swept_tasks_keep_their_own_scales_and_passwords_stay_out_of_files(tmp_path: Path) -> None:
    both = study(
        tmp_path,
        task={"use": "cornn", "function": {"choice": ["sphere", "ridge"]}, "train": 100, "test": 50},
        resources={"pack": 64},
        mlflow={"uri": f"sqlite:///{tmp_path}/m.db?password=hush"},
    )
    both.check()
    with held(both.config):
        claim(both.config, both.plan(), both.plugins)
    assert "hush" not in (both.folder / "study.yaml").read_text()
    quiet = study(tmp_path / "q", task=both.config.task.model_dump(), resources={"pack": 64}).run("serial")
    names = {str(quiet.task_of(replica).name) for replica in quiet.frame["replica"]}
    assert len(names) == 2
