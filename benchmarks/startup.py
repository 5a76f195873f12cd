"""Where the time of a short study goes: imports, planning, Ray, the first step, hardening, the report, MLflow.

    python benchmarks/startup.py [--quick] [--runs 5]

Each run is `nasplug run` in a process of its own, from its start to its exit; the moments in between are those of the events in
its log. Beside it: what it takes to import torch, the module of studies and Ray, and an empty `ray.init` with its shutdown.
Medians of all runs, in seconds, for an idle machine. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

QUICKSTART = Path(__file__).resolve().parent.parent / "configs/quickstart.yaml"
TINY: dict[str, Any] = {
    "study": "tiny",
    "task": {"use": "xor", "samples": 20},
    "method": {"use": "edges", "mode": "l1", "hidden": [4]},
    "penalties": [{"use": "l1", "level": 0.001}],
    "discretizers": [{"use": "threshold", "eps": 0.01}],
    "train": {"steps": 20},
    "seeds": 2,
    "mlflow": None,
}
EMPTY = "import ray; ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=40); ray.shutdown()"
CONTROLS = {
    "import torch": "import torch",
    "import nasplug.study": "import nasplug.study",
    "import ray.tune": "import ray, ray.tune",
    "ray.init and shutdown": EMPTY,
}
PARTS = ("to study_started", "to the first report", "training", "hardening", "chosen network, report", "to the exit", "in all")


def seconds(command: list[str]) -> float:
    """Wall time of a command; its output is shown where it fails."""
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)[:200]} failed:\n{(done.stderr or done.stdout)[-3000:]}")
    return time.perf_counter() - began


def study(file: Path, runner: str) -> dict[str, float]:
    """One run of a study: seconds by part."""
    with tempfile.TemporaryDirectory() as store:
        began = time.time()
        seconds([sys.executable, "-m", "nasplug", "run", str(file), f"store={store}", "--runner", runner])
        ended = time.time()
        log = next(Path(store).glob("*/events.jsonl"))
        events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    at: Mapping[str, list[float]] = {
        name: [event["at"] for event in events if event["event"] == name]
        for name in ("study_started", "pack_reported", "pack_finished", "study_finished")
    }
    started, finished = at["study_started"][0], at["study_finished"][-1]
    first, last, hard = at["pack_reported"][0], at["pack_reported"][-1], at["pack_finished"][-1]
    values = (started - began, first - started, last - first, hard - last, finished - hard, ended - finished, ended - began)
    return dict(zip(PARTS, values, strict=True))


def repeated(work: Callable[[], dict[str, float]], runs: int) -> dict[str, float]:
    """The median of each part."""
    found = [work() for _ in range(runs)]
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the tiny study alone, once")
    parser.add_argument("--runs", type=int, default=5, help="of which medians are taken")
    given = parser.parse_args()
    runs = 1 if given.quick else given.runs
    controls = {
        name: statistics.median(seconds([sys.executable, "-c", code]) for _ in range(runs)) for name, code in CONTROLS.items()
    }
    for name, value in controls.items():
        print(f"{name:24} {value:6.1f}", flush=True)
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tiny.yaml"
        file.write_text(json.dumps(TINY), encoding="utf-8")  # JSON is YAML
        for name, path in (("tiny", file), ("quickstart", QUICKSTART))[: 1 if given.quick else 2]:
            for runner in ("serial", "ray"):
                found[f"{name}, {runner}"] = repeated(partial(study, path, runner), runs)
    print(f"\n{'':24}" + "".join(f"{name:>20}" for name in found))
    for part in PARTS:
        print(f"{part:24}" + "".join(f"{values[part]:20.1f}" for values in found.values()))
    beside = {
        name: values["to study_started"] + values["to the first report"] - controls["ray.init and shutdown"]
        for name, values in found.items()
        if name.endswith("ray")
    }
    print(json.dumps({"runs": runs, "controls": controls, "studies": found, "first_step_beside_ray": beside}))


if __name__ == "__main__":
    main()
