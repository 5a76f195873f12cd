"""Bad input at the door: what came, what is accepted and what to do; the right status; no trial started, nothing written."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from click.testing import CliRunner

from nasplug.cli import main
from nasplug.config import from_yaml, read_yaml, to_yaml
from nasplug.errors import ConfigError, NasplugError, PluginError, did_you_mean
from nasplug.files import write_text
from nasplug.hookspecs import hookimpl
from nasplug.runner import RayRunner, SerialRunner
from nasplug.study import Study

BASE: dict[str, Any] = {
    "study": "bad",
    "task": {"use": "xor", "samples": 20},
    "method": {"use": "edges", "mode": "gated", "hidden": [4]},
    "penalties": [{"use": "l1", "level": 0.01, "ramp": {"use": "linear", "until": 0.5}}],
    "temperature": {"use": "geometric", "start": 1.0, "end": 0.1},
    "discretizers": [{"use": "threshold", "tolerance": 0.02}],
    "train": {"steps": 10, "lr": 0.01, "decay": {"use": "cosine"}, "optimizer": {"use": "adam"}},
    "seeds": 2,
    "sampler": {"use": "grid"},
    "resources": {"pack": 4},
}
GONE = object()
NAN = float("nan")


def changed(path: str, value: Any) -> dict[str, Any]:
    raw = copy.deepcopy(BASE)
    *parents, last = path.split(".")
    here: Any = raw
    for key in parents:
        here = here[int(key)] if isinstance(here, list) else here.setdefault(key, {})
    if value is GONE:
        del here[last]
    else:
        here[int(last) if isinstance(here, list) else last] = value
    return raw


def tree(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in sorted(folder.rglob("*"))}


Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refused:
    """Runs a command that must be refused, and returns what it said."""

    def ray(runner: RayRunner) -> NoReturn:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(RayRunner, "start", ray)
    monkeypatch.chdir(tmp_path)

    def run(*command: str, study: Any = None, status: int = 2) -> str:
        if study is not None:
            Path("study.yaml").write_text(study if isinstance(study, str) else to_yaml(study))
        before = tree(tmp_path)
        done = CliRunner().invoke(main, list(command) or ["run", "study.yaml"])
        assert isinstance(done.exception, SystemExit), done.exception
        assert done.exit_code == status, done.output
        assert "Traceback" not in done.output
        assert done.stderr.startswith(("Error: ", "Usage: "))
        assert not done.stdout
        assert tree(tmp_path) == before
        return done.stderr

    return run


def says(message: str, *parts: str) -> None:
    for part in parts:
        assert part in message, f"{part!r} is not in: {message}"


SWEEP = "a sweep: {choice: [...]}, {grid: [...]}, {uniform: [low, high], points: N}"

# place, value, what came, what is accepted, what to do ("needed:" says the last two at once)
STUDIES: list[tuple[str, Any, str, str, str]] = [
    # unknown names, keys and options
    ("trian", {}, "trian", "study, store, task, method", "Did you mean 'train'?"),
    ("train.stesp", 5, "train.stesp", "steps, batch, lr", "Did you mean 'steps'?"),
    ("train.zzz", 5, "train.zzz", "steps, batch, lr", "Remove it or correct it"),
    ("resources.cpu", 1, "resources.cpu", "cpus, gpus, pack", "Did you mean 'cpus'?"),
    ("mlflow.url", "x", "mlflow.url", "uri, experiment, register", "Did you mean 'uri'?"),
    ("task.use", "xorr", "'xorr'", "installed: addition, arrays", "Did you mean 'xor'?"),
    ("task.sampels", 3, "task.sampels", "samples, noise, balanced", "Did you mean 'samples'?"),
    ("method.use", "edgse", "'edgse'", "installed: edges", "Did you mean 'edges'?"),
    ("method.hiden", [4], "method.hiden", "hidden", "Did you mean 'hidden'?"),
    ("penalties.0.use", "soft_cuont", "penalties.0: regularizer 'soft_cuont'", "installed: ", "Did you mean 'soft_count'?"),
    ("penalties.0.gamma", 3, "penalties.0.gamma", "accepted here: layers", "Remove it"),
    ("penalties.0.ramp.use", "linaer", "penalties.0.ramp: schedule 'linaer'", "installed: constant", "Did you mean 'linear'?"),
    ("penalties.0.ramp.untill", 1, "penalties.0.ramp.untill", "start, end, since, until", "Did you mean 'until'?"),
    ("temperature.use", "geo", "temperature: schedule 'geo'", "constant, cosine, geometric", "installed:"),
    ("discretizers.0.use", "treshold", "discretizers.0: discretizer 'treshold'", "argmax", "Did you mean 'threshold'?"),
    ("discretizers.0.esp", 1, "discretizers.0.esp", "eps", "Did you mean 'eps'?"),
    ("train.optimizer.use", "admm", "train.optimizer: 'admm'", "adam, adamw, exponentiated, sgd", "Did you mean 'adam'?"),
    ("train.optimizer.momentum", 0.9, "train.optimizer.momentum", "beta1, beta2, eps, weight_decay", "Remove it"),
    ("sampler.use", "gird", "'gird'", "grid, cmaes, gp, nsga2, nsga3, qmc, random, tpe. Did you mean 'grid'", "needed:"),
    # missing
    ("study", GONE, "study: is missing", "a name of letters, digits", "needed:"),
    ("task", GONE, "task: is missing", "{use: NAME, OPTION: VALUE, ...}", "needed:"),
    ("method.use", GONE, "method.use: is missing", "the name of a component", "`nasplug plugins` lists them"),
    ("penalties.0.level", GONE, "penalties.0.level: is missing", "a number >= 0", "needed:"),
    ("task", {"use": "cornn"}, "task.function: is missing", "text", "needed:"),
    # wrong types
    ("study", "a/b", "'a/b'", "letters, digits, '.', '_' and '-'", "needed:"),
    ("study", "..", "'..'", "begins with a letter or digit", "needed:"),
    ("study", "", "''", "a name of letters", "needed:"),
    ("study", 3, "study: 3", "quoted, if it looks like a number", "needed:"),
    ("study", "x" * 200, "...", "at most 120", "needed:"),
    ("store", 3, "store: 3", "the path of a folder", "needed:"),
    ("store", "", "store: ''", "the path of a folder", "needed:"),
    ("store", "http://server/runs", "'http://server/runs' is no bucket", "the path of a folder", "s3://bucket/path"),
    ("task", "xor", "task: 'xor'", "{use: NAME, OPTION: VALUE, ...}", "needed:"),
    ("task.samples", "many", "task.samples: 'many'", "a whole number", "needed:"),
    ("task.samples", "20", "task.samples: '20'", "a whole number", "needed:"),
    ("task.samples", 2.5, "task.samples: 2.5", "a whole number", "needed:"),
    ("task.samples", True, "task.samples: true", "a whole number", "needed:"),
    ("task.noise", None, "task.noise: null", "a number", "needed:"),
    ("task.balanced", 1, "task.balanced: 1", "true or false", "needed:"),
    ("task.loss", "mae", "task.loss: 'mae'", "'mse' or 'logistic'", "needed:"),
    ("method.hidden", 8, "method.hidden: 8", "a list of whole numbers", "needed:"),
    ("method.hidden", "8", "method.hidden: '8'", "a list of whole numbers", "needed:"),
    ("method.hidden", [[8]], "method.hidden.0: [8]", "a whole number", "needed:"),
    ("method.hidden", [0], "method: edges: hidden=[0]", "at least one neuron", "needed:"),
    ("penalties", {}, "penalties: {}", "a list of {use: NAME, level: NUMBER", "needed:"),
    ("penalties", None, "penalties: null", "a list of {use: NAME", "needed:"),
    ("penalties.0", "l1", "penalties.0: 'l1'", "{use: NAME, level: NUMBER", "needed:"),
    ("penalties.0.level", "1e-3", "'1e-3'", "a number >= 0 or " + SWEEP, "needed:"),
    ("penalties.0.level", [1, 2], "[1, 2]", SWEEP, "needed:"),
    ("penalties.0.level", True, "true", "a number >= 0", "needed:"),
    ("penalties.0.ramp", "linear", "penalties.0.ramp: 'linear'", "{use: NAME, OPTION: VALUE, ...} or null", "needed:"),
    ("temperature", 3, "temperature: 3", "{use: NAME", "needed:"),
    ("discretizers", ["threshold"], "discretizers.0: 'threshold'", "{use: NAME", "needed:"),
    ("train", None, "train: null", "a mapping of steps, batch, lr", "needed:"),
    ("train.steps", 1.5, "1.5", "a whole number >= 1", "needed:"),
    ("train.batch", "all", "'all'", "a whole number >= 1, 'full' or", "needed:"),
    ("train.dtype", "float16", "'float16'", "'float32' or 'float64'", "needed:"),
    ("train.keep", "first", "train.keep: 'first'", "'last' or 'best'", "needed:"),
    ("train.retrain", -1, "train.retrain: -1", "a whole number >= 0", "needed:"),
    ("train.architecture", {}, "train.architecture.lr: is missing", "a number > 0", "needed:"),
    ("train.architecture", {"lr": 0.1, "share": 1}, "train.architecture.share: 1", "a number >= 0 and < 1", "needed:"),
    ("train.architecture", {"lr": 0.1, "share": 0.01}, "holds 0 and leaves 20", "1 at least for each", "nearer to 0.5"),
    ("train.keep", "best", "train.keep: best; of 20 reports in 10 steps none but the last", "so that best is last", "End them"),
    ("method.mode", "l1", "temperature: method 'edges'", "the same at 1 and 0.1", "Remove it"),
    ("train.compile", "yes", "'yes'", "true or false or 'auto'", "needed:"),
    ("train.optimizer", "adam", "train.optimizer: 'adam'", "{use: NAME", "needed:"),
    ("seeds", "8", "seeds: '8'", "how many", "or a list of them"),
    ("seeds", ["a"], "seeds.0: 'a'", "a whole number >= 0", "needed:"),
    ("seeds", True, "seeds: true", "how many", "needed:"),
    ("sampler", "grid", "sampler: 'grid'", "{use: NAME, trials: NUMBER, ", "needed:"),
    ("resources.device", "gpu", "'gpu'", "auto, cpu, cuda or cuda:N", "needed:"),
    ("resources.device", "meta", "'meta'", "auto, cpu, cuda or cuda:N", "needed:"),
    ("mlflow", 3, "mlflow: 3", "a mapping of uri, experiment, register, promote, children, wait or null", "needed:"),
    ("mlflow.register", "a/b", "'a/b'", "a model's name of at most 200 characters, without / :", "needed:"),
    ("mlflow.register", "it's", "it's", "a model's name of at most 200 characters, without / :", "needed:"),
    # not finite, negative, out of range
    ("penalties.0.level", -1, "penalties.0.level: -1", "a number >= 0", "needed:"),
    ("penalties.0.level", NAN, "penalties.0.level: nan", "a finite number", "needed:"),
    ("penalties.0.level", float("inf"), "penalties.0.level: inf", "a finite number", "needed:"),
    ("penalties.0.level", {"choice": [0.1, -1]}, "penalties.0.level: -1", "a finite number >= 0", "needed:"),
    ("penalties.0.level", {"choice": [0.1, NAN]}, "penalties.0.level.choice.1: nan", "a finite number", "needed:"),
    ("penalties.0.level", {"choice": [0.1, "a"]}, "penalties.0.level: 'a'", "a number >= 0", "needed:"),
    ("penalties.0.level", {"uniform": [-1, 1], "points": 3}, "penalties.0.level: -1.0", "a finite number >= 0", "needed:"),
    ("task.noise", NAN, "task.noise: nan", "a finite number", "needed:"),
    ("task.noise", -1, "noise=-1.0", "a standard deviation >= 0", "needed:"),
    ("task.samples", 1, "samples=1", "a whole number >= 2", "needed:"),
    ("train.steps", 0, "train.steps: 0", "a whole number >= 1", "needed:"),
    ("train.batch", 0, "train.batch: 0", "a whole number >= 1", "needed:"),
    ("train.batch", 21, "train.batch: 21", "at most 20", "or full"),
    ("train.lr", 0, "train.lr: 0", "a number > 0", "needed:"),
    ("train.lr", {"choice": [0.1, 0]}, "train.lr: 0", "a finite number > 0", "needed:"),
    ("train.clip", 0, "train.clip: 0", "a number > 0", "or null"),
    ("train.finetune", -1, "train.finetune: -1", "a whole number >= 0", "needed:"),
    ("train.reports", 0, "train.reports: 0", "a whole number >= 1", "needed:"),
    ("train.data_seed", -1, "train.data_seed: -1", "a whole number >= 0", "needed:"),
    ("train.optimizer.beta1", 2, "train.optimizer.beta1: 2", "a number >= 0 and < 1", "needed:"),
    ("train.optimizer.eps", 0, "train.optimizer.eps: 0", "a number > 0", "needed:"),
    ("seeds", 0, "seeds: 0", "how many (a whole number >= 1", "needed:"),
    ("seeds", [-1], "seeds.0: -1", "a whole number >= 0", "needed:"),
    ("seeds", [2**70], "seeds.0: 118", "< 4294967296", "needed:"),
    ("seeds", [1, 2, 1], "1 more than once", "equal seeds make equal networks", "list each once"),
    ("sampler", {"use": "random", "trials": 0}, "sampler.trials: 0", "a whole number >= 1", "needed:"),
    ("sampler", {"use": "random", "seed": -1}, "sampler.seed: -1", "a whole number >= 0", "needed:"),
    ("sampler", {"use": "grid", "trials": 5}, "trials: 5", "not read by sampler 'grid'", "remove it"),
    ("sampler", {"use": "random", "generation": 5}, "generation: 5", "not read by sampler 'random'", "remove it"),
    ("sampler", {"use": "random"}, "'random' has nothing to draw", "choice, uniform or log", "take sampler grid"),
    ("resources.pack", 0, "resources.pack: 0", "a whole number >= 1 or 'auto'", "needed:"),
    ("resources.pack", 2.5, "resources.pack: 2.5", "a whole number >= 1 or 'auto'", "needed:"),
    ("resources.cpus", 0, "resources.cpus: 0", "a number > 0", "needed:"),
    ("resources.gpus", -1, "resources.gpus: -1", "a number >= 0", "needed:"),
    ("resources.gpus", 1.5, "1.5", "1 or a share of one GPU (0 to 1): a pack trains on one", "needed:"),
    ("resources.gpus", 2, "resources.gpus: 2", "1 or a share of one GPU (0 to 1): a pack trains on one", "needed:"),
    ("resources.cpu_below", 64, "cpu_below: 64 with gpus: 0", "where all packs train on CPUs", "remove it"),
    ("train", {"allow_tf32": True, "dtype": "float64"}, "allow_tf32: true with dtype: float64", "TF32 is", "remove one"),
    ("resources.retries", -1, "resources.retries: -1", "a whole number >= 0", "needed:"),
    # schedules with bad numbers
    (
        "penalties.0.ramp.until",
        2,
        "penalties.0.ramp: schedule 'linear': since=0.0, until=2.0",
        "since <= until <= 1",
        "needed:",
    ),
    ("penalties.0.ramp.until", "x", "penalties.0.ramp.until: 'x'", "a number", "needed:"),
    ("penalties.0.ramp.until", {"choice": [0.5, 3]}, "penalties.0.ramp: schedule 'linear'", "since <= until <= 1", "needed:"),
    ("penalties.0.ramp.start", -1, "penalties.0.ramp: goes below 0", "values >= 0", "Correct its ends"),
    ("temperature.start", 0, "temperature: schedule 'geometric': start=0.0", "both must be > 0", "use 'linear'"),
    ("temperature", {"use": "linear", "start": 1, "end": -1}, "temperature: goes below 0", "values >= 0", "Correct"),
    ("train.decay", {"use": "linear", "end": -1}, "train.decay: goes below 0", "values >= 0", "Correct its ends"),
    # sweeps
    ("penalties.0.level", {"choice": []}, "penalties.0.level.choice: []", "a list of values (not empty)", "needed:"),
    ("penalties.0.level", {"choice": [1, 1]}, "1 more than once", "equal values make equal networks", "list each value once"),
    ("penalties.0.level", {"log": [0, 1], "points": 3}, "log bounds [0.0, 1.0]", "both > 0", "Use uniform"),
    ("penalties.0.level", {"log": [1, 0.1], "points": 3}, "bounds [1.0, 0.1]", "[low, high] with low < high", "needed:"),
    ("penalties.0.level", {"log": [0.1], "points": 3}, "penalties.0.level.log.1: is missing", "a number", "needed:"),
    ("penalties.0.level", {"log": [0.1, 1]}, "{'log': (0.1, 1.0)} in a grid", "points: N", "or a sampler that draws"),
    ("penalties.0.level", {"log": [0.1, 1], "points": 0}, "points: 0", "a whole number >= 1", "needed:"),
    ("penalties.0.level", {"lgo": [0.1, 1]}, "penalties.0.level.lgo", "choice, grid, uniform, log", "Did you mean 'log'?"),
    ("penalties.0.level", {}, "a sweep with no kind", "exactly one of choice, grid, uniform, log", "needed:"),
    ("penalties.0.level", {"log": [0.1, 1], "choice": [1]}, "choice, log", "exactly one of", "needed:"),
    ("penalties.0.level", {"uniform": [0, 1], "points": 2_000_000}, "2000000", "1000000 at most", "List fewer values"),
    ("method.hidden", {"choice": [[4]], "points": 3}, "method.hidden: points: 3", "points go with uniform or log", "remove"),
    ("method.hidden", {"uniform": [1, 2], "points": 2}, "method.hidden: 1.0", "a list of whole numbers", "needed:"),
    ("method.hidden", {"chioce": [[4], [8]]}, "{'chioce': [[4], [8]]}", "such values ({choice: [...]})", "needed:"),
    ("train.steps", {"log": [1, 10], "points": 3}, "train.steps: 3.16", "a whole number >= 1", "needed:"),
    (
        "train.dtype",
        {"choice": ["float32"]},
        "is a sweep, and this cannot be swept",
        "'float32' or 'float64'",
        "give one value",
    ),
    ("train.data_seed", {"choice": [0, 1]}, "is a sweep", "a whole number >= 0", "give one value"),
    ("seeds", {"choice": [1, 2]}, "is a sweep", "how many", "give one value"),
    ("study", {"choice": ["a", "b"]}, "is a sweep", "a name of letters", "give one value"),
    ("resources.pack", {"choice": [1, 2]}, "is a sweep", "a whole number >= 1", "give one value"),
    ("sampler.use", {"choice": ["grid"]}, "is a sweep", "grid, or the name of a sampler", "give one value"),
    ("penalties.0.use", {"choice": ["l1", "l1"]}, "is a sweep", "the name of a component", "give one value"),
    ("train.optimizer.use", {"choice": ["adam", "sgd"]}, "is a sweep", "the name of a component", "give one value"),
    ("task", {"choice": [{"use": "xor"}]}, "is a sweep over components", "{use: NAME", "a study for each"),
    # combinations
    ("penalties.0.use", "eigenvalue", "'eigenvalue' reads eigenvalues", "it makes: ", "Take another one here"),
    ("discretizers", [{"use": "argmax"}], "'argmax' reads choices", "it makes: ", "Take another one here"),
    ("resources.cpus", 10_000, "resources.cpus: 10000", "this machine has", "Write cpus: "),
    ("resources.device", "cuda", "device: cuda with gpus: 0", "Ray hides the GPUs", "Write gpus: 1"),
    ("resources", {"device": "cuda:1", "gpus": 1}, "device: cuda:1", "Ray chooses which", "Write device: cuda"),
]


def shown(value: Any) -> str:
    """A test's name, the same in every process."""
    return "gone" if value is GONE else str(value)[:40]


