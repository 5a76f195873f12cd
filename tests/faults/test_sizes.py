"""Sizes are refused from the numbers as they are written, before anything is built from them: at once, and in little memory."""

from __future__ import annotations

import copy
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nasplug.data.datasets import from_arrays, table
from nasplug.errors import ConfigError
from nasplug.study import Study

SMALL: dict[str, Any] = {
    "study": "sizes",
    "task": {"use": "xor", "samples": 20},
    "method": {"use": "edges", "mode": "annealed", "hidden": [4]},
    "penalties": [{"use": "l1", "level": 0.01}],
    "discretizers": [{"use": "threshold", "tolerance": 0.02}],
    "train": {"steps": 10, "lr": 0.01},
    "seeds": 2,
    "mlflow": None,
}
DRAWN = {"use": "random"}
LEVEL = {"uniform": [0.0, 1.0]}

# what is changed, what came, what is accepted
TOO_LARGE: list[tuple[dict[str, Any], str, str]] = [
    ({"seeds": 1_000_000_000}, "seeds: 1000000000", "<= 1000000"),
    ({"seeds": 10**400}, "a number of 1329 bits", "a finite number"),
    ({"train.steps": 10**12}, "train.steps: 1000000000000", "a whole number >= 1 and <= 1000000"),
    ({"train.steps": {"choice": [5, 10**12]}}, "train.steps: 1000000000000", "<= 1000000"),
    ({"train.finetune": 10**12}, "train.finetune: 1000000000000", "<= 1000000"),
    ({"train.retrain": 10**12}, "train.retrain: 1000000000000", "<= 1000000"),
    ({"train.reports": 10**9}, "train.reports: 1000000000", "<= 1000"),
    ({"train.batch": 10**12}, "train.batch: 1000000000000", "at most 20"),
    ({"penalties.0.level": LEVEL | {"points": 10**8}}, "100000000 configurations (penalties.0.level", "1000000 at most"),
    (
        {"penalties.0.level": LEVEL | {"points": 2000}, "train.lr": {"log": [0.1, 1.0], "points": 2000}},
        "4000000 configurations (penalties.0.level 2000, train.lr 2000)",
        "1000000 at most",
    ),
    (
        {"penalties.0.level": LEVEL | {"points": 2000}, "seeds": 2000},
        "2,000 configurations x 2,000 seeds = 4,000,000 networks",
        "1,000,000 at most",
    ),
    ({"penalties.0.level": LEVEL, "sampler": DRAWN | {"trials": 10**9}}, "sampler.trials: 1000000000", "<= 20000"),
    (
        {"penalties.0.level": LEVEL, "sampler": DRAWN | {"trials": 20_000}, "seeds": 1000},
        "20,000 configurations x 1,000 seeds",
        "1,000,000 at most",
    ),
    ({"penalties": [{"use": "l1", "level": 0.1}] * 500}, "penalties: [{'use'", "(64 at most)"),
    ({"discretizers": [{"use": "threshold"}] * 500}, "discretizers: [{'use'", "(64 at most)"),
    (
        {"penalties.0.level": LEVEL, "sampler": {"use": "tpe", "generation": 10**12}},
        "sampler.generation: 1000000000000",
        "<= 1000",
    ),
    (
        {"method.hidden": {"choice": [[n] for n in range(1, 3000)]}},
        "what varies between packs (method.hidden) makes more than 2,000 kinds of packs",
        "let fewer places vary",
    ),
    ({"method.hidden": [2 * 10**6]}, "each of its networks has 8,000,001 numbers", "4,194,304 at most"),
    ({"method.hidden": [10**6, 10**6]}, "('block 2 1' alone 1000000 x 1000000)", "4,194,304 at most"),
    ({"method.hidden": [10**30]}, "hidden has a layer of 1000000", "4,194,304 at most"),
    ({"method.hidden": [1] * 30_000, "method.skips": True}, "hidden has 30000 layers", "64 at most"),
    ({"task.samples": 10**12}, "samples=1000000000000", "<= 1000000"),
    ({"task.samples_test": 10**12}, "samples_test=1000000000000", "<= 1000000"),
    ({"task": {"use": "sparcs_teacher", "inputs": 10**6}}, "inputs=1000000", "<= 1000"),
    ({"task": {"use": "sparcs_transition", "samples": 10**12}}, "samples=1000000000000", "<= 1000000"),
    ({"task": {"use": "mixture_teacher", "hidden": 10**9}}, "hidden=1000000000", "<= 10000"),
    (
        {"temperature": {"use": "linear", "end": {"uniform": [0.0, 1.0], "points": 1000}}, "train.steps": 100_000},
        "temperature: 1,000 schedules over 100,000 steps",
        "20,000,000 at most",
    ),
    (
        {"method.hidden": [100_000], "resources": {"pack": 10**9}, "seeds": 100_000},
        "resources.pack: 1000000000",
        "16 at most",
    ),
]


