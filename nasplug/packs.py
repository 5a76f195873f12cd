"""One pack from plan to results: the work of one trial, whoever runs it.

A pack's folder holds, while it trains, ``checkpoint.safetensors`` (parameters, optimizer, step, histories); when it is done,
``networks.safetensors`` (the hard networks), ``pack.json`` (its plan and timings) and, written last,
``replicas.parquet`` (a row a replica). Every file is written beside its place and then renamed: none is ever half there.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from nasplug.config import StudyConfig, Sweep
from nasplug.contracts import Traced
from nasplug.discretize import Certificates, better, discretize, finetune, retrain
from nasplug.errors import ConfigError
from nasplug.networks import Edge, Networks, forward, sizes
from nasplug.plan import TASK, Components, Pack, assemble, axes, cells, components, settle
from nasplug.plugins import Plugins
from nasplug.replicas import finite
from nasplug.stems import Stem
from nasplug.train import Report, Search, State, evaluate, start, train

__all__ = ["CERTIFICATE", "HISTORIES", "TABLE", "arithmetic", "load_networks", "run_pack", "worth_compiling"]

TABLE = "replicas.parquet"
NETWORKS = "networks.safetensors"
CHECKPOINT = "checkpoint.safetensors"
SPLITS = ("train", "valid", "test")
CERTIFICATE = "certificate"
CHECKPOINT_SECONDS = 5.0
LAYERS = ("biases", "gates", "choices", "eigenvalues", "kernels", "kernel_biases")  # parts keyed by layer
HISTORIES = ("train_loss", "penalty", "valid_loss", "valid_error")

EAGER_SECONDS_PER_FLOAT = 1e-9  # measured on one core, good to a factor of two: enough to decide whether compiling pays
COMPILE_SECONDS = 40.0


def pick_device(device: str, gpus: float) -> str:
    """``auto`` is the trial's GPU where it has one, else the CPU.

    Raises:
        ConfigError: when a device is asked for that is not there.
    """
    if device == "cpu" or (device == "auto" and gpus == 0):
        return "cpu"
    chosen = "cuda" if device == "auto" else device
    have = torch.cuda.device_count()
    if have <= (torch.device(chosen).index or 0):
        asked = f"gpus: {gpus:g}" if device == "auto" else f"device: {device}"
        raise ConfigError(
            f"resources.{asked}; here are {have} GPUs that torch {torch.__version__} can use. Write gpus: 0 and device: auto "
            "to train on the CPU, or run where there is a GPU"
        )
    return chosen


def _hold_memory(hold: bool) -> None:
    """Whether what a step lets go stays with the process; glibc alone, elsewhere nothing is done.

    By default glibc maps tensors of more than some megabytes anew at each step, and the kernel clears every page: measured,
    eager steps of large packs are 1.5 to 3.5 times faster without.
    """
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return
    top_pad, mmap_max, trim_threshold = -2, -4, -1  # names of malloc.h, with its defaults as what is put back
    libc.mallopt(mmap_max, 0 if hold else 65536)
    libc.mallopt(trim_threshold, 2**31 - 1 if hold else 128 * 1024)
    libc.mallopt(top_pad, 64 * 2**20 if hold else 128 * 1024)
    if not hold:
        libc.malloc_trim(0)


@contextmanager
def arithmetic(threads: int) -> Iterator[None]:
    """How packs compute: on ``threads`` threads, with numbers below 1e-38 as zero, in memory that is kept between steps.

    A second thread makes small steps slower, and weights that decay to 1e-40 cost a hundredfold. The process's own settings
    are put back afterwards: a notebook that runs a study keeps the arithmetic it had.
    """
    flushed = bool(torch.full((), 1e-40) * 1.0 == 0.0)
    before = torch.get_num_threads()
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    _hold_memory(True)
    try:
        yield
    finally:
        _hold_memory(False)
        torch.set_flush_denormal(flushed)
        torch.set_num_threads(before)


def worth_compiling(parts: Components, search: Search, params: Mapping[str, Tensor], activations: int) -> bool:
    """Whether the steps of this pack take long enough to pay for a compilation. From sizes alone, hence reproducible."""
    choice = parts.study.train.compile
    if choice != "auto":
        return choice
    batch = parts.batch or parts.task.train.samples
    numbers = 8 * sum(p[0].numel() for p in params.values()) + 4 * batch * activations
    seconds = EAGER_SECONDS_PER_FLOAT * numbers * len(search.seeds) * search.steps
    compiler = any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++"))
    return seconds > COMPILE_SECONDS and compiler


def _identity(study: StudyConfig, pack: Pack) -> str:
    """What a checkpoint must have been made for, to be continued."""
    plan = {"study": settle(study, pack.values).plain(), "pack": pack.plain()}
    for key in ("study", "store", "resources", "mlflow", "sampler"):
        plan["study"].pop(key)
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


def _replace_file(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    beside = path.with_suffix(".tmp")
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, beside, metadata=metadata)
    beside.replace(path)


def _save_checkpoint(folder: Path, identity: str, state: State, history: Mapping[str, list[np.ndarray]]) -> None:
    tensors = {f"params/{name}": t for name, t in state.params.items()}
    tensors |= {f"moments/{name}": t for name, t in state.moments.items()}
    tensors |= {f"best/{name}": t for name, t in state.best.items()}
    tensors |= {f"history/{name}": torch.from_numpy(np.stack(rows)) for name, rows in history.items() if rows}
    _replace_file(folder / CHECKPOINT, tensors, {"identity": identity, "step": str(state.step)})


def _load_checkpoint(
    folder: Path, identity: str, device: str, order: Sequence[str]
) -> tuple[State, dict[str, list[np.ndarray]]] | None:
    """The state to go on from; None where there is none, or it belongs to another plan, or it cannot be read.

    Leaves come in ``order``, as they were made: norms over all leaves are sums, and the order of a sum shows in its last bit.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt", device=device) as file:
            metadata = file.metadata() or {}
            if metadata.get("identity") != identity:
                return None
            groups: dict[str, dict[str, Tensor]] = {"params": {}, "moments": {}, "best": {}, "history": {}}
            for key in file.keys():  # noqa: SIM118 - not a dict
                group, name = key.split("/", 1)
                groups[group][name] = file.get_tensor(key)
    except SafetensorError:
        return None  # a broken checkpoint costs its steps, never the pack
    history = {name: list(t.cpu().numpy()) for name, t in groups["history"].items()}
    leaves = groups["params"]
    params = {name: leaves[name] for name in [*(n for n in order if n in leaves), *(n for n in leaves if n not in order)]}
    return State(params, groups["moments"], int(metadata["step"]), groups["best"]), history