@pytest.mark.parametrize(("place", "value", "came", "accepted", "to_do"), STUDIES, ids=shown)
def test_a_study_is_refused(refused: Refused, place: str, value: Any, came: str, accepted: str, to_do: str) -> None:
    says(refused(study=changed(place, value)), came, accepted, to_do)


def test_the_study_without_mistakes_is_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(to_yaml(BASE))
    before = tree(tmp_path)
    done = CliRunner().invoke(main, ["config", "validate", "study.yaml"])
    assert (done.exit_code, done.stdout) == (0, "study.yaml: good; 2 networks in 1 packs.\n")
    assert tree(tmp_path) == before


def test_all_mistakes_are_told_at_once(refused: Refused) -> None:
    raw = changed("train.stesp", 5)
    raw["seeds"] = 0
    raw["penalties"][0]["level"] = "big"
    del raw["task"]
    message = refused(study=raw)
    says(message, "train.stesp", "seeds: 0", "penalties.0.level: 'big'", "task: is missing")
    assert len(message.splitlines()) == 4


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_what_a_later_draw_may_give_is_refused_now(refused: Refused, sampler: str) -> None:
    study = changed("method.hidden", {"choice": [*([n] for n in range(1, 60)), "broken"]})
    study["sampler"] = {"use": sampler, "trials": 2}
    says(refused(study=study), "method.hidden: 'broken'", "a list of whole numbers", "needed:")
    study = changed("train.lr", {"uniform": [0, 1]})
    study["sampler"] = {"use": sampler, "trials": 2}
    says(refused(study=study), "train.lr: 0.0", "a finite number > 0", "needed:")


