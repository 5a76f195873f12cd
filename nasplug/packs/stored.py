"""What a pack's folder holds: its files, whose they are, what can still be read, where its training stands.

While it trains ``checkpoint.safetensors`` (parameters, optimizer, step, histories, which rows were stopped) and, at each rung
where its rows are compared with those of other packs, ``rung-0.parquet`` (what they are compared by); when it is done,
``networks.safetensors`` (the hard networks), ``pack.json`` (its plan and timings) and, written last,
``replicas.parquet`` (one row per network). Each is sealed and names the pack it belongs to (`nasplug.files`). None waits for
the disk before the study ends: what a loss of power cut is found by its seal, and the pack, or its steps, are made again
(`examine`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from nasplug import files
from nasplug.activations import FUNCTIONS, Function
from nasplug.config import MOST_RUNGS, StudyConfig
from nasplug.contracts import Params
from nasplug.errors import ContractError, scrub
from nasplug.identity import decisive, digest_of, makers
from nasplug.networks import Edge, Networks
from nasplug.plan import Pack, settle, study_of
from nasplug.plugins import Plugins
from nasplug.stems import NORMS, Stem
from nasplug.train import State

__all__ = [
    "AGAIN",
    "CERTIFICATE",
    "CHECKPOINT",
    "FITTED",
    "HISTORIES",
    "NETWORKS",
    "OWN",
    "PACK",
    "RELAXED",
    "SHARES",
    "SPLITS",
    "TABLE",
    "Scores",
    "Standing",
    "examine",
    "examine_tables",
    "identity_of",
    "load_checkpoint",
    "load_networks",
    "load_scores",
    "rung_file",
    "save_checkpoint",
    "save_networks",
    "save_scores",
]

_log = logging.getLogger(__name__)

TABLE = "replicas.parquet"
NETWORKS = "networks.safetensors"
CHECKPOINT = "checkpoint.safetensors"
PACK = "pack.json"
SPLITS = ("train", "valid", "test")
FITTED = {"train": "train", "valid": "fitted", "test": "test"}  # of networks that are scored on what they have seen
CERTIFICATE = "certificate"
RELAXED = "relaxed"
SHARES = "shares"
OWN = (CERTIFICATE, RELAXED, SHARES)  # columns that stay in the pack's own table
OF_SKELETON = ("monotone", "groups", "terms", "passes")  # whole numbers
LAYERS = ("biases", "gates", "choices", "eigenvalues", "kernels", "kernel_biases", *NORMS)  # parts keyed by layer
HISTORIES = ("train_loss", "penalty", "valid_loss", "valid_error")  # of a pack that is fitted: fitted_loss, fitted_error

TOLD = ("step", *HISTORIES)
AGAIN = "run the study again (nasplug run with its own YAML file), which makes this pack again"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a pack's training stands.

    Attributes:
        state: of the rows that still train.
        rows: which of the pack's K rows these are, ascending.
        history: of each report, ``step``, `HISTORIES` and how soft networks were (`nasplug.train.softness`), ``(K,)`` each; of
            rows that were stopped before it 0 and NaN.
        passed: rungs that are behind it.
        stopped: columns of the rows that were stopped, ``(K,)`` each: at which ``step`` (0: not) and what they had there.
        portions: how many its rows are trained in, as far as memory has asked for it.
        ends: parameters of all rows at the end of each level that they have passed through, on the CPU.
        tuned: what exchanges have made of levels, learning rates and temperatures (`nasplug.packs.population`), ``(K,)`` each:
            ``origin``, whose start a row's numbers and schedules go back to, and the factor of each since then, by its place.
    """

    state: State
    rows: np.ndarray
    history: dict[str, list[np.ndarray]]
    passed: int = 0
    stopped: dict[str, np.ndarray] = field(default_factory=dict)
    portions: int = 1
    ends: tuple[Params, ...] = ()
    tuned: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scores:
    """What rows of a pack are compared by at a rung.

    Attributes:
        rows: which of the pack's rows these are, those that still train, ascending.
        values: ``(n,)`` for each column of ``stop.by``, less is better.
        seconds: that the pack took until then.
    """

    rows: np.ndarray
    values: Mapping[str, np.ndarray]
    seconds: float = 0.0


