"""`Background`: rows that a prediction is compared with. Every explanation says "compared with what"; this is the what."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from nasplug import files
from nasplug.compact import CompactNetwork
from nasplug.errors import ConfigError
from nasplug.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ROWS", "Array", "Background"]

Array = npt.NDArray[np.float64]
ROWS = 256  # of a background
NUMBERS = 2**21  # that it holds at most: 16 MB
LEAST = 16  # rows, however wide
WEIGHT = "weight"


@dataclass(frozen=True, slots=True)
class Background:
    """Rows of raw features with weights: what a network's input is like when nothing is known of it.

    Attributes:
        features: ``(B, I)`` float64, ordered and named as in the network's record, in the user's units.
        weights: ``(B,)``, >= 0, summing to 1.
        names: one per feature.
    """

    features: Array
    weights: Array
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or len(self.features) < 1 or self.features.shape[1] != len(self.names):
            raise ConfigError(f"background of shape {self.features.shape} for {len(self.names)} features; needed: rows of them")
        if self.weights.shape != (len(self.features),) or not (self.weights >= 0).all() or not self.weights.sum() > 0:
            raise ConfigError("background: weights must be as many as rows, >= 0, and not all 0")
        object.__setattr__(self, "weights", self.weights / self.weights.sum())

    @classmethod
    def of_task(cls, task: Task, most: int = ROWS) -> Background:
        """At most ``most`` development samples (those of training and validation), drawn without replacement, always the same.

        Test samples are never among them. Sample weights of the task count here too.
        """
        most = min(most, max(LEAST, NUMBERS // max(task.inputs, 1)))
        total = task.train.samples + task.valid.samples
        index = torch.from_numpy(np.sort(np.random.default_rng(0).permutation(total)[:most]))
        first = task.train.columns(index[index < task.train.samples])
        second = task.valid.columns(index[index >= task.train.samples] - task.train.samples)
        x = torch.cat([first.x, second.x], 1).double().numpy().T
        scale = task.input_scale.double().numpy()
        raw = x * scale + task.input_shift.double().numpy()
        step = 10.0 ** (np.floor(np.log10(scale)) - 5)  # x is float32: what is beyond is noise, and 1950 should be 1950
        raw = np.round(raw / step) * step
        weights = np.ones(len(index))
        if first.weights is not None and second.weights is not None:
            weights = torch.cat([first.weights, second.weights]).double().numpy()
            weights = weights if weights.sum() > 0 else np.ones(len(index))
        return cls(raw, weights, task.features)

    @classmethod
    def of_table(cls, network: CompactNetwork, table: pd.DataFrame, most: int = ROWS) -> Background:
        """At most ``most`` rows of the user's table, drawn without replacement, always the same.

        Raises:
            ConfigError: as `nasplug.compact.CompactNetwork.features`.
        """
        index = np.sort(np.random.default_rng(0).permutation(len(table))[:most])
        features = network.features(table.iloc[index])
        return cls(features, np.ones(len(features)), tuple(network.record["features"]))

    def few(self, most: int) -> Background:
        """As many of the rows at most, evenly over them."""
        if most >= len(self.features):
            return self
        index = np.linspace(0, len(self.features) - 1, most).round().astype(int)
        weights = self.weights[index]
        return Background(self.features[index], weights if weights.sum() > 0 else np.ones(most), self.names)

    def check(self, network: CompactNetwork) -> None:
        """Refuse a network that reads other features.

        Raises:
            ConfigError: naming one.
        """
        if (wanted := tuple(str(name) for name in network.record["features"])) != self.names:
            odd = sorted(set(wanted) ^ set(self.names))[:3]
            raise ConfigError(
                f"background: it has {len(self.names)} features, and the network was made for {len(wanted)}"
                f"{f' (different: {odd})' if odd else ' in another order'}; take the background of the same task"
            )

    def save(self, path: Path) -> None:
        """Write it as a Parquet file: a column per feature, and the weights."""
        columns = {f"x{place}": self.features[:, place] for place in range(len(self.names))} | {WEIGHT: self.weights}
        files.write_table(path, pa.table(columns), {"names": json.dumps(self.names)})

    @classmethod
    def load(cls, path: Path) -> Background:
        """What `save` wrote.

        Raises:
            ConfigError: for a file that is not there, or damaged.
        """
        table = files.read_table(path)
        told = table.schema.metadata or {}
        try:
            names = tuple(json.loads(told[b"names"]))
            features = np.stack([table[f"x{place}"].to_numpy() for place in range(len(names))], axis=1)
            return cls(features.astype(np.float64), table[WEIGHT].to_numpy().astype(np.float64), names)
        except (KeyError, TypeError, ValueError) as error:
            raise files.DamageError(path, f"not a background: {error}") from None