# data

TABLE: list[tuple[dict[str, Any], dict[str, Any], str, str, str]] = [
    ({}, {"target": "prize"}, "target 'prize' is not a column", "columns: 'size', 'colour'", "Did you mean 'price'?"),
    ({}, {"target": "flat"}, "target 'flat' is constant", "nothing to learn", "Choose another target"),
    ({}, {"target": "colour", "kind": "regression"}, "'colour' hold text", "cannot be regressed on", "'binary' or 'classes'"),
    (
        {"size": [1.0, NAN] * 20},
        {},
        "20 of 40 rows have missing values, in 'size' (20 rows)",
        "'drop'",
        "to 'mean' or 'median'",
    ),
    (
        {"price": [1.0, NAN] * 20},
        {},
        "the target has missing values: 20 of 40 rows have none",
        "Set missing to 'drop'",
        "fill them",
    ),
    ({"size": [1.0, float("inf")] * 20}, {}, "infinite values", "float32", "correct or remove those rows"),
    ({"size": [f"c{i}" for i in range(40)]}, {}, "'size' has 32 distinct values in 32 rows", "category", "exclude: [size]"),
    ({}, {"path": "house.csv"}, "there is no file 'house.csv'", "a path from the working directory", "Did you mean"),
    ({}, {"path": "houses.xls"}, "ends in '.xls'", ".csv, .tsv, .txt, .parquet", "accepted:"),
    (
        {},
        {"validation": {"use": "holdout", "share": 0.7}, "test": 0.4},
        "share=0.7, test=0.4",
        "each above 0 and below 1 together",
        "needed:",
    ),
    ({}, {"validation": "fold"}, "validation: 'fold'", "{use: folds, folds: 5, repeats: 1}", "needed:"),
    ({}, {"validation": {"use": "holdout", "folds": 5}}, "folds: 5 is not read by validation 'holdout'", "share", "remove it"),
    ({}, {"kind": "binary"}, "'price' has 40", "two distinct values", "Use kind 'classes' or 'regression'"),
    (
        {},
        {"missing": "fill"},
        "task.missing: 'fill'",
        "'refuse', 'drop', 'mean', 'median'",
        "needed:",
    ),
]


