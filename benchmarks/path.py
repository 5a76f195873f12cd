"""What is a row that passes through all levels worth, against rows that begin each level from scratch?

    python benchmarks/path.py [--quick] [--tables breast_cancer diabetes wine] [--each 100] [--splits N] [--seeds N]
        [--levels N] [--steps T]

On each table, for N splits of it (`task.seed`) and as many seeds each, networks of 16 hidden neurons at 30 levels:

- `path`: `train.path`, T steps at the weakest level and `--each` at each further one.
- `scratch`: every level from scratch, T steps each.
- `short`: every level from scratch, all levels together in as many network-steps as `path`.
- `fewer`: of `scratch` as many levels as `path` has network-steps for, evenly over the range.

In float32, one pack each, without compiled steps, fine-tuning and decay. Of each split, as a mean over its seeds:

- `volume`: the hypervolume that the front dominates, validation error up to a trivial network's and log(1 + edges) up to a
  dense one's (as in benchmarks/halving.py), in units of that rectangle; `tested`: the same front by its test errors.
- `at N`: of the networks with at most N edges the one with the smallest validation error: its test error, as a share of a
  trivial network's (1 where there is none).

Told are means over splits, and differences `path` less the other, split by split, with 90 % bounds (Student's t: mean +- t sd /
sqrt(n)). Nothing was chosen by these figures: the defaults of this file were written down before it ran.

The last line is one JSON object with all figures.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from halving import volume
from scipy import stats

from nasplug import results
from nasplug.study import Study

HIDDEN = 16
EDGES = (5, 10, 20, 40)
LEVEL = "penalties.0.level"


def study(table: str, name: str, given: argparse.Namespace, store: str, train: Mapping[str, Any]) -> dict[str, Any]:
    """The study of an arm."""
    return {
        "study": name,
        "store": store,
        "task": {"use": table, "validation": "holdout", "seed": {"grid": list(range(given.splits))}},
        "method": {"use": "edges", "mode": "annealed", "hidden": [HIDDEN]},
        "penalties": [
            {"use": "l1", "level": {"log": [1e-4, 0.3], "points": given.levels}, "ramp": {"use": "linear", "until": 0.3}}
        ],
        "temperature": {"use": "linear", "start": 1.0, "end": 0.0, "until": 0.5},
        "discretizers": [{"use": "threshold", "tolerance": 0.02}],
        "train": {"batch": 64, "lr": 0.01, "compile": False, **train},
        "seeds": given.seeds,
        "resources": {"pack": given.levels * given.splits * given.seeds},
        "linear": False,
        "reach": None,
        "mlflow": None,
    }


def trained(config: Mapping[str, Any]) -> tuple[Study, dict[str, float]]:
    """The study; what it took: CPU seconds, network-steps."""
    began = time.process_time()
    done = Study.from_dict(config).run("serial", report=False)
    cpu = time.process_time() - began
    packs = [pack.name for pack in (done.folder / "packs").iterdir()]
    return done, {"cpu": cpu, "steps": sum(results.pack_record(done.folder, pack)["network_steps"] for pack in packs)}


def figures(frame: pd.DataFrame, trivial: Mapping[int, tuple[float, float]], dense: float) -> dict[str, np.ndarray]:
    """Of each split, a mean over its seeds."""
    found: dict[str, list[float]] = {}
    for split, mine in frame[frame["status"] == "finished"].groupby("task.seed"):
        each: dict[str, list[float]] = {}
        valid, test = trivial[int(split)]
        for _, rows in mine.groupby("seed"):
            ordered = rows.sort_values(["edges", "valid_error"])
            best = np.minimum.accumulate(np.r_[math.inf, ordered["valid_error"].to_numpy()])[:-1]
            front = ordered[ordered["valid_error"].to_numpy() < best]
            each.setdefault("volume", []).append(volume(front, valid, dense))
            told = front.assign(valid_error=front["test_error"])
            each.setdefault("tested", []).append(volume(told, test, dense))
            for most in EDGES:
                small = rows[(rows["edges"] <= most) & (rows["edges"] > 0)].sort_values("valid_error")
                each.setdefault(f"at {most}", []).append(float(small["test_error"].iloc[0]) / test if len(small) else 1.0)
        for name, values in each.items():
            found.setdefault(name, []).append(float(np.mean(values)))
    return {name: np.asarray(values) for name, values in found.items()}


def bounds(differences: np.ndarray) -> tuple[float, float]:
    """The mean, and how far its 90 % bounds are from it."""
    n = len(differences)
    return float(differences.mean()), float(stats.t.ppf(0.95, n - 1) * differences.std(ddof=1) / math.sqrt(n))


def compared(table: str, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Figures of a table, one for each number of steps per level."""
    with tempfile.TemporaryDirectory() as store:
        full, took = trained(study(table, "scratch", given, store, {"steps": given.steps}))
        dense = float(HIDDEN * (full.task.inputs + full.task.outputs))
        trivial = {}
        for split, mine in full.frame.groupby("task.seed"):
            facts = full.facts_of(str(mine["replica"].iloc[0]))
            trivial[int(split)] = facts.trivial["valid_error"], facts.trivial["test_error"]
        scratch = figures(full.frame, trivial, dense)
        levels = np.sort(full.frame[LEVEL].unique())
        found = []
        for each in given.each:
            path = {"over": LEVEL, "steps": each}
            walk, walked = trained(study(table, f"path-{each}", given, store, {"steps": given.steps, "path": path}))
            whole = given.steps + each * (given.levels - 1)
            less, shorter = trained(study(table, f"short-{each}", given, store, {"steps": max(1, round(whole / given.levels))}))
            count = max(1, round(whole / given.steps))
            some = levels[np.round(np.linspace(0, len(levels) - 1, count + 2)[1:-1]).astype(int)]
            arms = {
                "scratch": (scratch, took),
                "short": (figures(less.frame, trivial, dense), shorter),
                "fewer": (figures(full.frame[full.frame[LEVEL].isin(some)], trivial, dense), None),
            }
            mine = figures(walk.frame, trivial, dense)
            one: dict[str, Any] = {"table": table, "each": each, "path": {name: float(v.mean()) for name, v in mine.items()}}
            one["path"] |= walked
            for arm, (theirs, cost) in arms.items():
                one[arm] = {name: float(v.mean()) for name, v in theirs.items()} | (cost or {"levels": count})
                one[f"path less {arm}"] = {name: bounds(mine[name] - theirs[name]) for name in mine}
            found.append(one)
            show(one)
    return found


