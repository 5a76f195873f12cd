"""What a training of an autoencoder is, as one YAML file."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nasplug_swat.autoencoder.model import SIZES, Size
from nasplug_swat.autoencoder.pool import Pool, Trained
from nasplug_swat.autoencoder.sampling import Sampling
from nasplug_swat.autoencoder.space import Space

__all__ = ["Training"]

MOST_NUMBERS = 10**8
"""Of one depth in a step; the paper's space has 25,000 with the usual batch."""


class Training(BaseModel):
    """A training run as one YAML file.

    Each step takes ``batch`` networks of each depth and compares them on ``probes`` points of [-1, 1]^I. ``matrix`` weighs the
    reconstruction of the matrix. ``across`` is the share of each batch that deeper decoders must express too. ``noise`` is
    added to latents. ``start`` is an autoencoder of the same space, size and sampling to go on from: a file, or the name of
    one that comes along; null starts near the identity. ``networks``: see `nasplug_swat.pool.Trained`; null is random networks
    alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    space: Space = Space()
    size: Literal["tiny", "small", "medium", "gpt2"] | Size = "small"
    sampling: Sampling = Sampling()
    networks: Trained | None = None
    steps: int = Field(4000, ge=1, le=10**9)
    batch: int = Field(64, ge=1, le=10**6)
    probes: int = Field(32, ge=1, le=10**6)
    lr: float = Field(2e-3, gt=0)
    warmup: int = Field(100, ge=0)
    clip: float = Field(1.0, gt=0)
    matrix: float = Field(0.3, ge=0)
    across: float = Field(0.5, ge=0, le=1)
    noise: float = Field(0.02, ge=0)
    seed: int = Field(0, ge=0, lt=2**32)
    start: str | None = Field(None, min_length=1)
    every: int = Field(250, ge=1, description="steps between two validations")
    validate_on: int = Field(256, ge=1, le=10**6, description="fresh networks per depth, at each validation")
    test_on: int = Field(1000, ge=1, le=10**6, description="fresh networks per depth, at the end")
    checkpoint_seconds: float = Field(60.0, gt=0)
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    threads: int = Field(1, ge=1, le=1024)

    @model_validator(mode="after")
    def _has_room(self) -> Training:
        if self.networks is not None and not bool(self.networks.rows(self.batch).any()):
            raise ValueError(
                f"networks.share {self.networks.share:g} of a batch of {self.batch} is no network; needed: one or more. "
                "Take a larger share or batch"
            )
        numbers = self.batch * max(self.space.rows * self.space.columns, self.space.width * self.probes)
        if numbers > MOST_NUMBERS:
            raise ValueError(
                f"batch {self.batch} of networks with {self.probes} probes is {numbers:,} numbers; needed: {MOST_NUMBERS:,} at "
                "most. Take a smaller batch, space, or fewer probes"
            )
        size = self.dimensions
        if size.tokens == "network" and (map_ := self.space.rows * size.width * size.numbers) > MOST_NUMBERS:
            raise ValueError(
                f"size: one latent of {size.numbers} numbers for {self.space.rows} neurons of width {size.width} needs maps of "
                f"{map_:,} weights; needed: {MOST_NUMBERS:,} at most. Take a smaller latent or width, or tokens: neurons"
            )
        return self

    @property
    def dimensions(self) -> Size:
        """The size, by its name or as given."""
        return SIZES[self.size] if isinstance(self.size, str) else self.size

    @property
    def plain(self) -> dict[str, Any]:
        """What decides the result, as plain data; where and how often it is saved plays no part."""
        names = set(Training.model_fields) - {"checkpoint_seconds", "device", "threads"}
        if self.networks is None:  # trainings on random networks alone are what they were before there was a choice
            names.remove("networks")
        return self.model_dump(mode="json", include=names) | {"size": self.dimensions.model_dump()}

    def identity(self, pools: tuple[Pool, Pool] | None = None) -> str:
        """What a checkpoint must have been made for: the settings, and the trained networks that were found."""
        plain = self.plain if pools is None else self.plain | {"pools": [pool.digest for pool in pools]}
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
