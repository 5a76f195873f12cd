"""Broken studies by the thousand: what is written, overridden or named, read and planned as the command line does it.

``python tests/faults/fuzzing.py COUNT FIRST FOLDER`` prints one JSON line: how many were refused, and what went wrong.
"""

from __future__ import annotations

import copy
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import yaml

from nasplug.errors import NasplugError
from nasplug.plugins import load_plugins
from nasplug.study import Study

ROOT = Path(__file__).parents[2]
SECONDS = 2.0  # of CPU, for one study; more only where shipped studies, whole, take as long on this machine
HANGS = 20.0  # of a clock on the wall: something waits

TINY: list[dict[str, Any]] = [
    {
        "study": "fuzz",
        "task": {"use": "xor", "samples": 20, "samples_valid": 10, "samples_test": 10},
        "method": {"use": "edges", "mode": "gated", "hidden": [4]},
        "penalties": [{"use": "l1", "level": {"log": [0.01, 1.0], "points": 3}, "ramp": {"use": "linear", "until": 0.5}}],
        "temperature": {"use": "geometric", "start": 1.0, "end": {"choice": [0.1, 0.2]}},
        "discretizers": [{"use": "threshold", "tolerance": 0.02}],
        "train": {"steps": 10, "lr": 0.01, "decay": {"use": "cosine"}, "optimizer": {"use": "adam"}},
        "seeds": 2,
        "sampler": {"use": "grid"},
        "resources": {"pack": 4},
        "mlflow": None,
    },
    {
        "study": "fuzz",
        "task": {"use": "table", "validation": "holdout", "path": "tiny.csv", "target": "y", "missing": "mean"},
        "method": {"use": "sparcs", "hidden": [4]},
        "penalties": [{"use": "eigenvalue", "level": 0.1}],
        "discretizers": [{"use": "spectral"}],
        "train": {"steps": 10, "batch": 8, "finetune": 5, "keep": "last", "reports": 3},
        "seeds": [3, 5],
        "sampler": {"use": "grid"},
    },
    {
        "study": "fuzz",
        "task": {"use": "cornn", "function": "Booth", "train": 40, "test": 10},
        "method": {"use": "mixture", "hidden": [3], "candidates": ["relu", "tanh"], "per": "neuron"},
        "discretizers": [{"use": "ranked", "most": 8, "costs": {"relu": 1.0, "tanh": 2.0}, "limit": 5.0}],
        "train": {"steps": 5, "architecture": {"lr": 0.1, "share": 0.5, "optimizer": {"use": "adam"}}},
        "sampler": {"use": "random", "trials": 4},
        "penalties": [{"use": "l1", "level": {"uniform": [0.0, 1.0]}}],
        "resources": {"cpus": 1, "device": "auto"},
    },
]
"""Studies that plan in some hundredths of a second; the configs that come along are read, and planned on `xor`."""

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 7, 64, 10**9, 10**12, 2**63, 10**30, 10**400, 0.5, -0.5, 1e-300, 1e300, float("nan"),
    float("inf"), "", " ", "x", "1e-3", "null", "on", "full", "auto", "best", "\u00e9\u4e2d\U0001f600", "\u202e",
    "\x1b[31m", "a" * 2000, "~root", "~nobody9", "/", "..", ".", "/dev/null", "/dev/zero", "/proc/self/mem", "pipe",
    "tiny.csv", "bytes.csv", "x" * 300 + ".csv", "folder.csv", "http://u:p@h/x", [], {}, [[]], [None], [1], [0], [-1],
    [1, 1], ["a", "b"], [10**9], [1] * 3000, {"use": "xor"}, {"use": None}, {"use": "x"}, {"choice": []},
    {"choice": [1, 2]}, {"choice": [[1], [2]]}, {"grid": [0.1, 0.2]}, {"grid": [None]}, {"choice": list(range(500))},
    {"uniform": [0, 1]}, {"uniform": [0, 1], "points": 3}, {"uniform": [0, 1], "points": 10**8},
    {"log": [1e-3, 1], "points": 2}, {"log": [0, 1]}, {"log": 3}, {"choice": {"a": 1}},
    {"log": [1e-320, 1e308], "points": 3}, {"uniform": ["a", "b"]}, {1: 2}, {None: 1},
]  # fmt: skip

