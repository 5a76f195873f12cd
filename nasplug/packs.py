"""One pack from plan to results: the work of one trial, whoever runs it.

A pack's folder holds, while it trains, ``checkpoint.safetensors`` (parameters, optimizer, step, histories); when it is done,
``networks.safetensors`` (the hard networks), ``pack.json`` (its plan and timings) and, written last,
``replicas.parquet`` (one row per network). Each is sealed and names the pack it belongs to (`nasplug.files`).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from nasplug import additive, files, monotone
from nasplug.activations import FUNCTIONS, Function
from nasplug.causes import causes
from nasplug.config import StudyConfig, Use
from nasplug.discretize import Certificates, discretize
from nasplug.errors import ContractError, scrub
from nasplug.finetune import better, finetune, retrain
from nasplug.hookspecs import Progress
from nasplug.identity import decisive, digest_of, makers
from nasplug.machine import environment
from nasplug.networks import Edge, Networks, forward, sizes
from nasplug.plan import Axis, Components, Pack, assemble, axes, components, settle, shown_values, study_of, worth_compiling
from nasplug.plugins import Plugins
from nasplug.replicas import finite
from nasplug.stems import Stem
from nasplug.train import Report, Search, State, evaluate, start, train

__all__ = [
    "CERTIFICATE",
    "HISTORIES",
    "PACK",
    "TABLE",
    "examine",
    "identity_of",
    "load_networks",
    "run_pack",
]

TABLE = "replicas.parquet"
NETWORKS = "networks.safetensors"
CHECKPOINT = "checkpoint.safetensors"
PACK = "pack.json"
SPLITS = ("train", "valid", "test")
FITTED = {"train": "train", "valid": "fitted", "test": "test"}  # of networks that are scored on what they have seen
CERTIFICATE = "certificate"
OF_INPUTS = ("monotone", "groups", "terms")  # what networks say of their inputs, whole numbers
CHECKPOINT_SECONDS = 5.0
LAYERS = ("biases", "gates", "choices", "eigenvalues", "kernels", "kernel_biases")  # parts keyed by layer
HISTORIES = ("train_loss", "penalty", "valid_loss", "valid_error")  # of a pack that is fitted: fitted_loss, fitted_error

AGAIN = "run the study again (nasplug run with its own YAML file), which makes this pack again"


def identity_of(study: StudyConfig, pack: Pack, plugins: Plugins) -> str:
    """What a pack's files must have been made for, to be gone on with."""
    settled = settle(study_of(study, pack), pack.values)
    return digest_of({"study": decisive(settled), "pack": scrub(pack.plain()), "made by": makers(settled, plugins)})


def _save_checkpoint(folder: Path, identity: str, state: State, history: Mapping[str, list[np.ndarray]]) -> None:
    tensors = {f"params/{name}": t for name, t in state.params.items()}
    tensors |= {f"moments/{name}": t for name, t in state.moments.items()}
    tensors |= {f"best/{name}": t for name, t in state.best.items()}
    tensors |= {f"history/{name}": torch.from_numpy(np.stack(rows)) for name, rows in history.items() if rows}
    files.write_tensors(folder / CHECKPOINT, tensors, {"identity": identity, "step": str(state.step)})


