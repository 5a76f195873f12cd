"""Does the spectral parametrisation find its teacher, or does what comes after? Searches of equal steps beside their controls.

    python benchmarks/sparcs_controls.py [--grids headline shapes data free] [--store FOLDER] [--quick]

Teachers of one to three hidden layers, of which 80 % of n samples are learned from, and a student that is wider:

- `dense`: a plain network without skips and without a penalty; then `obs`, or the smallest neurons go (`magnitude`: the norm of
  what enters one times that of what leaves it, over its layer's mean).
- `direct`: all skips as plain weights, a proximal group lasso over what enters each neuron (the paper's "direct space"); its
  own zeros (`zeros`), or `obs` after them.
- `sparcs`: the recipe; then the eigenvalues' order (`spectral`, the paper's pruning), or `obs`.

The grid `free` has two teachers of `shapes` that `sparcs` missed, and no penalties: what the parametrisations alone are worth.

Every pruning keeps the fewest neurons whose validation R2 is at least the criterion's share of what noise leaves possible,
without a refit; `zeros` has no criterion and is only judged by it. Of several levels the one is taken that meets the criterion
with the fewest neurons; where none does, the one of the least validation loss. Test samples choose nothing. One seed per
teacher, the same samples and steps for all. Bounds hold 90 %: Wilson's for shares, a bootstrap over teachers for ratios.
`--store` keeps what was trained, and the same command goes on with it. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from bounds import ratio, share
from torch import Tensor

from nasplug import files
from nasplug.cuts import most, ranks
from nasplug.machine import arithmetic
from nasplug.networks import Networks, alive, forward, sizes
from nasplug.packs import TABLE, load_networks, run_pack
from nasplug.plan import build_task, settle
from nasplug.study import Study
from nasplug.tasks import Task
from nasplug.train import ValidationLoss, evaluate
from nasplug_sparcs import obs

ARMS = ("dense + obs", "dense + magnitude", "direct + zeros", "direct + obs", "sparcs + spectral", "sparcs + obs")
AGAINST = "dense + obs"


@dataclass(frozen=True)
class Grid:
    """Teachers, and the student that looks for them."""

    teachers: tuple[tuple[int, ...], ...]
    samples: tuple[int, ...]
    noise: tuple[float, ...]
    seeds: tuple[int, ...]  # of teachers and their data
    student: tuple[int, ...]
    weights: tuple[float, ...]  # of the eigenvalues' penalty, by layer
    levels: tuple[float, ...]
    criteria: tuple[float, ...]
    batch: int
    steps: int = 1200


GRIDS = {
    "headline": Grid(((20,),), (25_000,), (0.0,), (1, 2, 3, 4, 5), (200, 200), (3.0, 0.8), (1.0,), (0.98, 0.999), 512),
    "shapes": Grid(
        ((10,), (20,), (40,), (80,), (20, 20), (40, 40), (20, 20, 20), (40, 40, 40)),
        (5000,),
        (0.0,),
        (1, 2, 3),
        (100, 100, 100),
        (3.0, 3.0, 0.8),
        (0.1, 1.0),
        (0.98,),
        256,
    ),
    "data": Grid(
        ((20,), (20, 20)),
        (1000,),
        (0.0, 0.1),
        (1, 2, 3),
        (100, 100, 100),
        (3.0, 3.0, 0.8),
        (0.1, 1.0),
        (0.98,),
        256,
    ),
}
GRIDS["free"] = replace(GRIDS["shapes"], teachers=((80,), (20, 20)), levels=(0.0,))
QUICK = Grid(((5,),), (500,), (0.0,), (1, 2), (20, 20), (3.0, 0.8), (0.3,), (0.85,), 100, 300)


@dataclass(frozen=True)
class Found:
    """One hard network."""

    grid: str
    arm: str
    teacher: str
    layers_taught: int
    neurons_taught: int
    samples: int
    noise: float
    seed: int
    level: float
    criterion: float
    met: bool
    valid_loss: float
    test_r2: float
    neurons: int
    layers: int
    parameters: int
    searched: int  # parameters while searching
    steps: int


def config(name: str, grid: Grid, search: str, store: Path) -> dict[str, Any]:
    """The study of one search on a grid's teachers: networks as training leaves them."""
    level = {"choice": list(grid.levels)}
    ramp = {"use": "plateau", "rise": 0.4, "fall": 0.75}
    plain = {"use": "edges", "mode": "l1", "hidden": list(grid.student), "bias": False}
    method, penalties = {
        "dense": (plain, []),
        "direct": ({**plain, "skips": True}, [{"use": "neurons", "proximal": True, "level": level, "ramp": ramp}]),
        "sparcs": (
            {"use": "sparcs", "hidden": list(grid.student)},
            [
                {
                    "use": "eigenvalue",
                    "norm": "l1",
                    "proximal": True,
                    "weights": list(grid.weights),
                    "level": level,
                    "ramp": ramp,
                }
            ],
        ),
    }[search]
    return {
        "study": f"{name}_{search}",
        "store": str(store),
        "task": {
            "use": "sparcs_teacher",
            "hidden": {"choice": [list(teacher) for teacher in grid.teachers]},
            "samples": {"choice": list(grid.samples)},
            "noise": {"choice": list(grid.noise)},
            "seed": {"choice": list(grid.seeds)},
        },
        "method": method,
        "penalties": penalties,
        "discretizers": [],
        "train": {"steps": grid.steps, "batch": grid.batch, "lr": 0.01, "decay": {"use": "cosine"}},
        "seeds": 1,
        "resources": {"cpus": 1, "gpus": 0, "pack": 12},
        "mlflow": None,
    }


