"""A pack's table: one row per network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from nasplug.config import StudyConfig, Use
from nasplug.networks import Networks
from nasplug.packs.population import PARENT
from nasplug.packs.stored import FITTED
from nasplug.plan import Axis, Components, Pack, shown_values
from nasplug.plugins import Plugins

__all__ = ["owners", "table_of"]


def owners(parts: Components, nets: Networks, plugins: Plugins) -> str:
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


def table_of(
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
        **({"population": [f"{pack.id}.{group}" for group in pack.groups]} if pack.groups else {}),
        **{path: pa.array(values) for path, values in shown_values(pack, found).items()},
        **columns,
        "owners": pa.array([owners] * rows).dictionary_encode(),
    }
    there = np.stack(history["step"], axis=1) > 0  # (K, reports): curves end where rows were stopped
    ends = np.concatenate([[0], there.sum(1).cumsum()]).astype(np.int32)
    for name, values in history.items():
        whole = name in ("step", PARENT)
        kind = pa.list_(pa.int64() if whole else pa.float32())
        name = name.replace("valid", FITTED["valid"]) if pack.fitted else name
        with np.errstate(over="ignore"):  # a loss of 1e300 is infinite there
            each = np.stack(values, axis=1).astype(np.int64 if whole else np.float32)
        table[f"history_{name}"] = pa.ListArray.from_arrays(ends, each[there], type=kind)
    return pa.table(table)
