"""What `fit` does: a study of data in memory, and what is kept of it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sklearn.utils import check_random_state

from nasplug import results
from nasplug.compact import CompactNetwork
from nasplug.config import parse
from nasplug.data.recipe import TableFacts, recipe
from nasplug.explain import Background
from nasplug.folds import candidates
from nasplug.plan import UntemperedError
from nasplug.rows import listed
from nasplug.sklearn.budget import InTime, affordable
from nasplug.sklearn.inputs import Fitted, task_of
from nasplug.sklearn.memory import beside, held
from nasplug.sklearn.options import SECTIONS, InputError, Options
from nasplug.study import Study
from nasplug.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Kept", "search"]

FEW = 2_000  # rows: below, ``folds="auto"`` is five folds
LEVELS = (1e-4, 1e-1)
PACK = 512  # networks: here packs run one after another, and few large ones take less time than many small ones


@dataclass(frozen=True, slots=True)
class Kept:
    """What a search leaves: its front, the chosen network, the steps it was trained for, rows to compare predictions with."""

    front: pd.DataFrame
    network: CompactNetwork
    steps: int
    background: Background


def search(options: Options, given: Fitted, names: Sequence[str], warn: Callable[[str], None], began: float) -> Kept:
    """Train, choose and keep.

    Args:
        options: an estimator, whose options have been checked.
        given: the data.
        names: of the columns.
        warn: what is told beside the result.
        began: when the fit did, by `time.perf_counter`.

    Raises:
        ConfigError: for options and data that nothing can be learned with.
    """
    seed = int(check_random_state(options.random_state).randint(2**31 - 1))
    made = _study(options, given)
    folds = int(options.folds) if options.folds != "auto" else 5 if len(given.x) < FEW else 1
    task = task_of(given, name=type(options).__name__, numeric=made["task"]["numeric"], folds=folds, seed=seed)
    if idle := [name for name in names if name not in task.columns]:
        warn(
            f"column(s) {listed(idle)} have no value, or one alone, in the rows to train on: nothing can be learned from "
            "them, and they are left out"
        )
    _settle(options, made, task, names, seed)
    place: AbstractContextManager[str]
    place = (
        nullcontext(os.path.abspath(options.folder))
        if options.folder is not None
        else tempfile.TemporaryDirectory(prefix="nasplug-")
    )
    with held(task) as named, place as folder:
        made |= {"task": named, "store": os.path.dirname(folder), "study": os.path.basename(folder)}
        plugins = beside()
        if isinstance(options.method, Mapping) and ("use" in options.method or "temperature" not in options.method):
            try:
                Study(parse(made), plugins, fast=True).plan()
            except UntemperedError:  # it is the recipe's own, and this method is another one
                made["temperature"] = None
        runner = InTime()
        if options.time_limit is not None:
            study = Study(parse(made), plugins, fast=True)
            left = options.time_limit - (time.perf_counter() - began)
            most, tuned = (made["train"][key] for key in ("steps", "finetune"))
            most = most if isinstance(most, int) else int(options.steps)
            steps, runner.lines = affordable(study.config, study.plan(), plugins, left, most)
            tuned = min(tuned, steps // 5) if isinstance(tuned, int) else steps // 5
            made["train"] |= {"steps": steps, "finetune": tuned}
            runner.until = began + options.time_limit
        study = Study(parse(made), plugins, fast=isinstance(options.method, str))
        study.run(runner, progress=bool(options.verbose), report=False)
        kept, told = _kept(options, study, task, made["train"]["steps"])
        if told:
            warn(told)
    return kept


def _study(options: Options, given: Fitted) -> dict[str, Any]:
    """The study that `nasplug look` proposes for a table of this size, with this estimator's options."""
    numbers = sum(dtype.kind in "iufM" for dtype in given.x.dtypes)
    categories = given.x.shape[1] - numbers
    made = recipe(TableFacts("fit.csv", "y", given.kind, len(given.x), numbers, categories, gaps=True))
    task = made["task"]
    task.setdefault("numeric", "linear")
    if options.numeric != "auto":
        task["numeric"] = options.numeric
    penalty = made["penalties"][0]
    low, high = LEVELS
    penalty["level"] = {"log": [low, high], "points": int(options.levels)} if options.levels > 1 else (low * high) ** 0.5
    made["train"] |= {"steps": int(options.steps), "finetune": int(options.steps) // 5}
    if isinstance(options.method, Mapping):
        own = {"method": dict(options.method)} if "use" in options.method else dict(options.method)
        train = made["train"] | dict(own.pop("train", {}))
        made |= {key: deepcopy(own[key]) for key in SECTIONS if key in own} | {"train": train}
    return made


def _settle(options: Options, made: dict[str, Any], task: Task, names: Sequence[str], seed: int) -> None:
    """What depends on the rows, and on chance."""
    batch, samples = made["train"].get("batch"), task.train.samples
    if isinstance(batch, int) and batch > samples:
        made["train"]["batch"] = "full"
    made["train"]["data_seed"] = seed
    made |= {"seeds": [seed + i for i in range(options.seeds)], "mlflow": None, "linear": bool(options.linear)}
    made["resources"] = {"pack": PACK}
    made["reach"] = None if options.levels == 1 else int(options.max_parameters or 10)
    if options.monotone is not None:
        idle = set(names) - set(task.columns)  # nothing is learned from these
        ways = _directions(options.monotone, names)
        made["monotone"] = {name: way for name, way in ways.items() if name not in idle}


def _directions(monotone: Mapping[str, int] | Sequence[int], names: Sequence[str]) -> dict[str, int]:
    """Column -> 1 or -1."""
    if isinstance(monotone, Mapping):
        return {str(name): int(way) for name, way in monotone.items() if way}
    ways = list(monotone)
    if len(ways) != len(names):
        raise InputError(f"monotone: {len(ways)} directions for {len(names)} columns; needed: one per column, or a mapping")
    return {name: int(way) for name, way in zip(names, ways, strict=True) if way}


def _kept(options: Options, study: Study, task: Task, steps: Any) -> tuple[Kept, str]:
    """The chosen network, and what there is to say of it."""
    frame, error = results.judged(study.frame, study.facts_of, study.config.choose)
    rows = every = candidates(frame)
    if options.max_parameters is not None:
        few = rows[rows["parameters"] <= options.max_parameters]
        if not (few["status"] == "finished").any():
            least = rows.loc[rows["status"] == "finished", "parameters"].min()
            raise InputError(
                f"max_parameters: {options.max_parameters}; the smallest network that was found has {least:.0f}. Raise it, or "
                "levels"
            )
        rows = few
    front = results.front(rows, error)
    best = front.iloc[int(front[error].argmin())]
    facts = study.facts_of(str(best["replica"]))
    chosen = results.as_good(front, best, frame, error, facts, study.config.choose).iloc[0]
    name = str(chosen["replica"])
    shown = study.narrow(front)
    shown = shown[[column for column in shown.columns if not column.startswith("test_")]]
    network = study.network(name)
    # A method's own sections may sweep them; linear networks have steps of their own.
    most = int(steps if isinstance(steps, int) else frame["train.steps"].max())
    kept = Kept(shown.assign(chosen=(shown["replica"] == name).to_numpy()), network, most, Background.of_task(task))
    return kept, _too_few(options, network, every, chosen, error)


def _too_few(options: Options, network: CompactNetwork, rows: pd.DataFrame, kept: pd.Series[Any], error: str) -> str:
    """What is said of a constant that is kept for want of parameters; empty where there is none."""
    better = rows[(rows["status"] == "finished") & (rows[error] < kept[error])]
    if options.max_parameters is None or network.record["kept_inputs"] or better.empty:
        return ""
    return (
        f"max_parameters={options.max_parameters}: what is kept reads no column and says the same for each row; the smallest "
        f"better network that was found has {better['parameters'].min():.0f} parameters. Raise max_parameters or levels"
        + ("" if options.linear else ", or take linear=True: linear networks get by with few parameters")
    )
