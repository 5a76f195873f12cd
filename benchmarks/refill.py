"""Is what halving saves well spent on more configurations? Samplers with and without it, for the same network-steps.

    python benchmarks/refill.py [--quick] [--tables breast_cancer diabetes wine digits] [--samplers random tpe nsga2]
        [--arms refill halved] [--rungs 2] [--keep 0.33] [--splits N] [--trials N] [--steps T]

On each table, for N splits of it (`task.seed`, and the sampler's seed), networks with 16 hidden neurons from the wide space of
`halving.py` (level, learning rate, temperature and ramp, most of which is no good):

- `full`: so many trials, each to the end.
- `refill`: `stop: {use: halving, refill: true}`: as many configurations as can be had for the network-steps of these trials.
- `halved` (where `--arms` says so): so many trials with halving alone, for a part of the steps.

Samplers that learn do so for validation error and edges, after each quarter of their configurations; rows are compared by the
same. Each study is one pack per generation, in float32, without compiled steps, fine-tuning and linear networks. Of each split:

- `volume`: the hypervolume that the front dominates, validation error up to a trivial network's and log(1 + edges) up to a
  dense one's (as in halving.py), in units of that rectangle; `tested`: the same front by its test errors.
- `at N`: of the networks with at most N edges the one with the smallest validation error: its test error, as a share of a
  trivial network's (1 where there is none).

Told are means over splits, and differences to the same sampler's `full`, and of every arm to `random full`, split by split,
with 90 % bounds (Student's t). Nothing was chosen by these figures: the defaults were written down before the first run.

The last line is one JSON object with all figures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from halving import wide
from path import EDGES, bounds, figures, trained

TOLD = ("volume", "tested", *(f"at {most}" for most in EDGES))
JUDGED = ["valid_error", "edges"]


def study(table: str, split: int, use: str, arm: str, given: argparse.Namespace, store: str) -> dict[str, Any]:
    """The study of an arm on one split."""
    config = wide(table, given.steps, given.trials, store)
    stop = {"use": "halving", "rungs": given.rungs, "keep": given.keep, "by": JUDGED, "refill": arm == "refill"}
    more = 1 / (given.keep**given.rungs * (1 + given.rungs * (1 - given.keep))) if arm == "refill" else 1.0
    learns = {"generation": max(1, int(given.trials * more) // 4), "objectives": dict.fromkeys(JUDGED, "minimize")}
    return config | {
        "study": f"{arm}-{use}-{split}",
        "task": {"use": table, "validation": "holdout", "seed": split},
        "sampler": {"use": use, "trials": given.trials, "seed": split, **(learns if use not in ("random", "qmc") else {})},
        "stop": None if arm == "full" else stop,
        "resources": {"pack": 4096},
    }


def compared(table: str, given: argparse.Namespace) -> dict[str, Any]:
    """Figures of a table."""
    one: dict[str, Any] = {"table": table}
    known: dict[str, dict[str, np.ndarray]] = {}
    for use in given.samplers:
        for arm in ("full", *given.arms):
            found: dict[str, list[float]] = {}
            for split in range(given.splits):
                with tempfile.TemporaryDirectory() as store:
                    done, took = trained(study(table, split, use, arm, given, store))
                    facts = done.facts_of(str(done.frame["replica"].iloc[0]))
                    trivial = {split: (facts.trivial["valid_error"], facts.trivial["test_error"])}
                    dense = 16.0 * (done.task.inputs + done.task.outputs)
                    mine = figures(done.frame.assign(**{"task.seed": split}), trivial, dense)
                for name, value in {**{name: float(v[0]) for name, v in mine.items()}, **took}.items():
                    found.setdefault(name, []).append(value)
            known[f"{use} {arm}"] = {name: np.asarray(values) for name, values in found.items()}
            mine = known[f"{use} {arm}"]
            one[f"{use} {arm}"] = {name: float(values.mean()) for name, values in mine.items()}
            for other in dict.fromkeys((f"{use} full", "random full")):
                if other in known and other != f"{use} {arm}":
                    one[f"{use} {arm} less {other}"] = {name: bounds(mine[name] - known[other][name]) for name in TOLD}
            show(one, use, arm)
    return one


def show(one: Mapping[str, Any], use: str, arm: str) -> None:
    """Lines."""
    mine = one[f"{use} {arm}"]
    print(f"{one['table']}, {use} {arm}: {mine['cpu']:.1f} s of CPU, {mine['steps']:,.0f} steps", flush=True)
    for name in TOLD:
        words = [f"  {name:8} {100 * mine[name]:6.2f}"]
        for other in dict.fromkeys((f"{use} full", "random full")):
            if less := one.get(f"{use} {arm} less {other}", {}).get(name):
                words.append(f"less {other} {100 * less[0]:+.2f} +- {100 * less[1]:.2f}")
        print(", ".join(words), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one table, 3 splits, 16 trials, 200 steps, random and tpe")
    parser.add_argument("--tables", nargs="+", default=["breast_cancer", "diabetes", "wine", "digits"])
    parser.add_argument("--samplers", nargs="+", default=["random", "tpe", "nsga2"])
    parser.add_argument("--arms", nargs="+", default=["refill"], choices=["refill", "halved"])
    parser.add_argument("--rungs", type=int, default=2)
    parser.add_argument("--keep", type=float, default=0.33)
    parser.add_argument("--splits", type=int, default=8)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--steps", type=int, default=1500)
    given = parser.parse_args()
    if given.quick:
        given.tables, given.samplers, given.splits, given.trials, given.steps = given.tables[:1], ["random", "tpe"], 3, 16, 200
    print(json.dumps({"quick": given.quick, "figures": [compared(table, given) for table in given.tables]}))


if __name__ == "__main__":
    main()
