"""One pack from plan to results: the work of one trial, whoever runs it."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from nasplug import files
from nasplug.causes import causes
from nasplug.config import StudyConfig
from nasplug.errors import scrub
from nasplug.hookspecs import Progress
from nasplug.identity import makers
from nasplug.machine import environment
from nasplug.packs.hardening import harden, of_rows
from nasplug.packs.stopping import after_rung
from nasplug.packs.stored import (
    CHECKPOINT,
    HISTORIES,
    PACK,
    TABLE,
    Standing,
    identity_of,
    load_checkpoint,
    save_checkpoint,
    save_networks,
)
from nasplug.packs.tables import owners, table_of
from nasplug.plan import (
    Components,
    Pack,
    assemble,
    axes,
    candidates,
    components,
    going_on,
    keep_pace,
    rungs,
    settle,
    shape_of,
    study_of,
    worth_compiling,
)
from nasplug.plugins import Plugins
from nasplug.replicas import finite
from nasplug.train import Report, Search, start, train

__all__ = ["run_pack"]

CHECKPOINT_SECONDS = 5.0


def _column(values: Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()


def _all_rows(values: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """``(n,)`` of the ``rows`` -> ``(count,)``, 0 or NaN elsewhere."""
    found = np.full(count, np.nan if values.dtype.kind == "f" else 0, dtype=values.dtype)
    found[rows] = values
    return found


def _recorded(now: Standing, report: Report, count: int) -> dict[str, list[np.ndarray]]:
    """The history with one report more; what a report lacks, as the entropy of what has no choices, is NaN there."""
    fresh = {name: _all_rows(_column(values), now.rows, count) for name, values in report.metrics.items()}
    fresh["step"] = _all_rows(np.full(len(now.rows), report.step, dtype=np.int64), now.rows, count)
    none, reports = np.full(count, np.nan), len(now.history["step"])
    names = dict.fromkeys((*now.history, *fresh))
    return {name: [*now.history.get(name, [none] * reports), fresh.get(name, none)] for name in names}


def _progress(pack: Pack, report: Report, since: float, worked: int) -> Progress:
    """``worked``: network-steps of this run, ``since`` it began."""
    error = report.metrics["valid_error"]
    healthy = error[torch.isfinite(error) & (not pack.fitted)]  # else it is that of what rows are trained on
    seconds = max(time.perf_counter() - since, 1e-9)
    return Progress(
        progress=report.step / report.steps,
        step=report.step,
        steps=report.steps,
        networks=pack.rows,
        diverged=int((~report.healthy).sum()),
        best_valid_error=float(healthy.min()) if len(healthy) else math.nan,
        seconds=seconds,
        network_steps_per_second=worked / seconds,
    )


def run_pack(study: StudyConfig, pack: Pack, plugins: Plugins, folder: Path, *, device: str = "cpu") -> Iterator[Progress]:
    """Train, discretize, fine-tune, score and write one pack; yields its progress. Goes on from its checkpoint if there is one.

    Args:
        study: as written, with its sweeps.
        pack: which rows.
        plugins: where names are looked up.
        folder: where the pack's files go.
        device: where it trains.
    """
    if (folder / TABLE).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    identity = identity_of(study, pack, plugins)
    found, study = axes(study), study_of(study, pack)
    parts = components(study, pack, plugins, device)
    search = assemble(parts, pack, plugins, device)
    fresh = start(search)
    now = load_checkpoint(folder, identity, device, list(fresh.params))
    now = now or Standing(fresh, np.arange(pack.rows), {name: [] for name in ("step", *HISTORIES)})
    done, training = now.state.step, time.perf_counter()
    now, here, compiled = yield from _trained(study, pack, parts, search, now, folder, identity)
    trained = time.perf_counter()
    nets, columns = harden(parts, here, now, pack)
    hardened = time.perf_counter()
    judged = columns["fitted_loss" if pack.fitted else "valid_loss"]
    healthy = finite(now.state.kept).cpu().numpy()
    columns["status"] = np.where(np.isfinite(judged) & healthy, "finished", "diverged")
    nets, columns = of_rows(nets, columns, now, pack.rows)
    if (columns["status"] == "diverged").any():
        whose = [f"penalties.{i}: {plugins.offer('regularizer', p.use)}" for i, p in enumerate(study.penalties)]
        told = causes(search, _carried(now), whose)
        columns["error"] = pa.array([told.get(row) for row in range(pack.rows)], pa.string())
    save_networks(folder, nets, identity)
    timings = {
        "build": training - began,
        "train": trained - training,
        "harden": hardened - trained,
        "compiled": float(compiled),
        "resumed_at": float(done),
    }
    record = {
        "identity": identity,
        "pack": scrub(pack.plain()),
        "seconds": timings,
        "network_steps": int(sum(np.where(columns["step"] > 0, columns["step"], 0)))
        if now.passed
        else pack.rows * search.steps,
        "device": device,
        "torch": torch.__version__,
        "environment": environment(device),
        "made_by": makers(settle(study, pack.values), plugins),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    files.write_json(folder / PACK, record, indent=None)
    table = table_of(
        pack, {"method.use": [study.method.use] * pack.rows, **columns}, now.history, owners(parts, nets, plugins), found
    )
    files.write_table(folder / TABLE, table, {"identity": identity})  # last: it says that the pack is finished
    (folder / CHECKPOINT).unlink(missing_ok=True)


def _trained(
    study: StudyConfig, pack: Pack, parts: Components, search: Search, now: Standing, folder: Path, identity: str
) -> Generator[Progress, None, tuple[Standing, Search, bool]]:
    """Train up to each rung, then to the end: where training stands, the search of the rows that are left, whether it compiled.

    A rung's rows are found again where an earlier run ended between its report and its checkpoint.
    """
    marks = rungs(study, pack, search.steps)
    every = max(1, search.steps // study.train.reports)
    with torch.no_grad():
        activations = search.relax(now.state.params, search.tau.at(0)[now.rows]).activations
    began = saved = time.perf_counter()
    worked, compiled, here = 0, False, search
    for number, until in enumerate([*marks, search.steps]):
        if number < now.passed:
            continue
        room = pack.room
        if now.passed:
            here = search.take(torch.from_numpy(now.rows).to(search.seeds.device))
            room = _room(study, pack, now.passed)
        since = marks[number - 1] if number else 0
        shape = {"steps": until - since, "alike": pack.alike, "room": room}
        fast = worth_compiling(parts, here, now.state.params, activations, **shape)
        compiled |= fast
        paces: list[float] = []
        mark = time.perf_counter()
        for report in train(here, now.state, every=every, compiled=fast, room=room if fast else 0, until=until):
            worked += len(now.rows) * (report.step - now.state.step)
            paces.append((time.perf_counter() - mark) / (report.step - now.state.step))
            now = replace(now, state=report.state, history=_recorded(now, report, pack.rows))
            if time.perf_counter() - saved > CHECKPOINT_SECONDS or report.step == report.steps:
                save_checkpoint(folder, identity, now)
                saved = time.perf_counter()
            yield _progress(pack, report, began, worked)
            mark = time.perf_counter()
        if len(paces) > 1:  # in the first interval programs are compiled
            rows = max(room if fast else 0, len(now.rows))
            pace, kind = 1e9 * statistics.median(paces[1:]) / rows, shape_of(parts, now.state.params, activations)
            keep_pace(study.resources, str(here.seeds.device), kind, rows, pace, compiled=fast)
        if number < len(marks) and study.stop is not None:
            now = after_rung(study.stop, pack, parts, here, now)
    return now, here, compiled


def _room(study: StudyConfig, pack: Pack, passed: int) -> int:
    """Rows of the program that a smaller pack shares with others after so many rungs; 0: it has its own."""
    found = candidates(pack)
    folds = len(found.rows[0])
    if not pack.room or study.stop is None or len(found.groups) > 1:  # how many data sets the others have is not known
        return 0
    return folds * going_on(study.stop, pack.room // folds, passed)


def _carried(now: Standing) -> dict[str, list[np.ndarray]]:
    """The history, in which rows that were stopped go on as they were: nothing happened to them."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in now.history}
    gone = [steps == 0 for steps in now.history["step"]]
    for name, reports in now.history.items():
        for values, without in zip(reports, gone, strict=True):
            found[name].append(np.where(without, found[name][-1], values) if found[name] else values)
    return found
