"""`Transform`: a function of the target that networks learn instead of the target itself, undone when they are served."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from nasplug.errors import ConfigError
from nasplug.rows import Array, listed

__all__ = ["Transform", "TransformName", "undone"]

TransformName = Literal["none", "log", "rank"]
Numbers = tuple[Annotated[float, Field(allow_inf_nan=False)], ...]

MOST_KNOTS = 129
LARGEST = 700.0  # the exponential of more is no float64


class Transform(BaseModel):
    """``t = f(y)`` of each target of a regression, before it is centred and scaled; answers are ``f^-1(t)``.

    ``log``: the natural logarithm, of positive targets. A mean squared error of ``t`` is one of relative errors.
    ``rank``: normal scores, the standard normal quantile of ``(rank - 1/2) / N`` among the training rows (of ties the mean
    rank), linear between at most 129 knots that are stored. Beyond the outer knots it is constant both ways: no answer is
    outside of the training targets, and a target outside counts as the nearest of them.

    Attributes:
        use: which.
        values: of ``rank``, for each target the knots, rising.
        scores: of ``rank``, for each target ``t`` there, rising.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    use: Literal["log", "rank"]
    values: tuple[Numbers, ...] = ()
    scores: tuple[Numbers, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Transform:
        if (self.use == "rank") != bool(self.values) or len(self.values) != len(self.scores):
            raise ValueError(f"{self.use} with knots of {len(self.values)} and {len(self.scores)} targets")
        for values, scores in zip(self.values, self.scores, strict=True):
            rise = all(a < b for knots in (values, scores) for a, b in itertools.pairwise(knots))
            if len(values) != len(scores) or not 2 <= len(values) <= MOST_KNOTS or not rise:
                raise ValueError(f"{len(values)} knots with {len(scores)} scores; needed: two at least, as many, rising")
        return self

    @classmethod
    def fit(cls, where: str, use: Literal["log", "rank"], y: Array, train: Array, names: Sequence[str]) -> Transform:
        """What is learned from the training targets ``train (N, O)``; ``y``: those of all rows.

        Raises:
            ConfigError: for a target that has no logarithm, or does not vary.
        """
        if use == "log":
            bad = y <= 0
            if bad.any():
                row, place = np.argwhere(bad)[0]
                raise ConfigError(
                    f"{where}: transform 'log' of target {names[int(place)]!r}, which is <= 0 in "
                    f"{np.count_nonzero(bad.any(1))} rows (first: {y[row, place]:g}); needed: positive targets. "
                    "Take transform 'rank', or leave it out"
                )
            return cls(use="log")
        knots = [_knots(where, name, column) for name, column in zip(names, train.T, strict=True)]
        return cls(use="rank", values=tuple(k[0] for k in knots), scores=tuple(k[1] for k in knots))

    def plain(self) -> dict[str, Any]:
        """Plain JSON, from which `from_plain` makes the same."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Transform:
        """What `plain` gave.

        Raises:
            ConfigError: for what is none.
        """
        try:
            return cls.model_validate_json(json.dumps(plain))
        except (ValidationError, ValueError, TypeError) as error:
            told = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise ConfigError(f"transform record: {told[:300]}") from None

    def forward(self, y: Array) -> Array:
        """``f(y)``, ``(N, O)``."""
        if self.use == "log":
            return np.log(y)
        parts = zip(y.T, self.values, self.scores, strict=True)
        return np.stack([np.interp(column, values, scores) for column, values, scores in parts], axis=1)

    def knots(self) -> list[Tensor]:
        """What `undone` takes: for each target ``(2, B)`` float64, values and scores; empty for ``log``."""
        return [torch.tensor(pair, dtype=torch.float64) for pair in zip(self.values, self.scores, strict=True)]


def undone(t: Tensor, knots: Sequence[Tensor]) -> Tensor:
    """``f^-1(t)``, ``(N, O)``: in operations that every exported form has. ``knots``: see `Transform.knots`."""
    if not knots:
        return t.clamp(max=LARGEST).exp()
    found = []
    for place, (values, scores) in enumerate(knots):
        ramps = ((t[:, place : place + 1] - scores[:-1]) / (scores[1:] - scores[:-1])).clamp(0.0, 1.0)  # (N, B - 1)
        found.append(values[:1] + (ramps * (values[1:] - values[:-1])).sum(1, keepdim=True))
    return torch.cat(found, 1)


def _knots(where: str, name: str, y: Array) -> tuple[Numbers, Numbers]:
    """Values and normal scores."""
    values, counts = np.unique(y, return_counts=True)
    if len(values) < 2:
        raise ConfigError(f"{where}: target {listed([name])} is constant on the training split, so it has no ranks")
    middle = (np.cumsum(counts) - counts / 2) / len(y)  # (mean rank - 1/2) / N
    places = np.unique(np.searchsorted(middle, np.linspace(middle[0], middle[-1], MOST_KNOTS)))
    scores = torch.special.ndtri(torch.from_numpy(middle[places]))
    return tuple(values[places].tolist()), tuple(scores.tolist())