KNOWN = [
    "regression", "binary", "classes", "refuse", "drop", "mean", "indicator", "annealed", "snap", "l1", "gated", "relu",
    "tanh", "neuron", "layer", "full", "best", "grid", "random", "tpe", "nsga2", "float64", "cuda", "cpu", "x", "c", "y",
    "log", "choice", "use", "points", "level", "ramp", "costs", "seed",
]  # fmt: skip

SNIPPETS = [
    "!!python/object:os.system x", "!!binary aGVsbG8=", "!!binary %%%", "!!set {a}", "!!omap [a: 1]", "!!pairs [a: 1]",
    "!!float ''", "!!int ''", "!!int 0x", "!!bool maybe", "!!timestamp x", "!!null x", "!!str", "!!merge x", "!!value =",
    "!", "!x", "!<tag:x> y", "&a [*a]", "*b", "&a", "<<: {a: 1}", "<<: [1]", "{<<: {use: x}}", "? [a]", "? {a: 1}",
    "{? [a, b] : c}", "2024-01-01", "2024-13-45", "1:30:00", "0o17", "0x1f", "1_000", "0b2", ".inf", "-.nan", "1e999",
    "9" * 5000, "0x" + "f" * 5000, '"\\ud800"', '"\\0"', '"\\UFFFFFFFF"', "'", '"', "|", ">", "---", "...", "%YAML 9.9",
    "%TAG ! x", "\t", "#", "- " * 60, "[" * 60, "{" * 60, "a: " * 30, "[" * 3000, "\x00", "\x07", "\ufeff", "\u2028",
    "\x85", "=", "~",
]  # fmt: skip

PLACES = [
    "study", "store", "seeds", "task", "task.use", "task.samples", "task.path", "task.seed", "task.target",
    "task.features", "method", "method.hidden", "method.hidden.0", "method.mode", "method.stem", "method.stem.layers",
    "penalties", "penalties.0", "penalties.0.level", "penalties.0.use", "penalties.0.ramp", "penalties.9.level",
    "penalties.-1", "penalties.\u00b2", "penalties." + "9" * 30, "train", "train.steps", "train.batch", "train.lr",
    "train.reports", "train.keep", "train.data_seed", "train.clip", "train.decay", "temperature", "temperature.start",
    "discretizers", "sampler", "sampler.trials", "sampler.use", "sampler.generation", "sampler.seed", "resources.pack",
    "resources.cpus", "resources.device", "mlflow", "mlflow.uri", "mlflow.register", "a..b", "", ".", "a.", ".a",
    "x" * 5000, ".".join("a" * 200), "\u4e2d.\u6587", "a b", "study.a.b", "train.steps.x",
]  # fmt: skip

PATHS = [
    "", ".", "..", "/", "~", "~nobody9/x", "nowhere.yaml", "folder.csv", "pipe", "bytes.csv", "/dev/null", "/dev/zero",
    "/dev/full", "/proc/self/mem", "/proc/kmsg", "/proc/1/environ", "x" * 300, "a/" * 3000, "a\x00b", "\udcff", "\u4e2d",
    "loop", "unreadable.yaml", "tiny.csv", "study.yaml/x",
]  # fmt: skip


def odd(dice: random.Random) -> Any:
    """A value that may stand anywhere."""
    if dice.random() < 0.4:
        return dice.choice(
            [
                dice.randint(1, 9),
                dice.random(),
                dice.randint(-5, 300),
                dice.random() * 10 ** dice.randint(-9, 9),
                chr(dice.randint(32, 0x2FFF)) * 3,
            ]
        )
    return copy.deepcopy(dice.choice(ODD))


