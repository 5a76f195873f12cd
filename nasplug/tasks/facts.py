"""`Described`: what a task says of itself; `Facts`: a task without its samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nasplug.tasks.losses import Kind, Link
from nasplug.tasks.origin import Origin

__all__ = ["Described", "Facts"]

COLUMNS = ("columns", "groups", "encoder", "transform")
FACTS = (
    *("digest", "name", "kind", "loss", "link", "features", "targets", "source", "variance", "resamples", "higher"),
    *("held", "effective"),
    *COLUMNS,
)
NUMBERED = ("notes", "samples", "trivial")
SCALES = ("input_shift", "input_scale", "output_shift", "output_scale")
TUPLES = ("features", "targets", "columns", "groups", "higher")
DTYPES = {"float32": torch.float32, "float64": torch.float64, "int64": torch.int64}


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What a task and its facts both say.

    Attributes:
        name: shown in tables and tracking.
        kind: ``regression``, ``binary`` or ``classes`` (`nasplug.tasks.Task`).
        features: one name per input.
        targets: one name per output for regression; else the class labels in order (two for binary).
        input_shift, input_scale: ``x = (raw - shift) / scale``, each ``(I,)``; from the training split alone.
        output_shift, output_scale: ``raw target = y * scale + shift``, each ``(O,)``; zeros and ones for labels.
        source: text that says where the data came from.
        notes: what was found out, filled and left out, by key.
        columns: names of the user's columns; none: each input is a column.
        groups: of each input the place of its column in ``columns``, ``(I,)``: what was made of one column is ONE input in
            counts, pictures and penalties that count.
        encoder: how inputs are made of the user's table, the plain data of `nasplug.data.encoder.Encoder`; None where the
            user has the inputs themselves.
        transform: what is learned instead of the target, the plain data of `nasplug.data.transforms.Transform`, undone when a
            network is served; targets, shifts, scales and errors are of the transformed target.
        origin: which raw data it was made of; no part of any digest of the task.
    """

    name: str
    kind: Kind
    features: tuple[str, ...]
    targets: tuple[str, ...]
    input_shift: Tensor
    input_scale: Tensor
    output_shift: Tensor
    output_scale: Tensor
    source: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    groups: tuple[int, ...] = ()
    encoder: Mapping[str, Any] | None = None
    transform: Mapping[str, Any] | None = None
    origin: Origin | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts(Described):
    """What is known of a task without its samples: enough to choose, name, scale and serve networks.

    Attributes (and those of `Described`):
        digest: of the task (`nasplug.tasks.Task.digest`).
        loss: as it stands in tables.
        link: what turns outputs into what is served.
        samples: N of ``train``, ``valid`` and ``test``.
        resamples: how many (`nasplug.tasks.Task.resamples`); 0 for a hold-out.
        effective: of splits with weights, as how many samples without weights they tell errors: ``(sum w)^2 / sum w^2`` (Kish).
        held: how many samples validate a resample, on average; None for a hold-out.
        variance: of the targets of the validation split (where samples are resampled, of all development samples), as they are
            learned and weighted, pooled over outputs.
        higher: names of scores of which more is better.
        trivial: scores of the network that says the same for every sample, `nasplug.tasks.Task.trivial`; one that is not
            defined is left out.
    """

    digest: str
    loss: str
    link: Link
    samples: Mapping[str, int]
    variance: float
    trivial: Mapping[str, float]
    higher: tuple[str, ...]
    resamples: int = 0
    held: float | None = None
    effective: Mapping[str, float] = field(default_factory=dict)

    @property
    def inputs(self) -> int:
        """I."""
        return len(self.features)

    def standard_error(self, error: float, part: str) -> float:
        """One standard error of a share of wrong labels, ``sqrt(e (1 - e) / N)``; 0 for regression (not defined here).

        With weights ``N`` is what is `effective`.
        """
        if self.kind == "regression":
            return 0.0
        return float((max(error * (1.0 - error), 0.0) / self.counting(part)) ** 0.5)

    def counting(self, part: str) -> float:
        """N of a split, or as how many it tells errors with its weights."""
        return self.effective.get(part, float(self.samples[part]))

    def plain(self) -> dict[str, Any]:
        """Plain data, from which `from_plain` makes the same."""
        found: dict[str, Any] = {name: getattr(self, name) for name in FACTS}
        for name in SCALES:
            scale: Tensor = getattr(self, name)
            found[name] = [str(scale.dtype).removeprefix("torch."), scale.tolist()]
        origin = None if self.origin is None else self.origin.plain()
        return {**found, "origin": origin, **{name: dict(getattr(self, name)) for name in NUMBERED}}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Facts:
        """What `plain` gave.

        Raises:
            ValueError, TypeError, LookupError: for anything else.
        """
        plain = {"held": None, "effective": {}, "origin": None, **plain}  # which earlier folders do not have
        found: dict[str, Any] = {name: plain[name] for name in (*FACTS, *NUMBERED)}
        for name in SCALES:
            dtype, numbers = plain[name]
            found[name] = torch.tensor(numbers, dtype=DTYPES[dtype])
        for name in TUPLES:
            found[name] = tuple(found[name])
        found["origin"] = None if plain["origin"] is None else Origin.from_plain(plain["origin"])
        return cls(**found)