def identity_of(study: StudyConfig, pack: Pack, plugins: Plugins) -> str:
    """What a pack's files must have been made for, to be gone on with."""
    settled = settle(study_of(study, pack), pack.values)
    return digest_of({"study": decisive(settled), "pack": scrub(pack.plain()), "made by": makers(settled, plugins)})


def save_checkpoint(folder: Path, identity: str, now: Standing) -> None:
    """Write where training stands."""
    tensors = {f"params/{name}": t for name, t in now.state.params.items()}
    tensors |= {f"moments/{name}": t for name, t in now.state.moments.items()}
    tensors |= {f"best/{name}": t for name, t in now.state.best.items()}
    tensors |= {f"history/{name}": torch.from_numpy(np.stack(rows)) for name, rows in now.history.items() if rows}
    tensors |= {f"stopped/{name}": torch.from_numpy(values) for name, values in now.stopped.items()}
    tensors |= {f"tuned/{name}": torch.from_numpy(values) for name, values in now.tuned.items()}
    tensors |= {f"ends/{number}/{name}": t for number, end in enumerate(now.ends) for name, t in end.items()}
    tensors["rows/rows"] = torch.from_numpy(now.rows)
    told = {"identity": identity, "step": str(now.state.step), "passed": str(now.passed), "portions": str(now.portions)}
    files.write_tensors(folder / CHECKPOINT, tensors, told, durable=False)


def load_checkpoint(folder: Path, identity: str, device: str, order: Sequence[str]) -> Standing | None:
    """Where to go on from; None where there is none, it belongs to another plan, or it was damaged: then it is set aside.

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
    parts = ("params", "moments", "best", "history", "stopped", "rows", "ends", "tuned")
    groups: dict[str, dict[str, Tensor]] = {part: {} for part in parts}
    for key, tensor in tensors.items():
        group, name = key.split("/", 1)
        groups[group][name] = tensor
    history = {name: list(groups["history"][name].cpu().numpy()) if name in groups["history"] else [] for name in TOLD}
    history |= {name: list(groups["history"][name].cpu().numpy()) for name in sorted(groups["history"]) if name not in TOLD}
    leaves = groups["params"]
    params = {name: leaves[name] for name in [*(n for n in order if n in leaves), *(n for n in leaves if n not in order)]}
    count = len({key.split("/", 1)[0] for key in groups["ends"]})
    ends = [{name: groups["ends"][f"{number}/{name}"].cpu() for name in params} for number in range(count)]
    return Standing(
        State(params, groups["moments"], int(metadata["step"]), groups["best"]),
        groups["rows"]["rows"].cpu().numpy(),
        history,
        int(metadata["passed"]),
        {name: values.cpu().numpy() for name, values in groups["stopped"].items()},
        int(metadata.get("portions", "1")),
        tuple(ends),
        {name: values.cpu().numpy() for name, values in groups["tuned"].items()},
    )


def rung_file(number: int) -> str:
    """The name of the file with what a pack's rows are compared by at a rung, from 0."""
    return f"rung-{number}.parquet"


def save_scores(folder: Path, identity: str, number: int, scores: Scores) -> None:
    """Write what rows are compared by at a rung: it says that the pack is there."""
    table = pa.table({"row": scores.rows, **scores.values})
    told = {"identity": identity, "seconds": repr(scores.seconds), "by": json.dumps(list(scores.values))}
    files.write_table(folder / rung_file(number), table, told, durable=False)


def load_scores(folder: Path, identity: str, number: int) -> Scores | None:
    """What rows are compared by at a rung; None where the pack was not there, or it was damaged: then it is set aside."""
    path = folder / rung_file(number)
    try:
        return _scores(path, identity) if path.exists() else None
    except files.DamageError as error:
        _log.warning("%s", _measured_again(error))
        return None


def _scores(path: Path, identity: str) -> Scores | None:
    """What a file holds that rows are compared by; None where it is another pack's."""
    table = files.read_table(path)
    told = table.schema.metadata or {}
    if told.get(b"identity") != identity.encode():
        return None
    try:
        columns = {name: table[name].to_numpy() for name in ("row", *json.loads(told[b"by"]))}
        rows, seconds = columns.pop("row"), float(told[b"seconds"])
        good = rows.dtype.kind == "i" and all(values.dtype.kind in "iuf" for values in columns.values())
    except (KeyError, ValueError, TypeError) as error:
        raise files.DamageError(path, f"it does not hold all that rows are compared by ({error})") from None
    if not good:
        raise files.DamageError(path, "it holds no numbers")
    return Scores(rows, columns, seconds)