def near(dice: random.Random, value: Any) -> Any:
    """A value of the same type, so that what is behind the first check is reached."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return dice.choice([value + dice.randint(-2, 2), dice.randint(0, 10 ** dice.randint(1, 12)), float(value)])
    if isinstance(value, float):
        return dice.choice([-value, value * 10 ** dice.randint(-30, 30), dice.randint(0, 3), {"choice": [value, 2 * value]}])
    if isinstance(value, str):
        return dice.choice([*KNOWN, value.upper(), value + dice.choice(["\u0301", " ", ".", "/"]), value[:-1]])
    if isinstance(value, list):
        return dice.choice([value * 2, value[:-1], [*value, odd(dice)], {"choice": [value, value * 2]}])
    return {**value, str(dice.choice(KNOWN)): odd(dice)}


def component(dice: random.Random, kind: str) -> dict[str, Any]:
    """Any component of a kind with odd options, penalties with a level."""
    use = dice.choice(sorted(load_plugins().offers(kind)))
    fields = list(load_plugins().models[kind][use][0].model_fields)
    chosen = {
        name: near(dice, dice.choice([1, 0.5, "x", [1], True])) if dice.random() < 0.5 else odd(dice)
        for name in dice.sample(fields, min(len(fields), dice.randint(0, 2)))
    }
    return {"use": use, **chosen} | ({"level": odd(dice)} if kind == "regularizer" else {})


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container of plain data with one of its keys."""
    found = []
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        found.append((value, key))
        found += places(inner)
    return found


def changed(dice: random.Random) -> Any:
    """A small study with one to three places changed, renamed or gone."""
    raw = copy.deepcopy(dice.choice(TINY))
    if dice.random() < 0.4:
        key = dice.choice(["task", "method", "temperature", "penalties", "discretizers"])
        made = component(
            dice, {"penalties": "regularizer", "discretizers": "discretizer", "temperature": "schedule"}.get(key, key)
        )
        raw[key] = [made] if key in ("penalties", "discretizers") else made
    for _ in range(dice.choice([1, 1, 1, 2])):
        if not (found := places(raw)):
            break
        inside, key = dice.choice(found)
        what = dice.random()
        if what < 0.15:
            del inside[key]
        elif what < 0.3 and isinstance(inside, dict):
            inside[dice.choice(["x", "use", "log", "points", str(key)[:-1], str(key) * 2, 3, None, True, 1.5])] = inside.pop(
                key
            )
        elif what < 0.4 and isinstance(inside, list):
            inside.append(copy.deepcopy(inside[key]))
        else:
            inside[key] = near(dice, inside[key]) if dice.random() < 0.7 else odd(dice)
    return raw


def torn(dice: random.Random, text: str) -> str:
    """YAML with characters, lines and snippets put in, taken out or moved."""
    for _ in range(dice.randint(1, 4)):
        at = dice.randint(0, len(text))
        what = dice.random()
        if what < 0.3:
            text = text[:at] + dice.choice(SNIPPETS) + text[at:]
        elif what < 0.5:
            colon = text.find(":", at)
            text = text[: colon + 1] + " " + dice.choice(SNIPPETS) + " " + text[colon + 1 :]
        elif what < 0.7:
            text = text[:at] + text[at + dice.randint(1, 8) :]
        elif what < 0.8:
            text = text[:at]
        else:
            text = text[:at] + dice.choice(list("{}[]:,-&*!|>'\"%@`#?=\n\t \u00a0\u4e2d")) + text[at:]
    return text


def laughs(dice: random.Random) -> str:
    """Aliases of aliases."""
    wide, deep = dice.randint(1, 12), dice.randint(1, 60)
    lines = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * wide) if n else 'ha'}]" for n in range(deep)]
    return "\n".join(lines) + f"\ntask: *l{deep - 1}\n" + dice.choice(["", "method: {<<: *l0}\n", "seeds: *l1\n"])


def override(dice: random.Random) -> str:
    """``place=value``, or what is like it."""
    value = dice.choice(SNIPPETS) if dice.random() < 0.5 else str(odd(dice))[:4000]
    return dice.choice(PLACES) + dice.choice(["=", "=", "=", "", "==", " = "]) + value


def furnish(folder: Path) -> None:
    """Files, and what is none, for paths to lead to."""
    rows = "\n".join(f"{i},{'ab'[i % 2]},{i * i % 7}.5" for i in range(60))
    (folder / "tiny.csv").write_text(f"x,c,y\n{rows}\n")
    (folder / "bytes.csv").write_bytes(bytes(range(256)) * 4)
    (folder / "folder.csv").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to("loop")
    (folder / "unreadable.yaml").write_text("study: x")
    (folder / "unreadable.yaml").chmod(0)