def _load_checkpoint(
    folder: Path, identity: str, device: str, order: Sequence[str]
) -> tuple[State, dict[str, list[np.ndarray]]] | None:
    """The state to go on from; None where there is none, it belongs to another plan, or it was damaged: then it is set aside.

    Leaves come in ``order``, as they were made: norms over all leaves are sums, and the order of a sum shows in its last bit.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        tensors, metadata = files.read_tensors(path, device)
    except files.DamageError:
        files.set_aside(path)  # it costs its steps, never the pack
        return None
    if metadata["identity"] != identity:
        return None
    groups: dict[str, dict[str, Tensor]] = {"params": {}, "moments": {}, "best": {}, "history": {}}
    for key, tensor in tensors.items():
        group, name = key.split("/", 1)
        groups[group][name] = tensor
    history = {name: list(t.cpu().numpy()) for name, t in groups["history"].items()}
    leaves = groups["params"]
    params = {name: leaves[name] for name in [*(n for n in order if n in leaves), *(n for n in leaves if n not in order)]}
    return State(params, groups["moments"], int(metadata["step"]), groups["best"]), history


def examine(folder: Path, identity: str) -> list[str]:
    """Look at what an earlier run left of a pack. What is damaged is set aside, and the pack, or its steps, are made again.

    Returns:
        What was set aside, in words.
    """
    told = []
    finished = (folder / TABLE).exists()
    for name, made_for in ((CHECKPOINT, None), (NETWORKS, _of_tensors), (PACK, _of_json), (TABLE, _of_table)):
        path = folder / name
        try:
            if path.exists() or (finished and made_for is not None):
                files.verify(path)
                if finished and made_for is not None and made_for(path) != identity:
                    raise files.DamageError(path, "it belongs to another pack")
        except files.DamageError as error:
            aside = f"set aside as {files.set_aside(path).name}; " if path.exists() else ""
            told.append(f"{error}; {aside}{'the pack runs again' if finished else 'its steps are done again'}")
    if finished and told:
        for name in (TABLE, PACK, NETWORKS):  # what is left of it: the table first, which says that a pack is finished
            (folder / name).unlink(missing_ok=True)
    return told


def _of_tensors(path: Path) -> str | None:
    return files.read_tensors(path)[1].get("identity")


def _of_json(path: Path) -> str | None:
    return files.read_json(path).get("identity")


def _of_table(path: Path) -> str | None:
    told = (files.read_table(path, ["replica"]).schema.metadata or {}).get(b"identity")
    return None if told is None else told.decode()


def _column(values: Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()


def _progress(pack: Pack, report: Report, since: float, done: int) -> Progress:
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
        network_steps_per_second=pack.rows * (report.step - done) / seconds,
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
    state, history = _load_checkpoint(folder, identity, device, list(fresh.params)) or (fresh, {})
    history = {name: history.get(name, []) for name in ("step", *HISTORIES)}
    done = state.step
    every = max(1, search.steps // study.train.reports)
    with torch.no_grad():
        activations = search.relax(state.params, search.tau.at(0)).activations
    compiled = worth_compiling(parts, search, state.params, activations, alike=pack.alike, room=pack.room)
    training = time.perf_counter()
    saved = training
    if done < search.steps:
        for report in train(search, state, every=every, compiled=compiled, room=pack.room if compiled else 0):
            state = report.state
            history["step"].append(np.full(pack.rows, report.step, dtype=np.int64))
            for name in HISTORIES:
                history[name].append(_column(report.metrics[name]))
            if time.perf_counter() - saved > CHECKPOINT_SECONDS or report.step == report.steps:
                _save_checkpoint(folder, identity, state, history)
                saved = time.perf_counter()
            yield _progress(pack, report, training, done)
    trained = time.perf_counter()
    nets, columns = _harden(parts, search, state, FITTED if pack.fitted else {part: part for part in SPLITS})
    healthy = finite(state.kept)
    hardened = time.perf_counter()
    judged = columns["fitted_loss" if pack.fitted else "valid_loss"]
    columns["status"] = np.where(np.isfinite(judged) & healthy.cpu().numpy(), "finished", "diverged")
    if (columns["status"] == "diverged").any():
        whose = [f"penalties.{i}: {plugins.offer('regularizer', p.use)}" for i, p in enumerate(study.penalties)]
        told = causes(search, history, whose)
        columns["error"] = pa.array([told.get(row) for row in range(pack.rows)], pa.string())
    _save_networks(folder, nets, identity)
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
        "device": device,
        "torch": torch.__version__,
        "environment": environment(device),
        "made_by": makers(settle(study, pack.values), plugins),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    files.write_json(folder / PACK, record, indent=None)
    table = _table(
        pack, {"method.use": [study.method.use] * pack.rows, **columns}, history, _owners(parts, nets, plugins), found
    )
    files.write_table(folder / TABLE, table, {"identity": identity})  # last: it says that the pack is finished
    (folder / CHECKPOINT).unlink(missing_ok=True)


@torch.no_grad()
def _harden(parts: Components, search: Search, state: State, named: Mapping[str, str]) -> tuple[Networks, dict[str, Any]]:
    """Soft networks -> hard ones, with scores at each stage as columns, in which each split is ``named``."""
    task, last = parts.task, search.steps - 1
    soft = search.relax(state.kept, search.tau.at(last))
    columns: dict[str, Any] = {}

    def score(nets: Networks, call: Any, stage: str, splits: tuple[str, ...]) -> None:
        for split in splits:
            served = not stage and split == "valid"
            found = evaluate(task, getattr(task, split), nets, call, constant=served)
            if served:
                columns["constant"] = found.pop("constant").cpu().numpy()
            for name, values in found.items():
                columns[f"{stage}{named[split]}_{name}"] = _column(values)

    score(soft, search.forward, "relaxed_", ("valid",))
    hard, certificates = discretize(task, search.direct(soft), parts.discretizers)
    score(hard, forward, "cut_", ("valid",))
    with torch.enable_grad():
        hard = finetune(search, hard, parts.finetune, search.lr.scale)
        if parts.retrain:
            anew = retrain(search, hard, parts.retrain, search.lr.scale)
            score(hard, forward, "inherited_", SPLITS)
            score(anew, forward, "retrained_", SPLITS)
            hard = better(task, anew, hard)
    for rule, proof in (("monotone", monotone.holds), ("terms", additive.holds)):
        if getattr(hard, rule) and not bool((proven := proof(hard)).all()):
            whose = ", ".join(use.use for use in parts.study.discretizers) or "none"
            raise ContractError(
                f"{int((~proven).sum())} of {hard.replicas} hard networks do not keep to {rule}; discretizers: {whose}. Tell "
                "the author of the one without which this does not come, or of nasplug"
            )
    score(hard, forward, "", SPLITS)
    for name, values in sizes(hard).items():
        columns[name] = values.cpu().numpy()
    return hard, columns | _certified(certificates)


def _certified(certificates: Certificates) -> dict[str, Any]:
    """Certificates as columns: their numbers each by itself, and the whole as JSON."""
    if not certificates:
        return {}
    numbers = {
        name for one in certificates for name, value in one.items() if isinstance(value, int | float) and name != "verdict"
    }
    found: dict[str, Any] = {
        f"certificate_{name}": np.asarray([float(one.get(name, math.nan)) for one in certificates]) for name in sorted(numbers)
    }
    return found | {CERTIFICATE: pa.array([json.dumps(one) for one in certificates])}


def _owners(parts: Components, nets: Networks, plugins: Plugins) -> str:
    """Who owns each component and each activation, and what the method was made from, as JSON."""
    study = parts.study
    owners = {"method": plugins.offer("method", study.method.use), "task": plugins.offer("task", study.task.use)}
    for i, penalty in enumerate(study.penalties):
        owners[f"penalties.{i}"] = plugins.offer("regularizer", penalty.use)
    for i, discretizer in enumerate(study.discretizers):
        owners[f"discretizers.{i}"] = plugins.offer("discretizer", discretizer.use)
    owners |= {place: plugins.offer("schedule", use.use) for place, use in _schedules(study).items()}
    owners |= {f"activation {name}": plugins.offer("activation", name) for name in nets.names}
    told = {place: f"{o.name} ({o.owner} {o.version})" for place, o in owners.items()}
    told |= {f"method.{what}": which for what, which in parts.method.traits.origin.items()}
    return json.dumps(told, sort_keys=True)


def _schedules(study: StudyConfig) -> dict[str, Use]:
    """The study's schedules, by their places."""
    found = {"temperature": study.temperature, "train.decay": study.train.decay}
    found |= {f"penalties.{i}.ramp": penalty.ramp for i, penalty in enumerate(study.penalties)}
    return {place: use for place, use in found.items() if use is not None}


