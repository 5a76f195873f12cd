"""How long does a study of 100,000 networks take from start to report, and how much of it is not training?

    python benchmarks/scale.py [--quick] [--eager] [--networks N] [--steps T] [--runner ray|serial]
    python benchmarks/scale.py --workers 8 [--pack-seconds S]

The study is XOR, `[2,4,1]`, 200 samples at each step, 1,000 steps, in a fresh process with its report; start-up is included,
MLflow is not. `--quick` takes 20,000 networks; `--eager` is the same study without compiled steps (`train.compile: false`): the
control.

The last line is one JSON object: `seconds` (wall), `cpu_seconds` of all processes (runner serial alone; they hold where other
programs run, too), `driver_mb` (the largest resident memory of the driver), `bytes_per_network` (the study's folder on disk),
`beside_training` (the share of the time in which no pack was in its training loop), `programs` (packs with
compiled steps, of `packs`) and `stages` (seconds that packs took to build, train and harden, added up).

With `--workers` a cluster is simulated: so many workers of Ray on this machine, whatever cores it has, train packs that sleep
in each step. What is asked is whether the driver and the collector keep them busy: `busy_share_8` is the share of the workers'
time that packs are in their training loop, from the moment that each worker has begun a pack to that at which the last pack
begins. Before it workers start (each imports torch; cores are the limit of that), after it too few packs are left.
`ramp_seconds` and `window_seconds` say how long that took. All packs together have to last longer than the workers take to
start: on 2 cores that others used, 64 workers began 145 s after each other. A worker takes 270 MB of memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

XOR: dict[str, Any] = {
    "study": "xor",
    "task": {"use": "xor"},
    "method": {"use": "edges", "mode": "annealed", "hidden": [4]},
    "penalties": [{"use": "l1", "level": {"log": [1e-4, 1e-1], "points": 100}}],
    "discretizers": [{"use": "threshold", "tolerance": 0.02}],
    "train": {"lr": 0.01},
    "linear": False,
    "reach": None,
    "mlflow": None,
}


def inside(config: Mapping[str, Any], runner: Literal["ray", "serial"]) -> None:
    """The child process: run one study and print its figures."""
    began = time.perf_counter()
    from nasplug.hookspecs import Progress, hookimpl
    from nasplug.study import Study

    spans: dict[str, list[float]] = {}

    class Watch:
        @hookimpl
        def pack_reported(self, pack: str, progress: Progress) -> None:
            now = time.perf_counter()
            spans.setdefault(pack, [now - progress.seconds, now])[1] = now

    study = Study.from_dict(config).run(runner, observers=[Watch()])
    total = time.perf_counter() - began
    covered, end = 0.0, 0.0
    for first, last in sorted(spans.values()):
        covered += max(0.0, last - max(first, end))
        end = max(end, last)
    stages: Counter[str] = Counter()
    packs = [json.loads(p.read_text())["seconds"] for p in (study.folder / "packs").glob("*/pack.json")]
    for pack in packs:
        stages.update(pack)
    networks = len(study.frame)
    finished = study.frame[study.frame["status"] == "finished"]
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(each.ru_utime + each.ru_stime for each in used)
    print(
        json.dumps(
            {
                "networks": networks,
                "seconds": total,
                "cpu_seconds": seconds if runner == "serial" else None,
                "driver_mb": used[0].ru_maxrss / 1024,
                "bytes_per_network": sum(p.stat().st_size for p in study.folder.rglob("*") if p.is_file()) / networks,
                "beside_training": 1.0 - covered / total,
                "packs": len(packs),
                "programs": int(stages["compiled"]),
                "valid_loss": float(finished["valid_loss"].median()),
                "solved": float((finished["valid_error"] == 0).mean()),
                "stages": {name: stages[name] for name in ("build", "train", "harden")},
            }
        )
    )


def study(
    networks: int,
    steps: int,
    *,
    runner: Literal["ray", "serial"],
    compile: bool | Literal["auto"] = "auto",
    device: str = "auto",
    allow_tf32: bool = False,
) -> dict[str, Any]:
    """Run one study in a fresh process.

    Raises:
        SystemExit: with the end of what it said, where it failed.
    """
    train = {**XOR["train"], "steps": steps, "compile": compile, "allow_tf32": allow_tf32}
    with tempfile.TemporaryDirectory() as folder:
        whole = {"store": folder, "seeds": max(1, networks // 100), "train": train, "resources": {"device": device}}
        command = [sys.executable, str(Path(__file__).resolve()), "--runner", runner, "--inside", json.dumps({**XOR, **whole})]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the study failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


ASLEEP = """
import time

from nasplug import hookimpl
from nasplug.contracts import Regularizer


class Asleep(Regularizer):
    needs = frozenset({"blocks"})

    def __init__(self, seconds):
        self._seconds = seconds

    def __call__(self, nets):
        time.sleep(self._seconds)
        return sum(w.abs().sum((1, 2)) for w in nets.blocks.values())


def asleep(*, seconds: float = 0.0):
    return Asleep(seconds)


