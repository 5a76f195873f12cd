"""Which inputs matter? How often the true ones are found, and no others, and which pairs of them meet in a neuron.

    python benchmarks/support.py                                                # everything: hours
    python benchmarks/support.py --quick                                        # two functions, three data sets: under 60 s
    python benchmarks/support.py --tasks moons friedman1 --samples 1000 --noise 0.1 --seeds 10 --rivals

Data sets (`support_tasks.py`): parity, products, Friedman's functions, two moons, additive and pairwise functions of 10 to 50
inputs, with 200, 1,000 and 5,000 samples and 0, 10 and 30 % noise, 20 data seeds each. All data sets of a function and all
levels of a method are rows of one pack (or few, where memory asks for it).

Methods: ``edges`` with an L1, as `nasplug look` writes it; ``edges, decay``, the same with a learning rate that ends at 0;
``edges, inputs``, that with the penalty ``inputs`` instead, adaptive. Of the networks of a data set one is chosen by the
validation samples alone: the one with the fewest inputs (then the smallest error) that is as good as the best, within one
standard error of the share of wrong labels or 1 % of the target's variance. The same rule chooses among the candidates of the
rivals: L1 (scikit-learn), LassoNet and EBM. ``smallest``: what studies choose by default, the network with the fewest edges
within the same limits.

Settings were chosen on data seeds 100 to 109 of ``moons`` and ``friedman1``; the data seeds here begin at 0.

F1 of inputs and of pairs (1 where there are none and none is found); ``exact``: the share of data sets in which exactly the
true inputs were found; ``on front``: in which some network of the front has exactly these; ``false``: inputs too many;
``error``: of the test samples, with their noise. The last line is one JSON object: ``exact_support`` (``{task: share}``, of
``edges, inputs``), the same for all methods under ``methods``, and ``not_run``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from support_rivals import RIVALS, Candidate, missing
from support_tasks import FUNCTIONS, Function, Plugin

from nasplug.compact import compact
from nasplug.config import StudyConfig, parse
from nasplug.explain import meeting
from nasplug.networks import Networks, alive
from nasplug.packs import TABLE, load_networks, run_pack
from nasplug.plan import Pack, build_task, settle
from nasplug.plugins import Plugins, load_plugins
from nasplug.results import choose, front, slack
from nasplug.study import Study
from nasplug.tasks import Task

LEVELS, SEEDS = 12, 1
RAMP = {"use": "linear", "until": 0.3}
RECIPE: dict[str, Any] = {"steps": 1000, "batch": 64, "lr": 0.01, "finetune": 200, "reports": 2, "compile": False}
DECAY = {"decay": {"use": "cosine", "start": 1.0, "end": 0.0, "since": 0.5}}
METHODS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "edges": ({"use": "l1", "level": {"log": [1e-4, 1e-1], "points": LEVELS}, "ramp": RAMP}, RECIPE),
    "edges, decay": ({"use": "l1", "level": {"log": [1e-4, 1e-1], "points": LEVELS}, "ramp": RAMP}, RECIPE | DECAY),
    "edges, inputs": (
        {"use": "inputs", "adaptive": 0.03, "level": {"log": [3e-3, 1.0], "points": LEVELS}, "ramp": RAMP},
        RECIPE | DECAY,
    ),
}
"""Name -> its penalty and its training."""
OURS, CONTROL = "edges, inputs", "edges, decay"
QUICK = ("moons", "friedman1")
FREQUENCY = "selection frequency: not in this benchmark yet"


class Setting(NamedTuple):
    """One function, so many samples, so much noise."""

    task: str
    samples: int
    noise: float

    @property
    def function(self) -> Function:
        """What is true of it."""
        return FUNCTIONS[self.task]


class Outcome(NamedTuple):
    """What was chosen for one data set."""

    inputs: frozenset[int]
    pairs: frozenset[tuple[int, int]] | None
    error: float
    on_front: bool | None = None
    smallest: bool | None = None
    """Whether the network that a study chooses by default has exactly the true inputs."""


@lru_cache(maxsize=1)
def registry() -> Plugins:
    """What is installed and the task `support`, in a registry of their own: that of the process stays as it is."""
    plugins = load_plugins.__wrapped__()
    plugins.add(Plugin(), "support", "support", "0")
    return plugins


# -- nasplug -----------------------------------------------------------------------------------------------------------


def study_of(method: str, setting: Setting, seeds: Sequence[int]) -> StudyConfig:
    """One sweep over levels and data sets."""
    penalty, training = METHODS[method]
    return parse(
        {
            "study": "support",
            "store": "unused",
            "task": {"use": "support", "function": setting.task, "samples": setting.samples, "noise": setting.noise}
            | {"seed": {"grid": list(seeds)}},
            "method": {"use": "edges", "mode": "annealed", "hidden": [16]},
            "penalties": [penalty],
            "temperature": {"use": "linear", "start": 1.0, "end": 0.0, "until": 0.5},
            "discretizers": [{"use": "threshold", "tolerance": 0.02}],
            "train": training,
            "seeds": SEEDS,
            "linear": False,
            "reach": None,
            "mlflow": None,
        }
    )


def networks_of(method: str, setting: Setting, seeds: Sequence[int], plugins: Plugins) -> dict[int, Outcome]:
    """What `edges` finds, by data seed."""
    study = Study(study_of(method, setting, seeds), plugins, fast=True)
    frames, nets = [], {}
    for pack in study.plan():
        with tempfile.TemporaryDirectory() as there:
            for _ in run_pack(study.config, pack, plugins, Path(there)):
                pass
            frame = pd.read_parquet(Path(there) / TABLE)
            nets[pack.id] = load_networks(Path(there))
        frames.append(frame.assign(row=range(len(frame)), pack=pack.id, data=_data(pack, len(frame), seeds)))
    frame = _with_inputs(pd.concat(frames), nets)
    tasks = {seed: build_task(settle(study.config, {"task.seed": seed}), plugins) for seed in seeds}
    return {seed: _outcome(frame[frame["data"] == seed], nets, tasks[seed], setting.function) for seed in seeds}


def _data(pack: Pack, rows: int, seeds: Sequence[int]) -> Sequence[int]:
    """The data seed of each row; a study of one does not say so in its rows."""
    path = "task.seed"
    return pack.columns.get(path) or [pack.values.get(path, seeds[0])] * rows


def _with_inputs(frame: pd.DataFrame, nets: dict[str, Networks]) -> pd.DataFrame:
    """The inputs that each network reads, as a column of sets."""
    reads = {name: _reads(some) for name, some in nets.items()}
    used = [reads[pack][row] for pack, row in zip(frame["pack"], frame["row"], strict=True)]
    return frame.assign(used=used)


def _reads(nets: Networks) -> list[frozenset[int]]:
    whole = alive(nets)
    used = torch.stack([(w != 0).any(1) for (_, source), w in whole.blocks.items() if source == 0]).any(0)
    return [frozenset(row.nonzero().flatten().tolist()) for row in used]


def _outcome(rows: pd.DataFrame, nets: dict[str, Networks], task: Task, function: Function) -> Outcome:
    rows = rows[rows["status"] == "finished"]
    best = float(rows["valid_error"].min())
    good = rows[rows["valid_error"] <= best + slack(task.facts, best)]
    chosen = good.sort_values(["inputs", "valid_error", "edges"], kind="stable").iloc[0]
    small = compact(nets[chosen["pack"]], int(chosen["row"]), task)
    places = {name: place for place, name in enumerate(task.features)}
    pairs = frozenset((min(places[a], places[b]), max(places[a], places[b])) for a, b in meeting(small))
    right = [exact(used, function) for used in front(rows)["used"]]
    default = choose(rows, lambda replica: task.facts)
    return Outcome(chosen["used"], pairs, float(chosen["test_error"]), any(right), exact(default["used"], function))


# -- rivals ------------------------------------------------------------------------------------------------------------


def rival_of(
    fit: Callable[[Task], Iterator[Candidate]], setting: Setting, seeds: Sequence[int], plugins: Plugins
) -> dict[int, Outcome]:
    """What a rival finds, by data seed, chosen by the same rule."""
    found = {}
    for seed in seeds:
        task = build_task(settle(study_of("edges", setting, [seed]), {"task.seed": seed}), plugins)
        every = list(fit(task))
        best = min(one.valid for one in every)
        good = [one for one in every if one.valid <= best + slack(task.facts, best)]
        chosen = min(good, key=lambda one: (len(one.inputs), one.valid))
        found[seed] = Outcome(chosen.inputs, chosen.pairs, chosen.test)
    return found


# -- scores ------------------------------------------------------------------------------------------------------------


def exact(used: frozenset[int], function: Function) -> bool:
    """Whether exactly the true inputs are used."""
    return used - function.free == function.true


def f1(found: frozenset[Any], true: frozenset[Any]) -> float:
    """Harmonic mean of precision and recall; 1 where nothing is there and nothing is found."""
    return 2.0 * len(found & true) / (len(found) + len(true)) if found or true else 1.0


def summary(outcomes: dict[int, Outcome], function: Function) -> dict[str, float]:
    """Means over data sets."""

    def mean(values: list[float | bool]) -> float:
        return float(np.mean(values))

    each = list(outcomes.values())
    told = {
        "exact": mean([exact(one.inputs, function) for one in each]),
        "f1_inputs": mean([f1(one.inputs - function.free, function.true) for one in each]),
        "false_inputs": mean([len(one.inputs - function.free - function.true) for one in each]),
        "error": mean([one.error for one in each]),
    }
    if all(one.pairs is not None for one in each):
        free = function.free
        kept = [frozenset(p for p in one.pairs or () if not free & set(p)) for one in each]
        told["f1_pairs"] = mean([f1(pairs, function.pairs) for pairs in kept])
    for name in ("on_front", "smallest"):
        values = [getattr(one, name) for one in each]
        if None not in values:
            told[name] = mean(values)
    return told


COLUMNS = {"exact": "exact", "on_front": "on front", "smallest": "smallest", "f1_inputs": "F1 inputs", "f1_pairs": "F1 pairs"}


def line(setting: Setting, method: str, told: dict[str, float], seconds: float) -> str:
    """One row of the table."""
    numbers = "".join(f"{told[key]:10.2f}" if key in told else f"{'':>10}" for key in COLUMNS)
    where = f"{setting.task:11}{setting.samples:6}{setting.noise:6.1f}"
    return f"{where}  {method:18}{numbers}{told['false_inputs']:8.2f}{told['error']:9.4f}{seconds:7.0f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="moons and friedman1, 1,000 samples, 10 %% noise, 3 data seeds")
    parser.add_argument("--tasks", nargs="+", choices=list(FUNCTIONS), default=list(FUNCTIONS), metavar="NAME")
    parser.add_argument("--samples", nargs="+", type=int, default=[200, 1000, 5000])
    parser.add_argument("--noise", nargs="+", type=float, default=[0.0, 0.1, 0.3])
    parser.add_argument("--seeds", type=int, default=20, help="data sets of each setting")
    parser.add_argument("--first", type=int, default=0, help="the first data seed")
    parser.add_argument("--rivals", nargs="*", choices=list(RIVALS), metavar="NAME", help="rivals, too: these, or all")
    given = parser.parse_args(arguments)
    everything = given == parser.parse_args([])  # hours, and nothing left out
    if given.quick:
        given.tasks, given.samples, given.noise, given.seeds = list(QUICK), [1000], [0.1], 3
    torch.set_num_threads(1)
    plugins = registry()
    absent = missing()
    asked = ["l1"] if given.quick else list(RIVALS) if everything or given.rivals == [] else given.rivals or []
    rivals = {name: RIVALS[name][0] for name in asked if name not in absent}
    print(f"{'function':11}{'rows':>6}{'noise':>6}  {'method':18}", end="")
    print("".join(f"{name:>10}" for name in COLUMNS.values()) + f"{'false':>8}{'error':>9}{'CPU s':>7}")
    found: dict[str, dict[str, list[float]]] = {}
    seeds = range(given.first, given.first + given.seeds)
    for setting in (Setting(t, n, e) for t in given.tasks for n in given.samples for e in given.noise):
        ways: dict[str, Callable[[], dict[int, Outcome]]] = {
            name: partial(networks_of, name, setting, seeds, plugins) for name in METHODS if name != CONTROL or not given.quick
        }
        ways |= {name: partial(rival_of, fit, setting, seeds, plugins) for name, fit in rivals.items()}
        for name, way in ways.items():
            began = time.process_time()
            told = summary(way(), setting.function)
            print(line(setting, name, told, time.process_time() - began), flush=True)
            found.setdefault(name, {}).setdefault(setting.task, []).append(told["exact"])
    shares = {name: {task: float(np.mean(each)) for task, each in tasks.items()} for name, tasks in found.items()}
    not_run = [*(f"{name}: not installed" for name in absent), FREQUENCY]
    not_run += [f"{name}: not asked for" for name in RIVALS if name not in absent and name not in rivals]
    print("not run: " + "; ".join(not_run))
    print(json.dumps({"exact_support": shares[OURS], "methods": shares, "data_seeds": given.seeds, "not_run": not_run}))


if __name__ == "__main__":
    main()