def _column(values: Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()


def _progress(pack: Pack, report: Report, since: float, done: int) -> dict[str, float]:
    error = report.metrics["valid_error"]
    healthy = error[torch.isfinite(error)]
    seconds = max(time.perf_counter() - since, 1e-9)
    return {
        "progress": report.step / report.steps,
        "step": float(report.step),
        "steps": float(report.steps),
        "networks": float(pack.rows),
        "diverged": float((~report.healthy).sum()),
        "best_valid_error": float(healthy.min()) if len(healthy) else float("nan"),
        "seconds": seconds,
        "network_steps_per_second": pack.rows * (report.step - done) / seconds,
    }


def run_pack(
    study: StudyConfig, pack: Pack, plugins: Plugins, folder: Path, *, device: str = "cpu"
) -> Iterator[dict[str, float]]:
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
    parts = components(study, pack, plugins, device)
    search = assemble(parts, pack, plugins, device)
    identity = _identity(study, pack)
    fresh = start(search)
    state, history = _load_checkpoint(folder, identity, device, list(fresh.params)) or (fresh, {})
    history = {name: history.get(name, []) for name in ("step", *HISTORIES)}
    done = state.step
    every = max(1, search.steps // study.train.reports)
    with torch.no_grad():
        activations = parts.method.relax(state.params, search.tau.at(0)).activations
    compiled = worth_compiling(parts, search, state.params, activations)
    training = time.perf_counter()
    saved = training
    if done < search.steps:
        for report in train(search, state, every=every, compiled=compiled):
            state = report.state
            history["step"].append(np.full(pack.rows, report.step, dtype=np.int64))
            for name in HISTORIES:
                history[name].append(_column(report.metrics[name]))
            if time.perf_counter() - saved > CHECKPOINT_SECONDS or report.step == report.steps:
                _save_checkpoint(folder, identity, state, history)
                saved = time.perf_counter()
            yield _progress(pack, report, training, done)
    trained = time.perf_counter()
    nets, columns = _harden(parts, search, state)
    healthy = finite(state.kept)
    hardened = time.perf_counter()
    columns["status"] = np.where(np.isfinite(columns["valid_loss"]) & healthy.cpu().numpy(), "finished", "diverged")
    _save_networks(folder, nets)
    timings = {
        "build": training - began,
        "train": trained - training,
        "harden": hardened - trained,
        "compiled": float(compiled),
        "resumed_at": float(done),
    }
    (folder / "pack.json").write_text(
        json.dumps({"pack": pack.plain(), "seconds": timings, "device": device, "torch": torch.__version__})
    )
    swept = {axis.path: axis.sweep for axis in axes(study)}
    _write_table(folder / TABLE, pack, parts, columns, history, _owners(parts, nets, plugins), swept)
    (folder / CHECKPOINT).unlink(missing_ok=True)


@torch.no_grad()
def _harden(parts: Components, search: Search, state: State) -> tuple[Networks, dict[str, Any]]:
    """Soft networks -> hard ones, with scores at each stage as columns."""
    task, last = parts.task, search.steps - 1
    soft = parts.method.relax(state.kept, search.tau.at(last))
    columns: dict[str, Any] = {}

    def score(nets: Networks, call: Any, stage: str, splits: tuple[str, ...]) -> None:
        for split in splits:
            for name, values in evaluate(task, getattr(task, split), nets, call).items():
                columns[f"{stage}{split}_{name}"] = _column(values)

    score(soft, parts.method.forward, "relaxed_", ("valid",))
    hard, certificates = discretize(task, parts.method.direct(soft), parts.discretizers)
    score(hard, forward, "cut_", ("valid",))
    with torch.enable_grad():
        hard = finetune(search, hard, parts.finetune, search.lr.scale)
        if parts.retrain:
            anew = retrain(search, hard, parts.retrain, search.lr.scale)
            score(hard, forward, "inherited_", SPLITS)
            score(anew, forward, "retrained_", SPLITS)
            hard = better(task, anew, hard)
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
    owners |= {f"activation {name}": plugins.offer("activation", name) for name in nets.names}
    told = {place: f"{o.name} ({o.owner} {o.version})" for place, o in owners.items()}
    if isinstance(parts.method, Traced):
        told |= {f"method.{what}": which for what, which in parts.method.origin.items()}
    return json.dumps(told, sort_keys=True)


def _write_table(
    path: Path,
    pack: Pack,
    parts: Components,
    columns: Mapping[str, Any],
    history: Mapping[str, list[np.ndarray]],
    owners: str,
    swept: Mapping[str, Sweep],
) -> None:
    rows = pack.rows
    table: dict[str, Any] = {
        "replica": [f"{pack.id}/{row:04d}" for row in range(rows)],
        "configuration": np.asarray(pack.configurations, dtype=np.int64),
        "seed": np.asarray(pack.seeds, dtype=np.int64),
        **{
            path: pa.array(cells(swept[path], values)) if path.startswith(TASK) else np.asarray(values, dtype=np.float64)
            for path, values in pack.columns.items()
        },
        **{path: pa.array(cells(swept[path], [value]) * rows) for path, value in pack.values.items()},
        **columns,
        "owners": pa.array([owners] * rows).dictionary_encode(),
    }
    for name, values in history.items():
        if values:
            kind = pa.list_(pa.int64() if name == "step" else pa.float32())
            table[f"history_{name}"] = pa.array(list(np.stack(values, axis=1)), type=kind)
    beside = path.with_suffix(".tmp")
    pq.write_table(pa.table(table), beside)
    beside.replace(path)


def _save_networks(folder: Path, nets: Networks) -> None:
    """Hard networks of the whole pack; edge gates are where a weight is not zero, so they need no room."""
    tensors = {f"blocks/{to}/{source}": w for (to, source), w in nets.blocks.items()}
    for part in LAYERS:
        # Cloned: safetensors refuses tensors that share memory, as the layers of one parameter may.
        tensors |= {f"{part}/{layer}": t.clone() for layer, t in getattr(nets, part).items()}
    metadata = {"widths": json.dumps(nets.widths), "candidates": json.dumps(nets.candidates)}
    if nets.stem is not None:
        metadata["stem"] = nets.stem.model_dump_json()
    _replace_file(folder / NETWORKS, tensors, metadata)


def load_networks(folder: Path) -> Networks:
    """The hard networks of a finished pack, ``(K, ...)``.

    Raises:
        ConfigError: when the pack has not finished, or its file cannot be read.
    """
    path = folder / NETWORKS
    blocks: dict[Edge, Tensor] = {}
    parts: dict[str, dict[int, Tensor]] = {part: {} for part in LAYERS}
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        widths, candidates = (tuple(json.loads(metadata[name])) for name in ("widths", "candidates"))
        stem = Stem.model_validate_json(metadata["stem"]) if "stem" in metadata else None
        for key, tensor in load_file(path).items():
            part, *where = key.split("/")
            if part == "blocks":
                blocks[int(where[0]), int(where[1])] = tensor
            else:
                parts[part][int(where[0])] = tensor
    except (OSError, SafetensorError, LookupError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}; run the study again to finish this pack") from error
    return Networks(
        widths=widths,
        blocks=blocks,
        edge_gates={edge: (w != 0).to(w.dtype) for edge, w in blocks.items()},
        candidates=candidates,
        stem=stem,
        **parts,
    )