def _measured_again(error: files.DamageError) -> str:
    """Set a damaged file of a rung aside; what is said then."""
    return f"{error}; set aside as {files.set_aside(error.path).name}, and its rows are measured again"


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
            if (path.exists() and not finished) or (finished and made_for is not None):
                files.verify(path)
                if finished and made_for is not None and made_for(path) != identity:
                    raise files.DamageError(path, "it belongs to another pack")
        except files.DamageError as error:
            aside = f"set aside as {files.set_aside(path).name}; " if path.exists() else ""
            told.append(f"{error}; {aside}{'the pack runs again' if finished else 'its steps are done again'}")
    if finished and told:
        for name in (TABLE, PACK, NETWORKS):  # what is left of it: the table first, which says that a pack is finished
            (folder / name).unlink(missing_ok=True)
    elif finished:  # it ended between its last two acts
        (folder / CHECKPOINT).unlink(missing_ok=True)
    for number in range(MOST_RUNGS):  # a file that is there says that the pack is at its rung
        path = folder / rung_file(number)
        try:
            if path.exists() and _scores(path, identity) is None:
                path.unlink(missing_ok=True)
        except files.DamageError as error:
            told.append(_measured_again(error))
    return told


def examine_tables(folder: Path) -> list[str]:
    """Set aside the tables of packs below ``folder`` that were cut: a pack without one has not finished.

    `examine` looks at a pack when its turn comes, and before that its table is joined with the others.

    Returns:
        What was set aside, in words.
    """
    told = []
    for path in sorted(folder.glob(f"*/{TABLE}")):
        try:
            files.verify(path)
        except files.DamageError as error:
            told.append(f"{error}; set aside as {files.set_aside(path).name}; the pack runs again")
    return told


def _of_tensors(path: Path) -> str | None:
    return files.read_tensors(path)[1].get("identity")


def _of_json(path: Path) -> str | None:
    return files.read_json(path).get("identity")


def _of_table(path: Path) -> str | None:
    told = (files.read_table(path, ["replica"]).schema.metadata or {}).get(b"identity")
    return None if told is None else told.decode()


def save_networks(folder: Path, nets: Networks, identity: str) -> None:
    """Hard networks of the whole pack; edge gates are where a weight is not zero, so they need no room."""
    tensors = {f"blocks/{to}/{source}": w for (to, source), w in nets.blocks.items()}
    for part in LAYERS:
        tensors |= {f"{part}/{layer}": t for layer, t in getattr(nets, part).items()}
    metadata = {"identity": identity, "widths": json.dumps(nets.widths), "candidates": json.dumps(nets.candidates)}
    if nets.stem is not None:
        metadata["stem"] = nets.stem.model_dump_json()
    metadata |= {name: json.dumps(getattr(nets, name)) for name in (*OF_SKELETON, "constants") if getattr(nets, name)}
    files.write_tensors(folder / NETWORKS, tensors, metadata, durable=False)


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
        more: dict[str, Any] = {name: tuple(json.loads(metadata.get(name, "[]"))) for name in OF_SKELETON}
        more["constants"] = tuple((to, source) for to, source in json.loads(metadata.get("constants", "[]")))
        for key, tensor in tensors.items():
            part, *where = key.split("/")
            if part == "blocks":
                blocks[int(where[0]), int(where[1])] = tensor
            else:
                parts[part][int(where[0])] = tensor
        nets = Networks(
            widths=widths,
            blocks=blocks,
            edge_gates={edge: (w != 0).to(w.dtype) for edge, w in blocks.items()},
            candidates=candidates,
            functions=functions,
            stem=stem,
            **more,
            **parts,
        )
        nets.check()
    except (files.DamageError, ContractError, LookupError, ValueError, TypeError) as error:
        reason = error.reason if isinstance(error, files.DamageError) else f"{type(error).__name__}: {error}"
        raise files.DamageError(path, " ".join(reason.split()), AGAIN) from error
    return nets