@pytest.mark.parametrize(("columns", "options", "came", "accepted", "to_do"), TABLE, ids=lambda v: str(v)[:40])
def test_data_are_refused(
    refused: Refused, columns: dict[str, Any], options: dict[str, Any], came: str, accepted: str, to_do: str
) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"size": random.random(40), "colour": ["red", "blue"] * 20, "flat": [1.0] * 40, "price": random.random(40)} | columns
    )
    frame.to_csv("houses.csv", index=False)
    task = {"use": "table", "path": "houses.csv", "target": "price", "features": ["size"]} | options
    if task["target"] != "price":
        task["features"] = ["size", "price"]
    says(refused(study=changed("task", task)), came, accepted, to_do)


# files and overrides

LAUGHS = "l0: &l0 [ha, ha]\n" + "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 9))
CHAIN = "l0: &l0 [ha]\n" + "".join(f"l{n}: &l{n} [*l{n - 1}]\n" for n in range(1, 60))
FILES: list[tuple[str, str, str]] = [
    ("", "holds null", "needed: a study, a mapping of keys (study, store"),
    ("- a\n- b\n", "holds ['a', 'b']", "a mapping of keys"),
    ("just words", "holds 'just words'", "a mapping of keys"),
    ("study: x\n\ttask: y\n", "line 2: is not valid YAML: ", "Indent with spaces"),
    ("study: [1, 2\n", "line 2: is not valid YAML", "expected"),
    ("study: x\ntrain: {steps: 1}\ntrain: {steps: 2}\n", "line 3: is not valid YAML: the key 'train' comes twice", "keep one"),
    ("train: {steps: 1, lr: 0.1, steps: 2}\n", "line 1: is not valid YAML: the key 'steps' comes twice", "keep one"),
    ("study: !!python/object:os.system x\n", "is not valid YAML", "could not determine a constructor"),
    ("a: 1\n---\nb: 2\n", "line 2: is not valid YAML", "but found another document"),
    ("study: !!timestamp 2024-13-45\n", "is not valid YAML", "month must be in 1..12"),
    ("study: !!timestamp 2024-01-01\n", "study: datetime.date(2024, 1, 1) is a date", "needed: text, a number"),
    ("study: !!set {a}\n", "study: {'a'} is a set", "Write it as one of them, without a tag"),
    ("study: !!binary aGVsbG8=\n", "study: b'hello' is a bytes", "without a tag"),
    ("study: !!float ''\n", "is not valid YAML", "Write plain values, without tags"),
    ("study: !!bool maybe\n", "is not valid YAML", "Write plain values, without tags"),
    ("study: !!timestamp soon\n", "is not valid YAML", "Write plain values, without tags"),
    ('study: "\\UFFFFFFFF"\n', "is not valid YAML", "Write plain values"),
    ('study: "\\ud800"\n', "study: '\\ud800' is not text in UTF-8", "correct it"),
    ('study: "a\\0"\n', "study: 'a\\x00' has a NUL character", "remove it"),
    ("0x" + "f" * 9000 + "\n", "holds a value (int) with a number of thousands of digits", "needed: a study"),
    ("seeds: 0x" + "f" * 9000 + "\n", "seeds: a number of 36000 bits", "needed: a finite number"),
    ("study: &s [*s]\n", "study.yaml, line 1: contains itself", "write that part out"),
    ("study: " + "[" * 5000, "is nested too deeply", "Write it flatter"),
    (LAUGHS, "has more than 30,000 values and keys, aliases written out", "fewer aliases"),
    (CHAIN, "is nested too deeply; needed: 40 levels at most", "Write it flatter"),
    ("# " + "x" * 300_000, "study.yaml: has 300,002 characters; needed: 262,144 at most", "keep data in a file"),
    ("study: x\n# " + "\u00e9" * 600_000, "study.yaml: is larger than 1,048,576 bytes", "give the path of a study's YAML file"),
    ("1: x\n", "the key 1 is not text", "needed: one of study, store"),
]


