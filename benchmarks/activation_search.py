"""Is a search for each neuron's activation better than one fixed activation? Wins, ties, losses, and the figure.

    python benchmarks/activation_search.py [--quick] [--runner ray|serial] [--store FOLDER] [--figure FILE]

Runs `configs/papers/activation_search.yaml` and `activation_search_fixed.yaml` (what has run already is not run again). Errors
are test errors as a share of the constant predictor's, geometric means over the seeds. `search` is the found networks with the
weights of the search, fine-tuned; `retrained` the same architectures from fresh weights, for as many steps; relu is the plain
MLP. The best fixed activation of a function is the one of seven with the least validation error, so it stands for seven
trainings: `best of 7` is the best of seven searches by validation error, the same number of networks, against the best of
seven activations seed by seed. A tie: within 10 %. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from nasplug import Study

CONFIGS = Path(__file__).parent.parent / "configs" / "papers"
TIE = 1.1


def ran(name: str, store: str, runner: Any, changes: list[str]) -> Study:
    return Study.from_yaml(CONFIGS / f"{name}.yaml", [f"store={store}", "mlflow=null", *changes]).run(runner)


def share(frame: Any, stage: str = "") -> Any:
    """Test error over the constant predictor's."""
    return 1.0 - frame[stage + "test_r2"]


def mean(values: Any) -> float:
    """Geometric."""
    return float(np.exp(np.log(np.asarray(values, dtype=float)).mean()))


def verdict(mine: float, other: float) -> str:
    return "win" if mine * TIE < other else "loss" if mine > other * TIE else "tie"


def chosen(frame: Any, stage: str = "") -> float:
    """The error of the network with the least validation error."""
    return float(share(frame.loc[[frame[stage + "valid_error"].idxmin()]], stage).iloc[0])


def table(search: Study, fixed: Study) -> dict[str, dict[str, Any]]:
    """One row per function."""
    found, controls = search.frame, fixed.frame
    rows: dict[str, dict[str, Any]] = {}
    for function, group in found.groupby("task.function"):
        mine = controls[controls["task.function"] == function]
        by_name = {str(name): part for name, part in mine.groupby("method.activation")}
        best = min(by_name, key=lambda name: mean(by_name[name]["valid_error"]))
        rows[str(function)] = {
            "search": mean(share(group, "inherited_")),
            "retrained": mean(share(group, "retrained_")),
            "relu": mean(share(by_name["relu"])),
            "best fixed": mean(share(by_name[best])),
            "best name": best,
            "median fixed": float(np.median([mean(share(part)) for part in by_name.values()])),
            "best of 7": chosen(group, "inherited_"),
            "fixed, best of 7": mean([chosen(part) for _, part in mine.groupby("seed")]),
        }
    return rows


def draw(rows: dict[str, dict[str, Any]], file: Path) -> None:
    """Errors by function, sorted by the best fixed activation's."""
    from matplotlib.figure import Figure

    names = sorted(rows, key=lambda name: rows[name]["best fixed"])
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.subplots()
    marks = {
        "search": ("o", "#c44e52"),
        "best of 7": (".", "#c44e52"),
        "best fixed": ("_", "#4c72b0"),
        "relu": ("x", "#8c8c8c"),
    }
    labels = {
        "search": "search, per neuron (mean of 7)",
        "best of 7": "the best of 7 searches",
        "best fixed": "best of seven fixed",
        "relu": "relu (plain MLP)",
    }
    for key, (marker, colour) in marks.items():
        values = [rows[name][key] for name in names]
        axes.semilogy(range(len(names)), values, marker, color=colour, label=labels[key], markersize=7, markeredgewidth=2)
    axes.set_xticks(range(len(names)), names, rotation=55, ha="right", fontsize=8)
    axes.set_ylabel("test error / constant predictor's")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two functions, few steps: to see that it runs")
    parser.add_argument("--runner", choices=["ray", "serial"], default="ray")
    parser.add_argument("--store", help="where the studies go (default: a new folder)")
    parser.add_argument("--figure", type=Path, help="where the figure goes (default: none)")
    given = parser.parse_args()
    began = time.perf_counter()
    store = given.store or tempfile.mkdtemp(prefix="activation_search")
    changes = ["train.steps=40", "train.finetune=20", "task.function={choice: [Sphere, Beale]}"] if given.quick else []
    search = ran("activation_search", store, given.runner, [*changes, "train.retrain=60"] if given.quick else [])
    fixed = ran("activation_search_fixed", store, given.runner, changes)
    rows = table(search, fixed)
    pairs = {
        "best fixed": "search",
        "median fixed": "search",
        "relu": "search",
        "retrained": "search",
        "fixed, best of 7": "best of 7",
    }
    counts: dict[str, Counter[str]] = {key: Counter() for key in pairs}
    for name, row in rows.items():
        outcome = {key: verdict(row[ours], row[key]) for key, ours in pairs.items()}
        for key, word in outcome.items():
            counts[key][word] += 1
        print(
            f"{name:<18} search {row['search']:.4f} | trained again {row['retrained']:.4f} | best fixed "
            f"{row['best fixed']:.4f} ({row['best name']}): {outcome['best fixed']} | median fixed {row['median fixed']:.4f} | "
            f"relu {row['relu']:.4f}: {outcome['relu']} | best of 7 {row['best of 7']:.4f}, fixed "
            f"{row['fixed, best of 7']:.4f}: {outcome['fixed, best of 7']}"
        )
    figures: dict[str, float] = {"functions": len(rows), "seconds": time.perf_counter() - began}
    for key, counter in counts.items():
        ours, short = pairs[key], key.replace(",", "").replace(" ", "_")
        ratio = math.exp(np.mean([math.log(row[ours] / row[key]) for row in rows.values()]))
        told = ", ".join(f"{counter[word]} {word}" for word in ("win", "tie", "loss"))
        print(f"{ours} against {key}: {told}; error x{ratio:.2f}")
        figures[f"ratio_to_{short}"] = ratio
        figures |= {f"{word}_against_{short}": counter[word] for word in ("win", "tie", "loss")}
    if given.figure is not None:
        draw(rows, given.figure)
    print(json.dumps({name: float(f"{value:.4g}") for name, value in figures.items()}))


if __name__ == "__main__":
    main()
