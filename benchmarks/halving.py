"""Does halving find the front of the full grid for less, and is it better than training fewer networks?

    python benchmarks/halving.py [--quick] [--tables breast_cancer diabetes wine digits] [--spaces grid wide]
        [--settings 1:0.25 2:0.33 3:0.33] [--by valid_error edges] [--seeds N] [--steps T]
    python benchmarks/halving.py --packs 1 4 16 [--runner serial | ray]

On each table 64 networks per seed are trained once in full and once for each setting `rungs:keep`: a `grid` of 16 levels x 2
learning rates x 2 temperatures, in which most networks are good, and a `wide` random search, in which most are not; with
`stop: {use: halving, by: ...}`, one pack each, in float32 without compiled steps. Compared:

- `steps`: network-steps of the full grid through those of halving; `cpu`: the same of CPU seconds of the whole study, with
  planning, discretizing and tables.
- `volume`: the hypervolume that the front dominates, validation error up to a trivial network's and log(1 + edges) up to a
  dense one's, as a share of the full grid's; `error`: the smallest validation error less the full grid's, as a share of a
  trivial network's; `test`: the same of the chosen network's test error.
- The control, a random part of the full grid's networks that takes as many network-steps as halving: the mean over 500 draws of
  its volume and error (`fewer_volume`, `fewer_error`); and `worth`, how many times halving's network-steps a random part needs
  to reach halving's volume on average.

With `--packs`: what it costs that packs wait for each other at rungs. 128 networks are trained in so many packs, with two
rungs of `keep: 0.9`, which trains 97 % of the steps. `idle_seconds`, of a clock, go by after a comparison until any pack
reports again, and `again_seconds` when the runner is called again, as packs had left their workers to others. With the serial
runner they are also trained in full, and with `rungs: 2, keep: 0.33` (CPU seconds, `full_cpu`, `halving_cpu`). What is left
between the first two is of the rungs (`rung_cpu`, of each), and `same` is the share of those that go on to the end that are
those of the first number of packs.

The last line is one JSON object: `compute_saved`, the geometric mean over tables of `steps`, for each setting; and all figures.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from nasplug import results
from nasplug.config import StudyConfig
from nasplug.hookspecs import Progress
from nasplug.packs.ranking import hypervolume
from nasplug.plan import Pack
from nasplug.plugins import Plugins
from nasplug.runner import Watch, runner_of
from nasplug.study import Study

DRAWS = 500


def grid(table: str, steps: int, seeds: int, store: str) -> dict[str, Any]:
    """The study of a table."""
    return {
        "study": "full",
        "store": store,
        "task": {"use": table, "validation": "holdout"},
        "method": {"use": "edges", "mode": "annealed", "hidden": [16]},
        "penalties": [{"use": "l1", "level": {"log": [1e-4, 1e-1], "points": 16}, "ramp": {"use": "linear", "until": 0.3}}],
        "temperature": {"use": "linear", "start": {"choice": [1.0, 3.0]}, "end": 0.0, "until": 0.5},
        "discretizers": [{"use": "threshold", "tolerance": 0.02}],
        "train": {"steps": steps, "batch": 64, "lr": {"choice": [0.003, 0.01]}, "compile": False},
        "seeds": seeds,
        "resources": {"pack": 64 * seeds},
        "linear": False,
        "reach": None,
        "mlflow": None,
    }


def wide(table: str, steps: int, networks: int, store: str) -> dict[str, Any]:
    """A random search over wide ranges, most of which is no good."""
    config = grid(table, steps, 1, store)
    ranges = {"start": {"uniform": [0.3, 5.0]}, "until": {"uniform": [0.1, 0.9]}}
    return config | {
        "penalties": [
            {"use": "l1", "level": {"log": [1e-5, 1.0]}, "ramp": {"use": "linear", "until": {"uniform": [0.0, 0.9]}}}
        ],
        "temperature": config["temperature"] | ranges,
        "train": config["train"] | {"lr": {"log": [1e-4, 0.3]}},
        "sampler": {"use": "random", "trials": networks, "seed": 0},
        "resources": {"pack": networks},
    }


def volume(frame: pd.DataFrame, trivial: float, dense: float) -> float:
    """Of the front, in units of the square from (0, 0) to a trivial network's error and a dense network's edges."""
    sizes = np.log1p(frame["edges"].to_numpy(float)) / math.log1p(dense)
    return hypervolume(np.stack([frame["valid_error"].to_numpy(float) / trivial, sizes], axis=1), (1.0, 1.0))


def trained(config: Mapping[str, Any]) -> tuple[Study, float, int]:
    """The study, CPU seconds, network-steps."""
    began = time.process_time()
    study = Study.from_dict(config).run("serial", report=False)
    cpu = time.process_time() - began
    packs = [p.name for p in (study.folder / "packs").iterdir()]
    return study, cpu, sum(results.pack_record(study.folder, pack)["network_steps"] for pack in packs)


def part(frame: pd.DataFrame, count: int, trivial: float, dense: float) -> tuple[float, float]:
    """Mean volume and smallest error of random parts."""
    random = np.random.default_rng(0)
    draws = [frame.iloc[random.permutation(len(frame))[:count]] for _ in range(DRAWS)]
    volumes = [volume(draw, trivial, dense) for draw in draws]
    return statistics.mean(volumes), statistics.mean(float(draw["valid_error"].min()) for draw in draws)


def compared(
    table: str, space: str, steps: int, seeds: int, settings: list[tuple[int, float]], by: list[str]
) -> list[dict[str, Any]]:
    """Figures of a table, one for each setting."""
    with tempfile.TemporaryDirectory() as store:
        config = wide(table, steps, 64 * seeds, store) if space == "wide" else grid(table, steps, seeds, store)
        full, cpu, work = trained(config)
        everything = full.frame[full.frame["status"] == "finished"]
        facts = full.facts_of(str(full.best()["replica"]))
        trivial, dense = facts.trivial["valid_error"], 16.0 * (full.task.inputs + full.task.outputs)
        whole, best = volume(everything, trivial, dense), float(everything["valid_error"].min())
        found = []
        for rungs, keep in settings:
            stop = {"use": "halving", "rungs": rungs, "keep": keep, "by": by}
            half, cpu_half, work_half = trained({**config, "study": f"halving-{rungs}-{keep:g}", "stop": stop})
            mine = half.frame[half.frame["status"] == "finished"]
            reached = volume(mine, trivial, dense)
            count = round(len(full.frame) * work_half / work)
            fewer, error = part(everything, count, trivial, dense)
            needed = next((n for n in range(count, len(everything), max(1, count // 4)) if
                           part(everything, n, trivial, dense)[0] >= reached), len(everything))  # fmt: skip
            found.append(
                {
                    "table": table,
                    "space": space,
                    "setting": f"{rungs}:{keep:g}",
                    "networks": len(full.frame),
                    "finished": len(mine),
                    "steps": work / work_half,
                    "cpu": cpu / cpu_half,
                    "volume": reached / whole,
                    "error": (float(mine["valid_error"].min()) - best) / trivial,
                    "test": float(half.best()["test_error"] - full.best()["test_error"]) / trivial,
                    "fewer_volume": fewer / whole,
                    "fewer_error": (error - best) / trivial,
                    "worth": needed / count,
                }
            )
            show(found[-1])
    return found


class Timed:
    """A runner that notes when packs report."""

    def __init__(self, name: Literal["serial", "ray"]) -> None:
        self.runner = runner_of(name, None)
        self.check, self.start, self.close = self.runner.check, self.runner.start, self.runner.close
        self.reports: list[float] = []
        self.called: list[float] = []

    def run(self, study: StudyConfig, packs: Sequence[Pack], plugins: Plugins, watch: Watch) -> None:
        def reported(pack: str, progress: Progress) -> None:
            self.reports.append(time.time())
            watch.reported(pack, progress)

        self.called.append(time.time())
        self.runner.run(study, packs, plugins, replace(watch, reported=reported))

    def idle(self, folder: Path) -> float:
        """Seconds from when it is known what goes on after a rung until a pack's next report; the mean over rungs."""
        return self._until([path.stat().st_mtime for path in folder.glob("rung-*.json")])

    def again(self) -> float:
        """Seconds from each call of the runner but the first until a pack's next report."""
        return self._until(self.called[1:])

    def _until(self, moments: Sequence[float]) -> float:
        """Mean seconds until the next report; 0 without one."""
        found = [min(after) - one for one in moments if (after := [at for at in self.reports if at > one])]
        return statistics.mean(found) if found else 0.0