@pytest.mark.parametrize(("text", "came", "to_do"), FILES, ids=lambda v: str(v)[:40])
def test_a_file_is_refused(refused: Refused, text: str, came: str, to_do: str) -> None:
    says(refused(study=text), "study.yaml" if "YAML" in came else "", came, to_do)


def test_a_file_that_cannot_be_read_is_refused(refused: Refused, tmp_path: Path) -> None:
    says(refused("run", "nowhere.yaml"), "nowhere.yaml: cannot be read", "No such file", "give the path of a study's YAML file")
    (tmp_path / "folder").mkdir()
    says(refused("run", "folder"), "folder: cannot be read", "Is a directory", "give the path of a study's YAML file")
    (tmp_path / "bytes.yaml").write_bytes(b"study: \xff\xfe")
    os.mkfifo(tmp_path / "pipe.yaml")
    says(refused("run", "pipe.yaml"), "pipe.yaml: cannot be read (it is a pipe, no file)", "give the path of a study's YAML")
    says(refused("run", "/dev/zero"), "/dev/zero: cannot be read (it is a device, no file)", "give the path")
    says(refused("run", "a\0b"), "'a\\x00b': cannot be a path", "give the path of a study's YAML file")
    says(refused("run", "x" * 5000), "xxx...: cannot be read (File name too long)", "give the path of a study's YAML file")
    says(refused("run", "/proc/self/mem"), "cannot be read (Input/output error)", "give the path")
    says(refused("run", "bytes.yaml"), "bytes.yaml: is not text in UTF-8", "give the path of a study's YAML file")


