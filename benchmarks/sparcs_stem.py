"""What a spectral head is worth behind a small CNN: experiment 3 of Spectral Architecture Search on data that are here.

    python benchmarks/sparcs_stem.py [--quick]

Runs `configs/papers/sparcs_digits.yaml`, `sparcs_mnist1d.yaml` and their controls, each study in one process on one thread.
Prints a table. For each head the learning rate with the smallest mean validation error is taken, and its test error is shown.
Seconds are processor seconds per network, training and hardening included; memory is how much the process grew, for
a pack of 15.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PAPERS = Path(__file__).parents[1] / "configs" / "papers"
HEADS = {  # words -> file's suffix, overrides
    "spectral": ("", ["discretizers=[]", "train.finetune=0"]),
    "spectral, obs": ("", []),
    "linear": ("_control", ["method.hidden=[]"]),
    "plain hidden layer": ("_control", []),
}
HIDDEN = {"digits": 64, "mnist1d": 100}


def run(config: str, overrides: list[str]) -> None:
    """One study, in this process: its figures as JSON."""
    from nasplug.plan import build_task
    from nasplug.plugins import load_plugins
    from nasplug.study import Study

    study = Study.from_yaml(config, overrides)
    build_task(study.config, load_plugins())  # the data, and what they import, are there before memory is counted
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    done = study.run("serial")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024  # kilobytes on Linux
    frame = done.frame[done.frame["status"] == "finished"]
    rate = frame.groupby("train.lr")["valid_error"].mean().idxmin()
    chosen = frame[frame["train.lr"] == rate]
    stem = chosen["parameters"] - chosen["edges"]
    print(
        json.dumps(
            {
                "lr": float(rate),
                "networks": len(chosen),
                "accuracy": 100 * float(1 - chosen["test_error"].mean()),
                "spread": 100 * float(chosen["test_error"].std()),
                "head": int(chosen["edges"].median()),
                "rest": int(stem.median()),
                "neurons": int(chosen["neurons"].median()),
                "seconds": (time.process_time() - began) / len(done.frame),
                "memory": grown,
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="100 steps, two seeds: to see that it runs")
    parser.add_argument("--one", nargs="+", metavar="CONFIG", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        run(given.one[0], given.one[1:])
        return
    quick = ["train.steps=100", "seeds=2"] if given.quick else []
    columns = ("data", "head", "lr", "test accuracy, %", "neurons", "head's edges", "other parameters", "CPU, s")
    print(f"| {' | '.join((*columns, 'memory, MB'))} |\n{'|---' * 9}|")
    figures: dict[str, Any] = {}
    for data, hidden in HIDDEN.items():
        for words, (suffix, overrides) in HEADS.items():
            more = [f"method.hidden=[{hidden}]"] if words.startswith("plain") else []
            with tempfile.TemporaryDirectory() as store:
                command = [sys.executable, __file__, "--one", str(PAPERS / f"sparcs_{data}{suffix}.yaml")]
                command += [f"store={store}", "mlflow=null", *overrides, *more, *quick]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr)
            f = json.loads(done.stdout.splitlines()[-1])
            figures[f"{data}_{words.replace(', ', '_').replace(' ', '_')}"] = round(f["accuracy"], 2)
            print(
                f"| {data} | {words} | {f['lr']:g} | {f['accuracy']:.1f} ± {f['spread']:.1f} | {f['neurons']} | "
                f"{f['head']:,} | {f['rest']:,} | {f['seconds']:.2f} | {f['memory']:.0f} |",
                flush=True,
            )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