def searching(grid: Grid, search: str, task: Task) -> int:
    """How many numbers a search trains."""
    widths = (task.inputs, *grid.student, task.outputs)
    if search == "direct":
        return sum(widths[i] * widths[j] for i, j in itertools.combinations(range(len(widths)), 2))
    return sum(a * b for a, b in itertools.pairwise(widths)) + (sum(widths[1:]) if search == "sparcs" else 0)


def in_order(nets: Networks, magnitudes: dict[int, Tensor], limit: Tensor, score: ValidationLoss) -> Networks:
    """Neurons go from the smallest magnitude (layer -> (K, H)) on, over all layers, as many as the limit allows."""
    layers = sorted(magnitudes)
    rank = ranks(torch.cat([magnitudes[layer] for layer in layers], 1))

    def cut(dropped: Tensor) -> Networks:
        kept = (rank >= dropped.unsqueeze(1)).to(next(iter(nets.blocks.values())))
        return replace(nets, gates=dict(zip(layers, kept.split_with_sizes([nets.widths[at] for at in layers], 1), strict=True)))

    return cut(most(cut, rank.shape[1], score, limit))


def norms(nets: Networks) -> dict[int, Tensor]:
    """``|entering| |leaving|`` over the layer's mean, (K, H): what a ReLU network cannot move from layer to layer."""
    found = {}
    for layer in range(1, nets.depth):
        entering = sum(w.square().sum(2) for (to, _), w in nets.blocks.items() if to == layer)
        leaving = sum(w.square().sum(1) for (_, source), w in nets.blocks.items() if source == layer)
        product = torch.as_tensor(entering * leaving).sqrt()
        found[layer] = product / product.mean(1, keepdim=True).clamp(min=1e-30)
    return found


def pruned(arm: str, nets: Networks, score: ValidationLoss, r2: float, limit: Tensor) -> Networks:
    """The networks of an arm, from those of its search; ``limit (1,)`` is the loss at that R2."""
    how = arm.rpartition(" ")[2]
    if how == "obs":
        return obs(r2=r2, refit=0)(nets, score)
    if how == "zeros":
        return nets
    hidden = range(1, nets.depth)
    magnitudes = {layer: nets.eigenvalues[layer].abs() for layer in hidden} if how == "spectral" else norms(nets)
    return in_order(nets, magnitudes, limit, score)


def trained(name: str, grid: Grid, search: str, store: Path) -> Iterator[tuple[dict[str, Any], Task, Networks]]:
    """Each network of a search on a grid, alone: its row of the table, its task, its weights as training left them."""
    study = Study.from_dict(config(name, grid, search, store))
    for pack in study.plan():
        folder = store / study.config.study / pack.id
        for _ in run_pack(study.config, pack, study.plugins, folder):
            pass
        nets = load_networks(folder)
        for k, row in enumerate(files.read_table(folder / TABLE).to_pylist()):
            task = build_task(settle(study.config, pack.task(k)), study.plugins).to("cpu", nets.blocks[1, 0].dtype)
            one = nets.map(lambda t, k=k: t[k : k + 1])  # type: ignore[misc]
            yield (
                row | dict(pack.task(k)),
                task,
                replace(one, gates={}, edge_gates={}),
            )  # with gates `obs` takes it as cut before


def judged(name: str, grid: Grid, search: str, store: Path) -> Iterator[Found]:
    """Every arm of a search on a grid."""
    for row, task, nets in trained(name, grid, search, store):
        score, teacher, noise = ValidationLoss(task), list(row["task.hidden"]), float(row["task.noise"])
        for arm, criterion in itertools.product([arm for arm in ARMS if arm.startswith(search)], grid.criteria):
            r2 = criterion / (1.0 + noise**2)
            limit = (1.0 - r2) * task.valid.y.var(-1, correction=0).mean().view(1)
            hard = alive(pruned(arm, nets, score, r2, limit))
            valid = evaluate(task, task.valid, hard, forward)
            size = {key: int(value) for key, value in sizes(hard).items()}
            yield Found(
                grid=name,
                arm=arm,
                teacher="-".join(map(str, teacher)),
                layers_taught=len(teacher),
                neurons_taught=sum(teacher),
                samples=int(row["task.samples"]),
                noise=noise,
                seed=int(row["task.seed"]),
                level=math.nan if search == "dense" else float(row["penalties.0.level"]),
                criterion=criterion,
                met=bool(valid["loss"] <= limit * (1.0 + 1e-5)),
                valid_loss=float(valid["loss"]),
                test_r2=float(evaluate(task, task.test, hard, forward)["r2"]),
                neurons=size["neurons"],
                layers=size["layers"],
                parameters=size["parameters"],
                searched=searching(grid, search, task),
                steps=grid.steps,
            )


