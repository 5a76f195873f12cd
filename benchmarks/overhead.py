"""What a study costs beside training: planning, Ray, MLflow, the report, and the driver's memory.

    python benchmarks/overhead.py [--quick]

Each study is a fresh process on two cpus, start-up included. "Outside the training loop" is the wall time during which not even
one pack was inside its loop; fine-tuning and discretizing count as outside too. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CANCER: dict[str, Any] = {
    "study": "cancer",
    "task": {"use": "breast_cancer", "validation": "holdout"},
    "method": {"use": "edges", "mode": "annealed", "hidden": [32]},
    "penalties": [{"use": "l1", "level": {"log": [1e-5, 1e-1], "points": 25}, "ramp": {"use": "linear", "until": 0.3}}],
    "temperature": {"use": "geometric", "start": {"choice": [1.0, 3.0]}, "end": 0.05},
    "discretizers": [{"use": "threshold", "tolerance": 0.02}],
    "train": {"steps": 1500, "batch": 64, "lr": {"choice": [0.003, 0.01]}, "finetune": 200},
    "seeds": 20,
    "linear": False,
    "reach": None,
}
XOR: dict[str, Any] = {
    "study": "xor",
    "task": {"use": "xor", "samples": 4, "samples_valid": 4, "samples_test": 4, "noise": 0.0},
    "method": {"use": "edges", "mode": "l1", "hidden": [4]},
    "penalties": [{"use": "l1", "level": {"log": [1e-4, 1e-1], "points": 10}}],
    "discretizers": [{"use": "threshold", "eps": 0.01}],
    "train": {"steps": 20, "lr": 0.01},
    "reach": None,
    "mlflow": None,
}


class Clock:
    """Times MLflow's hooks from outside, and keeps when packs were training."""

    def __init__(self) -> None:
        self.mlflow = 0.0
        self.spans: list[tuple[float, float]] = []

    def time(self, cls: Any) -> None:
        for name in ("study_started", "pack_finished", "study_finished"):
            original = getattr(cls, name, None)
            if original is not None:
                setattr(cls, name, self._timed(original))

    def _timed(self, function: Any) -> Any:
        import functools

        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.mlflow += time.perf_counter() - began

        return timed


def inside(config: Mapping[str, Any]) -> None:
    """The child process: run one study and print its figures."""
    began = time.perf_counter()
    from nasplug import tracking
    from nasplug.hookspecs import Progress, hookimpl
    from nasplug.study import Study

    clock = Clock()
    clock.time(tracking.Tracker)
    spans: dict[str, list[float]] = {}

    class Watch:
        @hookimpl
        def pack_reported(self, pack: str, progress: Progress) -> None:
            now = time.perf_counter()
            spans.setdefault(pack, [now - progress.seconds, now])[1] = now

    study = Study.from_dict(config).run("ray", observers=[Watch()])
    total = time.perf_counter() - began
    covered, end = 0.0, 0.0
    for first, last in sorted(spans.values()):
        covered += max(0.0, last - max(first, end))
        end = max(end, last)
    packs = [json.loads(p.read_text())["seconds"] for p in (study.folder / "packs").glob("*/pack.json")]
    print(
        json.dumps(
            {
                "total": total,
                "training": covered,
                "mlflow": clock.mlflow,
                "harden": sum(p["harden"] for p in packs),
                "packs": len(packs),
                "replicas": len(study.frame),
                "driver_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


def measure(config: Mapping[str, Any], **changes: Any) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        text = json.dumps({**config, "store": folder, **changes})
        command = [sys.executable, str(Path(__file__).resolve()), "--inside", text]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the study failed:\n{done.stderr[-3000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short study of each kind")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        inside(json.loads(given.inside))
        return
    figures: dict[str, Any] = {"quick": given.quick}
    for steps in (500,) if given.quick else (1500, 6000):
        seeds = 5 if given.quick else 20
        found = measure(CANCER, seeds=seeds, train={**CANCER["train"], "steps": steps})
        outside = found["total"] - found["training"]
        each = 1000 * found["mlflow"] / found["replicas"]
        print(
            f"{found['replicas']:.0f} breast-cancer networks, {steps} steps: {found['total']:.1f} s in all, "
            f"{outside:.1f} s outside the "
            f"training loop ({100 * outside / found['total']:.0f} %), of which MLflow {found['mlflow']:.1f} s, "
            f"{each:.2f} ms per replica"
        )
        figures[f"cancer_{steps}_steps"] = {
            **found, "outside_share": outside / found["total"], "mlflow_ms_a_replica": each,
        }  # fmt: skip
    few = measure(XOR, seeds=100)
    many = measure(XOR, seeds=500 if given.quick else 5000)
    grown = many["driver_mb"] - few["driver_mb"]
    memory = few["driver_mb"]
    print(f"driver: {memory:.0f} MB at {few['replicas']:.0f} replicas, +{grown:.0f} MB at {many['replicas']:.0f}")
    figures |= {"driver_mb": few["driver_mb"], "driver_mb_grown": grown, "replicas": many["replicas"]}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
