"""Chosen by five folds against chosen by one split: how much worse than the best network of its front is what is chosen?

    python benchmarks/choice.py             # 50 outer splits of eight small tables
    python benchmarks/choice.py --quick     # fewer: about 40 seconds

An outer split sets test rows aside (three in ten). On the others, the development rows, networks of `LEVELS` penalty levels and
two seeds are trained as a study does it: annealed edges, cut by threshold, fine-tuned. All networks of a table, of all outer
splits, folds, levels and seeds, are rows of a few packs: a fold is a row's weights on the samples.

**one split**: trained without the first fold and validated on it; of the front of error and edges the best network is chosen.
**five folds**: a level's score is the mean over folds and seeds. The levels on the front are trained again on all development
rows; of a level's seeds the one with the smaller loss there is taken. The level with the best score is chosen.
**regret**: the test error of the chosen network less the smallest test error on the front that it was chosen from.
Scores are the error or the loss. The third rule takes the smallest network within one standard error, over folds, of the best.

The last line is one JSON object. ``regret_folds_over_holdout`` is the mean regret of five folds over that of one split,
by loss, each in units of the table's smallest test error. Each way's regret is taken on its own front; what a user gets is the
test error itself: ``error_folds_over_holdout`` is the geometric mean over tables of that ratio (folds over one split).
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from rivals import Encoder
from table_sets import Table, installed
from torch import Tensor

from nasplug.activations import FUNCTIONS
from nasplug.data.resampling import Division, divide
from nasplug.data.validation import Validation
from nasplug.discretize import discretize
from nasplug.finetune import finetune
from nasplug.networks import forward, sizes
from nasplug.optimizers import Adam
from nasplug.plugins import load_plugins
from nasplug.schedules import still, track
from nasplug.tasks import Split, Task
from nasplug.tasks.making import unscaled
from nasplug.train import Search, evaluate, train

SETS = ("breast_cancer", "carseats", "diabetes", "german", "hitters", "penguins", "pima", "titanic")
QUICK = ("breast_cancer", "diabetes")
LEVELS, LOW, HIGH = 8, 3e-4, 1e-1
SEEDS, FOLDS, STEPS, FINETUNE, BATCH, HIDDEN = 2, 5, 500, 100, 64, 8
OUTER, TEST, ROWS = 50, 0.3, 1_300  # networks in one pack: few enough for the processor's cache
Array = npt.NDArray[np.float64]
RULES = ("error", "loss", "loss, one standard error")


class Trained(NamedTuple):
    """Of each network ``(outer splits, folds and the refit, levels, seeds)``."""

    train_loss: Array
    valid: dict[str, Array]
    test: Array
    edges: Array


def dataset(table: Table) -> tuple[Tensor, Tensor, npt.NDArray[Any], tuple[str, ...]]:
    """``x (I, N)``, ``y`` as a `Split` has it, the classes' numbers or values ``(N,)``, names of classes."""
    frame = table.frame()
    inputs = frame.drop(columns=table.target)
    x = torch.tensor(Encoder(inputs)(inputs).x.T, dtype=torch.float32).contiguous()
    if table.kind == "regression":
        values = frame[table.target].to_numpy(dtype=float)
        values = (values - values.mean()) / values.std()
        return x, torch.tensor(values, dtype=torch.float32).unsqueeze(0), values, ()
    classes, codes = np.unique(frame[table.target].astype(str), return_inverse=True)
    y = torch.tensor(codes)
    return x, y if table.kind == "classes" else y.float().unsqueeze(0), codes, tuple(map(str, classes))


def divided(table: Table, values: npt.NDArray[Any], classes: Sequence[str], outer: int) -> list[Division]:
    """Outer splits, each with the folds that the product makes of its development rows."""
    folds = Validation(use="folds", folds=FOLDS)
    return [divide(table.name, folds, values, classes, test=TEST, seed=seed) for seed in range(outer)]


