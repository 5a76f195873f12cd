"""The JSON record of a compact network: what it must be, and what its outputs are called."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nasplug import rows
from nasplug.data.encoder import Encoder
from nasplug.data.transforms import Transform
from nasplug.errors import ConfigError
from nasplug.stems import Stem
from nasplug.tasks import Link

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FORMAT", "Record", "answers", "check_record", "output_names", "reading"]

FORMAT = "nasplug.network/1"
MOST_NUMBERS = 2**27  # of all weights together: 512 MB
MOST_LAYERS = 1000
Index = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class Record(BaseModel):
    """What a network's record must be, checked before memory is taken for what it says."""

    model_config = ConfigDict(strict=True)

    format: Literal["nasplug.network/1"]
    inputs: Annotated[int, Field(ge=1, le=MOST_NUMBERS)]
    features: list[str]
    kept_inputs: list[Index]
    widths: Annotated[list[Index], Field(min_length=2, max_length=MOST_LAYERS)]
    activations: list[list[tuple[str, Count]]]
    blocks: list[tuple[Count, Index]]
    link: Link
    targets: Annotated[list[str], Field(min_length=1)]
    columns: list[str] | None = None
    groups: list[Index] | None = None
    encoder: dict[str, Any] | None = None
    transform: dict[str, Any] | None = None
    passes: list[tuple[Count, Index, list[Annotated[int, Field(ge=-1)]]]] = []
    sizes: dict[str, Index]
    stem: dict[str, Any] | None = None
    monotone: dict[str, Literal[-1, 1]] = {}
    structure: Literal["additive", "pairs"] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Record:
        if not {"edges", "parameters"} <= set(self.sizes):
            raise ValueError(f"sizes {self.sizes}; needed: edges and parameters among them")
        read = self.inputs
        if self.stem is not None:
            stem = Stem(**{key: self.stem[key] for key in ("image", "layers")})
            kernels = [(part.channels, shape[0], *part.window) for shape, part in zip(stem.shapes, stem.layers, strict=False)]
            if stem.inputs != self.inputs or sum(map(math.prod, kernels)) > MOST_NUMBERS or stem.features > MOST_NUMBERS:
                raise ValueError(f"its stem reads {stem.inputs} inputs with kernels {kernels}; it has {self.inputs} inputs")
            if stem.normalised:
                raise ValueError(f"its stem has norms in layers {stem.normalised}; needed: none, they are folded into kernels")
            if [str(name) for name in self.stem["names"]] != stem.names:
                raise ValueError("the names of its stem's features are not those of its layers")
            read = stem.features
        depth = len(self.widths) - 1
        if [sum(count for _, count in layer) for layer in self.activations] != self.widths[1:-1]:
            raise ValueError(f"activations {self.activations} for hidden layers of {self.widths[1:-1]}")
        edges = [*self.blocks, *((to, source) for to, source, _ in self.passes)]
        if min(self.widths[1:]) < 1 or len(set(edges)) < len(edges):
            raise ValueError(f"an empty layer or a block that comes twice (widths {self.widths})")
        if any(not source < to <= depth for to, source in edges):
            raise ValueError(f"blocks {edges} in {depth} layers; needed: from a layer to a later one")
        for to, source, places in self.passes:
            given = [place for place in places if place >= 0]
            if len(places) != self.widths[to] or len(set(given)) < len(given) or max(given, default=-1) >= self.widths[source]:
                raise ValueError(f"layer {source} of {self.widths[source]} passes {places[:8]} on to {self.widths[to]} neurons")
        if sum(self.widths[to] * self.widths[source] for to, source in edges) + sum(self.widths) > MOST_NUMBERS:
            raise ValueError(f"widths {self.widths}: more than {MOST_NUMBERS:,} weights")
        if len(self.features) != self.inputs or len(self.kept_inputs) != self.widths[0]:
            raise ValueError(f"{len(self.features)} features and {len(self.kept_inputs)} in use for {self.inputs} inputs")
        if self.monotone and (self.stem is not None or not set(self.monotone) <= set(self.features)):
            raise ValueError(f"it is monotone in {list(self.monotone)[:8]}, of features {self.features[:8]}")
        if self.structure is not None and self.stem is not None:
            raise ValueError(f"it is {self.structure} behind a stem, whose features mix all inputs")
        if (self.columns is None) != (self.groups is None):
            raise ValueError("columns without groups, or groups without columns")
        if self.groups is not None and (
            len(self.groups) != self.inputs or set(self.groups) != set(range(len(self.columns or [])))
        ):
            raise ValueError(
                f"groups of {len(self.groups)} inputs in {len(self.columns or [])} columns for {self.inputs} inputs"
            )
        if self.transform is not None:
            transform = Transform.from_plain(self.transform)
            if self.link != "identity" or (transform.values and len(transform.values) != self.widths[-1]):
                raise ValueError(
                    f"transform of {len(transform.values)} targets for {self.widths[-1]} outputs, link {self.link}"
                )
        if self.encoder is not None and Encoder.from_plain(self.encoder).names != self.features:
            raise ValueError("its encoder makes other features")
        if len(set(self.kept_inputs)) < len(self.kept_inputs) or any(index >= read for index in self.kept_inputs):
            raise ValueError(f"it reads inputs {self.kept_inputs[:8]} of {read}")
        return self


def check_record(record: Mapping[str, Any]) -> None:
    """Refuse a record that no network has.

    Raises:
        ConfigError: with the first thing that is wrong.
    """
    if record.get("format") != FORMAT:
        raise ConfigError(f"network record has format {record.get('format')!r}; this version reads {FORMAT!r}")
    try:
        Record.model_validate_json(json.dumps(record))
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"network record: {'.'.join(map(str, first['loc']))}: {str(first['msg'])[:300]}") from None
    except (ConfigError, LookupError, TypeError, ValueError, RecursionError, OverflowError) as error:
        raise ConfigError(f"network record: {type(error).__name__}: {str(error)[:300]}") from None


def output_names(record: Mapping[str, Any]) -> list[str]:
    """What each output is called: a target, or the probability or score of a label."""
    return rows.names_of_outputs([str(t) for t in record["targets"]], str(record["link"]), int(record["widths"][-1]))


def answers(record: Mapping[str, Any], outputs: rows.Array, index: pd.Index[Any] | None = None) -> pd.DataFrame:
    """A network's outputs ``(N, O)`` by name; see `nasplug.compact.CompactNetwork.predict`."""
    return rows.answers([str(t) for t in record["targets"]], str(record["link"]), outputs, index)


def reading(record: Mapping[str, Any]) -> tuple[Encoder, frozenset[int]]:
    """How a network reads rows of the user's table: the encoder of all inputs, and the places of the columns that matter."""
    if record.get("stem") is None and record.get("encoder"):
        encoder = Encoder.from_plain(record["encoder"])
        groups = encoder.groups  # made anew each time it is asked for
        return encoder, frozenset(groups[feature] for feature in record["kept_inputs"])
    read = range(record["inputs"]) if record.get("stem") else record["kept_inputs"]
    return Encoder.of_numbers(record["features"]), frozenset(read)
