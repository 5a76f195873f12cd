"""nasplug against what people use on tables: error, numbers stored, time, on 20 real tables, the same rows for everyone.

    python benchmarks/tables.py                  # everything: hours; what is done is kept in runs/tables, and it goes on there
    python benchmarks/tables.py --quick          # two small tables, one split, small studies, few models: under a minute
    python benchmarks/tables.py --tables pima german --models nasplug linear --splits 2
    python benchmarks/tables.py --only-show      # trains nothing: tables and ranks of what is kept

Each of five outer splits gives development rows and test rows. Every model is tuned on inner validation rows of the development
rows, and fitted again on all of them; what it then says of the test rows is its result. A model is a set of candidates that
differ in size. For each budget (at most so many numbers stored) the one with the smallest validation error is taken; a model
without one so small is given the constant. `rivals.py` says what counts as a number; `tables.md` has the results.

**error**: the share of wrong labels, or the mean squared error over the variance of the target in the development rows.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import rival_networks
import rivals
import table_nasplug
import table_scores
from rivals import Array, Encoder, Fit, Point, Rival
from table_sets import TABLES, Rows, Table, digest, installed, outer

KEPT = Path("runs/tables")
MODELS: dict[str, tuple[Rival | None, str, bool]] = {  # how, which package, several inner folds where rows are few
    "nasplug": (None, "nasplug", True),
    "linear": (rivals.linear, "sklearn", True),
    "tree": (rivals.tree, "sklearn", True),
    "boosting": (rivals.boosting, "sklearn", False),
    "pruned": (rival_networks.pruned, "torch", False),
    "ebm": (rivals.ebm, "interpret", False),
    "lassonet": (rival_networks.lassonet, "lassonet", False),
    "tabm": (rival_networks.tabm, "tabm", False),
}
FOLDS, FEW = 5, 1_000


class Data(NamedTuple):
    """A table cut for one outer split."""

    frame: pd.DataFrame  # inputs of the development rows
    y: Array
    test: pd.DataFrame
    y_test: Array
    classes: tuple[str, ...]


def cut(table: Table, frame: pd.DataFrame, rows: Rows) -> Data:
    """Inputs and targets; a quantity in units of the development rows' deviation, labels as numbers of classes."""
    inputs, target = frame.drop(columns=table.target), frame[table.target]
    if table.kind == "regression":
        values, classes = target.to_numpy(dtype=float), np.empty(0)
        some = values[rows.development]
        values = (values - some.mean()) / some.std()
    else:
        classes, codes = np.unique(target.astype(str), return_inverse=True)
        values = codes.astype(float)
    development, test = inputs.iloc[rows.development], inputs.iloc[rows.test]
    return Data(development, values[rows.development], test, values[rows.test], tuple(map(str, classes)))


def inner(table: Table, y: Array, several: bool) -> Iterator[tuple[Any, Any]]:
    """Rows to fit and to validate on, among the development rows."""
    from sklearn.model_selection import KFold, ShuffleSplit, StratifiedKFold, StratifiedShuffleSplit

    kinds = (KFold, ShuffleSplit) if table.kind == "regression" else (StratifiedKFold, StratifiedShuffleSplit)
    if several and len(y) < FEW:
        yield from kinds[0](FOLDS, shuffle=True, random_state=1).split(y, y)
    else:
        yield from kinds[1](1, test_size=0.2, random_state=1).split(y, y)


def fitted(model: Rival, table: Table, frame: pd.DataFrame, y: Array, seed: int) -> Iterator[tuple[str, Point, Encoder]]:
    """The points of a model on some rows."""
    encoder = Encoder(frame)
    for name, point in model(Fit(encoder(frame), y, table.kind, encoder.owners, seed)):
        yield name, point, encoder


def rival(name: str, table: Table, data: Data, seed: int) -> list[dict[str, Any]]:
    """The candidates of a rival: validated on inner rows, fitted again on all development rows, tested."""
    model, _, several = MODELS[name]
    assert model is not None
    validated: dict[str, list[tuple[float, float]]] = {}
    folds = list(inner(table, data.y, several))
    for fit, valid in folds:
        for point_name, point, encoder in fitted(model, table, data.frame.iloc[fit], data.y[fit], seed):
            made = point.predict(encoder(data.frame.iloc[valid]))
            error, _, loss = table_scores.scores(table.kind, made, data.y[valid])
            validated.setdefault(point_name, []).append((error, loss))
    found = []
    for point_name, point, encoder in fitted(model, table, data.frame, data.y, seed):
        if len(validated.get(point_name, [])) == len(folds):
            error, loss = np.mean(validated[point_name], 0)
            one: dict[str, Any] = {"name": point_name, "valid_error": float(error), "valid_loss": float(loss)}
            found.append(one | {"numbers": point.numbers, "inputs": point.inputs, "point": point, "encoder": encoder})
    return [tested(one, table, data) for one in table_scores.best_of_each_size(found)]