@hookimpl
def register_regularizers(register):
    register("asleep", asleep)
"""
SLEEPS = 100  # steps of a pack that sleeps


def busy(spans: Mapping[str, Sequence[float]], workers: int) -> tuple[float, float, float]:
    """The share of the workers' time in which packs (first, last moment) trained, seconds until all had begun, and after that.

    Raises:
        SystemExit: where too few packs were there for all workers to have one at once.
    """
    moments = sorted((float(first), float(last)) for first, last in spans.values())
    began = next((at for at, _ in moments if sum(first <= at < last for first, last in moments) >= workers), None)
    ended = moments[-1][0]
    if began is None or ended <= began:
        raise SystemExit(f"{len(moments)} packs never kept {workers} workers busy at once; give more --packs, or longer ones")
    covered = sum(max(0.0, min(last, ended) - max(first, began)) for first, last in moments)
    return covered / (workers * (ended - began)), began - moments[0][0], ended - began


def cluster(workers: int, packs: int, seconds: float) -> dict[str, float]:
    """Run a study of so many packs that sleep, in a fresh process, on so many workers."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "nasplug_asleep.py").write_text(ASLEEP)
        told = home / "nasplug_asleep-1.0.dist-info"
        told.mkdir()
        (told / "METADATA").write_text("Metadata-Version: 2.1\nName: nasplug-asleep\nVersion: 1.0\n")
        (told / "entry_points.txt").write_text("[nasplug]\nnasplug-asleep = nasplug_asleep\n")
        config = {
            **XOR,
            "store": folder,
            "seeds": packs,
            "penalties": [{"use": "asleep", "level": 0.001, "seconds": seconds / SLEEPS}],
            "train": {"lr": 0.01, "steps": SLEEPS, "reports": 10, "finetune": 0, "compile": False},
            "resources": {"pack": 1},
        }
        command = [sys.executable, str(Path(__file__).resolve()), "--inside", json.dumps(config), "--workers", str(workers)]
        path = os.pathsep.join([folder, *sys.path])
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path})
        if done.returncode:
            raise SystemExit(f"the study failed:\n{done.stderr[-3000:]}")
        found = json.loads(done.stdout.splitlines()[-1])
    share, ramp, window = busy(found["spans"], workers)
    return {
        f"busy_share_{workers}": share,
        "ramp_seconds": ramp,
        "window_seconds": window,
        "seconds": found["seconds"],
        "packs": packs,
        "pack_seconds": seconds,
    }


def asleep(config: Mapping[str, Any], workers: int) -> None:
    """The child process of `cluster`: when each pack began and ended to train."""
    from nasplug.hookspecs import Progress, hookimpl
    from nasplug.runner import RayRunner
    from nasplug.study import Study

    spans: dict[str, list[float]] = {}

    class Watch:
        @hookimpl
        def pack_reported(self, pack: str, progress: Progress) -> None:
            now = time.perf_counter()
            spans.setdefault(pack, [now - progress.seconds, now])[1] = now

    began = time.perf_counter()
    Study.from_dict(config).run(RayRunner(cpus=workers), observers=[Watch()], report=False)
    print(json.dumps({"seconds": time.perf_counter() - began, "spans": spans}))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20,000 networks")
    parser.add_argument("--eager", action="store_true", help="without compiled steps: the control")
    parser.add_argument("--networks", type=int)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--runner", choices=("ray", "serial"), default="ray")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, help="simulate a cluster of so many workers, with packs that sleep")
    parser.add_argument("--packs", type=int, help="of the simulated cluster; 6 per worker if not given")
    parser.add_argument("--pack-seconds", type=float, default=60.0, help="that each of them sleeps")
    given = parser.parse_args()
    if given.workers:
        if given.inside:
            asleep(json.loads(given.inside), given.workers)
            return
        shown = cluster(given.workers, given.packs or 6 * given.workers, given.pack_seconds)
        share = shown[f"busy_share_{given.workers}"]
        print(
            f"{given.workers} workers, {shown['packs']} packs that sleep {given.pack_seconds:g} s each: "
            f"busy {100 * share:.1f} % of their time over {shown['window_seconds']:.0f} s; "
            f"all had begun {shown['ramp_seconds']:.0f} s after the first"
        )
        print(json.dumps(shown))
        return
    if given.inside:
        inside(json.loads(given.inside), given.runner)
        return
    networks = given.networks or (20_000 if given.quick else 100_000)
    figures = study(networks, given.steps, runner=given.runner, compile=False if given.eager else "auto")
    share = figures["beside_training"]
    print(
        f"{figures['networks']:,} XOR networks, {given.steps:,} steps, {figures['packs']} packs ({figures['programs']} with "
        f"compiled steps): {figures['seconds']:.0f} s, of which {100 * share:.0f} % beside training; driver "
        f"{figures['driver_mb']:.0f} MB, {figures['bytes_per_network']:.0f} bytes of disk per network"
    )
    print(json.dumps({"eager": given.eager, "quick": given.quick, **figures}))


if __name__ == "__main__":
    main()
