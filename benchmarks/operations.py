"""Searched operations against random architectures, at equal numbers of steps.

    python benchmarks/operations.py [--quick]

Two tables, `diabetes` and `breast_cancer`; two hidden layers of 8, each edge one of linear, rank 2, residual and none; tanh. A
search is T steps (softmax whose temperature falls from 1 to 0.05 over 60 % of them, Adam 0.03 on the logits, 0.01 on the
weights), `closest`, and F steps of fine-tuning. A random architecture has an operation drawn for each edge, and as many steps
of the same kind. Groups of 20 seeds; the best of a group is chosen by the validation split:

- one search, the mean of all;
- one random architecture, the mean of all;
- the best of 20 random ones with a twentieth of the steps each: as many steps in all as one search;
- the best of 20 random ones: 20 times the steps of one search;
- the best of 20 searches: as many steps as that.

Test losses: squared error over the variance of the targets, or cross-entropy in nats; the mean over groups, the least and the
largest group; parameters are the mean. A step of either costs the same here, as both are made by one program. One thread; the
last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nasplug.config import parse
from nasplug.discretize import discretize
from nasplug.finetune import finetune
from nasplug.networks import Networks, forward, sizes
from nasplug.plan import Pack, assemble, components
from nasplug.plugins import load_plugins
from nasplug.replicas import uniform
from nasplug.train import State, evaluate, start, train
from nasplug_mixture import closest

TABLES = ("diabetes", "breast_cancer")
GROUP = 20
SURE = 1e4  # a logit that leaves the others a share of 0, so that nothing moves it


def trained(
    table: str, seeds: list[int], steps: int, tuning: int, *, drawn: bool, how: Mapping[str, Any] | None = None
) -> dict[str, Tensor]:
    """Validation and test loss and parameters of one network per seed; ``how``: other sections of the study's config."""
    config: Any = parse(
        {
            "study": "s",
            "task": {"use": table, "validation": "holdout"},
            "method": {"use": "operations", "hidden": [8, 8], "activation": "tanh"},
            "temperature": {"use": "linear", "start": 1.0, "end": 0.05, "until": 0.6},
            "train": {
                "steps": steps,
                "batch": 64,
                "lr": 0.01,
                "architecture": {"optimizer": {"use": "adam", "beta1": 0.5}, "lr": 0.03},
            },
            "seeds": seeds,
        }
        | dict(how or {})
    )
    plugins = load_plugins()
    pack = Pack("p", {}, {}, seeds, [0] * len(seeds))
    search = assemble(components(config, pack, plugins), pack, plugins)
    state: State | None = None
    if drawn:
        state = start(search)
        for name, p in state.params.items():
            if name.startswith("operation"):
                place = (uniform(search.seeds, f"random {name}", (1,)) * p.shape[1]).long()  # (K, 1)
                p.copy_(torch.zeros_like(p).scatter_(1, place, SURE))
    *_, last = train(search, state, every=steps)
    nets: Networks = search.direct(search.relax(last.state.params, search.tau.at(steps - 1)))
    hard, _ = discretize(search.task, nets, [closest()], certify=False)
    hard = finetune(search, hard, tuning, search.lr.scale)
    valid, test = (evaluate(search.task, split, hard, forward)["loss"] for split in (search.task.valid, search.task.test))
    scale = search.task.test.y.double().var(correction=0) if search.task.kind == "regression" else 1.0
    return {"valid": valid.double(), "test": test.double() / scale, "parameters": sizes(hard)["parameters"].double()}


def told(found: dict[str, Tensor], best: bool) -> dict[str, float]:
    """Over groups: of the best of each by validation, or of the mean of each."""
    groups = {name: values.view(-1, GROUP) for name, values in found.items()}
    if best:
        index = groups["valid"].argmin(1, keepdim=True)
        each = {name: values.gather(1, index).squeeze(1) for name, values in groups.items()}
    else:
        each = {name: values.mean(1) for name, values in groups.items()}
    return {
        "test": float(each["test"].mean()),
        "least": float(each["test"].min()),
        "largest": float(each["test"].max()),
        "parameters": float(each["parameters"].mean()),
    }


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one group and few steps: whether it runs")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    groups, steps, tuning = (1, 40, 20) if quick else (5, 600, 300)
    seeds, results = list(range(groups * GROUP)), {}
    for table in TABLES:
        searched = trained(table, seeds, steps, tuning, drawn=False)
        random = trained(table, seeds, steps, tuning, drawn=True)
        short = trained(table, seeds, steps // GROUP, tuning // GROUP, drawn=True)
        rows = {
            "one search": told(searched, best=False),
            "one random architecture": told(random, best=False),
            "best of 20 random, a twentieth of the steps each": told(short, best=True),
            "best of 20 random": told(random, best=True),
            "best of 20 searches": told(searched, best=True),
        }
        print(f"\n{table}")
        for name, row in rows.items():
            spread = f"[{row['least']:.4f} to {row['largest']:.4f}]"
            print(f"{name:50} test {row['test']:.4f} {spread} parameters {row['parameters']:.0f}")
        results[table] = rows
    print(json.dumps(results))


if __name__ == "__main__":
    main()
