"""What MLflow costs at the end of a study: many networks of a front against one, and a large study.

    python benchmarks/tracking.py [--quick]

One study whose front has more than 40 networks is trained once, untracked. It is then told to a fresh sqlite store each time,
with one network of its front as a child run and with 40, turn about; the first time of each is left out, and figures are
medians. The same study told to a store that has it already is what a resume costs. The large study has 20,000 networks of 20
steps; beside what tracking costs stands what training and discretizing them cost. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nasplug.config import parse
from nasplug.plugins import load_plugins
from nasplug.study import Study
from nasplug.tracking import STATE_FILE, Tracker

CHILDREN = 40
FRONT: dict[str, Any] = {
    "study": "front",
    "task": {"use": "sparcs_teacher"},
    "method": {"use": "edges", "hidden": [32]},
    "penalties": [{"use": "l1", "level": {"log": [1e-5, 1e-1], "points": 64}}],
    "discretizers": [{"use": "threshold", "tolerance": 0.02}],
    "train": {"steps": 300, "batch": 64, "lr": 0.01},
    "seeds": 4,
    "linear": False,
    "reach": None,
    "mlflow": None,
    "choose": {"rule": "best"},
}
LARGE: dict[str, Any] = {
    "study": "large",
    "task": {"use": "xor", "samples": 4, "samples_valid": 4, "samples_test": 4, "noise": 0.0},
    "method": {"use": "edges", "mode": "l1", "hidden": [4]},
    "penalties": [{"use": "l1", "level": {"log": [1e-4, 1e-1], "points": 10}}],
    "discretizers": [{"use": "threshold", "eps": 0.01}],
    "train": {"steps": 20, "lr": 0.01},
    "linear": False,
    "reach": None,
    "mlflow": None,
}


class Cost(NamedTuple):
    """Seconds by the clock, and of this process on CPUs: the first depend on who else uses the machine and its disk."""

    clock: float
    cpu: float


def told(study: Study, schema: Path, children: int) -> tuple[Cost, Cost]:
    """What it costs to tell a fresh store a study that has run, and to tell it again."""
    with tempfile.TemporaryDirectory() as there:
        shutil.copy(schema, there)
        (study.folder / STATE_FILE).unlink(missing_ok=True)
        place = {"uri": f"sqlite:///{there}/{schema.name}", "children": children, "register": "served"}
        config = parse({**study.config.plain(), "mlflow": place})
        costs = []
        for _ in range(2):
            clock, cpu = time.perf_counter(), time.process_time()
            Tracker(config, load_plugins()).study_finished(config.plain(), study.folder)
            costs.append(Cost(time.perf_counter() - clock, time.process_time() - cpu))
    return costs[0], costs[1]


def median(costs: Sequence[Cost]) -> Cost:
    """Of each figure, without the first round."""
    return Cost(*(statistics.median(values) for values in zip(*costs[1:], strict=True)))


def trained(config: Mapping[str, Any], store: Path, **changes: Any) -> tuple[Study, float]:
    """A study that has run in this process, untracked and without a report, and its seconds."""
    began = time.perf_counter()
    study = Study.from_dict({**config, "store": str(store), **changes}).run("serial", report=False, progress=False)
    return study, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two rounds instead of five, and 2,000 networks instead of 20,000")
    quick = parser.parse_args().quick
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        schema = store / "empty" / "mlflow.db"
        schema.parent.mkdir()
        MlflowClient(f"sqlite:///{schema}", f"sqlite:///{schema}").search_registered_models(max_results=1)  # takes 2 s
        study, seconds = trained(FRONT, store)
        length = len(study.front())
        print(
            f"a front of {length} networks of {len(study.frame)}; without tracking the study takes {seconds:.1f} s", flush=True
        )
        if length < CHILDREN:
            sys.exit(f"the front has {length} networks; {CHILDREN} are needed")
        ones, many = [], []
        for _ in range(1 + (2 if quick else 5)):
            ones.append(told(study, schema, 1))
            many.append(told(study, schema, CHILDREN))
        one, first, again = (median(costs) for costs in ([c[0] for c in ones], [c[0] for c in many], [c[1] for c in many]))
        more = Cost(first.clock - one.clock, first.cpu - one.cpu)
        print(
            f"one network: {one.clock:.2f} s ({one.cpu:.2f} s on the CPU); {CHILDREN}: {first.clock:.2f} s "
            f"({first.cpu:.2f} s), that is {more.clock:.2f} s more ({more.cpu:.2f} s), "
            f"{1000 * more.clock / (CHILDREN - 1):.0f} ms per network; told again: {again.clock:.2f} s ({again.cpu:.2f} s)",
            flush=True,
        )
        large, seconds = trained(LARGE, store, seeds=200 if quick else 2000)
        cost, repeated = told(large, schema, CHILDREN)
        count = len(large.frame)
        print(
            f"{count} networks, a front of {len(large.front())}: {cost.clock:.2f} s ({cost.cpu:.2f} s on the CPU), again "
            f"{repeated.clock:.2f} s, beside {seconds:.1f} s of training and discretizing"
        )
    figures = {
        "quick": quick, "front": length, "one": one._asdict(), "many": first._asdict(), "more": more._asdict(),
        "ratio": first.clock / one.clock, "again": again._asdict(), "large_networks": count, "large": cost._asdict(),
        "large_again": repeated._asdict(), "large_untracked_s": seconds,
    }  # fmt: skip
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
