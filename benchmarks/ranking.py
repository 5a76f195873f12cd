"""How well do searches over activations find the best of all architectures? Every one is trained, so that it is known.

    python benchmarks/ranking.py [--space operations [--operations NAME ...] | --space kernels] [--quick] [--runner serial|ray]
        [--store FOLDER] [--sets NAME ...]

For each of six data sets that come with nasplug (among them images, digits, and the signals of MNIST-1D) the code of `nasplug
enumerate` trains all 216 architectures (three layers of 8, six activations) with five seeds: 6,480 networks. Then the searches
run on the same space, five seeds each, with as many steps: `SEARCHES` x `DISCRETIZERS`; add a line there for another one.

`--space operations`: two hidden layers of 8, tanh, each edge one of linear, rank 2, residual and none; one of each set of
combinations that come to the same, all of which are trained. `ranked` is left out, as it ranks activations.

`--space kernels`: digits as images and MNIST-1D; two convolutions, 1x1 to 5x5 on digits and 1x1 to 1x9 on the signals, before a
hidden layer of 16, relu, tanh or gelu. Beside the searches stands the largest size in both, which can do what all others do.

Regret, rank and tau are those of `docs/enumerate.md`. Regrets are divided by the error of the constant answer (or of the most
frequent label), so that they have one unit, and averaged over data sets. 90 % bounds: a bootstrap over runs and seeds in each
data set; those of averages take the data sets as fixed and their errors as independent. A step of a search costs more than one
of a fixed network: so many gradients (`passes`) of a mixture, which has all six activations. So beside the searches stands what
is best, by validation, of some architectures at random.

What has run already in FOLDER is not run again. The last line is one JSON object: `tau`, `regret`: {search: [mean, low, high]}.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nasplug import Study
from nasplug.spaces import Found, Scored, Table, baselines, enumerated, found_by, scored, space_of

SETS: Mapping[str, dict[str, Any]] = {
    "digits": {"use": "digits", "validation": "holdout"},
    "mnist1d": {"use": "mnist1d"},
    "breast_cancer": {"use": "breast_cancer", "validation": "holdout"},
    "diabetes": {"use": "diabetes", "validation": "holdout"},
    "Beale": {"use": "cornn", "function": "Beale"},
    "Bird": {"use": "cornn", "function": "Bird"},
}
STEMS: Mapping[str, dict[str, Any]] = {
    "digits_images": {
        "image": [1, 8, 8],
        "layers": [{"channels": channels, "sizes": [1, 3, 5], "pool": 2} for channels in (4, 8)],
    },
    "mnist1d": {
        "image": [1, 1, 40],
        "layers": [{"channels": channels, "sizes": [[1, n] for n in (1, 3, 5, 9)], "pool": [1, 2]} for channels in (8, 8)],
    },
}
LARGEST = {"digits_images": "5x5/5x5", "mnist1d": "1x9/1x9"}
CANDIDATES = ("relu", "tanh", "sigmoid", "elu", "silu", "gelu")
ADAM = {"use": "adam", "beta1": 0.5}
COOLING = {"use": "linear", "start": 10.0, "end": 0.1}  # of GDAS's paper
SEARCHES: Mapping[str, tuple[dict[str, Any], dict[str, Any], int]] = {  # name -> method, train.architecture, passes of a step
    "DARTS 1st": ({"parametrisation": "softmax"}, {"optimizer": ADAM, "lr": 0.03, "share": 0.5}, 2),
    "DARTS 1st, paper's rate": ({"parametrisation": "softmax"}, {"optimizer": ADAM, "lr": 3e-4, "share": 0.5}, 2),
    "DARTS 2nd": ({"parametrisation": "softmax"}, {"optimizer": ADAM, "lr": 0.03, "share": 0.5, "order": 2}, 5),
    "GAEA": ({"parametrisation": "simplex"}, {"optimizer": {"use": "exponentiated"}, "lr": 0.1, "share": 0.5}, 2),
    "GDAS": (
        {"parametrisation": "softmax", "sampling": "straight_through"},
        {"optimizer": ADAM, "lr": 0.03, "share": 0.5},
        2,
    ),
    "DrNAS": ({"sampling": "dirichlet"}, {"optimizer": ADAM, "lr": 0.03, "share": 0.5}, 2),
    "DrNAS, stages": ({"sampling": "dirichlet"}, {"optimizer": ADAM, "lr": 0.03, "share": 0.5}, 2),
    "GAEA single level": ({"parametrisation": "simplex"}, {"optimizer": {"use": "exponentiated"}, "lr": 0.1}, 1),
}
KERNELS = "kernels"
DISCRETIZERS = ("argmax", "closest", "least", "ranked")
OPERATIONS = ("linear", "rank_2", "residual", "none")
FEWER = ("DARTS 2nd", "DARTS 1st, paper's rate", "GAEA single level", "GDAS", "DrNAS", "DrNAS, stages")  # argmax alone
PENALTY = {"use": "concentrations", "level": 1e-3}  # of DrNAS


def config(name: str, space: Sequence[str], quick: bool, store: str) -> dict[str, Any]:
    """What all networks of a data set share; ``space``: operations, `KERNELS`, or empty for activations."""
    activations = {"use": "mixture", "hidden": [6] if quick else [8, 8, 8], "per": "layer", "candidates": list(CANDIDATES)}
    wires = {"use": "operations", "hidden": [6] if quick else [8, 8], "operations": list(space), "activation": "tanh"}
    wires |= {"operations": ["linear", "none"]} if quick else {}
    sized = {"use": "mixture", "hidden": [16], "per": "layer", "candidates": ["relu", "tanh", "gelu"]}
    kernels = list(space) == [KERNELS]
    method = sized | {"stem": STEMS[name]} if kernels else wires if space else activations
    return {
        "study": name,
        "store": str(Path(store) / name),
        "task": {"use": name} if kernels else SETS[name],
        "method": method,
        "train": {"steps": 40 if quick else 600, "batch": 32, "lr": 0.01, "reports": 2},
        "seeds": 3 if quick else 5,
        "linear": False,
        "reach": None,
        "mlflow": None,
        "choose": {"rule": "best"},
    }


def searches(space: Sequence[str], quick: bool) -> list[tuple[str, str, str]]:
    """Search, discretizer, and what both are called together."""
    found = []
    for search in SEARCHES:
        for discretizer in ("argmax",) if search in FEWER or list(space) == [KERNELS] else DISCRETIZERS:
            if discretizer == "ranked" and space:
                continue
            found.append((search, discretizer, search if discretizer == "argmax" else f"{search}, {discretizer}"))
    return [*found[:2], *(one for one in found if one[0] == "DrNAS, stages")] if quick else found


def staged(method: dict[str, Any]) -> dict[str, Any]:
    """DrNAS's other parts: half of the candidates are dropped at half of the steps, and concentrations are kept near 1."""
    count = len(method["operations"] if method["use"] == "operations" else method["candidates"])
    return {"method": method | {"stages": [[0.5, (count + 1) // 2]]}, "penalties": [PENALTY]}


def measure(name: str, space: Sequence[str], quick: bool, store: str, runner: Any) -> tuple[Table, list[Scored]]:
    """The table of a data set, and its searches with what drawing at random comes to."""
    base = config(name, space, quick, store)
    study = Study.from_dict(base)
    table = enumerated(space_of(study.config, study.plugins), study.plugins, runner=runner, fast=True, report=False)
    made = []
    for search, discretizer, title in searches(space, quick):
        method, architecture, _ = SEARCHES[search]
        one = Study.from_dict(
            base
            | {
                "study": title.replace(", ", "-").replace(" ", "-").replace("'", ""),
                "method": base["method"] | method,
                "train": base["train"] | {"architecture": architecture},
                "discretizers": [{"use": discretizer}],
                **(staged(base["method"] | method) if search == "DrNAS, stages" else {}),
                **({"temperature": COOLING} if search == "GDAS" else {}),
            }
        )
        one.fast = True
        made.append(scored(table, found_by(one.run(runner, report=False), table)))
    titles = [title for *_, title in searches(space, quick)]
    found = [*(Scored(title, *_rest(one)) for title, one in zip(titles, made, strict=True)), *baselines(table)]
    if list(space) == [KERNELS]:
        places = [at for at, (_, text) in enumerate(table.keys) if text.partition(":")[0] == LARGEST[name]]
        found.append(scored(table, Found("the largest kernels", places, {}, len(places))))
    return table, found


def _rest(one: Scored) -> tuple[Any, ...]:
    return (one.runs, one.networks, one.regret, one.behind, one.rank, one.tau, one.architectures, one.words)


def averaged(values: Sequence[tuple[float, float, float]]) -> list[float]:
    """Mean, low and high of a mean over data sets, whose errors are independent: half widths add in squares."""
    each = np.array(values)
    mean = each[:, 0].mean()
    low = mean - np.sqrt(((each[:, 0] - each[:, 1]) ** 2).sum()) / len(each)
    high = mean + np.sqrt(((each[:, 2] - each[:, 0]) ** 2).sum()) / len(each)
    return [float(f"{value:.4g}") for value in (mean, low, high)]


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two data sets, one layer, few steps: to see that it runs")
    parser.add_argument("--runner", choices=["serial", "ray"], default="ray")
    parser.add_argument("--store", help="where the studies go (default: a new folder)")
    parser.add_argument("--sets", nargs="+", choices=[*SETS, "digits_images"], default=None)
    parser.add_argument("--space", choices=["activations", "operations", KERNELS], default="activations")
    parser.add_argument("--operations", nargs="+", default=list(OPERATIONS), help="of that space: linear, gated, none, ...")
    given = parser.parse_args(arguments)
    space: list[str] = given.operations if given.space == "operations" else [KERNELS] if given.space == KERNELS else []
    every = list(STEMS) if given.space == KERNELS else list(SETS)
    if odd := [name for name in given.sets or () if name not in every]:
        parser.error(f"--sets {' '.join(odd)} with --space {given.space}; needed: some of {', '.join(every)}")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    began, store = time.perf_counter(), given.store or tempfile.mkdtemp(prefix="ranking")
    names = given.sets or (["breast_cancer", "Beale"] if given.quick and given.space != KERNELS else every)
    runner = "serial" if given.quick else given.runner
    regrets: dict[str, list[tuple[float, float, float]]] = {}
    taus: dict[str, list[tuple[float, float, float]]] = {}
    ranks: dict[str, list[float]] = {}
    passes = {title: SEARCHES[search][2] for search, _, title in searches(space, given.quick)}
    for name in names:
        table, found = measure(name, space, given.quick, store, runner)
        best = table.frame.iloc[0]
        print(
            f"{name}: {len(table.keys)} architectures, best {best['architecture']} {best['test_error']:.4g} (± "
            f"{best['test_error_se']:.2g}), median {np.median(table.test):.4g}, worst {table.test.max():.4g}, constant "
            f"{table.trivial:.4g}",
            flush=True,
        )
        for one in found:
            share = one.regret.mean / table.trivial, one.regret.low / table.trivial, one.regret.high / table.trivial
            called = "best of all" if one.name.startswith("best of all") else one.name  # how many they are depends on the set
            regrets.setdefault(called, []).append(share)
            ranks.setdefault(called, []).append(one.rank)
            told = ""
            for order, tau in one.tau.items():
                key = called if order in ("shares", "validation") else f"{one.name}, {order}"
                taus.setdefault(key, []).append((tau.mean, tau.low, tau.high))
                told += f"   tau of {order} {tau.mean:.2f} [{tau.low:.2f}, {tau.high:.2f}]"
            print(
                f"  {one.name:<26} regret {share[0]:8.4f} [{share[1]:.4f}, {share[2]:.4f}] of the constant's error   rank "
                f"{one.rank:6.1f}{told}" + (f"   passes {passes[one.name]}" if one.name in passes else ""),
                flush=True,
            )
    result = {
        "tau": {name: averaged(values) for name, values in taus.items()},
        "regret": {name: averaged(values) for name, values in regrets.items()},
        "rank": {name: round(float(np.mean(values)), 1) for name, values in ranks.items()},
        "sets": names,
        "minutes": round((time.perf_counter() - began) / 60, 1),
    }
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
