"""What `monotone` brings where rows are few and noisy, and what it costs where it is not needed, or not true.

    python benchmarks/monotone.py [--quick]

``y = relu(a) + tanh(2 b) - exp(c / 2) + sin(2 d) + noise`` of six inputs from U[-2, 2], two of which do nothing; noise of
standard deviation 1 (the signal's is 1.5). Studies of 16 networks (`edges`, 8 hidden neurons, four levels of L1, four seeds;
500 steps), with and without directions, from the same rows, 12 draws of them. They predict 5,000 new points without noise.
Figures are R2 there, free and with directions, and the mean and standard error of paired differences: of the network with the
smallest validation loss, and of the mean of those at the smallest level. ``wrong way``: how often the chosen free network falls
somewhere where it should rise, or the other way round, between pairs of the new points; with directions that is never.

- few: 120 rows, ``a`` and ``b`` rise, ``c`` falls, which is true.
- many: 2,000 rows, the same.
- wrong: 120 rows, and ``d`` is said to rise too, which it does not.

Then the CPU time of a pack with directions over one without. One thread; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from nasplug.compact import compact
from nasplug.config import parse
from nasplug.networks import Networks
from nasplug.packs import TABLE, load_networks, run_pack
from nasplug.study import Study
from nasplug.tasks import Task

Array = npt.NDArray[np.float64]
SEEDS = 4
TRUE = {"a": 1, "b": 1, "c": -1}
CASES = {"few": (120, TRUE), "many": (2000, TRUE), "wrong": (120, {**TRUE, "d": 1})}


def truth(x: Array) -> Array:
    """The signal at points ``(N, 6)``."""
    made: Array = np.maximum(x[:, 0], 0.0) + np.tanh(2.0 * x[:, 1]) - np.exp(x[:, 2] / 2.0) + np.sin(2.0 * x[:, 3])
    return made


@dataclass(frozen=True)
class Outcome:
    """R2 on new points of the chosen network and of the mean at the smallest level; whether the chosen one goes a wrong way."""

    chosen: float
    weak: float
    astray: bool
    seconds: float


def study(folder: Path, rows: int, draw: int, directions: dict[str, int]) -> Study:
    """One pack of networks on one draw of the rows; linear networks and further levels would be packs of their own."""
    rng = np.random.default_rng([rows, draw])
    x = rng.uniform(-2.0, 2.0, (rows, 6))
    frame = pd.DataFrame(x, columns=list("abcdef")).assign(y=truth(x) + rng.normal(size=rows))
    folder.mkdir()
    frame.to_csv(folder / "rows.csv", index=False)
    return Study(
        parse(
            {
                "study": "m",
                "store": str(folder),
                "task": {"use": "table", "path": str(folder / "rows.csv"), "target": "y", "validation": {"use": "holdout"}},
                "method": {"use": "edges", "hidden": [8]},
                "monotone": directions,
                "penalties": [
                    {"use": "l1", "level": {"log": [1e-3, 1e-1], "points": 4}, "ramp": {"use": "linear", "until": 0.3}}
                ],
                "temperature": {"use": "linear", "start": 1.0, "end": 0.0, "until": 0.5},
                "discretizers": [{"use": "threshold", "tolerance": 0.02}],
                "train": {"steps": 500, "lr": 0.02, "finetune": 100, "reports": 2, "compile": False},
                "seeds": SEEDS,
                "linear": False,
                "reach": None,
                "resources": {"pack": 4 * SEEDS},
                "mlflow": None,
            }
        ),
        fast=True,
    )


def fitted(folder: Path, rows: int, draw: int, directions: dict[str, int]) -> Outcome:
    """A study's one pack, trained and judged on new points."""
    made = study(folder, rows, draw, directions)
    (pack,) = made.plan()
    began = time.process_time()
    for _ in run_pack(made.config, pack, made.plugins, folder / "p"):
        pass
    seconds = time.process_time() - began
    nets, task = load_networks(folder / "p"), made.task
    chosen = int(pd.read_parquet(folder / "p" / TABLE)["valid_loss"].argmin())
    points = np.random.default_rng(0).uniform(-2.0, 2.0, (5000, 6))
    wanted = truth(points)

    def r2(row: int) -> float:
        return 1.0 - float(((predicted(nets, row, task, points) - wanted) ** 2).mean() / wanted.var())

    return Outcome(r2(chosen), float(np.mean([r2(row) for row in range(SEEDS)])), astray(nets, chosen, task, points), seconds)


def predicted(nets: Networks, row: int, task: Task, points: Array) -> Array:
    """What a network makes of raw points ``(N, 6)``."""
    with torch.no_grad():
        made: Array = compact(nets, row, task)(torch.from_numpy(points)).double().numpy()[:, 0]
    return made


def astray(nets: Networks, row: int, task: Task, points: Array) -> bool:
    """Whether a network goes the wrong way between a point and one further along an input, by more than rounding."""
    before = predicted(nets, row, task, points)
    for place, name in enumerate("abcdef"):
        further = points.copy()
        further[:, place] = np.random.default_rng(1).uniform(points[:, place], 2.0)
        if float((TRUE.get(name, 0) * (predicted(nets, row, task, further) - before)).min()) < -1e-5:
            return True
    return False


def spread(values: Array) -> str:
    """Mean and standard error."""
    return f"{values.mean():+.3f} +- {values.std(ddof=1) / len(values) ** 0.5:.3f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 draws of the rows")
    draws = 3 if parser.parse_args().quick else 12
    torch.set_num_threads(1)
    result: dict[str, object] = {"draws": draws}
    spent = [0.0, 0.0]
    print(f"{'case':6}{'rows':>6} | {'chosen: free, held, difference':32} | {'smallest level':32} | wrong way: free, held")
    for case, (rows, directions) in CASES.items():
        pairs: list[tuple[Outcome, Outcome]] = []
        for draw in range(draws):
            with tempfile.TemporaryDirectory() as there:
                pairs.append((fitted(Path(there) / "f", rows, draw, {}), fitted(Path(there) / "h", rows, draw, directions)))
        told = []
        for what in ("chosen", "weak"):
            free, held = (np.asarray([getattr(pair[side], what) for pair in pairs]) for side in (0, 1))
            told.append(f"{free.mean():6.3f} {held.mean():6.3f} {spread(held - free):>18}")
            result[f"{case}_{what}"] = [float(free.mean()), float(held.mean())]
        wrong = [sum(pair[side].astray for pair in pairs) for side in (0, 1)]
        result[f"{case}_wrong_way"] = wrong
        spent = [spent[side] + sum(pair[side].seconds for pair in pairs) for side in (0, 1)]
        print(f"{case:6}{rows:6} | {told[0]:32} | {told[1]:32} | {wrong[0]} and {wrong[1]} of {draws}", flush=True)
    result["time"] = spent[1] / spent[0]
    print(f"CPU time of a pack, held over free: {result['time']:.2f}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
