"""How long does the report of a study with 40,000 networks take, and how large is it?

    python benchmarks/report.py [--networks 40000] [--quick]

A real study of 320 networks runs. Then its table gets rows that no network stands for: of any size from 1 to 5,000 edges, with
any of 64 levels, each worse than the front by a random part. The report is made in a process of its own, by what
`nasplug run` calls; the table of 320 rows is the control. `--quick` adds rows up to 4,000. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from nasplug import Study, files
from nasplug.packs import TABLE

NETWORKS, FEW = 40_000, 4_000
CONFIG = {
    "study": "report",
    "task": {"use": "breast_cancer", "validation": {"use": "holdout", "share": 0.2}, "test": 0.2, "seed": 0},
    "method": {"use": "edges", "mode": "annealed", "hidden": [16]},
    "penalties": [{"use": "l1", "level": {"log": [1e-5, 1e-1], "points": 64}}],
    "temperature": {"use": "geometric", "start": 1.0, "end": 0.05},
    "discretizers": [{"use": "threshold", "tolerance": 0.02}],
    "train": {"steps": 300, "batch": 64, "finetune": 50},
    "seeds": 4,
    "mlflow": None,
}
MAKE = """
import sys, time
from nasplug import Study
from nasplug.report import import_libraries, write_report
import_libraries()
study = Study.open(sys.argv[1])
study.task  # a run has imported what its data need
started, used = time.perf_counter(), time.process_time()
path = write_report(study.snapshot(), time.time() - 1.0)
print(time.perf_counter() - started, time.process_time() - used, path.stat().st_size)
"""


def add(study: Study, networks: int) -> None:
    """Rows that no network stands for, up to ``networks`` in all, none of them on the front."""
    draw = np.random.default_rng(0)
    table: pd.DataFrame = files.read_table(study.folder / TABLE).to_pandas()
    front = study.front("all")
    real = table[table["replica"].str.startswith("p")]
    more = real.sample(networks - len(table), replace=True, random_state=0).reset_index(drop=True)
    more["replica"] = [f"p9{i // 4096:03d}/{i % 4096:04d}" for i in range(len(more))]
    more["configuration"] = int(table["configuration"].max()) + 1 + np.arange(len(more)) // 4
    more["edges"] = np.rint(10 ** draw.uniform(0, np.log10(5_000), len(more))).astype(int)
    at = np.searchsorted(front["edges"].to_numpy(float), more["edges"].to_numpy(float), side="right") - 1
    more["valid_error"] = front["valid_error"].to_numpy(float)[np.maximum(at, 0)] + 1e-6 + draw.gamma(1.0, 0.05, len(more))
    whole = pd.concat([table, more], ignore_index=True)
    files.write_table(study.folder / TABLE, pa.Table.from_pandas(whole, preserve_index=False))


def measured(folder: Path) -> dict[str, float]:
    """Seconds, CPU seconds and kilobytes of a report."""
    told = subprocess.run([sys.executable, "-c", MAKE, str(folder)], capture_output=True, text=True, check=True).stdout
    seconds, used, size = told.split()[-3:]
    return {"seconds": round(float(seconds), 2), "cpu_seconds": round(float(used), 2), "kilobytes": round(int(size) / 1000)}


def main() -> None:
    """Print what each report took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=NETWORKS)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    networks = FEW if given.quick else given.networks
    with tempfile.TemporaryDirectory() as name:
        study = Study.from_dict({**CONFIG, "store": name}).run("serial", progress=False, report=False)
        few = len(study.frame)
        found = {str(few): measured(study.folder)}
        add(study, networks)
        found[str(networks)] = measured(study.folder)
    for what, figures in found.items():
        took = f"{figures['seconds']:6.1f} s {figures['cpu_seconds']:6.1f} CPU s"
        print(f"{int(what):7,} networks {took} {figures['kilobytes']:6,.0f} kB")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
