"""How long does a study of 100,000 networks take from start to report, and how much of it is not training?

    python benchmarks/scale.py [--quick] [--eager] [--networks N] [--steps T] [--runner ray|serial]

The study is XOR, `[2,4,1]`, 200 samples at each step, 1,000 steps, in a fresh process with its report; start-up is included,
MLflow is not. `--quick` takes 20,000 networks; `--eager` is the same study without compiled steps (`train.compile: false`): the
control.

The last line is one JSON object: `seconds` (wall), `cpu_seconds` of all processes (runner serial alone; they hold where other
programs run, too), `driver_mb` (the largest resident memory of the driver), `bytes_per_network` (the study's folder on disk),
`beside_training` (the share of the time in which no pack was in its training loop), `programs` (packs with
compiled steps, of `packs`) and `stages` (seconds that packs took to build, train and harden, added up).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20,000 networks")
    parser.add_argument("--eager", action="store_true", help="without compiled steps: the control")
    parser.add_argument("--networks", type=int)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--runner", choices=("ray", "serial"), default="ray")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    given = parser.parse_args()
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
