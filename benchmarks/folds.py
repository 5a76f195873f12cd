"""What five folds cost: a whole study with refits against one with a hold-out, and one step of one network.

    python benchmarks/folds.py [--quick] [--parts step full study]

Both studies are the quick start's with one temperature and one learning rate: 16 levels x 8 seeds, 64 linear networks beside
them, and further levels where ``reach`` asks for them. On folds all of these are there five times, and then come the refits.
They run in this process, on one thread; times are CPU seconds, so that a busy machine changes little. ``study_ratio`` is
that of all this, folds over hold-out.

A step is that of one of the study's own networks in a pack of 100 rows, with a report on the validation samples every 75 steps,
as in the quick start: ``step_ratio`` in batches of 64, ``step_ratio_full`` with all samples in each step, which are 4/3 as many
on folds (development samples instead of training samples); of each the median of five rounds. ``--parts``: these of the three
alone. The last line is one JSON object.
``--quick``: 8 levels x 2 seeds of 300 steps, and one round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from nasplug import Study
from nasplug.config import StudyConfig, parse
from nasplug.plan import Pack, assemble, axes, chunk, components, grid
from nasplug.plugins import load_plugins
from nasplug.train import train

KINDS = ("holdout", "folds")
PARTS = ("step", "full", "study")


def study(kind: str, store: str, levels: int, seeds: int, steps: int, batch: int | str = 64) -> StudyConfig:
    """The quick start with one kind of validation."""
    return parse(
        {
            "study": kind,
            "store": store,
            "task": {"use": "breast_cancer", "validation": kind},
            "method": {"use": "edges", "mode": "annealed", "hidden": [16]},
            "penalties": [
                {"use": "l1", "level": {"log": [1e-4, 1e-1], "points": levels}, "ramp": {"use": "linear", "until": 0.3}}
            ],
            "temperature": {"use": "linear", "start": 1.0, "end": 0.0, "until": 0.5},
            "discretizers": [{"use": "threshold", "tolerance": 0.02}],
            "train": {"steps": steps, "batch": batch, "lr": 0.01, "finetune": 200, "compile": False},
            "seeds": seeds,
            "mlflow": None,
        }
    )


def took(what: Callable[[], Any]) -> float:
    """CPU seconds."""
    began = time.process_time()
    what()
    return time.process_time() - began


def study_seconds(kind: str, levels: int, seeds: int, steps: int) -> tuple[float, int]:
    """Of a whole study, and its networks."""
    with tempfile.TemporaryDirectory() as store:
        made = Study(study(kind, store, levels, seeds, steps), fast=True)
        seconds = took(lambda: made.run("serial"))
        return seconds, len(made.frame)


def step_seconds(kind: str, rows: int, steps: int, batch: int | str) -> float:
    """Of one network and step, in a pack of ``rows`` rows."""
    plugins = load_plugins()
    config = study(kind, "unused", 4, -(-rows // 4), steps, batch)
    first: Pack = chunk(config, grid(axes(config)), plugins, fast=True)[0]
    # rows of one pack, on each fold as many
    index = [i * first.rows // rows for i in range(rows)]
    pack = replace(
        first,
        columns={path: [column[i] for i in index] for path, column in first.columns.items()},
        seeds=[first.seeds[i] for i in index],
        configurations=[first.configurations[i] for i in index],
        folds=[5 * i // rows for i in range(rows)] if first.folds else [],
    )
    search = assemble(components(config, pack, plugins), pack, plugins)
    return took(lambda: list(train(search, every=75))) / (rows * steps)  # the quick start reports 20 times in 1,500 steps


def ratio(measure: Callable[[str], float], rounds: int) -> float:
    """Median of folds over hold-out, measured in turn."""
    pairs = [[measure(kind) for kind in KINDS] for _ in range(rounds)]
    return statistics.median(folds / held for held, folds in pairs)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer networks and rounds")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what is measured")
    given = parser.parse_args()
    quick = given.quick
    torch.set_num_threads(1)
    study_seconds("holdout", 2, 1, 20)  # imports, and fonts of the report
    steps = 200 if quick else 1000
    rounds = 1 if quick else 5
    found: dict[str, float] = {}
    for part, name, batch in (("step", "step_ratio", 64), ("full", "step_ratio_full", "full")):
        if part not in given.parts:
            continue
        found[name] = ratio(lambda kind, batch=batch: step_seconds(kind, 100, steps, batch), rounds)  # type: ignore[misc]
        print(f"{name}: {found[name]:.3f}", flush=True)
    if "study" in given.parts:
        size = (8, 2, 300) if quick else (16, 8, 1500)
        seconds = {kind: study_seconds(kind, *size) for kind in KINDS}
        for kind, (took_seconds, networks) in seconds.items():
            print(f"{kind}: {took_seconds:.1f} CPU seconds, {networks} networks", flush=True)
        found["study_ratio"] = seconds["folds"][0] / seconds["holdout"][0]
    print(json.dumps({name: round(value, 3) for name, value in found.items()}))


if __name__ == "__main__":
    main()
