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

``frequency`` and ``inputs, frequency``: the level that was so chosen for ``edges`` and for ``edges, inputs``, trained again on
25 complementary pairs of half samples; found are the inputs, and the pairs, that at least .8 of these networks keep, as
``stability: true`` counts them. That is no network, so it has no error. Its CPU seconds come on top of the sweep's.

Settings were chosen on data seeds 100 to 109 of ``moons`` and ``friedman1``; the data seeds here begin at 0.

F1 of inputs and of pairs (1 where there are none and none is found); ``exact``: the share of data sets in which exactly the
true inputs were found; ``on front``: in which some network of the front has exactly these; ``false``: inputs too many;
``error``: of the test samples, with their noise. The last line is one JSON object: ``exact_support`` (``{task: share}``, of
``edges, inputs``), the same for all methods under ``methods``, ``f1_inputs`` and ``f1_pairs`` of all, and ``not_run``.
``false_selection_bound_held``: of the data sets of both frequencies, in how many no more false inputs were found than their own
worst-case bound at .8 allows. The bound is for a level that was fixed before; here the same samples chose it.
"""

from __future__ import annotations

import argparse
import json
import math
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
from nasplug.stability import tally, whole_pairs, worst
from nasplug.study import Study
from nasplug.tasks import Task

LEVELS, SEEDS = 12, 1
LEVEL, DATA = "penalties.0.level", "task.seed"
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
HALVES, OFTEN = 50, 0.8
FREQUENCIES = {"frequency": "edges", "inputs, frequency": OURS}
"""Name -> whose networks are counted."""
QUICK = ("moons", "friedman1")
SAMPLES, NOISE, DATA_SEEDS = (200, 1000, 5000), (0.0, 0.1, 0.3), 20


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
    error: float | None
    on_front: bool | None = None
    smallest: bool | None = None
    """Whether the network that a study chooses by default has exactly the true inputs."""
    level: float | None = None
    bound: float | None = None
    """On falsely selected inputs, of what is found by frequency."""


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


@lru_cache(maxsize=len(METHODS))
def networks_of(method: str, setting: Setting, seeds: range, plugins: Plugins) -> dict[int, Outcome]:
    """What `edges` finds, by data seed; kept for those who count what its levels keep."""
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
    tasks = {seed: build_task(settle(study.config, {DATA: seed}), plugins) for seed in seeds}
    return {seed: _outcome(frame[frame["data"] == seed], nets, tasks[seed], setting.function) for seed in seeds}


def _data(pack: Pack, rows: int, seeds: Sequence[int]) -> Sequence[int]:
    """The data seed of each row; a study of one does not say so in its rows."""
    return pack.columns.get(DATA) or [pack.values.get(DATA, seeds[0])] * rows


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
    own = exact(default["used"], function)
    return Outcome(chosen["used"], pairs, float(chosen["test_error"]), any(right), own, float(chosen[LEVEL]))


def frequent(name: str, setting: Setting, seeds: range, plugins: Plugins) -> dict[int, Outcome]:
    """What most networks on half samples keep, by data seed."""
    method = FREQUENCIES[name]
    study, found = study_of(method, setting, seeds), {}
    for seed, chosen in networks_of(method, setting, seeds, plugins).items():
        levels = {LEVEL: [chosen.level] * HALVES}
        pack = Pack("s0000", {DATA: seed}, levels, [0] * HALVES, [0] * HALVES, folds=list(range(HALVES)))
        with tempfile.TemporaryDirectory() as there:
            for _ in run_pack(study, pack, plugins, Path(there)):
                pass
            frame, nets = pd.read_parquet(Path(there) / TABLE), load_networks(Path(there))
        finished = whole_pairs(set(np.flatnonzero(frame["status"] == "finished").tolist()))
        if not finished:
            raise SystemExit(f"{name}, {setting}, data seed {seed}: no complementary pair of half samples finished")
        kept = tally(nets, torch.tensor(sorted(finished)))
        least = (OFTEN - 1e-9) * kept.networks
        assert kept.pairs is not None  # for the type checker
        inputs = frozenset((kept.inputs >= least).nonzero().flatten().tolist())
        pairs = frozenset((a, b) for a, b in (kept.pairs.triu(1) >= least).nonzero().tolist())
        bound = worst(float(kept.inputs.sum()) / kept.networks, setting.function.inputs, OFTEN)
        found[seed] = Outcome(inputs, pairs, None, bound=bound)
    return found


# -- rivals ------------------------------------------------------------------------------------------------------------


def rival_of(
    fit: Callable[[Task], Iterator[Candidate]], setting: Setting, seeds: Sequence[int], plugins: Plugins
) -> dict[int, Outcome]:
    """What a rival finds, by data seed, chosen by the same rule."""
    found = {}
    for seed in seeds:
        task = build_task(settle(study_of("edges", setting, [seed]), {DATA: seed}), plugins)
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


def too_many(outcome: Outcome, function: Function) -> int:
    """False inputs."""
    return len(outcome.inputs - function.free - function.true)


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
        "false_inputs": mean([too_many(one, function) for one in each]),
    }
    if all(one.pairs is not None for one in each):
        free = function.free
        kept = [frozenset(p for p in one.pairs or () if not free & set(p)) for one in each]
        told["f1_pairs"] = mean([f1(pairs, function.pairs) for pairs in kept])
    for name in ("error", "on_front", "smallest"):
        values = [getattr(one, name) for one in each]
        if None not in values:
            told[name] = mean(values)
    return told


COLUMNS = {"exact": "exact", "on_front": "on front", "smallest": "smallest", "f1_inputs": "F1 inputs", "f1_pairs": "F1 pairs"}


def line(setting: Setting, method: str, told: dict[str, float], seconds: float) -> str:
    """One row of the table."""
    numbers = "".join(f"{told[key]:10.2f}" if key in told else f"{'':>10}" for key in COLUMNS)
    where = f"{setting.task:11}{setting.samples:6}{setting.noise:6.1f}"
    error = f"{told['error']:9.4f}" if "error" in told else f"{'':9}"
    return f"{where}  {method:18}{numbers}{told['false_inputs']:8.2f}{error}{seconds:7.0f}"


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What to run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="moons and friedman1, 1,000 samples, 10 %% noise, 3 data seeds")
    parser.add_argument("--tasks", nargs="+", choices=list(FUNCTIONS), default=list(FUNCTIONS), metavar="NAME")
    parser.add_argument("--samples", nargs="+", type=int, default=list(SAMPLES))
    parser.add_argument("--noise", nargs="+", type=float, default=list(NOISE))
    parser.add_argument("--seeds", type=int, default=DATA_SEEDS, help="data sets of each setting")
    parser.add_argument("--first", type=int, default=0, help="the first data seed")
    parser.add_argument("--methods", nargs="*", choices=[*METHODS, *FREQUENCIES], metavar="NAME", help="these of ours, not all")
    parser.add_argument("--rivals", nargs="*", choices=list(RIVALS), metavar="NAME", help="rivals, too: these, or all")
    parser.add_argument("--seconds", type=float, default=math.inf, help="start nothing new after so long")
    given = parser.parse_args(arguments)
    everything = given == parser.parse_args([])  # hours, and nothing left out
    if given.quick:
        given.tasks, given.samples, given.noise, given.seeds = list(QUICK), [1000], [0.1], 3
    given.rivals = ["l1"] if given.quick else list(RIVALS) if everything or given.rivals == [] else given.rivals or []
    if given.methods is None:
        given.methods = [name for name in (*METHODS, *FREQUENCIES) if not given.quick or name in ("edges", OURS)]
    return given


def left_out(given: argparse.Namespace) -> list[str]:
    """What of everything was not asked for, or cannot be had."""
    absent = missing()
    told = [f"{name}: not installed" for name in absent]
    asked = [*given.methods, *given.rivals]
    told += [f"{name}: not asked for" for name in (*METHODS, *FREQUENCIES, *RIVALS) if name not in absent and name not in asked]
    for what, whole, some in (("", FUNCTIONS, given.tasks), (" rows", SAMPLES, given.samples), (" noise", NOISE, given.noise)):
        told += [f"{one}{what}: not asked for" for one in whole if one not in some]
    if given.seeds < DATA_SEEDS:
        told.append(f"{DATA_SEEDS - given.seeds} of {DATA_SEEDS} data seeds: not asked for")
    return told


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    given = options(arguments)
    torch.set_num_threads(1)
    plugins, not_run, started = registry(), left_out(given), time.monotonic()
    rivals = {name: RIVALS[name][0] for name in given.rivals if name not in missing()}
    print(f"{'function':11}{'rows':>6}{'noise':>6}  {'method':18}", end="")
    print("".join(f"{name:>10}" for name in COLUMNS.values()) + f"{'false':>8}{'error':>9}{'CPU s':>7}")
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    held: list[bool] = []
    seeds = range(given.first, given.first + given.seeds)
    for setting in (Setting(t, n, e) for t in given.tasks for n in given.samples for e in given.noise):
        ways: dict[str, Callable[[], dict[int, Outcome]]] = {
            name: partial(frequent if name in FREQUENCIES else networks_of, name, setting, seeds, plugins)
            for name in given.methods
        }
        ways |= {name: partial(rival_of, fit, setting, seeds, plugins) for name, fit in rivals.items()}
        for name, way in ways.items():
            if time.monotonic() - started > given.seconds:
                not_run.append(f"{name} on {setting.task}, {setting.samples} rows, {setting.noise:g} noise: no time left")
                continue
            began = time.process_time()
            outcomes = way()
            told = summary(outcomes, setting.function)
            print(line(setting, name, told, time.process_time() - began), flush=True)
            found.setdefault(name, {}).setdefault(setting.task, []).append(told)
            held += [too_many(one, setting.function) <= one.bound for one in outcomes.values() if one.bound is not None]
    print("not run: " + "; ".join(not_run))
    counted = f"{sum(held)} of {len(held)}" if held else None
    print(json.dumps(record(found) | {"false_selection_bound_held": counted}
                     | {"data_seeds": given.seeds, "not_run": not_run}))  # fmt: skip


def record(found: dict[str, dict[str, list[dict[str, float]]]]) -> dict[str, Any]:
    """Means over settings of each method and function."""

    def means(key: str) -> dict[str, dict[str, float]]:
        each = {
            name: {task: [told[key] for told in many if key in told] for task, many in tasks.items()}
            for name, tasks in found.items()
        }
        return {
            name: {task: round(float(np.mean(values)), 4) for task, values in tasks.items() if values}
            for name, tasks in each.items()
        }

    shares = means("exact")
    return {
        "exact_support": shares.get(OURS, {}),
        "methods": shares,
        "f1_inputs": means("f1_inputs"),
        "f1_pairs": means("f1_pairs"),
    }


if __name__ == "__main__":
    main()
