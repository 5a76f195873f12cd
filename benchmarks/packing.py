"""How much faster is a pack? Packed training against a plain loop, one network per Ray trial, and `modelbatch`.

    python benchmarks/packing.py [--quick]

Everything is measured in one run on this machine, rounds interleaved; the last line is one JSON object of the figures.
Times are of whole steps: forward, loss, L1 penalty, backward, Adam. "Limit" is a hand-fused C kernel of another machine of
this kind (one thread), to say how far from the bottom we are.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from workloads import LEVEL, WORKLOADS, Module, Workload, data, search

from nasplug.machine import arithmetic
from nasplug.plugins import load_plugins
from nasplug.train import train

PACKS = {"xor": (4096,), "breast_cancer": (128, 512), "mixture": (32, 128), "wide": (16, 64)}
"""Sizes to try: a quick run takes the first."""

LIMIT_US = {"xor": 0.021, "breast_cancer": 4.3, "mixture": 87.0, "wide": 12.9}
"""Microseconds per network and step of a hand-fused C kernel, on another machine of this kind."""


def plain_steps(work: Workload) -> Callable[[int], None]:
    """A loop over steps of one network, with torch's fused Adam."""
    x, y = data(work)
    model = Module(work.widths, work.mixture)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def run(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y) + LEVEL * model.penalty()
            loss.backward()
            optimizer.step()

    return run


