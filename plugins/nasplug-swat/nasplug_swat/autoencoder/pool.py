"""Trained networks to learn from: read from studies, filtered by their tables, drawn with their neurons in a random order."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from nasplug.errors import ConfigError, did_you_mean
from nasplug.networks import Networks, join, take
from nasplug.replicas import finite, normal, uniform
from nasplug_swat.autoencoder.matrices import pad, reordered
from nasplug_swat.autoencoder.space import Space

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Pool", "Trained", "gather"]

HELD = 10
"""Where nothing is excluded, every tenth network is held back."""

PARTS = ("blocks", "biases", "gates", "choices")
Kind = tuple[int, int, int]  # hidden layers, inputs, outputs


class Trained(BaseModel):
    """Networks of studies that have run, as a part of each batch.

    ``folders`` are ``<store>/<study>``; ``share`` of each batch, in (0, 1], is drawn from their networks, the rest at random
    (all of it for depths and ends that they have no network of). ``only`` and ``exclude`` go by the columns of the studies'
    tables, ``{task.function: [Ackley, Booth]}``: a row is read where every column of ``only`` has one of its values, and held
    back where a column of ``exclude`` has one. What is held back is never learned from; errors on it are reported. Without
    ``exclude`` every tenth network is held back. ``noise`` is the standard deviation of what is added to weights and biases
    that are not 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    folders: tuple[str, ...] = Field(min_length=1)
    share: float = Field(0.5, gt=0, le=1)
    noise: float = Field(0.0, ge=0)
    only: dict[str, tuple[str | int | float, ...]] = {}
    exclude: dict[str, tuple[str | int | float, ...]] = {}

    def rows(self, batch: int) -> Tensor:
        """Which rows of a batch are drawn from networks, bool ``(batch,)``: spread evenly, so that any part has the share."""
        counts = torch.tensor([math.floor(row * self.share + 1e-9) for row in range(batch + 1)])
        return counts[1:] > counts[:-1]


@dataclass(frozen=True, slots=True)
class Pool:
    """Trained networks by hidden layers, inputs and outputs; each entry padded to the space, float32, hard."""

    networks: Mapping[Kind, Networks]

    @property
    def digest(self) -> str:
        """SHA-256 of all networks in their order."""
        h = hashlib.sha256()
        for kind, nets in sorted(self.networks.items()):
            h.update(f"{kind} {nets.candidates}".encode())
            for part in PARTS:
                for key, tensor in sorted(getattr(nets, part).items()):
                    h.update(f"{part} {key} {tuple(tensor.shape)}".encode())
                    h.update(tensor.cpu().contiguous().numpy().tobytes())
        return h.hexdigest()

    @property
    def counts(self) -> dict[str, int]:
        """Networks by hidden layers, as plain data."""
        depths = sorted({depth for depth, _, _ in self.networks})
        return {str(depth): sum(nets.replicas for kind, nets in self.networks.items() if kind[0] == depth) for depth in depths}

    def ends(self, depth: int) -> list[tuple[int, int]]:
        """Inputs and outputs that networks of this depth have."""
        return sorted(kind[1:] for kind in self.networks if kind[0] == depth)

    def to(self, device: str) -> Pool:
        """The same on a device."""
        return Pool({kind: nets.map(lambda t: t.to(device)) for kind, nets in self.networks.items()})

    def draw(self, space: Space, depth: int, seeds: Tensor, noise: float = 0.0) -> Networks | None:
        """Networks of the pool, with replacement, their neurons in a random order: ``seeds`` long ``(K,)``.

        Row k depends on its seed and the pool alone. None where there is none of this depth and the space's ends.
        """
        stock = self.networks.get((depth, space.inputs, space.outputs))
        if stock is None:
            return None
        which = (uniform(seeds, "swat/which", (1,)).squeeze(1) * stock.replicas).long()
        nets = take(stock, which)
        for layer in range(1, depth + 1):
            order = uniform(seeds, f"swat/order {layer}", (space.width,)).argsort(1)
            nets = reordered(nets, layer, order)
        if not noise:
            return nets

        def shaken(name: str, tensor: Tensor) -> Tensor:
            return tensor + noise * normal(seeds, f"swat/shaken {name}", tuple(tensor.shape[1:])).to(tensor) * (tensor != 0)

        return replace(
            nets,
            blocks={edge: shaken(f"weights {edge[0]}", w) for edge, w in nets.blocks.items()},
            biases={layer: shaken(f"biases {layer}", b) for layer, b in nets.biases.items()},
        )