def _table(
    pack: Pack,
    columns: Mapping[str, Any],
    history: Mapping[str, list[np.ndarray]],
    owners: str,
    found: Sequence[Axis],
) -> pa.Table:
    """One row per network."""
    rows = pack.rows
    table: dict[str, Any] = {
        "replica": pack.replicas,
        "configuration": np.asarray(pack.configurations, dtype=np.int64),
        "seed": np.asarray(pack.seeds, dtype=np.int64),
        **({"fold": np.asarray(pack.folds, dtype=np.int64)} if pack.folds else {}),
        **{path: pa.array(values) for path, values in shown_values(pack, found).items()},
        **columns,
        "owners": pa.array([owners] * rows).dictionary_encode(),
    }
    for name, values in history.items():
        if values:
            kind = pa.list_(pa.int64() if name == "step" else pa.float32())
            name = name.replace("valid", FITTED["valid"]) if pack.fitted else name
            table[f"history_{name}"] = pa.array(list(np.stack(values, axis=1)), type=kind)
    return pa.table(table)


def _save_networks(folder: Path, nets: Networks, identity: str) -> None:
    """Hard networks of the whole pack; edge gates are where a weight is not zero, so they need no room."""
    tensors = {f"blocks/{to}/{source}": w for (to, source), w in nets.blocks.items()}
    for part in LAYERS:
        tensors |= {f"{part}/{layer}": t for layer, t in getattr(nets, part).items()}
    metadata = {"identity": identity, "widths": json.dumps(nets.widths), "candidates": json.dumps(nets.candidates)}
    if nets.stem is not None:
        metadata["stem"] = nets.stem.model_dump_json()
    metadata |= {name: json.dumps(getattr(nets, name)) for name in OF_INPUTS if getattr(nets, name)}
    files.write_tensors(folder / NETWORKS, tensors, metadata)


def load_networks(folder: Path, functions: Mapping[str, Function] = FUNCTIONS) -> Networks:
    """The hard networks of a finished pack, ``(K, ...)``; ``functions``: what their activations mean.

    Raises:
        ConfigError: when the pack has not finished, or its file cannot be read.
    """
    path = folder / NETWORKS
    blocks: dict[Edge, Tensor] = {}
    parts: dict[str, Any] = {part: {} for part in LAYERS}
    try:
        tensors, metadata = files.read_tensors(path)
        widths, candidates = (tuple(json.loads(metadata[name])) for name in ("widths", "candidates"))
        stem = Stem.model_validate_json(metadata["stem"]) if "stem" in metadata else None
        more: dict[str, Any] = {name: tuple(json.loads(metadata.get(name, "[]"))) for name in OF_INPUTS}
        for key, tensor in tensors.items():
            part, *where = key.split("/")
            if part == "blocks":
                blocks[int(where[0]), int(where[1])] = tensor
            else:
                parts[part][int(where[0])] = tensor
    except (files.DamageError, LookupError, ValueError) as error:
        reason = error.reason if isinstance(error, files.DamageError) else f"{type(error).__name__}: {error}"
        raise files.DamageError(path, reason, AGAIN) from error
    return Networks(
        widths=widths,
        blocks=blocks,
        edge_gates={edge: (w != 0).to(w.dtype) for edge, w in blocks.items()},
        candidates=candidates,
        functions=functions,
        stem=stem,
        **more,
        **parts,
    )