def waited(table: str, steps: int, counts: list[int], by: list[str], runner: Literal["serial", "ray"]) -> list[dict[str, Any]]:
    """Figures of rungs at which packs wait, one for each number of packs."""
    found: list[dict[str, Any]] = []
    first: set[tuple[int, int]] = set()
    with tempfile.TemporaryDirectory() as store:  # what is imported at first is no matter of rungs
        Study.from_dict(grid(table, 20, 1, store)).run("serial", report=False)
    for count in counts:
        seconds, idle, again, kept = {}, {}, {}, {}
        for name, keep in {"waiting": 0.9, **({} if runner == "ray" else {"full": None, "halving": 0.33})}.items():
            with tempfile.TemporaryDirectory() as store:
                stop = None if keep is None else {"use": "halving", "rungs": 2, "keep": keep, "by": by}
                config = {**grid(table, steps, 2, store), "stop": stop, "resources": {"pack": 128 // count}}
                began, timed = time.process_time(), Timed(runner)
                study = Study.from_dict(config).run(timed, report=False)
                seconds[name] = time.process_time() - began
                idle[name], again[name] = timed.idle(study.folder), timed.again()
                last = study.frame[study.frame["status"] == "finished"]
                kept[name] = set(zip(last["configuration"], last["seed"], strict=True))
        one: dict[str, Any] = {"packs": count, "idle_seconds": idle["waiting"], "again_seconds": again["waiting"]}
        if runner == "serial":
            first = first or kept["halving"]
            trained = 0.81 + 0.9 * 0.09 + 0.81 * 0.1
            one |= {
                "full_cpu": seconds["full"],
                "halving_cpu": seconds["halving"],
                "rung_cpu": (seconds["waiting"] - trained * seconds["full"]) / 2,
                "same": len(kept["halving"] & first) / len(first),
            }
        found.append(one)
        print(", ".join(f"{name} {value:.3g}" for name, value in one.items()), flush=True)
    return found


def show(one: Mapping[str, Any]) -> None:
    """A line."""
    volume, fewer, error, fewer_error, test = (
        100 * one[name] for name in ("volume", "fewer_volume", "error", "fewer_error", "test")
    )
    print(
        f"{one['table']:14} {one['space']:5} {one['setting']:7} {one['finished']:4} of {one['networks']} to the end: "
        f"{one['steps']:4.1f}x fewer network-steps, {one['cpu']:4.1f}x less CPU; volume {volume:5.1f} % (as many steps of a "
        f"random part: {fewer:5.1f} %), best error {error:+.2f} % ({fewer_error:+.2f} %), chosen on test {test:+.2f} %; worth "
        f"{one['worth']:.1f} times as many random steps",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one table, one setting, 128 networks, 600 steps")
    parser.add_argument("--tables", nargs="+", default=["breast_cancer", "diabetes", "wine", "digits"])
    parser.add_argument("--settings", nargs="+", default=["1:0.25", "2:0.33", "3:0.33"])
    parser.add_argument("--by", nargs="+", default=["valid_error", "edges"])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--spaces", nargs="+", default=["grid", "wide"], choices=["grid", "wide"])
    parser.add_argument("--packs", nargs="+", type=int, help="what it costs that so many packs wait for each other at rungs")
    parser.add_argument("--runner", default="serial", choices=["serial", "ray"])
    given = parser.parse_args()
    if given.packs:
        print(
            json.dumps({"runner": given.runner, "figures": waited(given.tables[0], 600, given.packs, given.by, given.runner)})
        )
        return
    tables, settings, seeds, steps = given.tables, given.settings, given.seeds, given.steps
    if given.quick:
        tables, settings, seeds, steps = tables[:1], ["2:0.33"], 2, 600
    pairs = [(int(one.split(":")[0]), float(one.split(":")[1])) for one in settings]
    found = [one for space in given.spaces for table in tables for one in compared(table, space, steps, seeds, pairs, given.by)]
    saved = {
        setting: statistics.geometric_mean(one["steps"] for one in found if one["setting"] == setting)
        for setting in dict.fromkeys(one["setting"] for one in found)
    }
    print(json.dumps({"quick": given.quick, "compute_saved": saved, "figures": found}))


if __name__ == "__main__":
    main()