def _asked(frames: Mapping[str, pd.DataFrame], filters: Mapping[str, tuple[str | int | float, ...]], name: str) -> None:
    """Refuse columns that a table does not have, and values that none has: a misspelt function would be learned from.

    Raises:
        ConfigError: naming them.
    """
    for column, values in filters.items():
        for folder, frame in frames.items():
            if column not in frame:
                raise ConfigError(
                    f"networks.{name}: {folder} has no column {column!r}; needed: a column of its table, what its study varies "
                    f"for instance.{did_you_mean(column, frame.columns)}"
                )
        there = {str(value): None for frame in frames.values() for value in frame[column].unique()}
        for value in values:
            if not any((frame[column] == value).any() for frame in frames.values()):
                raise ConfigError(
                    f"networks.{name}.{column}: no network has {value!r}; there are: {', '.join(list(there)[:60])}."
                    f"{did_you_mean(str(value), there)}"
                )


def gather(trained: Trained, space: Space) -> tuple[Pool, Pool]:
    """What is learned from, and what is held back.

    Networks that did not finish, or have numbers that are not finite, are left out.

    Raises:
        ConfigError: for a folder that is no study with results, a column or value that it does not have, networks that do not
            fit the space, and where none is left to learn from.
    """
    from nasplug import Study  # a worker of a study has no use for studies

    studies = {folder: Study.open(Path(folder).expanduser()) for folder in trained.folders}
    frames = {folder: study.frame for folder, study in studies.items()}
    _asked(frames, trained.only, "only")
    _asked(frames, trained.exclude, "exclude")
    learned: dict[Kind, list[Networks]] = {}
    held: dict[Kind, list[Networks]] = {}
    seen = sum(len(frame) for frame in frames.values())
    number = 0
    for folder, frame in frames.items():
        frame = frame[frame["status"] == "finished"]
        for column, values in trained.only.items():
            frame = frame[frame[column].isin(values)]
        out = frame["replica"].isin([])
        for column, values in trained.exclude.items():
            out |= frame[column].isin(values)
        places = frame["replica"].str.split("/", expand=True)
        for pack in places[0].unique() if len(frame) else ():
            here = places[0] == pack
            rows = torch.tensor(places[1][here].astype(int).to_numpy())
            back = torch.tensor(out[here].to_numpy())
            try:
                nets = pad(studies[folder].networks(pack), space)
            except ConfigError as error:
                raise ConfigError(f"networks.folders: {folder}, pack {pack}: {error}; `only` reads a part of a study") from None
            nets = take(nets, rows).map(lambda t: t.detach().float())
            whole = finite({f"{part} {key}": t for part in PARTS for key, t in getattr(nets, part).items()})
            if not trained.exclude:
                back = (torch.arange(number, number + len(rows)) % HELD) == HELD - 1
                number += len(rows)
            kind = (nets.depth - 1, nets.widths[0], nets.widths[-1])
            for where, some in ((learned, whole & ~back), (held, whole & back)):
                if bool(some.any()):
                    where.setdefault(kind, []).append(take(nets, some.nonzero().flatten()))
    if not learned:
        kept = sum(nets.replicas for parts in held.values() for nets in parts)
        raise ConfigError(
            f"networks: of {seen} networks of {', '.join(trained.folders)} none is left to learn from ({kept} are held back; "
            "the others did not finish, are not finite, or are not in `only`). Take other folders or filters"
        )
    return Pool({kind: join(parts) for kind, parts in learned.items()}), Pool(
        {kind: join(parts) for kind, parts in held.items()}
    )