OVERRIDES: list[tuple[str, str, str]] = [
    ("train.steps", "override 'train.steps'", "needed: path=value, for example train.steps=500"),
    ("=5", "override '=5'", "needed: path=value"),
    ("train..steps=5", "override 'train..steps=5'", "needed: path=value"),
    ("train.steps=[", "override 'train.steps=['", "is not valid YAML"),
    ("train={steps: 1, steps: 2}", "the key 'steps' comes twice", "keep one"),
    ("train.steps=many", "train.steps: 'many'", "needed: a whole number >= 1"),
    ("train.steps=", "train.steps: null", "needed: a whole number >= 1"),
    ("penalties.0.level=-1", "penalties.0.level: -1", "needed: a number >= 0"),
    ("penalties.0.level=.nan", "penalties.0.level: nan", "needed: a finite number"),
    ("penalties.1.level=1", "'1' is not a position in a list of 1", "write the whole list: penalties=[...]"),
    ("penalties.first.level=1", "'first' is not a position in a list of 1", "write the whole list: penalties=[...]"),
    ("study.name=x", "study holds 'bad', which has no 'name'", "write study=VALUE"),
    ("trian.steps=5", "trian: unknown key", "Did you mean 'train'?"),
    ("a" * 300 + "..=1", "override 'aaa", "needed: path=value"),
    (".".join("a" * 60) + "=1", "a path of 60 steps", "needed: 40 at most"),
    ("penalties.\u00b2.level=1", "'\u00b2' is not a position in a list of 1", "write the whole list: penalties=[...]"),
    ("penalties." + "9" * 5000 + ".level=1", "is not a position in a list of 1", "write the whole list: penalties=[...]"),
    ("penalties.-1.level=1", "'-1' is not a position in a list of 1", "write the whole list: penalties=[...]"),
    ("study=!!float ''", "is not valid YAML", "without tags"),
    ("study=" + "[" * 60, "is nested too deeply", "Write it flatter"),
    ("train.steps=1 000", "train.steps: '1 000'", "needed: a whole number >= 1"),
]


