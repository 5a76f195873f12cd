"""Which rule for stopping early finds the best front for the same network-steps? Ours, Ray Tune's, Optuna's and Syne Tune's.

    python benchmarks/pruners.py [--quick] [--tables breast_cancer diabetes wine digits] [--pool N] [--trials 64] [--seeds 20]

From the wide space of `halving.py` many networks are trained once on each table, to the end, with their curves:
validation error and edges at 20 reports. Rules then see these curves report by report, as if networks trained: each seed
draws networks in another order until so many reports have been seen as `--trials` networks have to the end. All take part in
the same order.

- `random`: so many networks, each to the end.
- `halving`: what `stop: {use: halving, rungs: 2, keep: 0.33, refill: true}` does: all at once, compared by error and edges at
  two rungs; `halving 1:0.25` with one rung; `halving error` by error alone.
- `ray asha`: `ray.tune.schedulers.ASHAScheduler`; `optuna asha`, `optuna hyperband`, `optuna median`: its pruners, which see
  the error alone, as both libraries have no rule for several objectives; `syne moasha`: Syne Tune's MOASHA by error and edges
  (where `pip install syne-tune` was run). These draw the next network when one ends, 8 at a time.

`volume`: the hypervolume that the front of the networks that finished dominates (hard networks, validation error up to a
trivial network's, log(1 + edges) up to a dense one's), as a share of that of the whole pool; `error`: the smallest validation
error less the pool's, as a share of a trivial network's; `seen`: how many networks were begun. Means over seeds with 90 %
bounds. Nothing was chosen by these figures: rules have their defaults or the same rungs as ours (after 2 and 6 or 7 of 20
reports).

The last line is one JSON object with all figures.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from halving import volume, wide
from path import bounds

from nasplug import results
from nasplug.config import Stop
from nasplug.packs.ranking import fittest
from nasplug.plan import going_on
from nasplug.study import Study

REPORTS = 20
TOGETHER = 8


@dataclass(frozen=True)
class Pool:
    """Networks that were trained to the end.

    Attributes:
        curves: validation error and edges at each report, ``(N, 20, 2)``; infinite where they are not finite.
        frame: their hard networks.
        trivial, dense: a trivial network's error, a dense one's edges.
    """

    curves: np.ndarray
    frame: pd.DataFrame
    trivial: float
    dense: float

    def volume(self, rows: Sequence[int]) -> float:
        mine = self.frame.iloc[list(rows)]
        return volume(mine[mine["status"] == "finished"], self.trivial, self.dense)

    def error(self, rows: Sequence[int]) -> float:
        return float(self.frame.iloc[list(rows)]["valid_error"].min()) / self.trivial


def pool(table: str, networks: int, steps: int) -> Pool:
    """A pool, trained here."""
    with tempfile.TemporaryDirectory() as store:
        done = Study.from_dict(wide(table, steps, networks, store) | {"resources": {"pack": 512}}).run("serial", report=False)
        frame = results.read(done.folder, histories=True).sort_values("replica").reset_index(drop=True)
        facts = done.facts_of(str(frame["replica"].iloc[0]))
        curves = np.full((len(frame), REPORTS, 2), math.inf)
        for place, name in enumerate(("history_valid_error", "history_edges")):
            for row, values in enumerate(frame[name]):
                curves[row, : len(values), place] = values
        curves[~np.isfinite(curves)] = math.inf
        return Pool(curves, frame, facts.trivial["valid_error"], 16.0 * (done.task.inputs + done.task.outputs))


Rule = Callable[[Pool, Sequence[int], int], tuple[list[int], int]]
"""A pool, the order of its networks, and how many reports may be seen -> the networks that finished, and how many began."""


def random(mine: Pool, order: Sequence[int], most: int) -> tuple[list[int], int]:
    return list(order[: most // REPORTS]), most // REPORTS


def halving(stop: Stop) -> Rule:
    """All at once, as many as there are reports for."""

    def run(mine: Pool, order: Sequence[int], most: int) -> tuple[list[int], int]:
        count = min(len(order), math.floor(most / REPORTS / stop.share + 1e-9))
        rows, places = np.asarray(order[:count]), [0] if "edges" not in stop.by else [0, 1]
        marks = [max(1, round(REPORTS * stop.keep ** (stop.rungs - i))) for i in range(stop.rungs)]
        for passed, mark in enumerate(marks, start=1):
            rows = rows[np.sort(fittest(mine.curves[rows, mark - 1][:, places], going_on(stop, count, passed)))]
        return rows.tolist(), count

    return run


Scheduler = Callable[[], tuple[Callable[[int], Any], Callable[[Any, int, float, float], bool]]]
"""A fresh one: what makes a trial of a number, and whether one shall end after a report (its number from 1, error, edges)."""


def one_by_one(made: Scheduler) -> Rule:
    """Some at a time; when one ends, the next begins."""

    def run(mine: Pool, order: Sequence[int], most: int) -> tuple[list[int], int]:
        begin, ends = made()
        going: list[tuple[int, Any, int]] = []
        finished, began = [], 0
        while most > 0 and (going or began < len(order)):
            while len(going) < TOGETHER and began < len(order):
                going.append((order[began], begin(began), 0))
                began += 1
            left = []
            for row, trial, at in going[:most]:
                most -= 1
                error, edges = (float(value) if math.isfinite(value) else 1e30 for value in mine.curves[row, at])
                if at + 1 == REPORTS:
                    ends(trial, at + 1, error, edges)
                    finished.append(row)
                elif not ends(trial, at + 1, error, edges):
                    left.append((row, trial, at + 1))
            going = left
        return finished, began

    return run


def ray_asha() -> Any:
    from ray.tune.schedulers import ASHAScheduler, TrialScheduler

    made = ASHAScheduler("training_iteration", "error", "min", max_t=REPORTS, grace_period=2, reduction_factor=3)

    def begin(number: int) -> Any:
        trial = SimpleNamespace(trial_id=str(number))
        made.on_trial_add(None, trial)
        return trial

    def ends(trial: Any, at: int, error: float, edges: float) -> bool:
        return bool(made.on_trial_result(None, trial, {"training_iteration": at, "error": error}) == TrialScheduler.STOP)

    return begin, ends


def of_optuna(pruner: Callable[[], Any]) -> Scheduler:
    def fresh() -> Any:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), pruner=pruner(), study_name="curves")

        def ends(trial: Any, at: int, error: float, edges: float) -> bool:
            trial.report(error, at)
            stops = at < REPORTS and trial.should_prune()
            if stops:
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            elif at == REPORTS:
                study.tell(trial, error)
            return bool(stops)

        return lambda number: study.ask(), ends

    return fresh


def asha_of_optuna() -> Any:
    from optuna.pruners import SuccessiveHalvingPruner

    return SuccessiveHalvingPruner(min_resource=2, reduction_factor=3)


def hyperband_of_optuna() -> Any:
    from optuna.pruners import HyperbandPruner

    return HyperbandPruner(min_resource=1, max_resource=REPORTS, reduction_factor=3)


def median_of_optuna() -> Any:
    from optuna.pruners import MedianPruner

    return MedianPruner()


def moasha() -> Any:
    from syne_tune.optimizer.scheduler import SchedulerDecision
    from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

    made = MOASHA({}, ["error", "edges"], max_t=REPORTS, grace_period=2, reduction_factor=3, random_seed=0)

    def begin(number: int) -> Any:
        trial = SimpleNamespace(trial_id=number)
        made.on_trial_add(trial)
        return trial

    def ends(trial: Any, at: int, error: float, edges: float) -> bool:
        told = {"training_iteration": at, "error": error, "edges": edges}
        return bool(made.on_trial_result(trial, told) == SchedulerDecision.STOP)

    return begin, ends


RULES: dict[str, Rule] = {
    "random": random,
    "halving": halving(Stop(use="halving", rungs=2, keep=0.33)),
    "halving 1:0.25": halving(Stop(use="halving", rungs=1, keep=0.25)),
    "halving error": halving(Stop(use="halving", rungs=2, keep=0.33, by=["valid_error"])),
    "ray asha": one_by_one(ray_asha),
    "optuna asha": one_by_one(of_optuna(asha_of_optuna)),
    "optuna hyperband": one_by_one(of_optuna(hyperband_of_optuna)),
    "optuna median": one_by_one(of_optuna(median_of_optuna)),
    "syne moasha": one_by_one(moasha),
}


def compared(table: str, given: argparse.Namespace) -> dict[str, Any]:
    """Figures of a table."""
    mine = pool(table, given.pool, given.steps)
    everything = range(len(mine.frame))
    whole, best = mine.volume(everything), mine.error(everything)
    one: dict[str, Any] = {"table": table}
    for name in given.rules:
        found: dict[str, list[float]] = {"volume": [], "error": [], "seen": []}
        for seed in range(given.seeds):
            order = np.random.default_rng(seed).permutation(len(mine.frame)).tolist()
            rows, began = RULES[name](mine, order, given.trials * REPORTS)
            found["volume"].append(mine.volume(rows) / whole)
            found["error"].append(mine.error(rows) - best if rows else 1.0)
            found["seen"].append(float(began))
        one[name] = {key: bounds(np.asarray(values)) for key, values in found.items()}
        show(table, name, one[name])
    return one


def show(table: str, name: str, mine: Mapping[str, tuple[float, float]]) -> None:
    """A line."""
    volumes, errors = ([100 * value for value in mine[key]] for key in ("volume", "error"))
    print(
        f"{table:14} {name:17} volume {volumes[0]:5.1f} +- {volumes[1]:.1f} %, best error {errors[0]:+.2f} +- {errors[1]:.2f} "
        f"%, {mine['seen'][0]:.0f} networks begun",
        flush=True,
    )


def main() -> None:
    there = [name for name in RULES if name != "syne moasha" or importlib.util.find_spec("syne_tune")]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one table, a pool of 256, 16 trials, 5 seeds, 400 steps")
    parser.add_argument("--tables", nargs="+", default=["breast_cancer", "diabetes", "wine", "digits"])
    parser.add_argument("--rules", nargs="+", default=there, choices=there)
    parser.add_argument("--pool", type=int, default=2048)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=1500)
    given = parser.parse_args()
    if given.quick:
        given.tables, given.pool, given.trials, given.seeds, given.steps = given.tables[:1], 256, 16, 5, 400
    if away := [name for name in RULES if name not in there]:
        print(f"not here: {', '.join(away)} (pip install syne-tune)")
    print(json.dumps({"quick": given.quick, "away": away, "figures": [compared(table, given) for table in given.tables]}))


if __name__ == "__main__":
    main()