def written(dice: random.Random, shipped: list[str]) -> str:
    """The text of a study."""
    what = dice.random()
    if what < 0.65:
        try:
            return yaml.safe_dump(changed(dice), allow_unicode=dice.random() < 0.5)
        except (yaml.YAMLError, UnicodeError, ValueError, TypeError):  # keys that do not sort, numbers of too many digits
            return repr(changed(dice))
    if what < 0.7:
        return laughs(dice)
    if what < 0.73:
        return "".join(
            chr(dice.choice([dice.randint(1, 127), dice.randint(128, 0x10FFFF)])) for _ in range(dice.randint(0, 300))
        )
    return torn(dice, dice.choice(shipped) if dice.random() < 0.5 else yaml.safe_dump(dice.choice(TINY)))


def small(text: str) -> list[str]:
    """Overrides that give a study of large data small ones."""
    return ["task={use: xor, samples: 20}"] if any(name in text for name in ("use: cornn", "use: digits")) else []


def case(number: int, shipped: list[str]) -> tuple[str, Callable[[], object]]:
    """Study ``number``: in words, and what reads and plans it."""
    dice = random.Random(number)
    path, overrides = "study.yaml", [override(dice) for _ in range(dice.choice([0, 0, 0, 0, 0, 0, 1, 2]))]
    text = written(dice, shipped)
    Path(path).write_text(text, encoding="utf-8", errors="surrogatepass")
    if dice.random() < 0.1:
        path = dice.choice(PATHS)
    tiny = small(text)
    words = f"{number}: {path!r} {overrides!r}\n{text[:1500]}"
    return words, lambda: Study.from_yaml(path, overrides + tiny).check()


def allowed(shipped: list[str]) -> float:
    """Seconds of CPU that a broken study may take: three times what the slowest shipped one takes here, `SECONDS` at least.

    A study of which a comment was broken is as large as it was. Machines differ by more than a factor of two.
    """
    slowest = 0.0
    for text in shipped:
        Path("whole.yaml").write_text(text)
        began = time.process_time()
        with suppress(NasplugError):  # its data may be elsewhere
            Study.from_yaml("whole.yaml", small(text)).check()
        slowest = max(slowest, time.process_time() - began)
    return max(SECONDS, 3.0 * slowest)


def late(*_: object) -> None:
    raise TimeoutError(f"more than {HANGS} s")


def run(count: int, first: int, folder: Path) -> dict[str, Any]:
    """Read and plan ``count`` studies from number ``first`` on, in ``folder``."""
    shipped = [file.read_text() for file in sorted((ROOT / "configs").rglob("*.yaml"))]
    os.chdir(folder)
    furnish(folder)
    for raw in TINY:
        Study.from_dict(raw).check()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found: dict[str, Any] = {"refused": 0, "planned": 0, "unworded": [], "wrong": [], "slow": []}
    late_ones: list[tuple[float, str]] = []
    signal.signal(signal.SIGALRM, late)
    for number in range(first, first + count):
        words, plan = case(number, shipped)
        began = time.process_time()
        signal.setitimer(signal.ITIMER_REAL, HANGS)
        try:
            plan()
            found["planned"] += 1
        except NasplugError as error:
            found["refused"] += 1
            if "Simplify it step by step" in str(error):  # the boundary caught it: a refusal, but not in words of its place
                found["unworded"].append(f"{number}: {error}")
        except BaseException as error:
            found["wrong"].append(f"{words}\n{''.join(traceback.format_exception(error))}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if (seconds := time.process_time() - began) > SECONDS:
            late_ones.append((seconds, words))
    found["megabytes"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
    if late_ones:
        most = allowed(shipped)
        found["slow"] = [f"{seconds:.1f} s of {most:.1f}: {words}" for seconds, words in late_ones if seconds > most]
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)  # a second thread waits by spinning, and that counts as time of the CPU
    print(json.dumps(run(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))))
