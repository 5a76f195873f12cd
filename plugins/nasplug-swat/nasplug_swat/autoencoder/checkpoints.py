"""What a training leaves in its folder while it runs: a checkpoint to go on from, and its curve so far."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path

import torch
from torch import Tensor

from nasplug import files
from nasplug.errors import ConfigError

__all__ = ["CURVE", "Row", "remove_checkpoint", "restore", "save_checkpoint", "write_curve"]

CHECKPOINT, CURVE = "checkpoint.safetensors", "curve.csv"

Row = dict[str, float]
"""What a validation found, by the names of the curve's columns."""


def save_checkpoint(
    folder: Path, identity: str, weights: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, rows: Sequence[Row]
) -> None:
    """All that a training needs to go on from its last validation."""
    tensors = {f"weights/{name}": w.detach() for name, w in weights.items()}
    for name, w in weights.items():
        state = optimizer.state[w]
        tensors |= {f"first/{name}": state["exp_avg"], f"second/{name}": state["exp_avg_sq"]}
    files.write_tensors(folder / CHECKPOINT, tensors, {"identity": identity, "rows": json.dumps(rows)})


def restore(folder: Path, identity: str, weights: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> list[Row]:
    """Put weights and moments back to where the folder's checkpoint stands; the curve so far, empty without a checkpoint.

    Raises:
        ConfigError: for a checkpoint that cannot be read, or is of another training.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return []
    try:
        tensors, told = files.read_tensors(path)
    except files.DamageError as error:
        raise ConfigError(f"{error}; remove it to start anew") from None
    if told.get("identity") != identity:
        raise ConfigError(
            f"{path}: belongs to a training with other settings or other trained networks; give another folder, or remove it "
            "to start anew"
        )
    rows: list[Row] = json.loads(told["rows"])
    with torch.no_grad():
        for name, w in weights.items():
            w.copy_(tensors[f"weights/{name}"])
            moments = {"exp_avg": tensors[f"first/{name}"].to(w), "exp_avg_sq": tensors[f"second/{name}"].to(w)}
            optimizer.state[w] = {"step": torch.tensor(rows[-1]["step"]), **moments}
    return rows


def remove_checkpoint(folder: Path) -> None:
    """Of a training that is done."""
    (folder / CHECKPOINT).unlink(missing_ok=True)


def write_curve(folder: Path, rows: Sequence[Row]) -> None:
    """One line per validation."""
    text = StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)
    files.write_text(folder / CURVE, text.getvalue())
