"""One pack from plan to results: the work of one trial, whoever runs it."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from nasplug import files
from nasplug.causes import causes
from nasplug.config import StudyConfig
from nasplug.errors import scrub
from nasplug.hookspecs import Progress
from nasplug.identity import makers
from nasplug.machine import environment
from nasplug.networks import Networks
from nasplug.packs.hardening import harden, of_rows
from nasplug.packs.passing import at_levels, in_order, of_members
from nasplug.packs.population import PARENT
from nasplug.packs.portions import Portions, in_turn, together, within_memory
from nasplug.packs.stored import (
    CHECKPOINT,
    PACK,
    TABLE,
    Standing,
    identity_of,
    save_networks,
)
from nasplug.packs.tables import owners, table_of
from nasplug.packs.training import Work, trained
from nasplug.plan import (
    Pack,
    Paths,
    axes,
    settle,
    study_of,
)
from nasplug.plugins import Plugins
from nasplug.replicas import finite

__all__ = ["run_pack"]


def run_pack(
    study: StudyConfig,
    pack: Pack,
    plugins: Plugins,
    folder: Path,
    *,
    device: str = "cpu",
    kept: Sequence[Sequence[int]] | None = None,
) -> Generator[Progress, None, None]:
    """Train, discretize, fine-tune, score and write one pack; yields its progress. Goes on from its checkpoint if there is one.

    To end it at a report, close it: its checkpoint is of that report. Where its rows are compared with those of other packs, it
    ends at the first rung of which ``kept`` does not say which rows go on, with `nasplug.packs.rung_file`.

    Args:
        study: as written, with its sweeps.
        pack: which rows.
        plugins: where names are looked up.
        folder: where the pack's files go.
        device: where it trains.
        kept: its rows that go on after each rung so far, where they are compared with rows of other packs; None: the pack
            compares its own.
    """
    if (folder / TABLE).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    identity = identity_of(study, pack, plugins)
    found, study = axes(study), study_of(study, pack)
    work = yield from trained(study, pack, plugins, device, folder, identity, kept)
    if work is None:
        return
    ended = time.perf_counter()

    def hard(where: Portions, work: Work = work) -> list[tuple[Networks, dict[str, Any]]]:
        own = work.paths.pack
        parts = replace(work.parts, finetune=0, retrain=0) if work.stopped else work.parts  # shapes alone are asked for
        return [
            one
            for search, now, _ in at_levels(work)
            for one in in_turn(search, now, where, lambda search, now: harden(parts, search, now, own))
        ]

    found_hard, where = within_memory(hard, work.where, len(work.now.rows))
    work = work.within(where)
    (nets, columns), now, paths = together(found_hard), work.now, work.paths
    hardened = time.perf_counter()
    judged = columns["fitted_loss" if pack.fitted else "valid_loss"]
    healthy = np.concatenate([finite(there.state.kept).cpu().numpy() for _, there, _ in at_levels(work)])
    columns["status"] = np.where(np.isfinite(judged) & healthy, "finished", "diverged")
    if paths.ends:
        nets, columns = in_order(nets, columns, [row for _, _, members in at_levels(work) for row in members])
        columns["step"] = np.asarray(paths.ends)[list(paths.number)]
    else:
        nets, columns = of_rows(nets, columns, now, pack.rows)
    lost = columns["status"] == "diverged"
    if lost.any():
        whose = [f"penalties.{i}: {plugins.offer('regularizer', p.use)}" for i, p in enumerate(study.penalties)]
        among = {paths.path[row] for row in np.flatnonzero(lost & _by_itself(now, pack.rows)).tolist()}
        told = causes(paths.at(work.search, 0), _first(_carried(now), paths), whose, among)
        columns["error"] = pa.array([told.get(paths.path[row]) if lost[row] else None for row in range(pack.rows)], pa.string())
    save_networks(folder, nets, identity)
    timings = {
        "build": work.ready - began,
        "train": ended - work.ready + work.earlier,
        "harden": hardened - ended,
        "compiled": float(work.compiled),
        "resumed_at": float(work.resumed),
    }
    record = {
        "identity": identity,
        "pack": scrub(pack.plain()),
        "seconds": timings,
        "network_steps": int(columns["step"].sum()) if now.stopped else paths.pack.rows * work.last,
        "device": device,
        "portions": where.count,
        **({"eager": work.eager} if work.eager else {}),
        "torch": torch.__version__,
        "environment": environment(device),
        "made_by": makers(settle(study, pack.values), plugins),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    files.write_json(folder / PACK, record, indent=None, durable=False)
    table = table_of(
        pack,
        {"method.use": [study.method.use] * pack.rows, **columns},
        of_members(now.history, paths),
        owners(work.parts, nets, plugins),
        found,
    )
    files.write_table(folder / TABLE, table, {"identity": identity}, durable=False)  # last: it says that the pack is finished
    (folder / CHECKPOINT).unlink(missing_ok=True)


def _first(history: dict[str, list[np.ndarray]], paths: Paths) -> dict[str, list[np.ndarray]]:
    """What was reported while rows were at their first level."""
    if not paths.ends:
        return history
    count = sum(int(steps[0]) <= paths.ends[0] for steps in history["step"])
    return {name: reports[:count] for name, reports in history.items()}


def _by_itself(now: Standing, count: int) -> np.ndarray:
    """Which rows copied no other, ``(count,)``: their steps can be trained again without others."""
    parents = now.history.get(PARENT, [])
    return np.all([own == np.arange(count) for own in parents], axis=0) if parents else np.ones(count, dtype=bool)


def _carried(now: Standing) -> dict[str, list[np.ndarray]]:
    """The history, in which rows that were stopped go on as they were: nothing happened to them."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in now.history}
    gone = [steps == 0 for steps in now.history["step"]]
    for name, reports in now.history.items():
        for values, without in zip(reports, gone, strict=True):
            found[name].append(np.where(without, found[name][-1], values) if found[name] else values)
    return found
