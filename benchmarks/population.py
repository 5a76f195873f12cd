"""What are rows that copy each other worth, against the same rows each by itself?

    python benchmarks/population.py [--quick] [--tables breast_cancer diabetes wine] [--arms population ...] [--splits N]
        [--trials N] [--steps T]

On each table, for N splits of it (`task.seed`), the same networks of 16 hidden neurons: level and learning rate are drawn at
random (`--trials` draws per split, one seed each), and all arms begin with the same weights, levels and rates:

- `alone`: each row by itself.
- `population`: `train.population` as it is by default, in populations of 16.
- `error`: as `population`, compared by validation error alone.
- `whole` (where `--arms` says so): one population of all rows of a split.
- `tau` (where `--arms` says so): as `population`, the temperature is perturbed, too.

All arms take the same network-steps, in float32, without compiled steps, fine-tuning and decay. Of each split:

- `volume`: the hypervolume that the front dominates, validation error up to a trivial network's and log(1 + edges) up to a
  dense one's (as in benchmarks/path.py), in units of that rectangle; `tested`: the same front by its test errors.
- `chosen`: the network with the smallest validation error (of equal ones the smallest network): its test error, as a share of a
  trivial network's. `at N`: the same of the networks with at most N edges.

Told are means over splits, and differences to `alone`, split by split, with 90 % bounds (Student's t: mean +- t sd / sqrt(n)).
Nothing was chosen by these figures: the defaults were written down before the first run.

The last line is one JSON object with all figures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from path import EDGES, HIDDEN, bounds, figures, trained

ARMS: dict[str, dict[str, Any] | None] = {
    "alone": None,
    "population": {},
    "error": {"by": ["valid_error"]},
    "whole": {"of": 4096},
    "tau": {"perturb": {"tau": 1.2}},
}
TOLD = ("volume", "tested", "chosen", *(f"at {most}" for most in EDGES))


def study(table: str, arm: str, given: argparse.Namespace, store: str) -> dict[str, Any]:
    """The study of an arm."""
    return {
        "study": arm,
        "store": store,
        "task": {"use": table, "validation": "holdout", "seed": {"grid": list(range(given.splits))}},
        "method": {"use": "edges", "mode": "annealed", "hidden": [HIDDEN]},
        "penalties": [{"use": "l1", "level": {"log": [1e-4, 0.3]}, "ramp": {"use": "linear", "until": 0.3}}],
        "temperature": {"use": "linear", "start": 1.0, "end": 0.0, "until": 0.5},
        "discretizers": [{"use": "threshold", "tolerance": 0.02}],
        "sampler": {"use": "random", "trials": given.trials},
        "train": {
            "batch": 64,
            "lr": {"log": [0.002, 0.05]},
            "steps": given.steps,
            "compile": False,
            "population": ARMS[arm],
        },
        "resources": {"pack": 4 * given.trials},  # whole splits, and what caches hold
        "linear": False,
        "mlflow": None,
    }


def told(frame: pd.DataFrame, trivial: Mapping[int, tuple[float, float]], dense: float) -> dict[str, np.ndarray]:
    """Of each split its figures."""
    found = figures(frame, trivial, dense)
    chosen = []
    for split, rows in frame[frame["status"] == "finished"].groupby("task.seed"):
        best = rows.sort_values(["valid_error", "edges"]).iloc[0]
        chosen.append(float(best["test_error"]) / trivial[int(split)][1])
    return {**found, "chosen": np.asarray(chosen)}


def compared(table: str, given: argparse.Namespace) -> dict[str, Any]:
    """Figures of a table."""
    one: dict[str, Any] = {"table": table}
    with tempfile.TemporaryDirectory() as store:
        base: dict[str, np.ndarray] = {}
        trivial: dict[int, tuple[float, float]] = {}
        dense = 0.0
        for arm in ("alone", *given.arms):
            done, took = trained(study(table, arm, given, store))
            if not base:
                dense = float(HIDDEN * (done.task.inputs + done.task.outputs))
                for split, rows in done.frame.groupby("task.seed"):
                    facts = done.facts_of(str(rows["replica"].iloc[0]))
                    trivial[int(split)] = facts.trivial["valid_error"], facts.trivial["test_error"]
            mine = told(done.frame, trivial, dense)
            base = base or mine
            one[arm] = {name: float(values.mean()) for name, values in mine.items()} | took
            if arm != "alone":
                one[f"{arm} less alone"] = {name: bounds(mine[name] - base[name]) for name in mine}
            show(one, arm)
    return one


def show(one: Mapping[str, Any], arm: str) -> None:
    """A line."""
    words = []
    for name in TOLD:
        less = one.get(f"{arm} less alone", {}).get(name)
        words.append(f"{name} {100 * one[arm][name]:.2f}" + (f" ({100 * less[0]:+.2f} +- {100 * less[1]:.2f})" if less else ""))
    print(
        f"{one['table']}, {arm} ({one[arm]['cpu']:.0f} s of CPU, {one[arm]['steps']:,} steps): {', '.join(words)}", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one table, 3 splits, 16 draws, 200 steps")
    parser.add_argument("--tables", nargs="+", default=["breast_cancer", "diabetes", "wine"])
    parser.add_argument("--arms", nargs="+", default=["population", "error"], choices=[arm for arm in ARMS if arm != "alone"])
    parser.add_argument("--splits", type=int, default=8)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--steps", type=int, default=1000)
    given = parser.parse_args()
    if given.quick:
        given.tables, given.splits, given.trials, given.steps = given.tables[:1], 3, 16, 200
    print(json.dumps({"quick": given.quick, "figures": [compared(table, given) for table in given.tables]}))


if __name__ == "__main__":
    main()