CELL = ["grid", "criterion", "layers_taught", "teacher", "samples", "noise"]


def chosen(rows: pd.DataFrame) -> pd.DataFrame:
    """One level per arm and teacher, by validation: see this file's first lines."""
    order = rows.assign(first=~rows["met"], second=rows["neurons"].where(rows["met"], 0))
    keys = [*CELL, "seed", "arm"]
    return order.sort_values(["first", "second", "valid_loss"], kind="stable").groupby(keys, sort=False).head(1)[rows.columns]


def summed(rows: pd.DataFrame, by: Sequence[str]) -> list[dict[str, Any]]:
    """One line per arm and group: how often the criterion is met, and then the depth right; neurons, scores, ratios."""
    lines = []
    for key, group in rows.groupby(list(by), sort=True):
        base = group[(group["arm"] == AGAINST) & group["met"]].set_index([*CELL, "seed"])["neurons"]
        for arm in [arm for arm in ARMS if (group["arm"] == arm).any()]:
            mine = group[group["arm"] == arm]
            met = mine[mine["met"]]
            depth = int((met["layers"] == met["layers_taught"]).sum())
            pairs = pd.concat([met.set_index([*CELL, "seed"])["neurons"], base.rename("base")], axis=1, join="inner")
            pairs = pairs[(pairs > 0).all(axis=1)]  # a linear network has no ratio
            line = dict(zip(by, key if isinstance(key, tuple) else (key,), strict=True)) | {"arm": arm, "teachers": len(mine)}
            line |= {"met": len(met), "met_bounds": share(len(met), len(mine))}
            line |= {"depth": depth, "depth_bounds": share(depth, len(met))}
            relative = met["neurons"] / met["neurons_taught"]
            line |= {"neurons": _plain(relative.median()), "least": _plain(relative.min()), "most": _plain(relative.max())}
            line |= {"parameters": _plain(met["parameters"].median()), "test_r2": _plain(mine["test_r2"].median())}
            line |= {"ratio": ratio(pairs["neurons"], pairs["base"])}
            lines.append(line | {"searched": int(mine["searched"].iloc[0]), "steps": int(mine["steps"].iloc[0])})
    return lines


def _plain(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


def told(lines: Sequence[dict[str, Any]], by: Sequence[str]) -> str:
    """The lines as a table in Markdown."""
    heads = (*by, "search + pruning", "met", "depth", "neurons / teacher's", "parameters", "test R2", f"neurons / {AGAINST}'s")
    text = [f"| {' | '.join((*heads, 'parameters searched'))} |", "|---" * (len(heads) + 1) + "|"]
    for line in lines:
        r = line["ratio"]
        cells = [str(line[name]) for name in by]
        cells += [line["arm"], f"{line['met']} of {line['teachers']} {_of(line['met_bounds'])}"]
        cells += [f"{line['depth']} of {line['met']}"]
        cells += [f"{line['neurons']:.2f} ({line['least']:.2f} to {line['most']:.2f})" if line["met"] else "-"]
        cells += [f"{line['parameters']:,.0f}" if line["met"] else "-", f"{line['test_r2']:.4f}"]
        cells += ["-" if r is None or line["arm"] == AGAINST else f"{r[0]:.2f} {_of(r[1:])}", f"{line['searched']:,}"]
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text)


def _of(bounds: Sequence[float] | None) -> str:
    return "" if bounds is None else f"[{bounds[0]:.2f}, {bounds[1]:.2f}]"


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grids", nargs="+", choices=list(GRIDS), default=list(GRIDS), metavar="GRID", help=", ".join(GRIDS))
    parser.add_argument("--store", type=Path, help="where the studies are kept, and gone on with")
    parser.add_argument("--quick", action="store_true", help="two small teachers, 300 steps: to see that it runs")
    given = parser.parse_args(arguments)
    grids = {"quick": QUICK} if given.quick else {name: GRIDS[name] for name in given.grids}
    rows: list[Found] = []
    with tempfile.TemporaryDirectory() as temporary, arithmetic(1):
        for (name, grid), search in itertools.product(grids.items(), ("dense", "direct", "sparcs")):
            rows += judged(name, grid, search, given.store or Path(temporary))
    best = chosen(pd.DataFrame([asdict(row) for row in rows]))
    each, layers = CELL, ["grid", "criterion", "layers_taught"]
    say(f"{told(summed(best, each), each)}\n\n{told(summed(best, layers), layers)}")
    say(json.dumps({"cells": summed(best, each), "layers": summed(best, layers)}))


if __name__ == "__main__":
    main()