def show(one: Mapping[str, Any]) -> None:
    """Lines."""
    saved, cpu = (one["scratch"][name] / one["path"][name] for name in ("steps", "cpu"))
    print(f"{one['table']}, {one['each']} steps per level: {saved:.1f}x fewer network-steps than scratch, {cpu:.1f}x less CPU")
    for name in ("volume", "tested", *(f"at {most}" for most in EDGES)):
        told = [f"path {100 * one['path'][name]:6.2f} %"]
        for arm in ("scratch", "short", "fewer"):
            mean, width = (100 * value for value in one[f"path less {arm}"][name])
            told.append(f"{arm} {100 * one[arm][name]:6.2f} % (path {mean:+.2f} +- {width:.2f})")
        print(f"  {name:8}" + ", ".join(told), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one table, 3 splits, one seed, 8 levels, 200 steps")
    parser.add_argument("--tables", nargs="+", default=["breast_cancer", "diabetes", "wine"])
    parser.add_argument("--each", nargs="+", type=int, default=[100])
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--levels", type=int, default=30)
    parser.add_argument("--steps", type=int, default=1500)
    given = parser.parse_args()
    if given.quick:
        given.tables, given.each, given.splits, given.seeds, given.levels, given.steps = given.tables[:1], [20], 3, 1, 8, 200
    found = [one for table in given.tables for one in compared(table, given)]
    print(json.dumps({"quick": given.quick, "figures": found}))


if __name__ == "__main__":
    main()
