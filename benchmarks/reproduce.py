"""How near a row that is trained again comes to its pack: alone, as one of two, and among as many copies as `stand_in` says.

``python benchmarks/reproduce.py [--compiled] [packs ...]``: six rows of packs of these sizes, for four methods on small tasks,
one thread; with ``--compiled`` two rows each, whose steps are compiled. Each line says how many rows have equal weights, bit by
bit, and the largest difference of a weight (relative to weights above 1).
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nasplug import Study
from nasplug.compact import CompactNetwork, compact, digest_of
from nasplug.lineage.again import apart, stand_in
from nasplug.machine import arithmetic
from nasplug.networks import Networks
from nasplug.packs import load_networks, run_pack
from nasplug.plan import Pack

LEVEL = {"log": [1e-4, 1e-2], "points": 12}
BOOTH = {"use": "cornn", "function": "Booth", "train": 200, "test": 50}
TABLE = {"use": "breast_cancer", "validation": "holdout"}
CUT = [{"use": "threshold", "tolerance": 0.02}]
FALLING = {"use": "linear", "start": 1.0, "end": 0.01}
CASES: dict[str, dict[str, Any]] = {
    "edges": {
        "task": TABLE,
        "method": {"use": "edges", "mode": "annealed", "hidden": [16]},
        "penalties": [{"use": "l1", "level": LEVEL}],
        "temperature": FALLING,
        "discretizers": CUT,
    },
    "edges, folds": {
        "task": {"use": "diabetes", "validation": "folds"},
        "method": {"use": "edges", "mode": "l1", "hidden": [8, 8]},
        "penalties": [{"use": "l1", "level": LEVEL}],
        "discretizers": CUT,
    },
    "mixture": {
        "task": BOOTH,
        "method": {"use": "mixture", "hidden": [8]},
        "penalties": [{"use": "l1", "level": LEVEL}],
        "temperature": FALLING,
        "discretizers": [{"use": "argmax"}],
    },
    "sparcs": {
        "task": TABLE,
        "method": {"use": "sparcs", "hidden": [15]},
        "penalties": [{"use": "eigenvalue", "level": LEVEL}],
        "discretizers": [{"use": "obs"}],
    },
    "sparcs, two layers": {
        "task": {"use": "diabetes", "validation": "holdout"},
        "method": {"use": "sparcs", "hidden": [9, 7]},
        "penalties": [{"use": "eigenvalue", "level": LEVEL}],
        "discretizers": [{"use": "obs"}],
    },
    "swat": {
        "task": BOOTH,
        "method": {"use": "swat", "depth": 2},
        "penalties": [{"use": "l1", "level": LEVEL}],
        "temperature": FALLING,
        "discretizers": CUT,
    },
}
TRAIN = {"steps": 60, "batch": 64, "lr": 0.01, "finetune": 20}
ROWS = 6  # of each pack


def trained(study: Study, pack: Pack) -> tuple[Networks, float]:
    """The hard networks of a pack, and the seconds that it took."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as there, arithmetic(1):
        folder = Path(there) / pack.id
        for _ in run_pack(study.config, pack, study.plugins, folder):
            pass
        return load_networks(folder, study.plugins.functions), time.perf_counter() - began


def difference(one: CompactNetwork, two: CompactNetwork) -> float:
    """The largest of a weight; infinite for other architectures."""
    if digest_of(one) == digest_of(two):
        return 0.0
    if one.record["blocks"] != two.record["blocks"] or one.record["kept_inputs"] != two.record["kept_inputs"]:
        return float("inf")
    others = two.state_dict()
    return max(apart(tensor, others[name]) for name, tensor in one.state_dict().items())


def main(sizes: list[int], *, compiled: bool) -> None:
    """One line per method and size of a pack."""
    for name, case in CASES.items():
        for size in sizes:
            levels = {"penalties": [{**case["penalties"][0], "level": {**LEVEL, "points": -(-size // 8)}}]}
            config = {
                "study": "again",
                "seeds": 8,
                "linear": False,
                "mlflow": None,
                "train": TRAIN | {"compile": compiled},
                **case,
                **levels,
            }
            study = Study.from_dict({**config, "resources": {"pack": size}})
            pack = study.plan()[0]
            nets, seconds = trained(study, pack)
            rows = np.random.default_rng(0).choice(pack.rows, min(2 if compiled else ROWS, pack.rows), replace=False)
            told = []
            for words in ("alone", "two", "stand-in"):
                apart_by, took = [], 0.0
                for row in map(int, rows):
                    count, at = {"alone": (1, 0), "two": (2, 0), "stand-in": stand_in(pack.rows, row)}[words]
                    again, more = trained(study, replace(pack.only(row, count), room=0))
                    took += more
                    apart_by.append(difference(compact(nets, row), compact(again, at)))
                equal = sum(one == 0.0 for one in apart_by)
                told.append(
                    f"{words}: {equal} of {len(rows)} equal, at most {max(apart_by):.1g}, {took / len(rows):.2f} s each"
                )
            print(f"{name}, pack of {pack.rows} ({seconds:.2f} s). {'; '.join(told)}", flush=True)


if __name__ == "__main__":
    given = sys.argv[1:]
    main([int(text) for text in given if text.isdigit()] or [5, 40, 96], compiled="--compiled" in given)