@pytest.mark.parametrize(("text", "came", "to_do"), OVERRIDES, ids=lambda v: str(v)[:40])
@pytest.mark.parametrize("command", [("run",), ("plan",), ("config", "validate")], ids=" ".join)
def test_an_override_is_refused(refused: Refused, command: Sequence[str], text: str, came: str, to_do: str) -> None:
    Path("study.yaml").write_text(to_yaml(BASE))
    says(refused(*command, "study.yaml", text), came, to_do)


def test_what_came_by_an_alias_is_overridden_alone(tmp_path: Path) -> None:
    shared = "penalties: [&p {use: l1, level: 1.0}, *p]\n"
    (tmp_path / "study.yaml").write_text("study: x\ntask: {use: xor}\nmethod: {use: edges}\n" + shared)
    found = read_yaml(tmp_path / "study.yaml", ["penalties.0.level=2"])
    assert [penalty.level for penalty in found.penalties] == [2.0, 1.0]


def test_a_study_of_plain_data_is_bounded_too() -> None:
    with pytest.raises(ConfigError, match="the study has more than 60,000 values and keys; write ranges"):
        Study.from_dict(changed("seeds", list(range(100_000))))
    with pytest.raises(ConfigError, match="the study has more than 524,288 characters"):
        Study.from_dict(changed("store", "x" * 600_000))


def test_what_may_be_written_is_read_again(tmp_path: Path) -> None:
    """The longest list that a person may write makes a file of nasplug's own that is longer, and good."""
    raw = changed("seeds", list(range(10_000))) | {"store": str(tmp_path)}
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(raw, default_flow_style=True))
    config = read_yaml(tmp_path / "long.yaml")
    again = from_yaml(to_yaml(config.plain()), "again", own=True)
    assert again["seeds"] == raw["seeds"]


# stores and folders


@pytest.mark.parametrize("command", [("run",), ("config", "validate")], ids=" ".join)
def test_a_store_that_cannot_be_written_is_refused(refused: Refused, tmp_path: Path, command: Sequence[str]) -> None:
    Path("study.yaml").write_text(to_yaml(BASE))
    (tmp_path / "taken").write_text("a file")
    message = refused(*command, "study.yaml", "store=taken/deeper")
    says(message, "store: taken/deeper/bad cannot be written", "taken is a file", "choose a folder you may write to")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "bad").write_text("a file")
    says(refused(*command, "study.yaml"), "runs/bad cannot be written", "is a file", "choose a folder you may write to")


def test_a_read_only_file_system_is_refused(refused: Refused) -> None:
    message = refused(study=changed("store", "/proc/store"))
    says(message, "store: /proc/store/bad cannot be written", "choose a folder you may write to")


@pytest.mark.parametrize("command", [("run",), ("config", "validate")], ids=" ".join)
def test_a_folder_that_is_taken_is_refused(refused: Refused, tmp_path: Path, command: Sequence[str]) -> None:
    Path("study.yaml").write_text(to_yaml(BASE))
    mine = tmp_path / "runs" / "bad"
    mine.mkdir(parents=True)
    (mine / "thesis.tex").write_text("years of work")
    message = refused(*command, "study.yaml")
    says(message, "runs/bad exists and is not a study's folder (it holds thesis.tex", "give the study another name")
    write_text(mine / "study.yaml", to_yaml(Study.from_dict(BASE).config.plain() | {"seeds": 3}), comment="# ")
    message = refused(*command, "study.yaml")
    says(
        message,
        "runs/bad already holds another study",
        "different: seeds",
        "give this one another name",
        "or remove that folder",
    )
    for text in ("not a study", "a: [", ""):
        (mine / "study.yaml").write_text(text)
        says(refused(*command, "study.yaml"), "runs/bad/study.yaml cannot be read", "or remove that folder")


