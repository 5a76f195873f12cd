"""What does a table of 5,000 columns cost: planning it, and the memory of a study that `nasplug look` writes for it?

    python benchmarks/columns.py [--quick]

400 rows of made numbers, one target. `plan` is a process of its own, with imports; `imports` is one with these alone. `run` is
the study with fewer steps, levels and seeds: how many networks are trained at once does not depend on them, so its memory is
that of the whole study. `--quick` leaves it out. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

CLI = ("-m", "nasplug")
ROWS, COLUMNS = 400, 5_000
SHORT = ["train.steps=20", "train.finetune=5", "penalties.0.level.points=2", "seeds=1", "mlflow=null", "linear=true"]


def made(folder: Path) -> Path:
    """The table."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(ROWS, COLUMNS)).round(3)
    frame = pd.DataFrame(x, columns=pd.Index([f"c{i}" for i in range(COLUMNS)]))
    frame["price"] = (x[:, 0] + 2 * x[:, 1] + draw.normal(size=ROWS)).round(3)
    path = folder / "wide.csv"
    frame.to_csv(path, index=False)
    return path


def measured(folder: Path, *command: str) -> dict[str, float]:
    """Seconds, CPU seconds and the peak of memory in GB of one command of Python."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    told = process.stderr.read() if process.stderr else b""
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"python {' '.join(command)}: {told.decode()[-2000:]}")
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_gb": round(used.ru_maxrss / 2**20, 2),
    }


def main() -> None:
    """Print what each command took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made(folder)
        found = {"imports": measured(folder, "-c", "import pandas, torch, nasplug.study")}
        found["look"] = measured(folder, *CLI, "look", "wide.csv", "--target", "price", "--write", "wide.yaml")
        found["plan"] = measured(folder, *CLI, "plan", "wide.yaml")
        if not quick:
            found["run"] = measured(folder, *CLI, "run", "wide.yaml", "--runner", "serial", *SHORT)
    for what, figures in found.items():
        print(f"{what:7} {figures['seconds']:7.1f} s {figures['cpu_seconds']:7.1f} CPU s {figures['peak_gb']:6.2f} GB")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