def tested(candidate: dict[str, Any], table: Table, data: Data) -> dict[str, Any]:
    """With its scores on the test rows and its time per prediction."""
    point, rows = candidate.pop("point"), candidate.pop("encoder")(data.test)
    error, score, loss = table_scores.scores(table.kind, point.predict(rows), data.y_test)
    return candidate | {"error": error, "score": score, "loss": loss, "us": table_scores.timed(point, rows)}


def code_of(name: str) -> str:
    """Twelve letters that change with the code of a model, the way it is tuned, and its package's version."""
    from importlib.metadata import version

    here = Path(__file__).parent
    files = [here / "rivals.py"] + [here / "rival_networks.py"] * (name in ("pruned", "lassonet", "tabm"))
    h = hashlib.sha256(b"".join(file.read_bytes() for file in files))
    for function in (table_scores.scores, table_scores.best_of_each_size, rival, inner, cut, outer):
        h.update(inspect.getsource(function).encode())
    if name == "nasplug":
        return table_nasplug.code()
    h.update(version({"sklearn": "scikit-learn", "interpret": "interpret-core"}.get(MODELS[name][1], MODELS[name][1])).encode())
    return h.hexdigest()[:12]


def cell(table: Table, frame: pd.DataFrame, split: int, name: str, kept: Path, old: bool) -> dict[str, Any] | None:
    """One model on one outer split of one table: from what is kept, else made and kept. ``old``: also of older code."""
    path = kept / f"{table.name}-{split}-{name}-{digest(frame)}-{code_of(name)}.json"
    earlier = sorted(kept.glob(f"{table.name}-{split}-{name}-{digest(frame)}-*.json"), key=lambda p: p.stat().st_mtime)
    found = path if path.exists() else earlier[-1] if old and earlier else None
    if found is not None:
        made: dict[str, Any] = json.loads(found.read_text())
        return made
    return None


def make(table: Table, frame: pd.DataFrame, split: int, name: str, kept: Path, quick: bool = False) -> dict[str, Any]:
    """Train and test, and keep it."""
    data = cut(table, frame, outer(table, frame)[split])
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name == "nasplug":
            candidates = table_nasplug.candidates(table, data.frame, data.y, data.test, data.y_test, data.classes, quick)
        else:
            candidates = rival(name, table, data, split)
    seconds = time.process_time() - began
    record = {"table": table.name, "split": split, "model": name, "seconds": seconds, "candidates": candidates,
              "constant": table_scores.constant(table.kind, data.y, data.y_test)}  # fmt: skip
    kept.mkdir(parents=True, exist_ok=True)
    path = kept / f"{table.name}-{split}-{name}-{digest(frame)}-{code_of(name)}.json"
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(record))
    beside.rename(path)
    return record


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What to run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two small tables, one split, small studies, few models")
    parser.add_argument("--tables", nargs="+", choices=sorted(TABLES), default=None)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=None)
    parser.add_argument("--splits", type=int, default=5, choices=range(1, 6))
    parser.add_argument("--only-show", action="store_true", help="train nothing")
    parser.add_argument("--old", action="store_true", help="take what older code made, where there is nothing newer")
    parser.add_argument("--kept", type=Path, default=KEPT, help="the folder of what is done")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start nothing new after so long")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Run what is not done, show all of it."""
    import torch
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    torch.set_num_threads(1)
    threadpool_limits(1)  # every model on one thread, for comparable times
    given = options(arguments)
    names = tuple(given.tables or (table_scores.QUICK if given.quick else sorted(TABLES)))
    models = given.models or (list(table_scores.QUICK_MODELS) if given.quick else list(MODELS))
    models = [name for name in models if find_spec(MODELS[name][1]) is not None]
    frames = {table.name: table.frame() for table in installed(names)}
    away = [name for name in names if name not in frames] + [name for name in MODELS if find_spec(MODELS[name][1]) is None]
    if away:
        say(f"not installed, left out: {', '.join(away)} (see benchmarks/README.md)")
    kept = given.kept / "quick" if given.quick else given.kept
    began, records = time.monotonic(), []
    for split in range(1 if given.quick else given.splits):
        for name, frame in frames.items():
            for model in models:
                done = cell(TABLES[name], frame, split, model, kept, given.old)
                if done is None and not given.only_show and time.monotonic() - began < given.seconds:
                    done = make(TABLES[name], frame, split, model, kept, given.quick)
                    say(f"{name:14} split {split} {model:9} {done['seconds']:6.1f} s   {table_scores.line(done)}")
                records += [] if done is None else [done]
    result = table_scores.summary(records, say)
    say(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