def packed_steps(work: Workload, k: int) -> Callable[[int], None]:
    """nasplug's own loop (`nasplug.train.train`), compiled, a number of steps at a time."""
    every = 50
    reports: Iterator[Any] = train(search(work, torch.arange(k)), every=every, compiled=True)
    next(reports)  # compilation is not part of a step; it is measured and printed apart

    def run(steps: int) -> None:
        for _ in range(steps // every):
            next(reports)

    return run


def modelbatch_steps(work: Workload, k: int) -> Callable[[int], None] | None:
    """`modelbatch` at its best: stacked parameters under one fused Adam."""
    try:
        from modelbatch import ModelBatch
    except ImportError:
        return None
    x, y = data(work)
    batch = ModelBatch([Module(work.widths, work.mixture) for _ in range(k)], shared_input=True)
    stacked = list(batch.stacked_params.values())
    weights = [p for name, p in batch.stacked_params.items() if name.endswith("weight")]
    optimizer = torch.optim.Adam(stacked, lr=1e-3, fused=True)

    def run(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            losses = (batch(x) - y).square().mean((1, 2))
            penalty = sum(w.abs().sum((1, 2)) for w in weights)
            (losses + LEVEL * penalty).sum().backward()  # type: ignore[operator]
            optimizer.step()

    return run


def seconds_a_step(run: Callable[[int], None], budget: float, chunk: int) -> float:
    began = time.perf_counter()
    steps = 0
    while time.perf_counter() - began < budget:
        run(chunk)
        steps += chunk
    return (time.perf_counter() - began) / steps


def training(work: Workload, packs: tuple[int, ...], rounds: int, budget: float) -> dict[str, float]:
    """Packed, plain and modelbatch in turn, `rounds` times; medians, in microseconds per network-step."""
    began = time.perf_counter()
    runs: dict[str, tuple[Callable[[int], None], int, int]] = {"plain": (plain_steps(work), 1, 20)}
    for k in packs:
        runs[f"packed {k}"] = (packed_steps(work, k), k, 50)
    warm = time.perf_counter() - began
    for k in packs:
        peer = modelbatch_steps(work, k)
        if peer is not None:
            peer(1)
            runs[f"modelbatch {k}"] = (peer, k, 1)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, (run, k, chunk) in runs.items():
            times[name].append(1e6 * seconds_a_step(run, budget, chunk) / k)
    median = {name: statistics.median(values) for name, values in times.items()}

    def best(kind: str) -> float | None:
        return min((value for name, value in median.items() if name.startswith(kind)), default=None)

    packed, plain, peer_us = best("packed") or 0.0, median["plain"], best("modelbatch")
    print(f"{work.words}: plain loop {plain:.1f} us, packed {packed:.3f} us per network-step: {plain / packed:.0f}x", end="")
    print(
        f"; modelbatch {peer_us:.3f} us ({peer_us / packed:.1f}x ours)" if peer_us else "; modelbatch is not installed", end=""
    )
    share = LIMIT_US[work.name] / packed
    print(f"; {100 * share:.0f} % of the hand-fused limit; start-up and compilation {warm:.0f} s, not counted")
    return {"plain_us": plain, "packed_us": packed, "packed_vs_loop": plain / packed} | (
        {"modelbatch_us": peer_us, "packed_vs_modelbatch": peer_us / packed} if peer_us else {}
    )


XOR_STUDY = """
study: xor
store: {store}
task: {{use: xor, samples: 4, samples_valid: 4, samples_test: 4, noise: 0.0}}
method: {{use: edges, mode: l1, hidden: [4]}}
penalties: [{{use: l1, level: {{log: [1.0e-4, 1.0e-1], points: 16}}}}]
discretizers: [{{use: threshold, eps: 0.01}}]
train: {{steps: {steps}, batch: full, lr: 0.01}}
seeds: {seeds}
linear: false
reach: null
mlflow: null
"""

CANCER_STUDY = """
study: cancer
store: {store}
task: {{use: breast_cancer, validation: holdout}}
method: {{use: edges, mode: l1, hidden: [32]}}
penalties: [{{use: l1, level: {{log: [1.0e-5, 1.0e-1], points: 16}}}}]
discretizers: [{{use: threshold, tolerance: 0.02}}]
train: {{steps: {steps}, batch: 64, lr: 0.003}}
seeds: {seeds}
linear: false
reach: null
mlflow: null
"""


def study_seconds(text: str, steps: int, seeds: int) -> float:
    """`nasplug run` as a user types it: a fresh process, Ray started, results and report written."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "study.yaml"
        config.write_text(text.format(store=folder, steps=steps, seeds=seeds))
        began = time.perf_counter()
        command = [sys.executable, "-m", "nasplug", "run", str(config), "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"nasplug run failed:\n{done.stderr[-2000:]}")
        return time.perf_counter() - began


def _one_network(config: dict[str, Any]) -> None:
    """A Tune trial as people write it: one network, with what a pack delivers for each of its networks.

    That is 20 points of history with a validation score, small weights cut, scores on three splits, the weights saved.
    A ``bare`` trial leaves all of this out: it trains and reports its last loss.
    """
    from ray import tune

    torch.set_num_threads(1)
    torch.manual_seed(config["seed"])
    x, y = torch.tensor(config["x"]), torch.tensor(config["y"])
    model = Module(tuple(config["widths"]), False)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    batch = config["batch"]
    loss = torch.zeros(())
    for step in range(config["steps"]):
        if batch < len(x):
            first = (step * batch) % (len(x) - batch)
            xb, yb = x[first : first + batch], y[first : first + batch]
        else:
            xb, yb = x, y
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(xb), yb)
        (loss + config["level"] * model.penalty()).backward()
        optimizer.step()
        if not config["bare"] and (step + 1) % (config["steps"] // 20) == 0 and step + 1 < config["steps"]:
            with torch.no_grad():
                tune.report({"loss": float(loss.detach()), "valid": float(nn.functional.mse_loss(model(x), y))})
    if config["bare"]:
        tune.report({"loss": float(loss.detach())})
        return
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        for parameter in model.parameters():
            parameter[parameter.abs() < 0.01] = 0.0
        scores = {split: float(nn.functional.mse_loss(model(x), y)) for split in ("train", "valid", "test")}
        torch.save(model.state_dict(), Path(folder) / "model.pt")
        tune.report({"loss": float(loss.detach()), **scores}, checkpoint=tune.Checkpoint.from_directory(folder))


def trial_seconds(widths: tuple[int, ...], samples: int, batch: int, steps: int, few: int, many: int, bare: bool) -> float:
    """Seconds per trial when each network is a trial: the slope between two sweeps, so that start-up is not charged to it."""
    from ray import tune

    x, y = data(Workload("", "", widths, samples))

    def sweep(count: int) -> float:
        space = {
            "seed": tune.grid_search(list(range(count))), "level": 1e-3, "widths": list(widths), "steps": steps,
            "batch": batch, "bare": bare, "x": x.tolist(), "y": y.tolist(),
        }  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            tuner = tune.Tuner(
                tune.with_resources(_one_network, {"cpu": 1}),
                param_space=space,
                tune_config=tune.TuneConfig(reuse_actors=True),
                run_config=tune.RunConfig(storage_path=folder, verbose=0),
            )
            began = time.perf_counter()
            tuner.fit()
            return time.perf_counter() - began

    return (sweep(many) - sweep(few)) / (many - few)


def end_to_end(quick: bool) -> dict[str, float]:
    """Whole studies against one network per trial."""
    steps_xor, steps_cancer = 1000, 1500
    studies = [("xor", 4096, study_seconds(XOR_STUDY, steps_xor, 256))]
    if not quick:
        studies.append(("breast_cancer", 512, study_seconds(CANCER_STUDY, steps_cancer, 32)))
        studies.append(("xor_40960", 40960, study_seconds(XOR_STUDY, steps_xor, 2560)))  # start-up weighs less here
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", "benchmark-on-this-machine-only")
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    few, many = (4, 20) if quick else (16, 80)
    shapes = {"xor": ((2, 4, 1), 4, 4, steps_xor)}
    if not quick:
        shapes["breast_cancer"] = ((30, 32, 2), 340, 64, steps_cancer)
    each = {(name, bare): trial_seconds(*shape, few, many, bare) for bare in (False, True) for name, shape in shapes.items()}
    ray.shutdown()
    figures = {}
    for name, networks, whole in studies:
        full, bare = (each[name.removesuffix("_40960"), bare] for bare in (False, True))
        print(
            f"{name}, {networks} networks end to end: nasplug {whole:.1f} s (start-up and report included; neither side has "
            f"MLflow). One network per trial, 2 cpus, reuse_actors, same deliverables: {full:.3f} s each ({many - few} trials "
            f"measured, start-up not counted), extrapolated {full * networks:.0f} s: {full * networks / whole:.0f}x. "
            f"Bare trials (one report, nothing saved): {bare:.3f} s per trial, {bare * networks / whole:.0f}x"
        )
        figures |= {
            f"{name}_study_seconds": whole,
            f"{name}_seconds_a_trial": full,
            f"{name}_seconds_a_bare_trial": bare,
            f"{name}_end_to_end_vs_trial_per_network": full * networks / whole,
            f"{name}_end_to_end_vs_bare_trial": bare * networks / whole,
        }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds and trials: under a minute, rougher figures")
    parser.add_argument("--skip-studies", action="store_true", help="only the training loops")
    given = parser.parse_args()
    quick = given.quick
    load_plugins()
    figures: dict[str, Any] = {"quick": quick, "torch": torch.__version__, "cpus": os.cpu_count()}
    for work in WORKLOADS:
        packs = PACKS[work.name][:1] if quick else PACKS[work.name]
        with arithmetic(threads=1):  # as packs compute: one thread, and no side pays for numbers below 1e-38
            figures[work.name] = training(work, packs, 2 if quick else 5, 0.3 if quick else 1.0)
    figures["packed_vs_loop"] = {work.name: figures[work.name]["packed_vs_loop"] for work in WORKLOADS}
    if not given.skip_studies:
        figures |= end_to_end(quick)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
