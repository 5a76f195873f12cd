"""Searched operations against random architectures, at equal numbers of steps.

    python benchmarks/operations.py [--quick | --rounding | --steps]

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

`--rounding`: a gated operation, u s of a sum u and its gate s, is made of two squares, of which one is subtracted. How far is
it from float64 in float32, by the size of u, beside the plain product? Relative to the larger of 1 and |u|, the largest of
100,000.

`--steps`: CPU milliseconds of one training step of 64 networks, by what is drawn: nothing (softmax), a Gumbel softmax, one path
(GDAS), a point of a Dirichlet distribution (DrNAS), and of networks whose operations are fixed. Medians of blocks of steps, in
turn, and their ratio to softmax.
"""

from __future__ import annotations

import argparse
import json
import time
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
from nasplug.train import Search, State, evaluate, start, train
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


def rounding() -> dict[str, dict[str, float]]:
    """The largest error of u s in float32, by the size of u: of the squares, and of the product itself."""
    found = {}
    for size in (0.1, 1.0, 10.0, 100.0, 1000.0):
        draw = torch.Generator().manual_seed(0)
        u = (size * (2.0 * torch.rand(100_000, generator=draw, dtype=torch.float64) - 1.0)).float()
        s = torch.sigmoid(4.0 * torch.randn(100_000, generator=draw, dtype=torch.float64)).float()
        exact, unit = u.double() * s.double(), u.double().abs().clamp(min=1.0)
        made = {
            "squares": 0.25 * torch.square(0.5 * u + 2.0 * s) - 0.25 * torch.square(0.5 * u - 2.0 * s),
            "product": u * s,
        }
        found[f"{size:g}"] = {name: float(((value.double() - exact).abs() / unit).max()) for name, value in made.items()}
    return found


def step_times(steps: int = 40, blocks: int = 7) -> dict[str, float]:
    """Milliseconds of CPU per step of 64 networks, by what is drawn in it."""
    samplings = {"softmax": "none", "Gumbel": "gumbel", "one path (GDAS)": "straight_through", "Dirichlet (DrNAS)": "dirichlet"}
    plugins, rows = load_plugins(), 64
    running: dict[str, tuple[Search, State]] = {}
    for name, sampling in {**samplings, "fixed": "none"}.items():
        raw: dict[str, Any] = {
            "study": "s",
            "task": {"use": "digits", "validation": "holdout"},
            "method": {"use": "operations", "hidden": [16, 16], "operations": ["linear", "rank_4", "residual", "none"]},
            "train": {"steps": steps * blocks, "batch": 64, "lr": 0.01},
            "seeds": rows,
        }
        raw["method"]["sampling"] = sampling
        raw |= {"fixed": "linear/none,linear/none,none,linear"} if name == "fixed" else {}
        pack = Pack("p", {}, {}, list(range(rows)), [0] * rows)
        search = assemble(components(parse(raw), pack, plugins), pack, plugins)
        running[name] = (search, start(search))
    spent: dict[str, list[float]] = {name: [] for name in running}
    for block in range(blocks):
        for name, (search, state) in running.items():
            began = time.process_time()
            *_, report = train(search, state, every=steps, until=steps * (block + 1))
            spent[name].append(1e3 * (time.process_time() - began) / steps)
            running[name] = (search, report.state)
    return {name: float(torch.tensor(times[1:]).median()) for name, times in spent.items()}


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
    parser.add_argument("--rounding", action="store_true", help="how exact a gated operation is in float32")
    parser.add_argument("--steps", action="store_true", help="what a step costs, by what is drawn in it")
    given = parser.parse_args()
    quick = given.quick
    torch.set_num_threads(1)
    if given.rounding:
        errors = rounding()
        for size, row in errors.items():
            print(f"|u| up to {size:>5}: squares {row['squares']:.1e}, product {row['product']:.1e}")
        print(json.dumps(errors))
        return
    if given.steps:
        times = step_times()
        for name, milliseconds in times.items():
            print(f"{name:20} {milliseconds:.2f} ms of CPU per step, {milliseconds / times['softmax']:.2f} of softmax")
        print(json.dumps(times))
        return
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