def test_a_folder_without_results_is_refused(refused: Refused, tmp_path: Path) -> None:
    says(refused("front", "nowhere"), "nowhere is not a study's folder", "it has no study.yaml", "give <store>/<study>")
    run = tmp_path / "runs" / "bad"
    run.mkdir(parents=True)
    write_text(run / "study.yaml", to_yaml(Study.from_dict(BASE).config.plain()), comment="# ")
    says(refused("front", "runs/bat"), "give <store>/<study>", f"Did you mean '{Path('runs').resolve() / 'bad'}'?")
    says(refused("front", "runs"), "runs is not a study's folder", f"give one of {Path('runs').resolve() / 'bad'}")
    says(refused("front", "runs/bad/study.yaml"), "is not a study's folder", "give <store>/<study>")
    says(refused("front", "runs/bad"), "runs/bad has no replicas.parquet", "a study that has run", "or run it first")
    (run / "replicas.parquet").write_text("not a table")
    says(refused("front", "runs/bad"), "replicas.parquet cannot be read", "run the study again")
    (run / "study.yaml").write_text("a: [")
    says(refused("front", "runs/bad"), "study.yaml cannot be read", "run the study again")


def test_ui_without_a_store_is_refused(refused: Refused, tmp_path: Path) -> None:
    says(refused("ui", "runs"), "runs: no MLflow store here", "the folder with mlflow.db", "give a store")
    (tmp_path / "mlflow.db").touch()  # a store, but not of a study that does not exist
    says(refused("ui", str(tmp_path / "nothing")), "nothing: no MLflow store here", "give a store")
    says(refused("ui"), "runs: no MLflow store here", "give a store")


# runners


def test_runners_are_refused(refused: Refused) -> None:
    study = BASE | {"mlflow": None}
    says(refused("run", "study.yaml", "--runner", "rya", study=study), "'rya'", "'ray', 'serial'")
    says(refused("run", "study.yaml", "--runner", "serial", "--address", "auto"), "'auto' with runner 'serial'", "leave it")
    says(
        refused("run", "study.yaml", "--address", "nonsense"),
        "address 'nonsense'",
        "auto or host:port",
        "needed:",
    )
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999"):
        message = refused("run", "study.yaml", "--address", address, status=1)
        says(message, f"Ray at address '{address}' does not answer", "auto, host:port", "or take the runner serial")
    with pytest.raises(ConfigError, match=r"runner 'rya' is not known; known: ray, serial\. Did you mean 'ray'\?"):
        Study.from_dict(study).run("rya")  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused(refused: Refused) -> None:
    message = refused(study=changed("resources", {"gpus": 1}))
    says(message, "resources.gpus: 1 for a pack", "this machine has 0", "Write gpus: 0, or give the address", "--address")
    for resources in ({"gpus": 1}, {"device": "cuda"}, {"device": "cuda:1"}):
        message = refused("run", "study.yaml", "--runner", "serial", study=changed("resources", resources))
        says(message, "here are 0 GPUs that torch", "Write gpus: 0 and device: auto to train on the CPU")


def test_a_misspelt_observer_is_named(tmp_path: Path) -> None:
    class Misspelt:
        @hookimpl
        def pack_finnished(self, pack: str) -> None: ...

    study = Study.from_dict(BASE | {"store": str(tmp_path), "mlflow": None})
    with pytest.raises(PluginError, match=r"pack_finnished is no hook\. Did you mean 'pack_finished'\? The hooks of"):
        study.run("serial", observers=[Misspelt()])
    assert tree(tmp_path) == {}


def test_a_runner_that_does_not_start_leaves_the_name_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(runner: SerialRunner) -> NoReturn:
        raise NasplugError("no Ray today")

    monkeypatch.setattr(SerialRunner, "start", broken)
    study = Study.from_dict(BASE | {"store": str(tmp_path / "runs"), "mlflow": None})
    with pytest.raises(NasplugError, match="no Ray today"):
        study.run("serial")
    assert not study.folder.exists()


# a process of its own


def test_in_a_process_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(to_yaml(changed("train.stesp", 5)))
    code = (
        "import sys; from nasplug.cli import main\ntry: main()\nfinally: print(*sorted({'ray', 'mlflow'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, "run", "study.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout.strip() == ""
    assert done.stderr.startswith("Error: train.stesp: unknown key")
    assert len(done.stderr.splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["study.yaml"]


def test_names_that_differ_in_capitals_alone_are_meant() -> None:
    assert did_you_mean("Y", ["price", "y"]) == " Did you mean 'y'?"
    assert did_you_mean("Y", ["price", "z"]) == ""
