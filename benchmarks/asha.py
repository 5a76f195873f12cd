"""A study with halving against ASHA on Ray Tune as people write it: one network per trial. Wall seconds for as many networks.

    python benchmarks/asha.py [--quick] [--tables breast_cancer digits] [--networks 64 512] [--steps T] [--cpus 2]

On each table networks with 16 hidden neurons, L1 with a ramp, Adam, minibatches of 64; levels and learning rates are drawn at
random from the wide ranges of `halving.py`:

- `asha`: `ray.tune.schedulers.ASHAScheduler` by validation error, rungs after 2, 6 and 18 of 20 reports, workers reused, one
  CPU each; the trainable is a plain torch loop with a fused Adam, which reports error and size and saves nothing. A weight
  below 0.01 counts as none, both in the size and in the error of the last report.
- `nasplug`: the same number of networks of method `edges` with `stop: {use: halving, rungs: 2, keep: 0.33}` on the same Ray:
  its table, histories, discretized networks with scores on three splits, and the chosen network's files.

Ray has started before, for both; neither has MLflow or a report. `volume`: the hypervolume that the front of those that
finished dominates (validation error up to a trivial network's, log(1 + edges) up to a dense one's); `error`: the smallest
validation error, as a share of a trivial network's. The two do not train the same networks, and `asha` does not look at
sizes: figures of quality are there to show that none of the two got its speed by training worse ones. Of one run each.

The last line is one JSON object: `wall_vs_asha` (of the largest number of networks, the smallest ratio), and all figures.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from typing import Any

import numpy as np
import pandas as pd
import torch
from halving import volume, wide
from torch import nn

from nasplug.study import Study

REPORTS = 20
SMALL = 0.01  # a weight below it counts as none
HIDDEN = 16


def one_network(config: dict[str, Any]) -> None:
    """A trial as people write it."""
    from ray import tune

    torch.set_num_threads(1)
    torch.manual_seed(config["seed"])
    x, y, xv, yv = (torch.tensor(config[name]) for name in ("x", "y", "xv", "yv"))
    steps, outputs = config["steps"], int(y.max()) + 1
    model = nn.Sequential(nn.Linear(x.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs))
    weights = [model[0].weight, model[2].weight]
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"], fused=True)
    order, every = torch.randperm(len(x)), steps // REPORTS

    def told(*, cut: bool) -> dict[str, float]:
        with torch.no_grad():
            for weight in weights if cut else ():
                weight[weight.abs() < SMALL] = 0.0
            error = float((model(xv).argmax(1) != yv).float().mean())
            return {"valid_error": error, "edges": float(sum((weight.abs() >= SMALL).sum() for weight in weights))}

    at = 0
    for step in range(steps):
        if at + 64 > len(x):
            order, at = torch.randperm(len(x)), 0
        rows, at = order[at : at + 64], at + 64
        optimizer.zero_grad()
        penalty = sum(weight.abs().sum() for weight in weights)
        level = config["level"] * min(1.0, (step + 1) / (0.3 * steps))
        (nn.functional.cross_entropy(model(x[rows]), y[rows]) + level * penalty).backward()
        optimizer.step()
        if (step + 1) % every == 0:
            tune.report(told(cut=step + 1 == steps))


def by_asha(study: Study, networks: int, steps: int, cpus: int) -> tuple[pd.DataFrame, float]:
    """The last report of each trial, and seconds."""
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    task, random = study.task, np.random.default_rng(0)
    data = {
        name: part.tolist()
        for name, part in {
            "x": task.train.x.T.float(), "y": task.train.y.flatten().long(),
            "xv": task.valid.x.T.float(), "yv": task.valid.y.flatten().long(),
        }.items()
    }  # fmt: skip
    levels, rates = 10 ** random.uniform(-5, 0, networks), 10 ** random.uniform(-4, np.log10(0.3), networks)
    drawn = [
        {"seed": at, "level": float(level), "lr": float(rate)}
        for at, (level, rate) in enumerate(zip(levels, rates, strict=True))
    ]
    trainable = tune.with_parameters(lambda config, data: one_network({**config["one"], **data, "steps": steps}), data=data)
    with tempfile.TemporaryDirectory() as folder:
        scheduler = ASHAScheduler("training_iteration", "valid_error", "min", max_t=REPORTS, grace_period=2, reduction_factor=3)
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1}),
            param_space={"one": tune.grid_search(drawn)},
            tune_config=tune.TuneConfig(scheduler=scheduler, reuse_actors=True, max_concurrent_trials=cpus),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        began = time.perf_counter()
        found = tuner.fit()
        took = time.perf_counter() - began
        return pd.DataFrame([one.metrics for one in found]), took


def compared(table: str, networks: int, steps: int, cpus: int) -> dict[str, Any]:
    """Figures of a table."""
    with tempfile.TemporaryDirectory() as store:
        stop = {"use": "halving", "rungs": 2, "keep": 0.33, "by": ["valid_error", "edges"]}
        study = Study.from_dict({**wide(table, steps, networks, store), "stop": stop, "resources": {}})
        began = time.perf_counter()
        mine = study.run("ray", report=False, progress=False)
        seconds = time.perf_counter() - began
        trivial = mine.facts_of(str(mine.best()["replica"])).trivial["valid_error"]
        dense = float(HIDDEN * (mine.task.inputs + mine.task.outputs))
        theirs, took = by_asha(study, networks, steps, cpus)
        one: dict[str, Any] = {"table": table, "networks": networks, "seconds": seconds, "asha_seconds": took}
        one["ratio"] = took / seconds
        finished = {
            "": mine.frame[mine.frame["status"] == "finished"],
            "asha_": theirs[theirs["training_iteration"] == REPORTS],
        }
        for name, rows in finished.items():
            one[f"{name}finished"] = len(rows)
            one[f"{name}volume"] = volume(rows, trivial, dense)
            one[f"{name}error"] = float(rows["valid_error"].min()) / trivial
        one["asha_steps"] = float(theirs["training_iteration"].sum()) / REPORTS / networks
        print(", ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in one.items()))
        return one


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one table, 16 networks, 400 steps")
    parser.add_argument("--tables", nargs="+", default=["breast_cancer", "digits"])
    parser.add_argument("--networks", nargs="+", type=int, default=[64, 512])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--cpus", type=int, default=2)
    given = parser.parse_args()
    if given.quick:
        given.tables, given.networks, given.steps = given.tables[:1], [16], 400
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", "benchmark-on-this-machine-only")
    import ray

    ray.init(address="local", num_cpus=given.cpus, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        found = [compared(table, count, given.steps, given.cpus) for table in given.tables for count in given.networks]
    finally:
        ray.shutdown()
    most = max(given.networks)
    least = min(one["ratio"] for one in found if one["networks"] == most)
    print(json.dumps({"quick": given.quick, "wall_vs_asha": least, "figures": found}))


if __name__ == "__main__":
    main()