def weights(divisions: Sequence[Division], rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of the samples, to train, validate and test: ``(outer x (folds + 1), N)`` each; the last of each six is the refit."""
    shape = (len(divisions), FOLDS + 1, rows)
    train, valid, test = torch.zeros(shape), torch.zeros(shape), torch.zeros(shape)
    for number, one in enumerate(divisions):
        assert one.resamples is not None  # for the type checker
        development = torch.as_tensor(np.concatenate([one.train, one.valid]))
        train[number, :FOLDS, development] = one.resamples.train.float()
        valid[number, :FOLDS, development] = one.resamples.valid.float()
        train[number, FOLDS, development] = 1.0
        valid[number, FOLDS, development] = 1.0  # a refit is cut by its own development rows
        test[number, :, torch.as_tensor(one.test)] = 1.0
    return train.flatten(0, 1), valid.flatten(0, 1), test.flatten(0, 1)


def pack(task: Task, levels: Sequence[float], seeds: Sequence[int]) -> Trained:
    """Train, cut, fine-tune and score some networks: each ``(K,)``."""
    plugins = load_plugins()
    k, kind = len(levels), ("cpu", torch.float32)
    ramp = plugins.build("schedule", "linear", {"until": 0.3}, "penalty")
    cool = plugins.build("schedule", "linear", {"start": 1.0, "end": 0.0, "until": 0.5}, "temperature")
    search = Search(
        task,
        plugins.build("method", "edges", {"mode": "annealed", "hidden": [HIDDEN]}, "method"),
        (plugins.build("regularizer", "l1", {}, "penalty"),),
        Adam(),
        torch.tensor(seeds),
        STEPS,
        still([0.01] * k, STEPS).to(*kind),
        track([cool], [0] * k, [1.0] * k, STEPS).to(*kind),
        (track([ramp], [0] * k, levels, STEPS).to(*kind),),
        batch=BATCH,
        functions=FUNCTIONS,
    )
    *_, report = train(search, every=STEPS)
    soft = search.method.direct(search.relax(report.state.params, search.tau.at(STEPS - 1)))
    threshold = plugins.build("discretizer", "threshold", {"tolerance": 0.02}, "discretizer")
    hard, _ = discretize(task, soft, [threshold])
    hard = finetune(search, hard, FINETUNE, search.lr.scale)
    found = [evaluate(task, split, hard, forward) for split in task.splits]
    valid = {name: found[1][name].double().numpy() for name in ("error", "loss")}
    edges = sizes(hard)["edges"].double().numpy()
    return Trained(found[0]["loss"].double().numpy(), valid, found[2]["error"].double().numpy(), edges)


def trained(table: Table, outer: int) -> Trained:
    """All networks of a table."""
    x, y, values, classes = dataset(table)
    train_w, valid_w, test_w = weights(divided(table, values, classes, outer), x.shape[1])
    levels = np.geomspace(LOW, HIGH, LEVELS)
    shape = (outer, FOLDS + 1, LEVELS, SEEDS)
    which, level, seed = (axis.flatten() for axis in np.indices((outer * (FOLDS + 1), LEVELS, SEEDS)))
    base = Split(x, y)
    task = unscaled(table.name, (base, base, base), kind=table.kind, targets=classes or None)
    made = []
    for first in range(0, len(which), ROWS):
        rows = slice(first, first + ROWS)
        index = torch.as_tensor(which[rows])
        parts = [Split(x, y, w[index]) for w in (train_w, valid_w, test_w)]
        own = replace(task, train=parts[0], valid=parts[1], test=parts[2])
        made.append(pack(own, levels[level[rows]].tolist(), seed[rows].tolist()))
    valid = {name: np.concatenate([one.valid[name] for one in made]).reshape(shape) for name in ("error", "loss")}
    rest = [np.concatenate([getattr(one, part) for one in made]).reshape(shape) for part in ("train_loss", "test", "edges")]
    return Trained(rest[0], valid, rest[1], rest[2])


def front(error: Array, edges: Array) -> list[int]:
    """Those for which no other is both smaller and better, smallest first."""
    kept: list[int] = []
    for at in np.lexsort((error, edges)):
        if not kept or error[at] < error[kept[-1]]:
            kept.append(int(at))
    return kept


def regret(score: Array, spread: Array | None, error: Array, edges: Array, test: Array) -> tuple[float, float]:
    """Of the choice from a front, and the smallest test error there: all ``(networks,)``.

    ``spread``: standard errors of the scores; the smallest network within one of the best is chosen, else the best itself.
    """
    kept = front(np.nan_to_num(error, nan=np.inf), edges)
    own = np.nan_to_num(score[kept], nan=np.inf)
    best = int(own.argmin())
    at = best if spread is None else int((own <= own[best] + spread[kept][best]).argmax())
    least = float(np.nanmin(test[kept]))
    return float(test[kept][at]) - least, least


def by_one_split(found: Trained, rule: str) -> list[tuple[float, float]]:
    """The regret of each outer split: chosen among the networks that were trained without the first fold."""
    score = "error" if rule == "error" else "loss"
    first = [part[:, 0].reshape(len(part), -1) for part in (found.valid[score], found.valid["error"], found.edges, found.test)]
    return [regret(own, None, error, edges, test) for own, error, edges, test in zip(*first, strict=True)]


def by_folds(found: Trained, rule: str) -> list[tuple[float, float]]:
    """The same, chosen among levels by their means over folds, each trained again on all development rows."""
    made = []
    for outer in range(len(found.test)):
        score, error = (found.valid[name][outer, :FOLDS] for name in ("error" if rule == "error" else "loss", "error"))
        edges = found.edges[outer, :FOLDS].mean((0, 2))  # (levels,)
        spread = score.mean(2).std(0, ddof=1) / np.sqrt(FOLDS) if rule.endswith("standard error") else None
        seed = found.train_loss[outer, FOLDS].argmin(1)
        test = found.test[outer, FOLDS][np.arange(LEVELS), seed]
        made.append(regret(score.mean((0, 2)), spread, error.mean((0, 2)), edges, test))
    return made


def measure(table: Table, outer: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Regrets of one table."""
    began = time.process_time()
    found = trained(table, outer)
    ways = {rule: [np.asarray(way(found, rule)) for way in (by_one_split, by_folds)] for rule in RULES}
    best = float(ways["error"][1][:, 1].mean())
    regrets = {rule: [float(way[:, 0].mean()) for way in both] for rule, both in ways.items()}
    chosen = {rule: [float(way.sum(1).mean()) for way in both] for rule, both in ways.items()}  # regret + smallest
    told = "   ".join(f"{rule}: {one:.4f} -> {folds:.4f}" for rule, (one, folds) in regrets.items())
    errors = "{:.4f} -> {:.4f}".format(*chosen["loss"])
    say(f"{table.name:14} best {best:.4f}   regret {told}   ({time.process_time() - began:.0f} CPU s)")
    say(f"{'':14} test error of what the loss chose: {errors}")
    return {"best": best, "regret": regrets, "chosen": chosen}


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tables", nargs="+", choices=SETS, default=None)
    parser.add_argument("--outer", type=int, default=None, help=f"outer splits (default {OUTER})")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    outer = given.outer or (4 if given.quick else OUTER)
    names = tuple(given.tables or (QUICK if given.quick else SETS))
    found = {table.name: measure(table, outer, say) for table in installed(names)}

    def ratio(rule: str) -> float:
        both = np.asarray([np.asarray(one["regret"][rule]) / max(one["best"], 1e-3) for one in found.values()]).mean(0)
        return float(both[1] / both[0]) if both[0] > 0 else float("nan")

    def of_error(rule: str) -> float:
        """The geometric mean over tables of the chosen network's test error, by folds over by one split."""
        both = np.maximum([one["chosen"][rule] for one in found.values()], 1e-3)
        return float(np.exp(np.log(both[:, 1] / both[:, 0]).mean()))

    result = {
        "regret_folds_over_holdout": ratio("loss"),
        "by": {rule: ratio(rule) for rule in RULES},
        "error_folds_over_holdout": {rule: of_error(rule) for rule in RULES},
        "tables": found,
        "outer": outer,
    }
    say(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