def changed(places: dict[str, Any]) -> dict[str, Any]:
    raw = copy.deepcopy(SMALL)
    for path, value in places.items():
        here: Any = raw
        *parents, last = path.split(".")
        for key in parents:
            here = here[int(key)] if isinstance(here, list) else here[key]
        here[last] = value
    return raw


@pytest.mark.parametrize(("places", "came", "accepted"), TOO_LARGE, ids=lambda value: str(value)[:50])
def test_a_size_is_refused_before_anything_is_built(places: dict[str, Any], came: str, accepted: str) -> None:
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(ConfigError) as told:
        Study.from_dict(changed(places)).plan()
    assert came in str(told.value)
    assert accepted in str(told.value)
    assert time.monotonic() - began < 60.0  # a moment on an idle machine
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


@pytest.mark.parametrize("use", ["edges", "sparcs", "mixture"])
def test_no_method_makes_a_network_that_is_too_large(use: str) -> None:
    raw = changed({}) | {"method": {"use": use, "hidden": [50_000, 50_000]}, "discretizers": [{"use": "argmax"}]}
    with pytest.raises(ConfigError, match=r"each of its networks has [\d,]+ numbers .*; needed: 4,194,304 at most"):
        Study.from_dict(raw).plan()


def test_a_list_of_equal_values_is_refused_at_once() -> None:
    for places in ({"seeds": [7] * 30_000}, {"train.lr": {"choice": [0.1] * 30_000}}):
        began = time.monotonic()
        with pytest.raises(ConfigError, match="more than once"):
            Study.from_dict(changed(places))
        assert time.monotonic() - began < 60.0  # comparing each with each takes many minutes


def test_a_table_of_too_many_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"200,000 features of 3 rows are 600,000 numbers; needed: 100,000 features and"):
        from_arrays(np.zeros((3, 200_000), np.int8), np.arange(3), kind="regression")
    words = pd.DataFrame({f"c{i}": [f"w{n % 12}" for n in range(60)] for i in range(30)}).assign(y=range(60))
    words.to_csv(tmp_path / "words.csv", index=False)
    monkeypatch.setattr("nasplug.data.fitting.MOST_CELLS", 20_000)
    with pytest.raises(ConfigError, match=r"360 features of 60 rows are 21,600 numbers; needed: .* Name those"):
        table(path=str(tmp_path / "words.csv"), target="y")


MEASURED = """
import json, sys, time
from nasplug.study import Study
study = Study.from_dict(json.loads(sys.argv[1]))
began = time.monotonic()
study.plan()
seconds = time.monotonic() - began
study.run("serial")
# Not ru_maxrss: a process begins with the peak of the one that started it, here of all tests so far.
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"seconds": seconds, "kilobytes": int(peak)}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of one process is read from /proc")
def test_a_table_of_five_thousand_columns(tmp_path: Path) -> None:
    """8 GB and half a minute of planning: the whole square was drawn for each of a few rows of 5,000 numbers."""
    x = np.random.default_rng(0).normal(size=(400, 5000))
    frame = pd.DataFrame(x, columns=[f"f{i}" for i in range(5000)]).assign(y=x[:, 0] - x[:, 1])
    frame.to_csv(tmp_path / "wide.csv", index=False)
    raw = changed(
        {
            "task": {"use": "table", "validation": "holdout", "path": str(tmp_path / "wide.csv"), "target": "y"},
            "train.steps": 5,
            "seeds": 8,
        }
    )
    raw |= {"store": str(tmp_path), "method": {"use": "edges", "mode": "annealed", "hidden": [16]}}
    done = subprocess.run([sys.executable, "-c", MEASURED, json.dumps(raw)], capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout.splitlines()[-1])
    assert measured["seconds"] < 15.0
    assert measured["kilobytes"] < 2e6
